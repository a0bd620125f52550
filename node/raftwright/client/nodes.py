"""Which node to talk to: what the caller named, what the cluster told, and who leads.

Used by `stream.py` and `client.py`. Rule: any node serves every request; the leader only serves it faster, so a leader
that cannot be reached from here is passed over for a while.
"""

import random
import re
from collections.abc import Iterable

_ENDPOINT = re.compile(r"([A-Za-z0-9._-]+|\[[0-9A-Fa-f:.]+\]):(\d{1,5})")
REFUSED_S = 0.5
"""How long a node that refused a connection is passed over: it may be starting."""
SILENT_S = 10.0
"""And one that did not answer: every attempt at it costs a time-out."""


class Nodes:
    """The endpoints of a cluster, as `host:port`. Times are of a monotonic clock, in seconds."""

    def __init__(self, endpoints: Iterable[str], *, discover: bool = True) -> None:
        self._discover = discover
        self.named = list(dict.fromkeys(checked(endpoint) for endpoint in endpoints))
        if not self.named:
            raise ValueError("no endpoint is given")
        self.leader: str | None = None
        """Where the leader was last seen."""
        self._told: list[str] = []
        self._shunned_until: dict[str, float] = {}

    def learn(self, endpoints: Iterable[str], leader: str | None, teller: str) -> None:
        """What the node at `teller` says of its cluster."""
        if not self._discover:
            # A leader that is not to be connected to is served through whoever tells of it.
            self.leader = teller if leader and leader not in self.named else leader
            return
        self._told = [endpoint for endpoint in endpoints if _is_endpoint(endpoint) and endpoint not in self.named]
        self.leader = leader if leader and _is_endpoint(leader) else None

    def shun(self, endpoint: str, now: float, *, silent: bool = False) -> None:
        """It cannot be reached: leave it for last for a while."""
        for_s = SILENT_S if silent else REFUSED_S
        self._shunned_until[endpoint] = max(now + for_s, self._shunned_until.get(endpoint, 0.0))
        if self.leader == endpoint:
            self.leader = None

    def clear(self, endpoint: str) -> None:
        """It was reached."""
        self._shunned_until.pop(endpoint, None)

    def is_shunned(self, endpoint: str, now: float) -> bool:
        return self._shunned_until.get(endpoint, 0.0) > now

    def candidates(self, now: float) -> list[str]:
        """Every endpoint in the order to try them: the leader, then the rest at random, then those that failed."""
        rest = [*self.named, *self._told]
        random.shuffle(rest)
        rest.sort(key=lambda endpoint: (endpoint != self.leader, self.is_shunned(endpoint, now)))
        return rest


def checked(endpoint: str) -> str:
    """`host:port`, with or without `http://`. ValueError if it is not that."""
    bare = endpoint.strip().removeprefix("http://").rstrip("/")
    if not _is_endpoint(bare):
        raise ValueError(f"{endpoint!r} is not host:port")
    return bare


def _is_endpoint(text: str) -> bool:
    match = _ENDPOINT.fullmatch(text)
    return match is not None and 0 < int(match[2]) <= 65535


class Backoff:
    """Delays that double from `first_s` up to `max_s`, each with jitter, so that clients do not come back as one."""

    def __init__(self, first_s: float = 0.05, max_s: float = 1.0) -> None:
        self._first_s = first_s
        self._max_s = max_s
        self._next_s = first_s

    def next(self) -> float:
        delay_s = self._next_s
        self._next_s = min(2 * delay_s, self._max_s)
        return delay_s * random.uniform(0.5, 1.0)

    def reset(self) -> None:
        self._next_s = self._first_s
