"""The replicated state: what entries do to it, that replicas stay equal, and snapshots of all of it."""

import zlib
from collections.abc import Iterable, Iterator
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from raftwright.client.models import NotFound, PreconditionFailed, Undecodable
from raftwright.kv.commands import Batch, Command, Compare, Delete, Put, encode_blob, encode_command
from raftwright.kv.store import KvMachine
from raftwright.raft.entries import Entry, EntryId, EntryKind
from raftwright.raft.membership import Membership
from raftwright.server import state as module
from raftwright.server.blobs import Blob, Origin, encode_payload
from raftwright.server.machine import Applied, ApplyContext, InvalidSnapshot
from raftwright.server.sessions import RETENTION_MS
from raftwright.server.state import BlobOutcome, ReplicatedState, Status
from raftwright.server.system import SetFeatureLevel, UnsupportedEntry, encode_system_command
from tests.kv.strategies import commands

SESSION = b"s" * 16


def entry(
    index: int, payload: bytes, kind: int = EntryKind.COMMANDS, *, time_ms: int = 1000, version: int = 1
) -> Entry:
    return Entry(1, index, kind, version, time_ms, payload, zlib.crc32(payload))


def blob(*some: Command, first_seq: int = 0, session: bytes = b"", opens: bool = True, acked_below: int = 0) -> Blob:
    origin = Origin(session, first_seq, max(1, len(some)), acked_below, opens)
    return Blob(origin, encode_blob([encode_command(command) for command in some]))


def apply(state: ReplicatedState, *blobs: Blob, time_ms: int = 1000) -> list[BlobOutcome]:
    return state.apply(entry(state.applied_index + 1, encode_payload(blobs), time_ms=time_ms))


def fresh() -> ReplicatedState:
    return ReplicatedState(KvMachine())


def section_bytes(state: ReplicatedState) -> dict[str, bytes]:
    return {name: b"".join(chunks) for name, _, _, chunks in state.sections()}


def results_of(state: ReplicatedState, outcome: BlobOutcome) -> list[Any]:
    return state.machine.decode_results(outcome.encoded(state.machine))


def copy_of(state: ReplicatedState) -> ReplicatedState:
    copy = fresh()
    copy.restore(state.sections())
    return copy


def test_each_blob_has_its_outcome_in_order() -> None:
    state = fresh()
    outcomes = apply(
        state, blob(Put("a", b"1"), Delete("x")), blob(Put("a", b"2", if_revision=1), Put("a", b"", if_revision=1))
    )
    assert [outcome.status for outcome in outcomes] == [Status.APPLIED, Status.APPLIED]
    assert [outcome.results for outcome in outcomes] == [[1, NotFound()], [2, PreconditionFailed(2)]]
    assert [results_of(state, outcome) for outcome in outcomes] == [outcome.results for outcome in outcomes]
    assert [[(c.key, c.revision, c.value) for c in outcome.changes] for outcome in outcomes] == [
        [("a", 1, b"1")],
        [("a", 2, b"2")],
    ]
    assert [outcome.origin.count for outcome in outcomes] == [2, 2]


def test_what_was_decoded_before_is_not_decoded_again(monkeypatch: pytest.MonkeyPatch) -> None:
    state = fresh()
    one: list[Command] = [Put("a", b"1")]
    payload = encode_payload([blob(*one), blob(Put("b", b"2"))])
    decoded: list[bytes] = []
    decode = state.machine.decode

    def counted(data: bytes) -> list[Any]:
        decoded.append(data)
        return decode(data)

    monkeypatch.setattr(state.machine, "decode", counted)
    outcomes = state.apply(entry(1, payload), [one, None])
    assert [outcome.results for outcome in outcomes] == [[1], [2]]
    assert decoded == [blob(Put("b", b"2")).data]


def test_a_retry_gets_the_first_results_and_changes_nothing() -> None:
    state = fresh()
    write = blob(Put("a", b"1", if_absent=True), Delete("x"), session=SESSION, first_seq=1)
    (first,) = apply(state, write)
    apply(state, blob(Put("a", b"2")))
    (again,) = apply(state, write)
    assert (again.status, again.results, again.changes) == (Status.REPLAYED, None, [])
    assert results_of(state, again) == first.results == [1, NotFound()]
    assert state.machine.revision == 2  # type: ignore[attr-defined]


def test_a_retry_in_the_same_entry_runs_once() -> None:
    state = fresh()
    write = blob(Put("a", b"1"), session=SESSION, first_seq=1)
    assert [outcome.status for outcome in apply(state, write, write)] == [Status.APPLIED, Status.REPLAYED]


def test_exactly_once_holds_through_a_snapshot() -> None:
    state = fresh()
    write = blob(Put("a", b"1"), session=SESSION, first_seq=7)
    apply(state, write)
    copy = copy_of(state)
    (again,) = apply(copy, write)
    assert (again.status, results_of(copy, again)) == (Status.REPLAYED, [1])


