"""Reading entries back from the log in bulk.

Called by `log.py`. The one rule: a few large reads and one tight loop, for a million entries are read at a restart.
"""

from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from raftwright.raft.entries import Entry
from raftwright.storage import records
from raftwright.storage.errors import ReadFailed
from raftwright.storage.index import LogIndex
from raftwright.storage.segments import Segment


class Span(NamedTuple):
    """Entries that lie in one segment: their offsets, and its bytes from the first of these on."""

    segment: Segment
    data: bytes
    offsets: Sequence[int]


def spans(index: LogIndex, first: int, bytes_max: int, last: int) -> list[Span]:
    """The bytes of the entries from `first` to `last` at most, as many as fit in `bytes_max`, but at least one."""
    found: list[Span] = []
    last = min(last, index.last.index)
    if first <= index.base.index:
        return found
    for segment in index.segments:
        if first > last:
            break
        if not segment.offsets or segment.last_index < first:
            continue
        begin = first - segment.first_index
        stop = _stop(segment, begin, last, bytes_max)
        if stop == begin:
            if found:
                break
            stop += 1
        start = segment.offsets[begin]
        end = segment.offsets[stop] if stop < len(segment.offsets) else segment.live_end
        try:
            data = segment.file.pread(end - start, start)
        except OSError as error:
            raise ReadFailed(f"{segment.path}, offset {start}: {error}") from error
        found.append(Span(segment, data, segment.offsets[begin:stop]))
        bytes_max -= end - start
        first += stop - begin
        if stop < len(segment.offsets):
            break
    return found


def _stop(segment: Segment, begin: int, last: int, bytes_max: int) -> int:
    """Behind the last entry from number `begin` on that ends within `bytes_max` and is not after `last`."""
    offsets = segment.offsets
    limit = offsets[begin] + bytes_max
    whole = segment.live_end <= limit
    stop = len(offsets) if whole else max(begin, bisect_right(offsets, limit, begin) - 1)
    return min(stop, last - segment.first_index + 1)


def decode(found: Iterable[Span]) -> list[Entry]:
    """Raises CorruptLog."""
    entries: list[Entry] = []
    for segment, data, offsets in found:
        entries += records.decode_entries(data, offsets, segment.seed, segment.path)
    return entries


def first_within(index: LogIndex, bytes_max: int) -> int:
    """The first index of the newest entries that take at most `bytes_max` bytes of the log together."""
    first = index.last.index + 1
    for segment in reversed(index.segments):
        if not segment.offsets:
            continue
        begin = bisect_left(segment.offsets, max(0, segment.live_end - bytes_max))
        first = segment.first_index + begin
        if begin:
            break
        bytes_max -= segment.live_end - segment.offsets[0]
    return first
