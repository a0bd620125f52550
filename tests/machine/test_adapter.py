"""A user's machine as the node runs it: whatever it does, every replica ends the same."""

from collections.abc import Iterable, Iterator
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from raftwright.machine.adapter import AdaptedMachine, Unreadable
from raftwright.machine.outcomes import MESSAGE_CHARACTERS_MAX, Failed, Succeeded, Undecodable
from raftwright.raft.entries import Entry, EntryKind
from raftwright.server.blobs import PAYLOAD_VERSION, Blob, Origin, encode_payload
from raftwright.server.machine import ApplyContext, InvalidCommand, InvalidSnapshot, SnapshotFailed
from raftwright.server.state import ReplicatedState, Status
from tests.machine.machines import Append, Bytes, Fail, Set, Table

CONTEXT = ApplyContext(1, 1, 0)


def table() -> AdaptedMachine:
    return AdaptedMachine(Table())


def run(machine: AdaptedMachine, *commands: object) -> list[Any]:
    """Outcomes of commands that went through their bytes, as on a follower."""
    blob = machine.join([machine.encode(command) for command in commands])
    return machine.apply(machine.decode(blob), CONTEXT).results


def values(machine: AdaptedMachine, *commands: object) -> list[Any]:
    outcomes = run(machine, *commands)
    return [machine.value_of(outcome, machine.declared_of(c)) for c, outcome in zip(commands, outcomes, strict=True)]


def entry(index: int, data: bytes, count: int = 1) -> Entry:
    payload = encode_payload([Blob(Origin(count=count), data)])
    return Entry(1, index, EntryKind.COMMANDS, PAYLOAD_VERSION, 0, payload, 0)


# Commands and results


def test_results_arrive_as_the_declared_type() -> None:
    assert values(table(), Set("a", 1), Append("a", [2, 3]), Fail("result")) == [1, [1, 2, 3], None]


def test_a_result_is_what_it_was_when_its_command_was_applied() -> None:
    """The machine goes on changing the list that it returned."""
    assert values(table(), Append("a", [1]), Append("a", [2])) == [[1], [1, 2]]


def test_apply_never_gets_the_object_of_the_caller() -> None:
    machine = table()
    mine = Append("a", [1])
    command = machine.decode_one(machine.encode(mine))
    machine.apply([command], CONTEXT)
    mine.values.append(99)
    assert machine.query("a") == [1]


def test_plain_bytes_need_no_declaration() -> None:
    machine = AdaptedMachine(Bytes())
    assert machine.name == "bytes"
    assert values(machine, b"abc", bytearray(b"xy")) == [b"cba", b"yx"]


def test_what_a_machine_does_not_list_is_refused_before_it_is_proposed() -> None:
    with pytest.raises(InvalidCommand, match="str is no command of Table"):
        table().encode("set")
    with pytest.raises(InvalidCommand, match="takes bytes, not Set"):
        AdaptedMachine(Bytes()).encode(Set("a", 1))
    with pytest.raises(InvalidCommand, match="Set cannot be encoded"):
        table().encode(Set("a", object()))  # type: ignore[arg-type]
    with pytest.raises(InvalidCommand, match="cannot be decoded"):
        table().decode_one(table().encode(Set("a", "text")))  # type: ignore[arg-type]


# Exceptions


def test_an_exception_is_the_result_and_the_next_command_runs() -> None:
    failed, after = run(table(), Fail("value", "no luck"), Set("a", 1))
    assert failed == Failed("ValueError", "no luck")
    assert isinstance(after, Succeeded)


def test_an_exception_is_the_same_to_the_byte_on_every_replica() -> None:
    """Messages often show where an object lies, which is another place in every process."""
    results = []
    keep = []
    for _ in range(3):
        keep.append([object() for _ in range(100)])
        machine = table()
        results.append(machine.encode_results(run(machine, Fail("address"), Fail("surrogate", "x" * 5000))))
    assert results[0] == results[1] == results[2]
    address, long = table().decode_results(results[0])
    assert address.message == "bad <object object at 0x…>"
    assert len(long.message) == MESSAGE_CHARACTERS_MAX


def test_what_the_codec_cannot_encode_is_an_exception_too() -> None:
    class Odd(Table):
        def apply(self, command: Any, context: ApplyContext) -> Any:
            return object()

    (outcome,) = run(AdaptedMachine(Odd()), Set("a", 1))
    assert outcome.error == "TypeError"


@pytest.mark.parametrize(("how", "error"), [("memory", MemoryError), ("disk", OSError), ("depth", RecursionError)])
def test_an_error_of_the_environment_stops_the_node_and_is_no_result(how: str, error: type[Exception]) -> None:
    state = ReplicatedState(table())
    machine = state.machine
    assert isinstance(machine, AdaptedMachine)
    with pytest.raises(error):
        state.apply(entry(1, machine.join([machine.encode(Fail(how))])))
    assert state.applied_index == 0


# Total decoding


