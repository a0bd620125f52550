"""The log against a dumb twin: a list. Whatever order things come in, both hold the same, also after a reopen."""

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from raftwright.raft.entries import Entry, EntryId, EntryKind, HardState
from raftwright.storage.storage import StorageSettings
from tests.storage.support import FOUNDING, disk, entry, founded, opened, take_snapshot, transfer, whole_log


class LogAndTwin(RuleBasedStateMachine):
    @initialize(segment_bytes=st.sampled_from([4096, 8192]))
    def found(self, segment_bytes: int) -> None:
        self.files = disk(7)
        self.settings = StorageSettings(segment_bytes=segment_bytes, tail_bytes_max=1500)
        self.store = founded(self.files, self.settings)
        self.log: list[Entry] = []
        self.start = FOUNDING
        self.snapshot = FOUNDING
        self.hard_state = HardState(1)
        self.keep_from = 2
        self.fill = 0

    @property
    def last(self) -> EntryId:
        return self.log[-1].id if self.log else self.start

    def entries(self, first: int, sizes: list[int]) -> list[Entry]:
        self.fill += 1
        made = []
        for number, size in enumerate(sizes):
            kind = EntryKind.MEMBERSHIP if size % 13 == 0 else EntryKind.COMMANDS
            made.append(entry(first + number, self.hard_state.term, size, kind, self.fill))
        return made

    @rule(sizes=st.lists(st.integers(0, 900), min_size=1, max_size=12), more_terms=st.integers(0, 2))
    def append(self, sizes: list[int], more_terms: int) -> None:
        changed = HardState(self.hard_state.term + more_terms, 1) if more_terms else None
        self.hard_state = changed or self.hard_state
        new = self.entries(self.last.index + 1, sizes)
        self.store.write(hard_state=changed, entries=new)
        self.log += new

    @rule(size=st.integers(4000, 20000))
    def append_a_large_one(self, size: int) -> None:
        new = self.entries(self.last.index + 1, [size, 5])
        self.store.write(entries=new)
        self.log += new

    @precondition(lambda self: self.last.index > self.snapshot.index)
    @rule(data=st.data(), sizes=st.lists(st.integers(0, 300), min_size=1, max_size=5))
    def overwrite(self, data: st.DataObject, sizes: list[int]) -> None:
        lowest = max(self.snapshot.index, self.start.index) + 1
        first = data.draw(st.integers(lowest, self.last.index))
        self.hard_state = HardState(self.hard_state.term + 1)
        new = self.entries(first, sizes)
        self.store.write(hard_state=self.hard_state, entries=new)
        self.log = [each for each in self.log if each.index < first] + new

    @rule(vote=st.one_of(st.none(), st.integers(0, 5)))
    def vote(self, vote: int | None) -> None:
        self.hard_state = HardState(self.hard_state.term + 1, vote)
        self.store.write(hard_state=self.hard_state)

    @precondition(lambda self: self.last.index > self.snapshot.index)
    @rule(data=st.data())
    def take_snapshot(self, data: st.DataObject) -> None:
        at = data.draw(st.integers(self.snapshot.index + 1, self.last.index))
        self.snapshot = EntryId(self.store._log.term_at(at), at)
        take_snapshot(self.store, self.snapshot)

    @rule(data=st.data())
    def compact(self, data: st.DataObject) -> None:
        keep_from = data.draw(st.integers(1, self.snapshot.index + 1))
        self.store.compact(keep_from)
        self.keep_from = max(keep_from, self.keep_from)

    @rule(ahead=st.integers(1, 40))
    def install_snapshot(self, ahead: int) -> None:
        self.snapshot = self.start = EntryId(self.hard_state.term, self.last.index + ahead)
        sent = transfer(self.snapshot)
        self.store.write(chunks=sent.chunks(1 << 16))
        assert self.store.finish_received(sent.meta)
        self.store.write(snapshot=sent.meta)
        self.log = []
        self.keep_from = self.start.index + 1

    @rule()
    def prepare(self) -> None:
        self.store.prepare()
        assert not self.store.needs_prepare

    @rule(power=st.booleans())
    def reopen(self, power: bool) -> None:
        if power:
            self.files.power_loss("drop")
        else:
            self.store.close()
        self.store = opened(self.files, self.settings)

    @invariant()
    def same(self) -> None:
        if not hasattr(self, "store"):
            return
        store, recovered = self.store, self.store.recovered
        assert recovered.hard_state == self.hard_state
        assert recovered.snapshot is not None and recovered.snapshot.id == self.snapshot
        assert recovered.last == store.last_id == self.last
        first = store.first_index
        assert self.start.index < first <= max(self.keep_from, self.start.index + 1)
        expected = [each for each in self.log if each.index >= first]
        assert whole_log(store, bytes_max=700) == expected == whole_log(store)
        some = store.read(first, 700, self.last.index)
        assert len(some) == 1 or sum(each.size for each in some) <= 700
        assert recovered.base in {self.start, *(each.id for each in self.log)}
        assert recovered.base.index == first - 1
        assert list(recovered.memberships) == [each for each in expected if each.kind == EntryKind.MEMBERSHIP]
        runs = [
            each.id
            for before, each in zip([None, *expected], expected, strict=False)
            if before is None or before.term != each.term
        ]
        assert list(recovered.terms) == runs
        assert list(recovered.tail) == expected[len(expected) - len(recovered.tail) :]
        assert sum(each.size for each in recovered.tail) <= 1500


LogAndTwin.TestCase.settings = settings(max_examples=80, stateful_step_count=40)
TestLogAndTwin = LogAndTwin.TestCase
