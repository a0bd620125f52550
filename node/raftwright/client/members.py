"""Calls about members and the leader: `client.members`. Any node takes them, and the leader decides.

Rule: every call but `bootstrap` may be sent again: what holds already is done, so trying another node is safe.
"""

import asyncio
from collections import deque
from collections.abc import Callable, Coroutine, Mapping, MutableSequence, Sequence
from typing import Any, TypeVar

import aiohttp
import msgspec

from raftwright.client.errors import Unavailable
from raftwright.client.http import failure_of, reason_of
from raftwright.client.member_models import (
    BootstrapAnswer,
    BootstrapRequest,
    ChangeRequest,
    MemberAddresses,
    MemberRef,
    MembersAnswer,
    NewMember,
    PlanAnswer,
    ReplaceRequest,
    TransferAnswer,
    TransferRequest,
    UpdateRequest,
)
from raftwright.client.models import CLUSTER_HEADER

T = TypeVar("T")
_Attempt = Callable[[aiohttp.ClientSession, str, float], Coroutine[Any, Any, T]]
_Ask = Callable[[_Attempt[Any], float | None], Coroutine[Any, Any, Any]]

MEMBERS_TIMEOUT_S = 60.0
"""How long a change may take unless the call says otherwise: a new member gets all of the data first."""
ANSWER_GRACE_S = 2.0
"""A node answers when its own time-out is over: so much later at the latest."""


