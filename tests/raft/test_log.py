"""The log against a dumb twin: a plain list that forgets nothing."""

from dataclasses import dataclass, field

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from raftwright.raft.entries import ZERO, Entry, EntryId, EntryKind, Recovered, SnapshotMeta
from raftwright.raft.log import Log
from raftwright.raft.membership import Membership

TAIL_BYTES = 400


@dataclass
class Twin:
    """All entries there ever were at their index; `base` says how many of them are forgotten."""

    base: EntryId = ZERO
    entries: list[Entry] = field(default_factory=list)
    memberships: list[tuple[int, Membership]] = field(default_factory=lambda: [(0, Membership())])

    @property
    def last(self) -> EntryId:
        return self.entries[-1].id if self.entries else self.base

    def term_at(self, index: int) -> int | None:
        if index == self.base.index:
            return self.base.term
        return next((entry.term for entry in self.entries if entry.index == index), None)


def entry_of(term: int, index: int, size: int, voters: frozenset[int] | None) -> Entry:
    if voters is None:
        return Entry(term, index, EntryKind.COMMANDS, 1, index, b"x" * size, 0)
    return Entry(term, index, EntryKind.MEMBERSHIP, 1, index, Membership(version=index, voters=voters).encode(), 0)


class LogMachine(RuleBasedStateMachine):
    @initialize(recover=st.booleans())
    def begin(self, recover: bool) -> None:
        self.twin = Twin()
        self.persisted = self.committed = 0
        self.log = Log(Recovered(), tail_bytes_max=TAIL_BYTES)
        if recover:
            self.reset(2, 7)

    @rule(
        newer=st.integers(0, 2),
        size=st.integers(0, 100),
        voters=st.none() | st.frozensets(st.integers(1, 5), min_size=1),
        count=st.integers(1, 5),
    )
    def append(self, newer: int, size: int, voters: frozenset[int] | None, count: int) -> None:
        for _ in range(count):
            term = max(1, self.twin.last.term + newer)
            entry = entry_of(term, self.twin.last.index + 1, size, voters)
            self.log.append(entry)
            self.twin.entries.append(entry)
            if voters is not None:
                self.twin.memberships.append((entry.index, Membership(version=entry.index, voters=voters)))

    @precondition(lambda self: self.committed < self.twin.last.index)
    @rule(data=st.data())
    def truncate(self, data: st.DataObject) -> None:
        first = data.draw(st.integers(self.committed + 1, self.twin.last.index))
        self.log.truncate_from(first)
        del self.twin.entries[first - self.twin.base.index - 1 :]
        self.twin.memberships = [(index, value) for index, value in self.twin.memberships if index < first]
        self.persisted = min(self.persisted, first - 1)

    @rule(data=st.data())
    def persist_and_commit(self, data: st.DataObject) -> None:
        self.persisted = data.draw(st.integers(self.persisted, self.twin.last.index))
        self.committed = data.draw(st.integers(self.committed, self.twin.last.index))
        self.log.settle_memberships(self.committed)
        applied = data.draw(st.integers(0, self.committed))
        self.log.evict(persisted=self.persisted, applied=applied)

    @rule(data=st.data())
    def compact(self, data: st.DataObject) -> None:
        to = data.draw(st.integers(0, min(self.committed, self.persisted)))
        self.log.compact(to)
        if to > self.twin.base.index:
            term = self.twin.term_at(to)
            assert term is not None
            del self.twin.entries[: to - self.twin.base.index]
            self.twin.base = EntryId(term, to)

    @rule(term_more=st.integers(0, 2), index_more=st.integers(1, 5))
    def reset(self, term_more: int, index_more: int) -> None:
        snapshot_id = EntryId(self.twin.last.term + term_more, self.twin.last.index + index_more)
        membership = Membership(version=snapshot_id.index, voters=frozenset({9}))
        self.log.reset(SnapshotMeta(id=snapshot_id, time_ms=0, membership=membership))
        self.twin = Twin(base=snapshot_id, memberships=[(snapshot_id.index, membership)])
        self.persisted = self.committed = snapshot_id.index

    @invariant()
    def terms_are_those_of_the_twin(self) -> None:
        assert (self.log.base, self.log.last_id) == (self.twin.base, self.twin.last)
        for index in range(self.twin.base.index - 2, self.twin.last.index + 3):
            assert self.log.term_at(index) == self.twin.term_at(index)

    @invariant()
    def the_newest_membership_is_that_of_the_twin(self) -> None:
        assert self.log.membership == self.twin.memberships[-1][1]
        settled = [value for index, value in self.twin.memberships if index <= self.committed]
        assert self.log.committed_membership == settled[-1]

    @invariant()
    def a_log_recovered_from_the_disk_is_the_same(self) -> None:
        runs = [entry.id for position, entry in enumerate(self.twin.entries)
                if position == 0 or self.twin.entries[position - 1].term != entry.term]  # fmt: skip
        assert list(self.log.runs) == runs

    @rule(data=st.data(), room=st.integers(0, 600))
    def read(self, data: st.DataObject, room: int) -> None:
        first = data.draw(st.integers(self.twin.base.index + 1, self.twin.last.index + 1))
        last = data.draw(st.integers(first - 1, self.twin.last.index))
        got = self.log.entries(first, last, room)
        if first < self.log.tail_first:
            assert got is None
            assert first <= self.persisted, "what is not on disk stays in memory"
            return
        wanted = [entry for entry in self.twin.entries if first <= entry.index <= last]
        while len(wanted) > 1 and sum(entry.size for entry in wanted) > room:
            wanted.pop()
        assert got == tuple(wanted)

    @rule(term=st.integers(0, 12), data=st.data())
    def find_agreement(self, term: int, data: st.DataObject) -> None:
        bound = EntryId(term, data.draw(st.integers(0, self.twin.last.index + 3)))
        known = [self.twin.base, *(entry.id for entry in self.twin.entries)]
        fitting = [known_id for known_id in known if known_id.index <= bound.index and known_id.term <= bound.term]
        assert self.log.last_not_above(bound) == (fitting[-1] if fitting else None)


