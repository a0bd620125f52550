"""A member of a test cluster: one core, a disk that keeps what was written, and a machine that is a running hash.

Used by `cluster.py`. Its one rule: the disk holds nothing but what a finished write put there, so that a crash
forgets the rest.
"""

import zlib
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from random import Random

from raftwright.raft import invariants
from raftwright.raft.entries import ZERO, Entry, EntryId, EntryKind, HardState, Recovered, SnapshotMeta
from raftwright.raft.events import (
    AnyEvent,
    Applied,
    ChunkLoaded,
    EntriesLoaded,
    Persisted,
    SnapshotReceived,
    SnapshotTaken,
)
from raftwright.raft.membership import Membership
from raftwright.raft.messages import RaftMessage
from raftwright.raft.raft import Raft, RaftSettings
from raftwright.raft.ready import LoadChunk, LoadEntries, ReadAnswer, Ready


@dataclass
class Disk:
    hard_state: HardState = field(default_factory=HardState)
    base: EntryId = ZERO
    entries: list[Entry] = field(default_factory=list)
    snapshot: SnapshotMeta | None = None
    data: bytes = b""
    receiving: bytearray = field(default_factory=bytearray)

    @staticmethod
    def founded(membership: Membership) -> "Disk":
        """The disk of a founding member: an empty machine as a snapshot at the first entry."""
        data = _machine_bytes(0)
        meta = SnapshotMeta(
            id=EntryId(1, 1), time_ms=0, membership=membership, size=len(data), checksum=zlib.crc32(data)
        )
        return Disk(hard_state=HardState(1, None), base=meta.id, snapshot=meta, data=data)

    def recovered(self, tail_entries: int) -> Recovered:
        """What a restart finds. A snapshot that the log does not lead up to replaces it, as in the real storage: what
        was applied may have been saved before the own write of the log was done."""
        if self.snapshot is not None and not self.logs(self.snapshot.id):
            self.base, self.entries = self.snapshot.id, []
            if self.hard_state.term < self.snapshot.id.term:
                self.hard_state = HardState(self.snapshot.id.term, None)
        runs: list[EntryId] = []
        for entry in self.entries:
            if not runs or runs[-1].term != entry.term:
                runs.append(entry.id)
        return Recovered(
            hard_state=self.hard_state,
            snapshot=self.snapshot,
            base=self.base,
            terms=tuple(runs),
            last=self.entries[-1].id if self.entries else self.base,
            tail=tuple(self.entries[-tail_entries:]) if tail_entries else (),
            memberships=tuple(entry for entry in self.entries if entry.kind == EntryKind.MEMBERSHIP),
        )

    def write(self, ready: Ready) -> SnapshotReceived | None:
        """Make `ready` durable. The event to answer with, if it completed a snapshot."""
        if ready.hard_state is not None:
            self.hard_state = ready.hard_state
        received = None
        for chunk in ready.chunks:
            if chunk.offset == 0:
                self.receiving = bytearray()
            assert chunk.offset == len(self.receiving), "chunks come in order"
            self.receiving += chunk.data
            if chunk.done:
                received = SnapshotReceived(
                    now=0, meta=chunk.meta, ok=zlib.crc32(self.receiving) == chunk.meta.checksum
                )
        if ready.snapshot is not None:
            self.snapshot, self.data = ready.snapshot, bytes(self.receiving)
            self.base, self.entries = ready.snapshot.id, []
        if ready.entries:
            del self.entries[max(0, ready.entries[0].index - self.base.index - 1) :]
            assert ready.entries[0].index == self.base.index + len(self.entries) + 1, "no gap in the log"
            self.entries += ready.entries
        return received

    def compact(self, base: EntryId) -> None:
        del self.entries[: base.index - self.base.index]
        self.base = base

    @property
    def last_index(self) -> int:
        return max(self.base.index + len(self.entries), 0 if self.snapshot is None else self.snapshot.id.index)

    def holds(self, entry_id: EntryId) -> bool:
        """Whether the entry is durable here, by itself or as a part of the snapshot."""
        if self.snapshot is not None and entry_id.index <= self.snapshot.id.index:
            return True
        return self.logs(entry_id)

    def logs(self, entry_id: EntryId) -> bool:
        """Whether the log has this very entry, or begins right after it."""
        position = entry_id.index - self.base.index - 1
        return entry_id == self.base or (0 <= position < len(self.entries) and self.entries[position].id == entry_id)

    def read(self, first: int, last: int) -> tuple[Entry, ...]:
        start = first - self.base.index - 1
        return tuple(self.entries[start : last - self.base.index]) if start >= 0 else ()


def _machine_bytes(digest: int) -> bytes:
    return digest.to_bytes(4, "big") * 25