class Members:
    """Who is in the cluster. A member is named by its id or its name.

    A change returns the membership after it. MembershipRefused says with its `reason` why it was not made; where
    `if_version` is given, a membership at another version is a reason (`membership-outdated`). Where `cluster_id` is
    given, nodes of another cluster refuse each call: addresses are used again.
    """

    def __init__(self, ask: _Ask, *, cluster_id: str | None = None) -> None:
        self._ask = ask
        self._headers = {} if cluster_id is None else {CLUSTER_HEADER: cluster_id}

    async def list(self, *, linearizable: bool = False, timeout_s: float | None = None) -> MembersAnswer:
        """The membership, and how far each member is: as the leader has it, committed or not, or as any node knows it
        where nobody leads. With `linearizable` the committed one, from a leader that a quorum has confirmed since the
        call began; Unavailable or Timeout where there is none."""
        path = "/v1/members?consistency=linearizable" if linearizable else "/v1/members"
        answer: MembersAnswer = await self._call("GET", path, None, MembersAnswer, timeout_s=timeout_s)
        return answer

    async def change(
        self,
        *,
        add: Sequence[NewMember] = (),
        promote: Sequence[MemberRef] = (),
        demote: Sequence[MemberRef] = (),
        remove: Sequence[MemberRef] = (),
        **options: Any,
    ) -> MembersAnswer:
        """All of it in one joint change. Waits until new voters have caught up, or for `timeout_s`; then the change
        goes on by itself. Options: `if_version`, `force`, `timeout_s`."""
        return await self._change("POST", "/v1/members:change", _request(add, promote, demote, remove), **options)

    async def plan(
        self,
        *,
        add: Sequence[NewMember] = (),
        promote: Sequence[MemberRef] = (),
        demote: Sequence[MemberRef] = (),
        remove: Sequence[MemberRef] = (),
        force: bool = False,
        timeout_s: float | None = None,
    ) -> PlanAnswer:
        """What `change` would do: its steps, and how many failures each tolerates."""
        query = _query(force=force, dry_run=True)
        body = _request(add, promote, demote, remove)
        answer: PlanAnswer = await self._call(
            "POST", f"/v1/members:change{query}", body, PlanAnswer, timeout_s=timeout_s
        )
        return answer

    async def add(self, member: NewMember, **options: Any) -> MembersAnswer:
        """Add a node; as a voter it is promoted once it has caught up. Options as of `change`."""
        return await self._change("POST", "/v1/members", member, **options)

    async def remove(self, member: MemberRef, **options: Any) -> MembersAnswer:
        """Remove a member. Options as of `change`."""
        return await self._change("DELETE", f"/v1/members/{member}", None, **options)

    async def promote(self, member: MemberRef, **options: Any) -> MembersAnswer:
        """Give a learner a vote; refused while it lags. Options as of `change`."""
        return await self._change("POST", f"/v1/members/{member}/promote", None, **options)

    async def demote(self, member: MemberRef, **options: Any) -> MembersAnswer:
        """Make a voter a learner. Options as of `change`."""
        return await self._change("POST", f"/v1/members/{member}/demote", None, **options)

    async def replace(self, old: MemberRef, new: NewMember, **options: Any) -> MembersAnswer:
        """The old member leaves in the change in which the new one gets its vote. Options as of `change`."""
        return await self._change("POST", "/v1/members:replace", ReplaceRequest(old=old, new=new), **options)

    async def plan_replace(self, old: MemberRef, new: NewMember, *, force: bool = False) -> PlanAnswer:
        """What `replace` would do."""
        path = f"/v1/members:replace{_query(force=force, dry_run=True)}"
        answer: PlanAnswer = await self._call("POST", path, ReplaceRequest(old=old, new=new), PlanAnswer)
        return answer

    async def update(
        self,
        member: MemberRef,
        *,
        addresses: MemberAddresses | None = None,
        metadata: Mapping[str, str] | None = None,
        **options: Any,
    ) -> MembersAnswer:
        """New addresses or metadata. Options as of `change`."""
        request = UpdateRequest(addresses=addresses, metadata=None if metadata is None else dict(metadata))
        return await self._change("PATCH", f"/v1/members/{member}", request, **options)

    async def transfer_leadership(
        self, to: MemberRef | None = None, *, timeout_s: float | None = None
    ) -> TransferAnswer:
        """Hand leadership to that voter, or to the most up-to-date one. Returns when it leads."""
        path, request = "/v1/leader/transfer", TransferRequest(to=to)
        answer: TransferAnswer = await self._call("POST", path, request, TransferAnswer, timeout_s=timeout_s)
        return answer

    async def bootstrap(self, request: BootstrapRequest, *, timeout_s: float | None = None) -> BootstrapAnswer:
        """Give the first membership to the node that this client was given as its one endpoint, and that waits."""
        path = "/v1/cluster/bootstrap"
        answer: BootstrapAnswer = await self._call("POST", path, request, BootstrapAnswer, timeout_s=timeout_s)
        return answer

    async def _change(
        self,
        method: str,
        path: str,
        body: msgspec.Struct | None,
        *,
        if_version: int | None = None,
        force: bool = False,
        timeout_s: float | None = None,
    ) -> MembersAnswer:
        headers = {} if if_version is None else {"If-Match": f'"{if_version}"'}
        deadline = asyncio.get_running_loop().time() + (MEMBERS_TIMEOUT_S if timeout_s is None else timeout_s)
        while True:
            left_s = max(0.1, deadline - asyncio.get_running_loop().time())
            statuses: deque[int] = deque()
            answer: MembersAnswer = await self._call(
                method, path + _query(force=force), body, MembersAnswer, headers, statuses, timeout_s=left_s
            )
            # 202: not everyone has caught up. Asked again, the node waits with us.
            if statuses[-1] == 200 or asyncio.get_running_loop().time() >= deadline:
                return answer

    async def _call(
        self,
        method: str,
        path: str,
        body: msgspec.Struct | None,
        model: type[Any],
        headers: Mapping[str, str] | None = None,
        statuses: MutableSequence[int] | None = None,
        *,
        timeout_s: float | None = None,
    ) -> Any:
        data = None if body is None else msgspec.json.encode(body)

        async def attempt(http: aiohttp.ClientSession, endpoint: str, left_s: float) -> Any:
            try:
                async with http.request(
                    method,
                    f"http://{endpoint}{path}",
                    data=data,
                    headers={**self._headers, **(headers or {})},
                    timeout=aiohttp.ClientTimeout(total=left_s + ANSWER_GRACE_S),
                ) as answer:
                    found = await answer.read()
            except (aiohttp.ClientError, OSError, TimeoutError) as error:
                raise Unavailable(f"{endpoint} cannot be reached: {reason_of(error)}") from None
            if answer.status not in (200, 202):
                raise failure_of(endpoint, answer.status, found)
            if statuses is not None:
                statuses.append(answer.status)
            try:
                return msgspec.json.decode(found, type=model)
            except ValueError as error:
                raise Unavailable(f"{endpoint} does not answer as a Raftwright node does: {error}") from None

        return await self._ask(attempt, timeout_s)


def _request(
    add: Sequence[NewMember], promote: Sequence[MemberRef], demote: Sequence[MemberRef], remove: Sequence[MemberRef]
) -> ChangeRequest:
    return ChangeRequest(add=list(add), promote=list(promote), demote=list(demote), remove=list(remove))


def _query(*, force: bool = False, dry_run: bool = False) -> str:
    chosen = [name for name, wanted in (("force", force), ("dry_run", dry_run)) if wanted]
    return "?" + "&".join(f"{name}=true" for name in chosen) if chosen else ""
