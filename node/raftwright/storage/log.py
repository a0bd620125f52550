"""The write-ahead log: entries and hard state in one stream of records over segments, one sync a write.

Called by `storage.py` only. The one rule: `append` returns when all of it is durable, and raises DiskFull before it
has done anything or SyncFailed after which the log is dead.
"""

import threading
from bisect import insort
from collections.abc import Callable, Sequence
from functools import partial
from itertools import count
from operator import attrgetter
from typing import TypeVar

from raftwright.raft.entries import ZERO, Entry, EntryId, EntryKind, HardState
from raftwright.storage import reading, records
from raftwright.storage.errors import DiskFull, SyncFailed
from raftwright.storage.files import Files
from raftwright.storage.index import LogIndex
from raftwright.storage.records import Item, Position
from raftwright.storage.recovery import RecoveredLog, recover
from raftwright.storage.room import Room
from raftwright.storage.segments import Segment, SegmentFiles

SEGMENT_BYTES_MIN = 4096
PREPARED = 2
"""Segments ready beside the one being written: the next one and the reserve."""
_SLACK_BYTES = 4096
_GENERATION = attrgetter("generation")
_Argument = TypeVar("_Argument")
_Result = TypeVar("_Result")


class Log:
    """Safe for one writer, any readers, one compaction and one preparation at a time, each in its own thread."""

    def __init__(self, files: Files, store_id: bytes, segment_bytes: int, recovered: RecoveredLog) -> None:
        self._store_id = store_id
        self._segment_bytes = segment_bytes
        self._index = recovered.index
        self._generations = count(recovered.next_generation)
        self._segment_files = SegmentFiles(files, store_id, lambda: next(self._generations))
        self._lock = threading.Lock()  # the index and the prepared segments
        self._write_lock = threading.Lock()
        self._prepare_lock = threading.Lock()
        self._failed: SyncFailed | None = None
        self._prepared: list[Segment] = []
        self._durable = recovered.durable
        self.hard_state = recovered.hard_state
        self.snapshot_id = recovered.snapshot_floor
        """Goes into the first record of each segment."""
        self.sync_count = 0
        self.bytes_written = 0
        for segment in recovered.unused:
            # Of whatever size: on a full disk there would be none in its place.
            if segment.capacity >= SEGMENT_BYTES_MIN and len(self._prepared) < PREPARED:
                self._prepared.append(segment)
            else:
                self._segment_files.remove(segment)

    @classmethod
    def create(cls, files: Files, store_id: bytes, segment_bytes: int) -> "Log":
        """An empty log and its reserve, durable. Raises DiskFull or SyncFailed."""
        empty = RecoveredLog(LogIndex(), HardState(), records.START, [], ZERO, 1)
        log = cls(files, store_id, segment_bytes, empty)
        log._write(log._segment_files.make(segment_bytes), [])
        log.prepare_reserve()
        return log

    @classmethod
    def open(cls, files: Files, store_id: bytes, segment_bytes: int) -> "Log":
        """Raises whatever `recover` raises."""
        return cls(files, store_id, segment_bytes, recover(files, store_id))

    # What is known about it.

    @property
    def base(self) -> EntryId:
        return self._index.base

    @property
    def last(self) -> EntryId:
        return self._index.last

    @property
    def terms(self) -> tuple[EntryId, ...]:
        return tuple(self._index.runs)

    @property
    def memberships(self) -> tuple[Entry, ...]:
        return tuple(self._index.memberships)

    def term_at(self, index: int) -> int:
        return self._index.term_at(index)

    @property
    def log_bytes(self) -> int:
        """Bytes of the segments in use; the prepared ones are not counted."""
        return sum(segment.capacity for segment in list(self._index.segments))

    @property
    def needs_prepare(self) -> bool:
        # Without the lock: an event loop asks this, and a read may hold the lock while the disk is slow.
        return len(self._prepared) < PREPARED

    @property
    def room(self) -> Room:
        """What fits before the reserve must be used."""
        current, ready = self._index.current, tuple(_capacity_of(segment) for segment in list(self._prepared))
        # Without a reserve, a part of the segment that is being written stands for it.
        kept = 0 if ready else self._segment_bytes // 4
        return Room(max(0, current.capacity - current.end - kept), ready)

    # Writing.

    def append(
        self, *, hard_state: HardState | None = None, reset: EntryId | None = None, entries: Sequence[Entry] = ()
    ) -> None:
        """Durable on return. `reset` empties the log, which begins after that id; entries replace what is there.

        Raises ValueError for entries that do not follow, DiskFull with nothing done, SyncFailed.
        """
        with self._write_lock:
            items = self._items(hard_state, reset, entries)
            if items:
                self._append(items)

    def _items(self, hard_state: HardState | None, reset: EntryId | None, entries: Sequence[Entry]) -> list[Item]:
        """Hard state goes first: a torn write must not leave an entry of a term that is then forgotten."""
        items = [] if hard_state is None else [records.hard_state_item(hard_state)]
        last, base = self._index.last, self._index.base
        if reset is not None:
            items.append(records.id_item(records.RESET, reset))
            last = base = reset
        if not entries:
            return items
        first = entries[0].index
        if not base.index < first <= last.index + 1:
            raise ValueError(f"entry {first} does not follow: the log goes from {base.index} to {last.index}")
        if first <= last.index:
            items.append(records.id_item(records.TRUNCATE, EntryId(self._index.term_at(first - 1), first - 1)))
        items += [Item(records.ENTRY, entry) for entry in entries]
        return items

    def _append(self, items: list[Item]) -> None:
        self._check_alive()
        for segment, batch in self._plan(items):
            if batch:
                self._write(segment, batch)

    def _plan(self, items: list[Item]) -> list[tuple[Segment, list[Item]]]:
        """Which items go to which segment. DiskFull is met here, where nothing has been written yet."""
        segment = self._index.current
        room = segment.capacity - segment.end
        if sum(item.size for item in items) <= room:
            return [(segment, items)]
        plan: list[tuple[Segment, list[Item]]] = [(segment, [])]
        try:
            for item in items:
                size = item.size
                if size > room:
                    segment = self._take(size, segment.generation)
                    room = segment.capacity - records.SEGMENT_RECORD_BYTES
                    plan.append((segment, []))
                plan[-1][1].append(item)
                room -= size
        except DiskFull:
            for taken, _ in plan[1:]:
                self._keep_ready(taken)
            raise
        return plan

    def _take(self, size: int, after: int) -> Segment:
        """A prepared segment with room for `size` bytes and a generation greater than `after`, else a new one."""
        with self._lock:
            fitting = next((segment for segment in self._prepared if _capacity_of(segment) >= size), None)
            if fitting is not None:
                self._prepared.remove(fitting)
        if fitting is None:
            return self._make(size)
        return fitting if fitting.generation > after else self._fatal(self._segment_files.recycle, fitting)

    def _make(self, size: int, leaving: int = 0) -> Segment:
        """A new segment of the usual size, or a larger one for a record of `size` bytes."""
        capacity = self._segment_bytes
        needed = records.SEGMENT_RECORD_BYTES + size
        if needed > capacity:
            capacity = (needed + 2 * _SLACK_BYTES) & -_SLACK_BYTES
        return self._fatal(partial(self._segment_files.make, leaving=leaving), capacity)

    def _write(self, segment: Segment, items: list[Item]) -> None:
        """One write, one sync. Everything before it is durable already, and its records say so."""
        if segment.end == 0:
            head = records.SegmentHead(
                store_id=self._store_id,
                capacity=segment.capacity,
                hard_state=self.hard_state,
                snapshot=self.snapshot_id,
                before=self._index.last,
                previous=self._durable,
            )
            items = [records.segment_item(head), *items]
        parts = records.encode(items, segment.seed, segment.end, self._durable)
        data = b"".join(parts)
        end = segment.end + len(data)
        data += records.TERMINATOR[: segment.capacity - end]
        try:
            segment.file.pwrite(data, segment.end)
            segment.file.sync()
        except OSError as error:
            self._failed = SyncFailed(f"{segment.path}, offset {segment.end}: writing the log failed: {error}")
            raise self._failed from error
        self.sync_count += 1
        self.bytes_written += len(data)
        with self._lock:
            self._publish(segment, items)
        self._durable = Position(segment.generation, end)

    def _publish(self, segment: Segment, items: list[Item]) -> None:
        index = self._index
        if segment.end == 0:
            index.segments.append(segment)
        offset = segment.end
        for record_type, entry in items:
            end = offset + records.record_bytes(len(entry.payload))
            if record_type == records.ENTRY:
                index.append(segment, EntryId(entry.term, entry.index), offset, end)
                if entry.kind == EntryKind.MEMBERSHIP:
                    index.memberships.append(entry)
            elif record_type == records.HARD_STATE:
                self.hard_state = records.hard_state_of(entry.term, entry.index, entry.kind)
            elif record_type == records.TRUNCATE:
                index.truncate(entry.id)
            elif record_type == records.RESET:
                index.reset(entry.id)
            offset = end
        segment.end = offset

    # Reading.

    def read(self, first: int, bytes_max: int, last: int) -> list[Entry]:
        """Durable entries from `first` to `last` at most, contiguous: as many as fit in `bytes_max`, but at least one.

        Empty where `first` is not in the log (any more). Raises CorruptLog or ReadFailed.
        """
        with self._lock:
            # Under the lock, so that no segment is recycled meanwhile; what takes longer, decoding, is outside.
            spans = reading.spans(self._index, first, bytes_max, last)
        return reading.decode(spans)

    def first_within(self, bytes_max: int) -> int:
        """The first index of the newest entries that take at most `bytes_max` bytes of the log together."""
        with self._lock:
            return reading.first_within(self._index, bytes_max)

    # Making room.

    def compact(self, keep_from: int) -> None:
        """Let go of the whole segments before entry `keep_from`. Call only when a durable snapshot covers them."""
        with self._write_lock:
            self._check_alive()
            with self._lock:
                dropped = self._index.droppable(keep_from)
                self._index.drop(dropped)
        for segment in dropped:
            self._let_go(segment)

    def _let_go(self, segment: Segment) -> None:
        with self._lock:
            wanted = len(self._prepared) < PREPARED and segment.capacity == self._segment_bytes
        if not wanted:
            self._fatal(self._segment_files.remove, segment)
            return
        recycled = self._fatal(self._segment_files.recycle, segment)
        self._keep_ready(recycled)

    def prepare(self, sizes: Sequence[int] = (), leaving: int = 0) -> None:
        """Make the next segment and the reserve where they are missing, and what it takes for records of `sizes` to
        fit, with `leaving` bytes of the disk free. Raises DiskFull; the log goes on without."""
        self._prepare(PREPARED, sizes, leaving)

    def prepare_reserve(self) -> None:
        """One segment only."""
        self._prepare(1)

    def _prepare(self, count: int, sizes: Sequence[int] = (), leaving: int = 0) -> None:
        with self._prepare_lock:
            self._check_alive()
            while len(self._prepared) < count:
                self._keep_ready(self._make(0, leaving))
            while self.room.after(sizes) is None:
                self._keep_ready(self._make(max(sizes), leaving))

    def release_reserve(self) -> bool:
        """Remove a prepared segment for the sake of a snapshot; False where there is none."""
        with self._prepare_lock:
            with self._lock:
                if not self._prepared:
                    return False
                segment = self._prepared.pop()
            self._fatal(self._segment_files.remove, segment)
            return True

    def _keep_ready(self, segment: Segment) -> None:
        with self._lock:
            insort(self._prepared, segment, key=_GENERATION)

    def _fatal(self, action: Callable[[_Argument], _Result], argument: _Argument) -> _Result:
        """Run an action of `SegmentFiles`; remember a failure after which the log must not go on."""
        try:
            return action(argument)
        except SyncFailed as error:
            self._failed = error
            raise

    def _check_alive(self) -> None:
        if self._failed is not None:
            raise SyncFailed(f"an earlier write failed: {self._failed}") from self._failed

    def close(self) -> None:
        for segment in (*self._index.segments, *self._prepared):
            segment.file.close()


def _capacity_of(segment: Segment) -> int:
    """Bytes of records that a prepared segment takes."""
    return segment.capacity - records.SEGMENT_RECORD_BYTES
