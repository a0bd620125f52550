"""What the log is after a start: replays the segments, tells rot from an unsynced tail, and makes the tail durable.

Called by `log.py` at open. The one rule: damage before a position that any valid record says was durable is rot, and
then nothing is changed; damage behind the last such position is a tail that was never synced, and is cut.
"""

import logging
from dataclasses import dataclass
from zlib import crc32

from raftwright.raft.entries import ZERO, EntryId, EntryKind, HardState
from raftwright.storage import records
from raftwright.storage.errors import CorruptLog, ReadFailed, SyncFailed
from raftwright.storage.files import Files
from raftwright.storage.index import LogIndex
from raftwright.storage.records import Position, SegmentHead
from raftwright.storage.segments import DIRECTORY, TEMPORARY, Segment, generation_of, segment_path, write_zeros

_log = logging.getLogger(__name__)

_MEMBERSHIP = int(EntryKind.MEMBERSHIP)
_NOTHING = HardState()


@dataclass(slots=True)
class RecoveredLog:
    index: LogIndex
    hard_state: HardState
    durable: Position
    """Behind the last record, all of it durable now."""
    unused: list[Segment]
    """Prepared segments, by generation. Nothing in them is valid."""
    snapshot_floor: EntryId
    """The newest snapshot that the log knows to have been durable."""
    next_generation: int


@dataclass(slots=True)
class _Replay:
    """What is carried from segment to segment."""

    index: LogIndex
    hard_state: HardState = _NOTHING
    claimed: Position = records.START
    """The last position that a valid record of the log says was durable."""
    snapshot_floor: EntryId = ZERO


def recover(files: Files, store_id: bytes) -> RecoveredLog:
    """Raises CorruptLog, WrongStore, UnsupportedFormat, ReadFailed with nothing changed, else SyncFailed."""
    try:
        used, unused = _open_segments(files, store_id)
        _check_chain(used, unused)
    except OSError as error:
        raise ReadFailed(f"{DIRECTORY}: {error}") from error
    replay = _Replay(LogIndex(used[0][1].before))
    data = b""
    reached = 0
    for number, (segment, head) in enumerate(used):
        data = _read_whole(segment)
        limit = used[number + 1][1].previous.offset if number + 1 < len(used) else len(data)
        replay.index.segments.append(segment)
        replay.snapshot_floor = max(replay.snapshot_floor, head.snapshot, key=lambda entry_id: entry_id.index)
        replay.hard_state = head.hard_state
        reached = _replay_segment(replay, segment, data, min(limit, len(data)))
        if number + 1 < len(used) and reached != limit:
            raise CorruptLog(segment.path, reached, f"the next segment says that all was durable up to offset {limit}")
    last = used[-1][0]
    end = Position(last.generation, reached)
    stale = _stale_records(last, data, reached, end)
    dirty = [segment for segment in unused if _stale_records(segment, _read_whole(segment), 0, end)]
    _make_tail_durable(files, last, data, reached, replay.claimed, stale)
    for segment in dirty:
        _erase(segment)
    state = replay.hard_state
    if state.term < replay.index.last.term:
        state = HardState(replay.index.last.term)
    return RecoveredLog(
        index=replay.index,
        hard_state=state,
        durable=end,
        unused=sorted(unused, key=lambda segment: segment.generation),
        snapshot_floor=replay.snapshot_floor,
        next_generation=max(segment.generation for segment in (last, *unused)) + 1,
    )


def _open_segments(files: Files, store_id: bytes) -> tuple[list[tuple[Segment, SegmentHead]], list[Segment]]:
    """The segments that hold records, by generation, and those that do not (or whose first record is damaged)."""
    used: list[tuple[Segment, SegmentHead]] = []
    unused: list[Segment] = []
    for name in files.list(DIRECTORY):
        if name.endswith(TEMPORARY):
            files.remove(f"{DIRECTORY}/{name}")
            continue
        generation = generation_of(name)
        if generation is None:
            _log.warning("%s/%s is no segment of the log; ignored", DIRECTORY, name)
            continue
        file = files.open(segment_path(generation))
        size = file.size()
        segment = Segment(generation, file, size & ~7, store_id)
        if size > records.LENGTH_MAX:
            raise CorruptLog(segment.path, 0, f"a segment of {size} bytes cannot be")
        head = records.parse_segment_head(
            file.pread(records.SEGMENT_RECORD_BYTES, 0), store_id, generation, segment.path
        )
        if head is None:
            unused.append(segment)
            continue
        if head.capacity != size:
            raise CorruptLog(segment.path, size, f"the file was made with {head.capacity} bytes and has {size}")
        used.append((segment, head))
    return used, unused


def _check_chain(used: list[tuple[Segment, SegmentHead]], unused: list[Segment]) -> None:
    """Each segment names the one before it: none is missing in between, and none has lost its first record."""
    without_head = {segment.generation: segment for segment in unused}
    if not used:
        path = unused[0].path if unused else DIRECTORY
        raise CorruptLog(path, 0, "no segment of the log begins with a valid record")
    for number, (segment, head) in enumerate(used):
        before = head.previous.generation
        if before in without_head:
            raise CorruptLog(without_head[before].path, 0, "the segment's first record is damaged")
        if number and used[number - 1][0].generation != before:
            raise CorruptLog(segment_path(before), 0, f"the segment is missing; {segment.path} continues it")


