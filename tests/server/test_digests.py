"""Digests of the replicated state: equal on replicas whatever became of them, and different where the state is."""

from collections.abc import Sequence
from typing import Any
from zlib import crc32

import pytest

from raftwright.kv.commands import Delete, Put, encode_blob, encode_command
from raftwright.kv.store import KvMachine
from raftwright.machine.adapter import AdaptedMachine
from raftwright.raft.entries import Entry, EntryId, EntryKind
from raftwright.server import digests
from raftwright.server.blobs import Blob, Origin, encode_payload
from raftwright.server.digests import StateDigest, WrongState
from raftwright.server.machine import Applied, ApplyContext
from raftwright.server.state import DIGEST_SECTION, ReplicatedState
from tests.machine.machines import Table

DAY = digests.EPOCH_MS


def entry(index: int, *commands: Put | Delete, time_ms: int = 1, session: bytes = b"", first_seq: int = 0) -> Entry:
    data = encode_blob([encode_command(command) for command in commands])
    origin = Origin(session=session, first_seq=first_seq, count=len(commands), opens=bool(session))
    payload = encode_payload([Blob(origin=origin, data=data)])
    return Entry(1, index, EntryKind.COMMANDS, 1, time_ms, payload, crc32(payload))


def noop(index: int, time_ms: int = 1) -> Entry:
    return Entry(1, index, EntryKind.NOOP, 1, time_ms, b"", 0)


def fresh(machine: KvMachine | None = None) -> ReplicatedState:
    return ReplicatedState(KvMachine() if machine is None else machine, applied=EntryId(1, 1))


def some_entries(first: int, last: int) -> list[Entry]:
    """Writes with and without a session, and some that repeat an earlier one of theirs."""
    return [write_at(index) for index in range(first, last + 1)]


def write_at(index: int) -> Entry:
    if index % 2 == 0:
        return entry(index, Put(f"k{index % 7}", b"y"))
    number = index - 6 if index % 10 == 7 else index
    commands = Put(f"k{number % 7}", b"x"), Delete(f"k{number % 5}")
    return entry(index, *commands, session=bytes([number % 3 + 1]) * 16, first_seq=number + 10)


def made(state: ReplicatedState, entries: Sequence[Entry]) -> list[tuple[int, bytes | None]]:
    for each in entries:
        state.apply(each)
    return list(state.digest.take())


def copy_of(state: ReplicatedState, machine: KvMachine | None = None) -> ReplicatedState:
    copy = fresh(machine)
    copy.restore(state.sections())
    return copy


def test_a_digest_is_made_at_agreed_indexes_and_nowhere_else() -> None:
    state = fresh()
    assert [index for index, _ in made(state, some_entries(2, 600))] == [256, 512]
    late = entry(601, Put("k", b"v"), time_ms=digests.INTERVAL_MS)
    assert [index for index, _ in made(state, [late, noop(602, digests.INTERVAL_MS + 1)])] == [601]
    large = [entry(index, Put("k", bytes(300_000)), time_ms=digests.INTERVAL_MS) for index in range(603, 610)]
    assert [index for index, _ in made(state, large)] == [606]


def test_equal_states_have_equal_digests_wherever_a_snapshot_came_between() -> None:
    entries = some_entries(2, 600)
    expected = made(fresh(), entries)
    assert None not in {value for _, value in expected}
    for cut in (0, 1, 100, 253, 254, 255, 400, 598):
        state = fresh()
        before = made(state, entries[:cut])
        assert before + made(copy_of(state), entries[cut:]) == expected, f"restored after {cut} entries"


def test_a_state_that_differs_once_differs_in_every_digest_after_it() -> None:
    entries = some_entries(2, 1500)
    other = fresh()
    right = made(fresh(), entries)
    for each in entries:
        other.apply(each)
        if each.index == 300:
            other.machine.revision += 1  # type: ignore[attr-defined]
        if each.index == 400:
            other.machine.revision -= 1  # type: ignore[attr-defined]
    wrong = other.digest.take()
    assert [one == two for one, two in zip(right, wrong, strict=True)] == [True, False, False, False, False]


def test_what_became_of_a_session_counts_too() -> None:
    write = entry(2, Put("k", b"v"), session=b"s" * 16, first_seq=1)
    again = entry(3, Put("k", b"v"), session=b"s" * 16, first_seq=1)
    other = fresh()
    other.apply(write)
    other.sessions.expire(1 << 60)  # it forgot what the others remember
    rest = [noop(index) for index in range(4, 257)]
    assert made(fresh(), [write, again, *rest]) != made(other, [again, *rest])
    assert made(fresh(), [write, again, *rest]) != made(fresh(), [write, noop(3), *rest]), "that it was a repeat"