@given(blob=st.binary(max_size=300))
@example(blob=b"\x01\xdd\x00\x00\x00\x01\x92\xa3set\xc4\x00")
@example(blob=b"\x01\xdd\xff\xff\xff\xff")
@example(blob=b"\x01\xdd\x00\x00\x00\x01" + b"\x91" * 290)
def test_any_blob_is_applied_alike_on_every_replica(blob: bytes) -> None:
    first, second = (ReplicatedState(table()) for _ in range(2))
    outcomes = [state.apply(entry(1, blob))[0] for state in (first, second)]
    assert outcomes[0].encoded(first.machine) == outcomes[1].encoded(second.machine)
    assert first.applied_index == 1


@given(data=st.binary(max_size=100), name=st.sampled_from(["set", "append", "fail", "unknown", ""]))
def test_one_command_that_cannot_be_read_harms_no_other(data: bytes, name: str) -> None:
    state = ReplicatedState(table())
    machine = state.machine
    assert isinstance(machine, AdaptedMachine)
    blob = machine.join([machine.encoded(name, data), machine.encode(Set("a", 5))])
    (outcome,) = state.apply(entry(1, blob, 2))
    assert outcome.status is Status.APPLIED
    assert outcome.results is not None
    assert isinstance(outcome.results[1], Succeeded)
    assert machine.query("a") == [5]
    if type(machine.decode(blob)[0]) is Unreadable:
        assert outcome.results[0] == Undecodable("this state machine cannot read the command")
        with pytest.raises(InvalidCommand):
            machine.check(machine.decode(blob))


# Snapshots


def drained(slices: Iterable[bytes]) -> bytes:
    return b"".join(slices)


def test_a_snapshot_does_not_show_what_is_applied_between_its_slices() -> None:
    machine = table()
    run(machine, *(Append(f"k{number}", [number]) for number in range(50)))
    expected = drained(machine.snapshot())
    slices = machine.snapshot()
    taken = []
    for number, slice_ in enumerate(slices):
        taken.append(slice_)
        run(machine, Append(f"k{49 - number % 50}", [1000]), Append(f"new{number}", [1]))
    assert drained(taken) == expected
    assert drained(machine.snapshot()) != expected
    restored = table()
    restored.restore(iter(taken))
    assert restored.query("k49") == [49]
    assert drained(restored.snapshot()) == expected


def test_a_generator_is_frozen_when_the_snapshot_is_asked_for_not_when_it_is_read() -> None:
    machine = table()
    run(machine, Set("a", 1))
    slices = machine.snapshot()
    run(machine, Set("a", 2))
    restored = table()
    restored.restore(slices)
    assert restored.query("a") == [1]


class Broken(Table):
    def __init__(self, at: int, error: Exception) -> None:
        super().__init__()
        self.at = at
        self.error = error

    def snapshot(self) -> Iterator[bytes]:
        for number in range(3):
            if number == self.at:
                raise self.error
            yield b"x"


@pytest.mark.parametrize("at", [0, 2])
def test_a_snapshot_that_the_machine_cannot_write_fails_when_it_is_read(at: int) -> None:
    slices = AdaptedMachine(Broken(at, KeyError("k"))).snapshot()
    with pytest.raises(SnapshotFailed, match=r"Broken.snapshot\(\) raised KeyError: 'k'"):
        drained(slices)
    with pytest.raises(OSError, match="space"):
        drained(AdaptedMachine(Broken(at, OSError("no space"))).snapshot())


def test_slices_that_are_no_bytes_are_found() -> None:
    class Text(Table):
        def snapshot(self) -> Any:
            return ["text"]

    with pytest.raises(SnapshotFailed, match="gave str where bytes belong"):
        drained(AdaptedMachine(Text()).snapshot())


def test_a_snapshot_that_cannot_be_restored_is_an_error_of_the_data() -> None:
    with pytest.raises(InvalidSnapshot, match=r"Table.restore\(\) raised"):
        table().restore([bytes(8), b"\0\0\0\x01\xc1"])


def test_an_error_of_the_disk_during_restore_is_not_taken_for_the_machines() -> None:
    def chunks() -> Iterator[bytes]:
        yield bytes(8)
        raise LookupError("damaged")

    with pytest.raises(LookupError, match="damaged"):
        table().restore(chunks())

    class Careless(Table):
        def restore(self, chunks: Iterable[bytes]) -> None:
            try:
                super().restore(chunks)
            except Exception:
                self.items = {}

    with pytest.raises(LookupError, match="damaged"):
        AdaptedMachine(Careless()).restore(chunks())


def test_a_node_refuses_the_snapshot_of_another_machine() -> None:
    source = ReplicatedState(table())
    with pytest.raises(InvalidSnapshot, match="it is of the machine 'Table', and this node runs 'bytes'"):
        ReplicatedState(AdaptedMachine(Bytes())).restore(source.sections())


# What is no machine


def test_what_is_no_machine_is_refused_with_what_to_do() -> None:
    class Waits(Bytes):
        async def apply(self, command: bytes, context: ApplyContext) -> bytes:  # type: ignore[override]
            return b""

    with pytest.raises(ValueError, match=r"is a class: give an object of it, Table\(\)"):
        AdaptedMachine(Table)
    with pytest.raises(ValueError, match="it has no method 'apply'"):
        AdaptedMachine(object())
    with pytest.raises(ValueError, match="must not be async"):
        AdaptedMachine(Waits())


def test_queries_are_optional() -> None:
    with pytest.raises(InvalidCommand, match="answers no queries"):
        AdaptedMachine(Bytes()).query("a")
