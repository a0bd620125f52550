"""Wrong versions of what makes retries safe, each of which the simulation must catch. Used by `test_sessions.py`."""

from collections.abc import Sequence
from typing import Any

import pytest

from raftwright.raft.entries import Entry
from raftwright.raft.raft import Raft
from raftwright.server import sessions
from raftwright.server.sessions import Sessions, Verdict
from raftwright.server.state import BlobOutcome, ReplicatedState
from raftwright.sim.watching import WatchedState


def expire_by_the_own_clock(patch: pytest.MonkeyPatch) -> None:
    """Each node forgets sessions by what time it is there, rather than by log time."""
    apply = ReplicatedState.apply

    def careless(self: ReplicatedState, entry: Entry, decoded: Sequence[Any] | None = None) -> list[BlobOutcome]:
        if isinstance(self, WatchedState):
            self.sessions.expire(self.node.wall_ms)
        return apply(self, entry, decoded)

    patch.setattr(ReplicatedState, "apply", careless)


def believe_each_leaders_clock(patch: pytest.MonkeyPatch) -> None:
    """An entry is of the time by its leader's clock, however late the one before it is."""
    append = Raft._append

    def careless(self: Raft, *what: Any) -> None:
        self.log.last_time_ms = 0
        append(self, *what)

    patch.setattr(Raft, "_append", careless)


def restart_the_time(patch: pytest.MonkeyPatch) -> None:
    """Sessions of a snapshot count as used when it is restored."""
    decode = sessions._decode

    def careless(chunks: Any) -> Any:
        found = decode(chunks)
        latest = max((session.last_time_ms for _, session in found), default=0)
        return [(key, sessions.Session(latest, one.forgotten_below, one.size, one.records)) for key, one in found]

    patch.setattr(sessions, "_decode", careless)


def expire_early(patch: pytest.MonkeyPatch) -> None:
    """Sessions are forgotten after half of the time that was promised."""

    def hasty(self: Sessions, time_ms: int) -> None:
        while (
            self._sessions and next(iter(self._sessions.values())).last_time_ms < time_ms - sessions.RETENTION_MS // 2
        ):
            self._forget_oldest()

    patch.setattr(Sessions, "may_expire", lambda self, time_ms: True)
    patch.setattr(Sessions, "expire", hasty)


def run_what_is_forgotten(patch: pytest.MonkeyPatch) -> None:
    """A retry whose session is not known any more is run, as if it were new."""
    seen = Sessions.seen

    def careless(self: Sessions, *what: Any) -> Any:
        found = seen(self, *what)
        return Verdict.FRESH if found is Verdict.EXPIRED else found

    patch.setattr(Sessions, "seen", careless)
