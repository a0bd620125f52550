"""How the operator talks to the nodes in the pods: their status, and the membership API of their cluster.

Called by `observe` and `execute`. Rule: a node is asked at the address of one pod of one uid, and what it answers
counts only if it says the name of that pod; what is about a cluster names it: addresses of pods are used again.
"""

import asyncio
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar

import aiohttp

from raftwright.client import http as requests
from raftwright.client.errors import RaftwrightError, Timeout, Unavailable
from raftwright.client.http import Refused
from raftwright.client.members import Members
from raftwright.client.models import NodeStatus
from raftwright_operator.kube import Object
from raftwright_operator.names import CLIENT_PORT

STATUS_TIMEOUT_S = 1.5
MEMBERS_TIMEOUT_S = 2.5

T = TypeVar("T")
_Attempt = Callable[[aiohttp.ClientSession, str, float], Coroutine[Any, Any, Any]]


@dataclass(frozen=True, slots=True)
class Place:
    """A pod whose node may be talked to."""

    pod: str
    uid: str
    endpoint: str
    """`host:port`."""


class Reach(Protocol):
    """Where the node of a pod is reached from this process."""

    is_direct: bool
    """Not by way of the API server."""

    async def endpoint(self, pod: Object) -> str | None:
        """`host:port`; None: it has no address yet."""

    async def close(self) -> None: ...


class DirectReach:
    """By the address of the pod: within the cluster."""

    is_direct = True

    async def endpoint(self, pod: Object) -> str | None:
        address = pod["status"].get("podIP")
        if not address:
            return None
        return f"[{address}]:{CLIENT_PORT}" if ":" in address else f"{address}:{CLIENT_PORT}"

    async def close(self) -> None:
        pass


class Nodes:
    """Open with `open`, close with `close`."""

    def __init__(self, reach: Reach) -> None:
        self._reach = reach
        self._http: aiohttp.ClientSession | None = None

    def open(self) -> None:
        self._http = requests.new_session()

    async def close(self) -> None:
        if self._http is not None:
            await self._http.close()
        await self._reach.close()

    @property
    def are_near(self) -> bool:
        """Asking one costs the API server nothing."""
        return self._reach.is_direct

    async def place(self, pod: Object) -> Place | None:
        """None while the pod has no address, or is over."""
        if pod["status"].get("phase") in ("Succeeded", "Failed"):
            return None
        endpoint = await self._reach.endpoint(pod)
        meta = pod["metadata"]
        return Place(meta["name"], meta["uid"], endpoint) if endpoint else None

    async def status(self, place: Place) -> NodeStatus | None:
        """What the node says of itself; None if none answers there, or one with another name."""
        assert self._http is not None, "open it first"
        try:
            status = await requests.fetch_status(self._http, place.endpoint, STATUS_TIMEOUT_S)
        except (RaftwrightError, Refused):
            return None
        return status if status.name == place.pod else None

    def members(self, places: Sequence[Place], cluster_id: str | None) -> Members:
        """The membership API of the cluster with this id, of whose nodes the first that can answers."""
        return Members(self._ask_of(places), cluster_id=cluster_id)

    async def discard_store(self, place: Place, store_id: str) -> None:
        """RaftwrightError if the node refuses or does not answer."""

        assert self._http is not None, "open it first"
        await requests.discard_store(self._http, place.endpoint, store_id, MEMBERS_TIMEOUT_S * 2)

    def _ask_of(self, places: Sequence[Place]) -> Callable[[_Attempt, float | None], Coroutine[Any, Any, Any]]:
        async def ask(attempt: _Attempt, timeout_s: float | None) -> Any:
            assert self._http is not None, "open it first"
            loop = asyncio.get_running_loop()
            deadline = loop.time() + (MEMBERS_TIMEOUT_S if timeout_s is None else timeout_s)
            trouble: RaftwrightError = Timeout("no node was asked in time", outcome="none")
            for place in places:
                left_s = deadline - loop.time()
                if left_s <= 0:
                    break
                try:
                    return await attempt(self._http, place.endpoint, left_s)
                except Refused as refused:
                    trouble = refused.error
                except Unavailable as error:
                    trouble = error
            raise trouble

        return ask