def test_failures_are_results_and_are_kept() -> None:
    state = fresh()
    write = blob(Put("a", b"1", if_revision=5), session=SESSION, first_seq=1)
    apply(state, write)
    apply(state, blob(Put("a", b""), Put("a", b""), Put("a", b""), Put("a", b""), Put("a", b"")))
    (again,) = apply(state, write)
    assert results_of(state, again) == [PreconditionFailed(None)]


def test_another_request_under_the_same_number_is_a_conflict() -> None:
    state = fresh()
    apply(state, blob(Put("a", b"1"), session=SESSION, first_seq=1))
    (outcome,) = apply(state, blob(Put("a", b"2"), session=SESSION, first_seq=1))
    assert (outcome.status, outcome.results) == (Status.CONFLICT, None)
    assert state.machine.revision == 1  # type: ignore[attr-defined]


def test_a_session_that_log_time_forgot_runs_nothing_again() -> None:
    state = fresh()
    apply(state, blob(Put("a", b"1"), session=SESSION, first_seq=1))
    write = blob(Put("a", b"2"), session=SESSION, first_seq=2, opens=False)
    apply(state, write, time_ms=1000 + RETENTION_MS)
    (outcome,) = apply(state, write, time_ms=1001 + 2 * RETENTION_MS)
    assert outcome.status is Status.EXPIRED
    assert state.machine.revision == 2  # type: ignore[attr-defined]


def test_a_retry_keeps_its_session_in_use() -> None:
    state = fresh()
    write = blob(Put("a", b"1"), session=SESSION, first_seq=1)
    for time_ms in (1000, 1000 + RETENTION_MS, 1000 + 2 * RETENTION_MS):
        (outcome,) = apply(state, write, time_ms=time_ms)
        assert results_of(state, outcome) == [1]


def test_log_time_passes_with_entries_of_every_kind() -> None:
    state = fresh()
    apply(state, blob(Put("a", b"1"), session=SESSION, first_seq=1))
    assert state.apply(entry(2, b"", EntryKind.NOOP, time_ms=1001 + RETENTION_MS)) == []
    assert len(state.sessions) == 0
    assert state.time_ms == 1001 + RETENTION_MS


def test_without_a_session_a_repeated_blob_runs_again() -> None:
    state = fresh()
    write = blob(Put("a", b"1"))
    assert [outcome.results for outcome in apply(state, write, write)] == [[1], [2]]


def wrong_count() -> Blob:
    return Blob(Origin(SESSION, 1, 3, 0, True), blob(Put("a", b"")).data)


def junk() -> Blob:
    return Blob(Origin(SESSION, 1, 2, 0, True), b"junk")


@pytest.mark.parametrize(
    ("write", "reason", "count"), [(junk(), module.UNDECODABLE_BLOB, 2), (wrong_count(), module.UNDECODABLE_COUNT, 3)]
)
def test_a_blob_that_cannot_be_decoded_is_the_same_error_everywhere_and_the_rest_runs(
    write: Blob, reason: str, count: int
) -> None:
    states = [fresh(), fresh()]
    for state in states:
        bad, good = apply(state, write, blob(Put("b", b"")))
        assert (bad.status, bad.results) == (Status.UNDECODABLE, [Undecodable(reason)] * count)
        assert good.results == [1]
        (again,) = apply(state, write)
        assert (again.status, results_of(state, again)) == (Status.REPLAYED, bad.results)
    assert section_bytes(states[0]) == section_bytes(states[1])


@given(st.binary(max_size=60))
def test_any_payload_is_applied(payload: bytes) -> None:
    state = fresh()
    outcomes = state.apply(entry(1, payload))
    assert all(outcome.status in Status for outcome in outcomes)
    assert state.applied_index == 1


@pytest.mark.parametrize(
    "unknown", [entry(1, b"", 9), entry(1, encode_payload([]), version=2), entry(1, b"", EntryKind.SYSTEM, version=2)]
)
def test_an_entry_of_newer_software_stops_the_node(unknown: Entry) -> None:
    state = fresh()
    with pytest.raises(UnsupportedEntry):
        state.apply(unknown)
    assert state.applied_index == 0


def test_a_system_command_sets_the_feature_level_and_junk_is_an_error_result(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "FEATURE_LEVEL_MAX", 3)
    state = fresh()
    for index, (level, result) in enumerate([(2, 2), (1, 2), (3, 3)], 1):
        (outcome,) = state.apply(entry(index, encode_system_command(SetFeatureLevel(level)), EntryKind.SYSTEM))
        assert outcome.results == [result]
    (outcome,) = state.apply(entry(4, b"junk", EntryKind.SYSTEM))
    assert outcome.results == [Undecodable(module.UNDECODABLE_SYSTEM)]
    assert copy_of(state).feature_level == 3
    with pytest.raises(UnsupportedEntry, match="level to 4"):
        state.apply(entry(5, encode_system_command(SetFeatureLevel(4)), EntryKind.SYSTEM))


def test_a_gap_between_entries_is_a_bug() -> None:
    with pytest.raises(AssertionError):
        fresh().apply(entry(2, encode_payload([])))