def test_a_chain_that_cannot_go_on_is_not_compared_before_the_next_epoch_and_then_is() -> None:
    entries = some_entries(2, 600)
    state, old = fresh(), fresh()
    for each in entries:
        state.apply(each)
        old.apply(each)
    restored = fresh()
    restored.restore(section for section in old.sections() if section[0] != DIGEST_SECTION)
    state.digest.take()
    more = [noop(index, DAY - 1 if index < 900 else DAY + 5) for index in range(601, 1100)]
    right, unknown = made(state, more), made(restored, more)
    assert [index for index, _ in right] == [index for index, _ in unknown] == [601, 768, 900, 1024]
    assert [value for _, value in unknown[:3]] == [None, None, None]
    assert unknown[3] == right[3]


def test_a_chain_of_another_version_is_not_gone_on_with() -> None:
    class Newer(KvMachine):
        version = 2

    state = fresh()
    made(state, some_entries(2, 300))
    newer = copy_of(state, Newer())
    assert newer.digest.version != state.digest.version
    assert made(newer, some_entries(301, 520)) == [(512, None)]


def test_a_machine_that_has_a_digest_is_asked_for_it() -> None:
    class Digesting(KvMachine):
        said: bytes | None = b"state"

        def digest(self) -> bytes | None:
            if self.said == b"fail":
                raise RuntimeError("no digest today")
            return self.said

    machine = Digesting()
    state = fresh(machine)
    made(state, some_entries(2, 300))
    (_, first), *_ = state.digest.history
    assert copy_of(state, Digesting()).digest.history == state.digest.history
    machine.said = b"other"
    assert made(state, some_entries(301, 520))[0][1] not in (None, first)
    for cannot in (None, b"fail"):
        machine.said = cannot
        assert made(state, some_entries(state.applied_index + 1, state.applied_index + 256))[0][1] is None


def test_a_machine_that_lacks_memory_for_its_digest_stops_the_node() -> None:
    class Poor(KvMachine):
        def digest(self) -> bytes:
            raise MemoryError

    with pytest.raises(MemoryError):
        made(fresh(Poor()), some_entries(2, 256))


def test_a_snapshot_that_contradicts_a_known_digest_is_refused_and_nothing_changes() -> None:
    class Wrong(KvMachine):
        ignores_context = False

        def apply(self, commands: list[Any], context: ApplyContext) -> Applied:
            applied = super().apply(commands, context)
            self.revision += context.index == 100
            return applied

    right, wrong = fresh(), fresh(Wrong())
    known = {index: (right.digest.version, value or b"") for index, value in made(right, some_entries(2, 300))}
    made(wrong, some_entries(2, 300))
    target = fresh()
    made(target, some_entries(2, 50))
    with pytest.raises(WrongState, match="index 256"):
        target.restore(wrong.sections(), known)
    assert target.applied_index == 50
    target.restore(right.sections(), known)
    assert target.applied_index == 300
    unknown = {256: ("another version", b"?"), 7: (right.digest.version, b"?")}
    target.restore(wrong.sections(), unknown)  # nothing is known of it


def test_what_the_majority_says_of_a_newer_index_counts_for_more_than_what_it_once_said() -> None:
    """Two of three had gone wrong alike, were the majority for a while, and lost that state in a crash."""
    state = fresh()
    made(state, some_entries(2, 3 * digests.INTERVAL_ENTRIES))
    (older, old), (newer, new) = list(state.digest.history)[-2:]
    version, wrong = state.digest.version, b"another."
    assert state.digest.contradicts({older: (version, wrong), newer: (version, new)}) is None
    assert state.digest.contradicts({older: (version, old), newer: (version, wrong)}) == newer
    assert state.digest.contradicts({older: (version, wrong)}) == older
    assert state.digest.contradicts({older: ("another", wrong), newer: ("another", wrong)}) is None


def test_a_users_machine_is_asked_for_its_digest_if_it_has_one() -> None:
    class Counted(Table):
        digest_version = 3
        said: Any = b"state"

        def digest(self) -> bytes:
            return self.said  # type: ignore[no-any-return]

    plain, counted = StateDigest(AdaptedMachine(Table())), StateDigest(AdaptedMachine(Counted()))
    assert plain.version.startswith("results-") and plain.version.endswith(f".{AdaptedMachine(Table()).digest_version}")
    assert counted.version.startswith("machine:") and counted.version.endswith(".3")
    machine = Counted()
    state = ReplicatedState(AdaptedMachine(machine), applied=EntryId(1, 1))
    assert None not in dict(made(state, [noop(index) for index in range(2, 257)])).values()
    machine.said = "text"
    assert made(state, [noop(index) for index in range(257, 513)]) == [(512, None)]
