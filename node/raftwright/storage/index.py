"""What the log knows about itself in memory: its segments, first and last id, the runs of terms, the memberships.

Called by `log.py` and `recovery.py`, which replay the same changes through it. The one rule: it holds no entries,
but where they are.
"""

from bisect import bisect_right
from operator import attrgetter

from raftwright.raft.entries import ZERO, Entry, EntryId
from raftwright.storage.segments import Segment

_INDEX = attrgetter("index")


class LogIndex:
    """Not safe for use by several threads at once: `log.py` holds a lock."""

    def __init__(self, base: EntryId = ZERO) -> None:
        self.segments: list[Segment] = []
        """In the order they were written; the last one is being written."""
        self.base = base
        """The id before the first entry."""
        self.last = base
        self.runs: list[EntryId] = []
        """Term and first index of each run of entries of one term."""
        self.memberships: list[Entry] = []

    @property
    def current(self) -> Segment:
        return self.segments[-1]

    def term_at(self, index: int) -> int:
        """The term of the entry at `index`, from the base on to the last."""
        if index == self.base.index:
            return self.base.term
        if not self.base.index < index <= self.last.index:
            raise ValueError(f"no entry {index} in the log from {self.base.index} to {self.last.index}")
        return self.runs[bisect_right(self.runs, index, key=_INDEX) - 1].term

    def append(self, segment: Segment, entry_id: EntryId, offset: int, end: int) -> None:
        """The next entry lies in `segment` from `offset` to `end`."""
        if entry_id.term != self.last.term or self.last == self.base:
            self.runs.append(entry_id)
        if not segment.offsets:
            segment.first_index = entry_id.index
        segment.offsets.append(offset)
        segment.live_end = end
        self.last = entry_id

    def truncate(self, last: EntryId) -> None:
        """`last` is the log's last entry from now on. Where the log began later, it is empty and begins after it."""
        for segment in self.segments:
            segment.truncate_after(last.index)
        while self.runs and self.runs[-1].index > last.index:
            self.runs.pop()
        while self.memberships and self.memberships[-1].index > last.index:
            self.memberships.pop()
        self.last = last
        if last.index < self.base.index:
            self.base = last

    def reset(self, base: EntryId) -> None:
        """The log is empty and begins after `base`."""
        for segment in self.segments:
            del segment.offsets[:]
        self.runs.clear()
        self.memberships.clear()
        self.base = self.last = base

    def droppable(self, keep_from: int) -> list[Segment]:
        """The oldest segments without a live entry from `keep_from` on; never the one being written."""
        dropped: list[Segment] = []
        for segment in self.segments[:-1]:
            if segment.offsets and segment.last_index >= keep_from:
                break
            dropped.append(segment)
        return dropped

    def drop(self, segments: list[Segment]) -> None:
        """Forget the oldest segments, as `droppable` gave them."""
        del self.segments[: len(segments)]
        first = next((segment.first_index for segment in self.segments if segment.offsets), self.last.index + 1)
        if first - 1 == self.base.index:
            return
        base = EntryId(self.term_at(first - 1), first - 1)
        runs = [run for run in self.runs if run.index > first]
        if self.last.index >= first:
            runs.insert(0, EntryId(self.term_at(first), first))
        self.base = base
        self.runs = runs
        self.memberships = [entry for entry in self.memberships if entry.index >= first]