@pytest.mark.parametrize("error", [MemoryError(), OSError("disk")])
def test_errors_of_the_environment_pass(monkeypatch: pytest.MonkeyPatch, error: Exception) -> None:
    state = fresh()

    def fail(commands: list[Any], context: ApplyContext) -> Applied:
        raise error

    monkeypatch.setattr(state.machine, "apply", fail)
    with pytest.raises(type(error)):
        apply(state, blob(Put("a", b"")))


blobs = st.builds(
    lambda some, session, first_seq, opens, acked_below: blob(
        *some, session=session, first_seq=first_seq, opens=opens, acked_below=acked_below
    ),
    st.lists(commands(), min_size=1, max_size=3),
    st.sampled_from([b"", b"s" * 16, b"t" * 16]),
    st.integers(1, 6),
    st.booleans(),
    st.integers(0, 4),
)
payloads = st.lists(blobs | st.builds(wrong_count), max_size=3).map(encode_payload) | st.binary(max_size=10)


steps_of_a_log = st.lists(
    st.tuples(
        payloads, st.sampled_from([0, 1, 4000, RETENTION_MS // 2, RETENTION_MS - 1000, RETENTION_MS + 1]), st.booleans()
    ),
    max_size=15,
)


@settings(max_examples=200)
@given(steps_of_a_log)
def test_replicas_are_equal_whatever_snapshots_lie_between(steps: list[tuple[bytes, int, bool]]) -> None:
    straight, detour = fresh(), fresh()
    time_ms = 0
    for index, (payload, pause_ms, through_snapshot) in enumerate(steps, 1):
        time_ms += pause_ms
        each = entry(index, payload, time_ms=time_ms)
        assert straight.apply(each) == detour.apply(each)
        if through_snapshot:
            detour = copy_of(detour)
    assert section_bytes(straight) == section_bytes(detour)


def example() -> ReplicatedState:
    state = ReplicatedState(KvMachine(), applied=EntryId(1, 1), time_ms=500)
    apply(
        state, blob(Put("a", b"1"), Batch([Compare("a", 1), Put("b", b"2")]), session=SESSION, first_seq=1), time_ms=900
    )
    state.apply(entry(3, Membership().encode(), EntryKind.MEMBERSHIP, time_ms=700))
    return state


def test_a_snapshot_says_where_it_stands_and_is_frozen_at_once() -> None:
    state = example()
    sections = state.sections()
    expected = section_bytes(state)
    apply(state, blob(Put("a", b"9"), Delete("b"), session=SESSION, first_seq=3))
    taken = [(name, version, required, list(chunks)) for name, version, required, chunks in sections]
    assert {name: b"".join(chunks) for name, _, _, chunks in taken} == expected
    copy = fresh()
    copy.restore(taken)
    assert (copy.applied_id, copy.time_ms, len(copy.sessions)) == (EntryId(1, 3), 900, 1)


Sections = list[tuple[str, int, bool, Iterable[bytes]]]


def taken() -> Sections:
    return [(name, version, required, list(chunks)) for name, version, required, chunks in example().sections()]


def renamed(sections: Sections) -> Sections:
    system, *others = sections
    data = b"".join(system[3]).replace(b'"kv"', b'"other"')
    return [(system[0], system[1], system[2], [data]), *others]


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda s: [*s[:2], ("rights", 1, True, []), s[3]], "'rights' is required"),
        (lambda s: [*s, ("rights", 1, True, [])], "after the machine's"),
        (lambda s: [s[3], s[0], s[1]], "must come before"),
        (lambda s: s[:3], "missing"),
        (lambda s: s[1:], "must come before"),
        (lambda s: [s[0], s[1], (s[3][0], 2, True, s[3][3])], "machine's section has version 2"),
        (lambda s: [s[0], (s[1][0], 2, True, s[1][3]), s[2]], "'sessions' has version 2"),
        (renamed, "of the machine 'other'"),
        (lambda s: [(s[0][0], 1, True, [b"{}"]), s[1], s[2]], "'system' cannot be decoded"),
        (lambda s: [(s[0][0], 1, True, [bytes(100_000)]), s[1], s[2]], "too long"),
        (lambda s: [s[0], (s[1][0], 1, True, [b"junk"]), s[2]], "sessions cannot be decoded"),
        (lambda s: [s[0], s[1], (s[2][0], 1, False, [b"junk"]), s[3]], "'digest' cannot be decoded"),
    ],
)
def test_a_snapshot_that_is_not_understood_is_refused_and_nothing_changes(change: Any, says: str) -> None:
    state = fresh()
    apply(state, blob(Put("old", b"value"), session=b"o" * 16, first_seq=1))
    before = section_bytes(state)
    with pytest.raises(InvalidSnapshot, match=says):
        state.restore(change(taken()))
    if says != "after the machine's":
        assert section_bytes(state) == before


def test_an_unknown_section_that_is_not_required_is_read_over() -> None:
    left: list[bytes] = [b"1", b"2"]

    def chunks() -> Iterator[bytes]:
        while left:
            yield left.pop()

    sections = taken()
    state = fresh()
    state.restore([sections[0], ("hints", 3, False, chunks()), *sections[1:]])
    assert left == []
    assert section_bytes(state) == section_bytes(example())