class Store:
    """One member. `send` takes the messages that may leave, `observe` is told the index and digest of each entry that
    was applied, and `committed` of each step by which a leader committed more, with the membership before it."""

    def __init__(
        self,
        member_id: int,
        disk: Disk,
        *,
        settings: RaftSettings,
        now: float,
        seed: int,
        send: Callable[[RaftMessage], None],
        observe: Callable[["Store", int, int], None],
        committed: Callable[["Store", Membership], None],
        tail_entries: int = 1000,
    ) -> None:
        self.member_id = member_id
        self.disk = disk
        self._send = send
        self._observe = observe
        self._committed = committed
        self.raft = Raft(
            member_id=member_id,
            settings=settings,
            recovered=disk.recovered(tail_entries),
            random=Random(seed),
            now=now,
        )
        self.now = now
        self.digest = int.from_bytes(disk.data[:4], "big")
        self.applied = self.raft.applied_index
        self.commit_index = self.raft.commit_index
        self.installing = 0
        self.writing: deque[Ready] = deque()
        self.answers: deque[AnyEvent] = deque()
        """Answers of the disk to loads, not handed in yet."""
        self.reads: list[ReadAnswer] = []

    def step(self, event: AnyEvent) -> None:
        """Step the core and check what must hold after every step."""
        self.now = event.now
        before = invariants.capture(self.raft)
        membership = self.raft.membership
        try:
            self.raft.step(event)
        finally:
            invariants.check_delta(before, self.raft)
            invariants.check(self.raft)
        if before.leads and self.raft.commit_index > before.commit_index:
            self._committed(self, membership)

    def collect(self) -> None:
        """Take one Ready, send what may be sent, and queue the write."""
        ready = self.raft.ready()
        invariants.check(self.raft)
        for message in ready.messages:
            self._send(message)
        self.writing.append(ready)
        self.installing += ready.snapshot is not None
        self.commit_index = ready.commit_index
        self.reads += ready.reads
        for load in ready.loads:
            self.answers.append(self._load(load))

    def finish_write(self) -> None:
        """The oldest Ready is durable: say so, and send what waited for it."""
        ready = self.writing.popleft()
        received = self.disk.write(ready)
        if ready.snapshot is not None:
            self.digest = int.from_bytes(self.disk.data[:4], "big")
            self.applied = ready.snapshot.id.index
            self.installing -= 1
            self._observe(self, self.applied, self.digest)
        for message in ready.messages_after:
            self._send(message)
        if ready.must_persist:
            self.step(Persisted(now=self.now, ready=ready.number))
        if received is not None:
            self.step(SnapshotReceived(now=self.now, meta=received.meta, ok=received.ok))

    def apply(self) -> None:
        """Apply what is committed, from memory or from disk."""
        if self.installing or self.applied >= self.commit_index:
            return
        first = self.applied + 1
        entries = self.raft.log.entries(first, self.commit_index, 1 << 40)
        if entries is None:
            entries = self.disk.read(first, self.commit_index)
        for entry in entries:
            assert entry.index == self.applied + 1, "entries are applied in order"
            self.applied = entry.index
            self.digest = zlib.crc32(b"%d %d %d " % (entry.term, entry.index, entry.kind) + entry.payload, self.digest)
            self._observe(self, entry.index, self.digest)
        self.step(Applied(now=self.now, index=self.applied))

    def take_snapshot(self, keep: int) -> None:
        """Save the machine, keep `keep` entries before it in the log, and cut the log on disk as the core does."""
        entry_id = self.raft.log.id_at(self.applied)
        if entry_id is None or self.installing or self.applied <= (self.disk.snapshot or _NONE).id.index:
            return
        data = _machine_bytes(self.digest)
        # Only settled memberships are safe to name here; the harness takes snapshots when the newest is.
        if self.raft.log.membership_index > self.applied:
            return
        meta = SnapshotMeta(
            id=entry_id,
            time_ms=self.raft.log.last_time_ms,
            membership=self.raft.membership,
            size=len(data),
            checksum=zlib.crc32(data),
        )
        self.disk.snapshot, self.disk.data = meta, data
        self.step(SnapshotTaken(now=self.now, meta=meta, keep_from=max(1, meta.id.index + 1 - keep)))
        self.disk.compact(self.raft.log.base)

    def _load(self, load: LoadEntries | LoadChunk) -> AnyEvent:
        disk = self.disk
        if isinstance(load, LoadEntries):
            entries = disk.read(load.first, load.first + 2)
            return EntriesLoaded(now=self.now, peer=load.peer, first=load.first, entries=entries)
        assert disk.snapshot is not None
        meta = load.meta or disk.snapshot
        data = disk.data[load.offset : load.offset + load.bytes_max] if meta == disk.snapshot else None
        return ChunkLoaded(now=self.now, peer=load.peer, meta=meta, offset=load.offset, data=data)


_NONE = SnapshotMeta(id=ZERO, time_ms=0, membership=Membership())
