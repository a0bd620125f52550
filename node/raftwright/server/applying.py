"""Applying what is committed, in order, and answering the writes that this node proposed.

The driver calls it. Rules: a bounded amount a run, so that heartbeats have their turn; nothing is applied while a
snapshot takes the place of the state.
"""

from collections.abc import Sequence

from raftwright.raft.entries import Entry, EntryId, EntryKind, SnapshotMeta
from raftwright.raft.membership import Membership
from raftwright.raft.raft import Raft
from raftwright.server.effects import Answer, Effects
from raftwright.server.errors import IdempotencyConflict, SessionExpired
from raftwright.server.lags import Lags
from raftwright.server.snapshotting import Snapshotting
from raftwright.server.state import BlobOutcome, ReplicatedState, Status
from raftwright.server.writes import Write, Writes

COMMANDS_A_RUN = 8192
"""So many commands are applied before other work has its turn; about ten milliseconds."""
ENTRIES_A_RUN = 2048
BYTES_A_RUN = 4 << 20
REPLAY_BYTES_A_RUN = 512 << 10
"""Of entries that are not this leader's own, whose commands are not counted before they are decoded."""


class Applier:
    def __init__(
        self, *, raft: Raft, state: ReplicatedState, membership: Membership, writes: Writes, snapshotting: Snapshotting
    ) -> None:
        self._raft = raft
        self._state = state
        self._writes = writes
        self._snapshotting = snapshotting
        self.membership = membership
        """As of the applied index: what a snapshot carries."""
        self.restoring: SnapshotMeta | None = None
        """The leader's snapshot that takes the place of the state machine; nothing is applied until it did."""
        self.is_held = False
        """The state is known to be wrong: nothing is applied to it."""
        self.lags = Lags()
        self.commands = 0
        self.entries = 0
        self._durable: SnapshotMeta | None = None
        """A received snapshot that is durable and not loaded yet."""
        self._restore_running = False
        self._is_loading = False
        self._loaded: Sequence[Entry] = ()

    def run(self, now: float, effects: Effects) -> None:
        if self.restoring is not None:
            if self._durable is not None and not self._restore_running:
                effects.restore, self._durable = self._durable, None
                self._restore_running = True
            return
        if self.is_held:
            return
        commands, entries, size = self.commands + COMMANDS_A_RUN, self.entries + ENTRIES_A_RUN, 0
        while self._state.applied_index < self._raft.commit_index:
            waiting = self._next(effects)
            if not waiting:
                return
            if not self._writes.proposed:
                if not self._replay(waiting[: max(1, entries - self.entries)]):
                    continue
                effects.again = self._state.applied_index < self._raft.commit_index
                return
            for entry in waiting:
                self._apply(entry, now, effects)
                size += len(entry.payload)
                if self.commands >= commands or self.entries >= entries or size >= BYTES_A_RUN:
                    effects.again = self._state.applied_index < self._raft.commit_index
                    return

    def _replay(self, entries: Sequence[Entry]) -> bool:
        """Apply entries that are not this leader's own: no more of them than suits one run. True if that is enough."""
        size, taken = 0, 0
        for entry in entries:
            size += len(entry.payload)
            taken += 1
            if entry.kind == EntryKind.MEMBERSHIP:
                self.membership = Membership.decode(entry.payload)
            if size >= REPLAY_BYTES_A_RUN:
                break
        count = self._state.replay(entries[:taken])
        last = entries[taken - 1]
        self.entries += taken
        self.commands += count
        self._snapshotting.commands += count
        self._snapshotting.bytes += size
        self.lags.note(last.index, count, size, last.time_ms)
        return size >= REPLAY_BYTES_A_RUN or taken >= ENTRIES_A_RUN

    def _next(self, effects: Effects) -> Sequence[Entry]:
        """The next committed entries: from the cache, from what was loaded, or none yet and a load is asked for."""
        first, last = self._state.applied_index + 1, self._raft.commit_index
        entries = self._raft.log.entries(first, last, 1 << 20)
        if entries:
            return entries
        if self._loaded and self._loaded[0].index <= first <= self._loaded[-1].index:
            start = first - self._loaded[0].index
            return self._loaded[start : start + last - first + 1]
        self._loaded = ()
        if not self._is_loading:
            self._is_loading = True
            effects.apply_load = (first, last)
        return ()

    def loaded(self, entries: Sequence[Entry]) -> None:
        """What `apply_load` asked for has come."""
        self._is_loading = False
        self._loaded = entries

    def _apply(self, entry: Entry, now: float, effects: Effects) -> None:
        own = self._writes.match(EntryId(entry.term, entry.index), effects) if self._writes.proposed else None
        outcomes = self._state.apply(entry, [write.commands for write in own.writes] if own else None)
        if entry.kind == EntryKind.MEMBERSHIP:
            self.membership = Membership.decode(entry.payload)
        count = 0
        for outcome in outcomes:
            count += outcome.origin.count
        self.entries += 1
        self.commands += count
        self.lags.note(entry.index, count, len(entry.payload), entry.time_ms)
        self._snapshotting.commands += count
        self._snapshotting.bytes += len(entry.payload)
        if own:
            effects.committed.append((now - own.at, count))
            for write, outcome in zip(own.writes, outcomes, strict=True):
                if write.token is not None:
                    self._writes.answer(write, effects, self._answer(write, outcome, entry.index))

    def _answer(self, write: Write, outcome: BlobOutcome, index: int) -> Answer:
        if outcome.status is Status.CONFLICT:
            return Answer(token=None, error=IdempotencyConflict())
        if outcome.status is Status.EXPIRED:
            return Answer(token=None, error=SessionExpired())
        if type(write.token) is list:
            return Answer(token=None, index=index, results=outcome.results)
        return Answer(token=None, index=index, encoded=outcome.encoded(self._state.machine))

    # A snapshot of the leader's

    def replaced(self, meta: SnapshotMeta, effects: Effects) -> None:
        """The log is that of a received snapshot now, in memory; the state follows once it is durable."""
        self.restoring = meta
        self._loaded = ()
        self._writes.jumped(meta.id.index, effects)

    def begin_adoption(self, meta: SnapshotMeta, effects: Effects) -> None:
        """A snapshot takes the place of the state alone, and the log stays (`server/repairing.py`)."""
        self.restoring = meta
        self._restore_running = True
        self._loaded = ()
        self._writes.jumped(meta.id.index, effects)

    def adoption_ended(self, meta: SnapshotMeta) -> None:
        """Without `restored`, it failed, and all is as before."""
        self._restore_running = False
        if self.restoring == meta:
            self.restoring = None

    def durable(self, meta: SnapshotMeta) -> None:
        self._durable = meta

    def restored(self, meta: SnapshotMeta) -> None:
        """The state machine is that of the snapshot now."""
        self._restore_running = False
        if meta != self.restoring:
            return  # a newer one has come meanwhile, and is restored next
        self.restoring = None
        self.membership = meta.membership
        self._snapshotting.restored(meta)