def _read_whole(segment: Segment) -> bytes:
    try:
        return segment.file.pread(segment.capacity, 0)
    except OSError as error:
        raise ReadFailed(f"{segment.path}: {error}") from error


def _replay_segment(replay: _Replay, segment: Segment, data: bytes, limit: int) -> int:
    """Apply the records from the segment's begin to the first one that is not whole. Returns the offset of that."""
    index = replay.index
    seed = segment.seed
    unpack = records.HEADER.unpack_from
    view = memoryview(data)
    magic_value, entry_type = records.MAGIC, records.ENTRY
    append = segment.offsets.append
    last_term, last_index = index.last
    plain = False
    claim: tuple[int, int] = replay.claimed
    offset = 0
    end_limit = limit - records.HEADER_BYTES
    while offset <= end_limit:
        (check, payload_check, magic, length, generation, durable, _, term, at, _, record_type, kind, _, _) = unpack(
            data, offset
        )
        begin = offset + 64
        if magic != magic_value or crc32(data[offset + 8 : begin], seed ^ offset) != check:
            break
        end = begin + length
        if end > limit or crc32(view[begin:end], check) != payload_check:
            break
        following = (end + 7) & ~7
        if record_type == entry_type:
            if at != last_index + 1 or term < last_term:
                why = f"entry {at} of term {term} follows entry {last_index} of term {last_term}"
                raise CorruptLog(segment.path, offset, why)
            if plain and term == last_term and kind != _MEMBERSHIP:
                append(offset)
            else:
                index.last = EntryId(last_term, last_index)
                index.append(segment, EntryId(term, at), offset, following)
                if kind == _MEMBERSHIP:
                    _note_membership(replay, segment, data, offset, following)
                plain = True
            last_term, last_index = term, at
            segment.live_end = following
        else:
            index.last = EntryId(last_term, last_index)
            _apply_control(replay, segment, record_type, EntryId(term, at), kind, offset)
            last_term, last_index = index.last
            plain = False
        claim = (generation, durable)
        offset = following
    index.last = EntryId(last_term, last_index)
    replay.claimed = Position(*claim)
    segment.end = offset
    return offset


def _note_membership(replay: _Replay, segment: Segment, data: bytes, offset: int, following: int) -> None:
    replay.index.memberships += records.decode_entries(data[offset:following], (offset,), segment.seed, segment.path)


def _apply_control(
    replay: _Replay, segment: Segment, record_type: int, entry_id: EntryId, kind: int, offset: int
) -> None:
    index = replay.index
    match record_type:
        case records.HARD_STATE:
            replay.hard_state = records.hard_state_of(entry_id.term, entry_id.index, kind)
        case records.TRUNCATE if entry_id.index <= index.last.index:
            index.truncate(entry_id)
        case records.RESET:
            index.reset(entry_id)
            replay.snapshot_floor = max(replay.snapshot_floor, entry_id, key=lambda each: each.index)
        case records.SEGMENT if offset == 0 and entry_id == index.last:
            pass
        case _:
            raise CorruptLog(segment.path, offset, f"a record of type {record_type} cannot be here (id {entry_id})")


def _stale_records(segment: Segment, data: bytes, start: int, end_of_log: Position) -> bool:
    """Whether valid records are found from `start` on, behind the end of the log.

    Raises CorruptLog if one of them says that more was durable than the log still has.
    """
    found = False
    for offset, header in records.find_headers(data, segment.seed, start):
        found = True
        if header.durable > end_of_log:
            place = (
                end_of_log if header.durable.generation == end_of_log.generation else Position(segment.generation, 0)
            )
            why = f"the record here is damaged, and was durable as the one in {segment.path} at offset {offset} says"
            raise CorruptLog(segment_path(place.generation), place.offset, why)
    return found


def _make_tail_durable(
    files: Files, segment: Segment, data: bytes, reached: int, claimed: Position, stale: bool
) -> None:
    """Write what follows the last position known durable again and sync it, and wipe what was cut.

    The page cache may show what never reached the disk: after a failed sync pages count as clean, and another sync
    alone would write nothing. The records behind the cut are wiped, or later ones could lead up to them again.
    """
    start = claimed.offset if claimed.generation == segment.generation else 0
    behind = data[reached : reached + records.HEADER_BYTES]
    if stale or behind.strip(b"\0"):
        _log.warning(
            "%s: cut at offset %d: what follows was being written and was never synced (a crash)", segment.path, reached
        )
    try:
        segment.file.pwrite(data[start:reached], start)
        if stale:
            write_zeros(segment.file, reached, segment.capacity)
        elif behind:
            segment.file.pwrite(bytes(len(behind)), reached)
        segment.file.sync()
        # A rename before the crash may be visible and not yet durable.
        files.sync_directory(DIRECTORY)
    except OSError as error:
        raise SyncFailed(f"{segment.path}: {error}") from error


def _erase(segment: Segment) -> None:
    _log.warning("%s: was being begun and was never synced (a crash); wiped", segment.path)
    try:
        write_zeros(segment.file, 0, segment.capacity)
        segment.file.sync()
    except OSError as error:
        raise SyncFailed(f"{segment.path}: {error}") from error
