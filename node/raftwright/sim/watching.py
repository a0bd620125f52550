"""The core and the state of a simulated node, with somebody who looks at every step of theirs.

`node.py` makes them, `checkers.py` looks. Rule: to be watched changes nothing.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Protocol

from raftwright.raft import invariants
from raftwright.raft.entries import Entry, EntryId
from raftwright.raft.events import AnyEvent
from raftwright.raft.raft import Raft
from raftwright.server.state import BlobOutcome, ReplicatedState
from raftwright.server.wire import PeerMessage

if TYPE_CHECKING:
    from raftwright.sim.node import SimNode


class Watcher(Protocol):
    """Who looks at every step. See `checkers.py`."""

    def started(self, node: "SimNode") -> None: ...

    def stepped(self, node: "SimNode", before: invariants.Captured) -> None: ...

    def applied(self, node: "SimNode", entries: Sequence[Entry]) -> None:
        """By one call: the state is as of the last of them."""
        ...

    def restored(self, node: "SimNode") -> None: ...

    def written(self, node: "SimNode", entries: Sequence[Entry], snapshot: EntryId | None) -> None: ...

    def sent(self, node: "SimNode", messages: Sequence[PeerMessage]) -> None: ...

    def removed(self, node: "SimNode") -> None:
        """It is sure that its member was removed."""
        ...


class WatchedRaft(Raft):
    """The core, looked at before and after each step."""

    node: "SimNode"

    def step(self, event: AnyEvent) -> None:
        before = invariants.capture(self)
        try:
            super().step(event)
        finally:
            invariants.check(self)
            invariants.check_delta(before, self)
            self.node.watcher.stepped(self.node, before)


class WatchedState(ReplicatedState):
    node: "SimNode"
    _is_replaying = False

    def apply(self, entry: Entry, decoded: Sequence[list[Any] | None] | None = None) -> list[BlobOutcome]:
        outcomes = super().apply(entry, decoded)
        if not self._is_replaying:
            self.node.watcher.applied(self.node, [entry])
        return outcomes

    def replay(self, entries: Sequence[Entry]) -> int:
        self._is_replaying = True  # it applies some of them one by one, and what comes between is no state to look at
        count = super().replay(entries)
        self._is_replaying = False
        self.node.world.counts["entries replayed in groups"] += len(entries) > 1
        self.node.watcher.applied(self.node, entries)
        return count
