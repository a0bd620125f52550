"""When a node takes a snapshot of its own."""

from raftwright.kv.store import KvMachine
from raftwright.raft.entries import Entry, EntryId, EntryKind, SnapshotMeta
from raftwright.raft.membership import Membership
from raftwright.server.policies import SnapshotPolicy
from raftwright.server.snapshotting import RETRY_S, Snapshotting
from raftwright.server.state import ReplicatedState


def meta(index: int) -> SnapshotMeta:
    return SnapshotMeta(id=EntryId(1, index), time_ms=0, membership=Membership())


def at(index: int) -> tuple[ReplicatedState, Snapshotting]:
    state = ReplicatedState(KvMachine(), applied=EntryId(1, index))
    return state, Snapshotting(state, SnapshotPolicy.commands(10) | SnapshotPolicy.log_bytes(1000))


def apply_one(state: ReplicatedState) -> None:
    state.apply(Entry(1, state.applied_index + 1, EntryKind.NOOP, 1, 0, b"", 0))


def test_one_is_due_after_so_many_commands_or_bytes() -> None:
    for commands, size, is_due in ((9, 999, False), (10, 0, True), (0, 1000, True)):
        state, snapshotting = at(5)
        apply_one(state)
        snapshotting.commands, snapshotting.bytes = commands, size
        assert (snapshotting.job(0.0, Membership()) is not None) is is_due


def test_there_is_none_of_what_the_last_one_holds_already() -> None:
    _, snapshotting = at(5)
    snapshotting.commands = 10
    assert snapshotting.job(0.0, Membership()) is None


def test_one_at_a_time_and_the_entries_since_the_last_one_stay() -> None:
    state, snapshotting = at(5)
    apply_one(state)
    snapshotting.commands = 10
    first = snapshotting.job(0.0, Membership())
    assert first is not None
    assert first.keep_from == 6
    apply_one(state)
    snapshotting.commands = 10
    assert snapshotting.job(0.0, Membership()) is None
    assert snapshotting.taken(meta(6), 1.0)
    second = snapshotting.job(1.0, Membership())
    assert second is not None
    assert (second.id.index, second.keep_from) == (7, 7)


def test_one_that_failed_is_tried_again_though_nothing_more_is_applied() -> None:
    state, snapshotting = at(5)
    apply_one(state)
    snapshotting.commands = 10
    assert snapshotting.job(0.0, Membership()) is not None
    assert not snapshotting.taken(None, 0.0)
    assert snapshotting.job(RETRY_S - 0.1, Membership()) is None
    assert snapshotting.job(RETRY_S, Membership()) is not None


def test_one_that_is_older_than_what_the_leader_sent_is_no_news() -> None:
    state, snapshotting = at(5)
    apply_one(state)
    snapshotting.commands = 10
    assert snapshotting.job(0.0, Membership()) is not None
    snapshotting.restored(meta(50))
    assert not snapshotting.taken(meta(6), 1.0)


def test_seconds_count_from_the_last_one_and_only_if_something_happened() -> None:
    state, snapshotting = at(5)
    snapshotting.policy = SnapshotPolicy.every("minute")
    assert snapshotting.job(100.0, Membership()) is None
    assert snapshotting.job(1000.0, Membership()) is None
    apply_one(state)
    assert snapshotting.job(159.9, Membership()) is None
    assert snapshotting.job(160.0, Membership()) is not None
    assert snapshotting.taken(meta(6), 161.0)
    apply_one(state)
    assert snapshotting.job(219.9, Membership()) is None
    assert snapshotting.job(220.0, Membership()) is not None


def test_never_is_never_unless_one_is_asked_for_or_the_disk_is_full() -> None:
    for name in ("is_wanted", "must_free"):
        state, snapshotting = at(5)
        snapshotting.policy = SnapshotPolicy.never()
        apply_one(state)
        snapshotting.commands = snapshotting.bytes = 1 << 40
        assert snapshotting.job(1e9, Membership()) is None
        setattr(snapshotting, name, True)
        assert snapshotting.job(1e9, Membership()) is not None