TestLog = LogMachine.TestCase
TestLog.settings = settings(max_examples=60, stateful_step_count=40)


def test_the_tail_is_bounded_in_bytes_and_keeps_the_newest() -> None:
    log = Log(Recovered(), tail_bytes_max=TAIL_BYTES)
    for index in range(1, 1001):
        log.append(entry_of(1, index, 10, None))
        log.evict(persisted=index, applied=index)
    entries = log.entries(log.tail_first, log.last_index, 1 << 20)
    assert entries is not None
    assert TAIL_BYTES // 2 < sum(entry.size for entry in entries) <= TAIL_BYTES
    assert entries[-1].index == 1000


def test_what_is_not_applied_stays_in_memory_up_to_twice_the_bound() -> None:
    log = Log(Recovered(), tail_bytes_max=TAIL_BYTES)
    sizes = []
    for index in range(1, 101):
        log.append(entry_of(1, index, 10, None))
        log.evict(persisted=index, applied=0)
        sizes.append(sum(entry.size for entry in log.entries(log.tail_first, index, 1 << 20) or ()))
    assert TAIL_BYTES < max(sizes) <= 2 * TAIL_BYTES


def test_a_recovered_log_knows_its_terms_memberships_and_tail() -> None:
    first = SnapshotMeta(id=EntryId(1, 3), time_ms=5, membership=Membership(version=1, voters=frozenset({1})))
    change = entry_of(2, 5, 0, frozenset({1, 2}))
    log = Log(
        Recovered(
            snapshot=first,
            base=EntryId(1, 2),
            terms=(EntryId(1, 3), EntryId(2, 4)),
            last=EntryId(2, 6),
            tail=(entry_of(2, 6, 0, None),),
            memberships=(entry_of(1, 3, 0, frozenset({7})), change),
        ),
        tail_bytes_max=TAIL_BYTES,
    )
    assert [log.term_at(index) for index in range(1, 8)] == [None, 1, 1, 2, 2, 2, None]
    assert log.tail_first == 6
    assert log.committed_membership == first.membership, "a membership before the snapshot is in the snapshot"
    assert log.membership == Membership.decode(change.payload)
    log.truncate_from(5)
    assert log.membership == first.membership


def test_the_log_takes_no_gap_and_no_older_term() -> None:
    log = Log(Recovered(), tail_bytes_max=TAIL_BYTES)
    log.append(entry_of(2, 1, 0, None))
    for wrong in (entry_of(2, 3, 0, None), entry_of(1, 2, 0, None)):
        with pytest.raises(AssertionError):
            log.append(wrong)
