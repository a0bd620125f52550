"""When this node takes a snapshot of its own, and what of the log stays behind it (§5).

The driver calls it. Rule: one snapshot is under way at a time; one that failed is tried again, since on a full disk
nothing else would bring it about.
"""

from raftwright.raft.entries import SnapshotMeta
from raftwright.raft.membership import Membership
from raftwright.server.effects import SnapshotJob
from raftwright.server.policies import Progress, SnapshotPolicy
from raftwright.server.state import ReplicatedState

RETRY_S = 5.0


class Snapshotting:
    """Counts what was applied since the last snapshot."""

    def __init__(self, state: ReplicatedState, policy: SnapshotPolicy) -> None:
        self._state = state
        self.policy = policy
        """May be replaced at any time."""
        self.commands = 0
        self.bytes = 0
        self.is_wanted = False
        """Asked for, whatever was counted."""
        self.must_free = False
        """The disk is full: one is wanted, and no log stays behind it for followers."""
        self._running = False
        self._retry_at = float("-inf")
        self._last_index = state.applied_index
        self._since: float | None = None
        """When the last one began."""

    @property
    def is_running(self) -> bool:
        return self._running

    @property
    def last_index(self) -> int:
        """Of the newest snapshot."""
        return self._last_index

    def job(self, now: float, membership: Membership) -> SnapshotJob | None:
        """Begin one of what is applied now, if it is time. `membership` is as of the applied index."""
        if self._since is None:
            self._since = now
        applied = self._state.applied_id
        if self._running or now < self._retry_at or applied.index <= self._last_index:
            return None
        progress = Progress(self.commands, self.bytes, now - self._since)
        if not (self.is_wanted or self.must_free or self.policy.is_due(progress)):
            return None
        self._running = True
        self._since = now
        self.is_wanted = False
        self.commands = self.bytes = 0
        return SnapshotJob(
            id=applied,
            time_ms=self._state.time_ms,
            membership=membership,
            sections=self._state.sections(),
            # One snapshot's worth of entries stays for followers that are a little behind.
            keep_from=applied.index + 1 if self.must_free else self._last_index + 1,
        )

    def taken(self, meta: SnapshotMeta | None, now: float, retry_s: float = RETRY_S) -> bool:
        """The job ended. True if its snapshot is news: not if it failed, or the leader sent a newer one meanwhile."""
        self._running = False
        if meta is None:
            self._retry_at = now + retry_s
            self.is_wanted = True
            return False
        if meta.id.index <= self._last_index:
            return False
        self._last_index = meta.id.index
        return True

    def restored(self, meta: SnapshotMeta) -> None:
        """The leader's snapshot took the place of everything."""
        self._last_index = max(self._last_index, meta.id.index)
        self.commands = self.bytes = 0
