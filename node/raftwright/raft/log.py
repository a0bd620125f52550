"""The log as the core knows it: the terms of all of it, the newest entries, and the memberships it holds.

Used by the core only. Its one rule: every answer is exact, or None where the log cannot know. Terms are kept as
runs (a run is consecutive entries of one term), so that a log of any length costs a few numbers; entries are kept
in a tail bounded in bytes, which never loses what is not yet on disk.
"""

from bisect import bisect_left, bisect_right
from collections.abc import Iterator

from raftwright.raft.entries import ENTRY_OVERHEAD_BYTES, Entry, EntryId, EntryKind, Recovered, SnapshotMeta
from raftwright.raft.membership import Membership


class Log:
    """Entries `base.index + 1` to `last_id.index`. `base` is the id before the first one, and is always committed."""

    def __init__(self, recovered: Recovered, *, tail_bytes_max: int) -> None:
        self.base = recovered.base
        self.last_id = recovered.last if recovered.last.index > recovered.base.index else recovered.base
        self._tail_bytes_max = tail_bytes_max
        self._run_terms = [run.term for run in recovered.terms]
        self._run_firsts = [run.index for run in recovered.terms]
        self._tail = list(recovered.tail)
        self._tail_first = self.last_id.index + 1 - len(self._tail)
        self._tail_bytes = sum(entry.size for entry in self._tail)
        snapshot = recovered.snapshot
        self.last_time_ms = max(
            [
                snapshot.time_ms if snapshot else 0,
                *(entry.time_ms for entry in self._tail[-1:] or recovered.memberships),
            ]
        )
        # Ascending in index. The first is the newest committed membership, those after it may be rolled back.
        self._memberships = [(snapshot.id.index, snapshot.membership) if snapshot else (0, Membership())]
        for entry in recovered.memberships:
            if entry.index > self._memberships[-1][0]:
                self._memberships.append((entry.index, Membership.decode(entry.payload)))

    @property
    def first_index(self) -> int:
        return self.base.index + 1

    @property
    def last_index(self) -> int:
        return self.last_id.index

    @property
    def tail_first(self) -> int:
        """Index of the first entry in memory; one past the last entry where none is."""
        return self._tail_first

    @property
    def runs(self) -> tuple[EntryId, ...]:
        """The term and first index of each run, ascending."""
        return tuple(map(EntryId, self._run_terms, self._run_firsts))

    @property
    def tail_bytes(self) -> int:
        """What the entries in memory take."""
        return self._tail_bytes

    def term_at(self, index: int) -> int | None:
        """The term of the entry at `index`, or of the base; None before the base and after the last entry."""
        if self._run_firsts and self._run_firsts[-1] <= index <= self.last_id.index:
            return self._run_terms[-1]
        if index == self.base.index:
            return self.base.term
        if not self.base.index < index <= self.last_id.index:
            return None
        return self._run_terms[bisect_right(self._run_firsts, index) - 1]

    def id_at(self, index: int) -> EntryId | None:
        term = self.term_at(index)
        return None if term is None else EntryId(term, index)

    def holds(self, entry_id: EntryId) -> bool:
        """Whether the entry with this very id is in the log, or is its base."""
        return self.term_at(entry_id.index) == entry_id.term

    def last_not_above(self, bound: EntryId) -> EntryId | None:
        """The last entry with neither index nor term above the bound's; None where only ones before the base are.

        This is what skips a whole term a step when two logs look for where they agree (§3.5).
        """
        index = min(bound.index, self.last_id.index)
        run = bisect_right(self._run_terms, bound.term) - 1
        if run + 1 < len(self._run_firsts):
            index = min(index, self._run_firsts[run + 1] - 1)
        found = self.id_at(index)
        return found if found is not None and found.term <= bound.term else None

    def entries(self, first: int, last: int, bytes_max: int) -> tuple[Entry, ...] | None:
        """Entries from `first` on, up to `last` at most, at least one and then as many as fit into `bytes_max`.

        None where `first` is before the tail; empty where it is after `last`.
        """
        start = first - self._tail_first
        if start < 0:
            return None
        stop = min(last, self.last_id.index) + 1 - self._tail_first
        room = bytes_max
        for position in range(start, stop):
            room -= len(self._tail[position].payload) + ENTRY_OVERHEAD_BYTES
            if room < 0:
                stop = max(position, start + 1)
                break
        return tuple(self._tail[start:stop])

    def append(self, entry: Entry) -> None:
        """Add the next entry. A membership is in force from here on, committed or not (§4.1)."""
        assert entry.index == self.last_id.index + 1, f"entry {entry.index} after {self.last_id.index}"
        assert entry.term >= self.last_id.term, "terms never fall along a log"
        if entry.term != self.last_id.term or not self._run_terms:
            self._run_terms.append(entry.term)
            self._run_firsts.append(entry.index)
        self._tail.append(entry)
        self._tail_bytes += len(entry.payload) + ENTRY_OVERHEAD_BYTES
        self.last_id = EntryId(entry.term, entry.index)
        self.last_time_ms = max(self.last_time_ms, entry.time_ms)
        if entry.kind == EntryKind.MEMBERSHIP:
            self._memberships.append((entry.index, Membership.decode(entry.payload)))

    def truncate_from(self, first: int) -> None:
        """Drop the entry at `first` and all after it, and the memberships they held."""
        assert self.base.index < first <= self.last_id.index
        last = self.id_at(first - 1)
        assert last is not None
        keep = bisect_left(self._run_firsts, first)
        del self._run_terms[keep:], self._run_firsts[keep:]
        dropped = self._tail[max(0, first - self._tail_first) :]
        del self._tail[max(0, first - self._tail_first) :]
        self._tail_bytes -= sum(entry.size for entry in dropped)
        self._tail_first = min(self._tail_first, first)
        self.last_id = last
        while self._memberships[-1][0] >= first:
            self._memberships.pop()
        if self._tail:  # else the time stays: it is never less than that of the entry before, which is what counts
            self.last_time_ms = self._tail[-1].time_ms

    def compact(self, to: int) -> None:
        """Forget the entries up to and with `to`, which becomes the base. Less than the base: no change."""
        if to <= self.base.index:
            return
        base = self.id_at(to)
        assert base is not None, "the log is not cut beyond its end"
        self.base = base
        keep = bisect_right(self._run_firsts, to + 1) - 1
        if to == self.last_id.index:
            self._run_terms, self._run_firsts = [], []
        else:
            del self._run_terms[:keep], self._run_firsts[:keep]
            self._run_firsts[0] = to + 1
        self._drop_front(to + 1 - self._tail_first)

    def reset(self, snapshot: SnapshotMeta) -> None:
        """Start anew behind a snapshot that another server made."""
        self.base = self.last_id = snapshot.id
        self.last_time_ms = snapshot.time_ms
        self._run_terms, self._run_firsts, self._tail = [], [], []
        self._tail_first, self._tail_bytes = snapshot.id.index + 1, 0
        self._memberships = [(snapshot.id.index, snapshot.membership)]

    def evict(self, *, persisted: int, applied: int) -> None:
        """Bring the tail back under its bound. What is not on disk stays; what is not applied stays up to twice it."""
        if self._tail_bytes <= self._tail_bytes_max:
            return
        limit = persisted if self._tail_bytes > 2 * self._tail_bytes_max else min(persisted, applied)
        # An eighth more than must be goes at once, so that not every entry moves the list.
        excess = self._tail_bytes - self._tail_bytes_max + self._tail_bytes_max // 8
        count = 0
        for entry in self._tail:
            if excess <= 0 or entry.index > limit:
                break
            excess -= entry.size
            count += 1
        self._drop_front(count)

    def _drop_front(self, count: int) -> None:
        if count <= 0:
            return
        self._tail_bytes -= sum(entry.size for entry in self._tail[:count])
        self._tail_first = self._tail_first + count if count <= len(self._tail) else self.last_id.index + 1
        del self._tail[:count]

    # -- memberships --------------------------------------------------------------------------------------------

    @property
    def membership(self) -> Membership:
        """The newest in the log: the one in force (§4.1)."""
        return self._memberships[-1][1]

    @property
    def membership_index(self) -> int:
        return self._memberships[-1][0]

    @property
    def committed_membership(self) -> Membership:
        """The newest committed one, as far as `settle_memberships` was told."""
        return self._memberships[0][1]

    def settle_memberships(self, commit_index: int) -> None:
        """Those up to `commit_index` can no longer be rolled back; only the newest of them is kept."""
        while len(self._memberships) > 1 and self._memberships[1][0] <= commit_index:
            del self._memberships[0]

    def gives_vote_to(self, member_id: int) -> bool:
        """Whether it is a voter by the committed membership, or by one after it."""
        return any(member_id in held.voters or member_id in held.outgoing_voters for _, held in self._memberships)

    def all_member_ids(self) -> Iterator[int]:
        """Everyone in the committed membership or in one after it, sorted."""
        return iter(sorted({member for _, membership in self._memberships for member in membership.members}))
