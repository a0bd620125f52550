"""The store's snapshots: frozen at once, the same for the same state, checked in full when read."""

import itertools
from collections.abc import Iterable, Iterator

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from raftwright.kv import index as index_module
from raftwright.kv import snapshot as snapshot_module
from raftwright.kv import store as store_module
from raftwright.kv.commands import Command, Delete, Put
from raftwright.kv.store import KvMachine
from raftwright.server.machine import ApplyContext, InvalidSnapshot
from tests.kv.strategies import commands

CONTEXT = ApplyContext(1, 1, 1)


@pytest.fixture(scope="module", autouse=True)
def small_parts() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(index_module, "RUN_KEYS", 3)
        patch.setattr(store_module, "RUN_KEYS", 3)
        patch.setattr(snapshot_module, "SLICE_KEYS", 2)
        yield


def filled(*some: Command) -> KvMachine:
    machine = KvMachine()
    machine.apply(list(some), CONTEXT)
    return machine


def restored(chunks: Iterable[bytes]) -> KvMachine:
    machine = KvMachine()
    machine.restore(chunks)
    return machine


def contents(machine: KvMachine) -> tuple[list[tuple[str, int, bytes]], int]:
    return [(i.key, i.revision, i.value) for i in machine.page(limit=1000).items], machine.revision


SMALL: list[Command] = [Put("a", b"1"), Put("b", b"22"), Put("é", b""), Delete("b"), Put("b", b"3"), Put("c", b"4")]


@given(st.lists(commands(), max_size=30), st.integers(0, 30), st.lists(commands(), max_size=20), st.integers(0, 8))
def test_a_snapshot_holds_its_moment_though_commands_follow(
    first: list[Command], cut: int, later: list[Command], slices_before: int
) -> None:
    machine = KvMachine()
    machine.apply(first[:cut], CONTEXT)
    machine.page()
    machine.apply(first[cut:], CONTEXT)
    expected = contents(machine)
    snapshot = machine.snapshot()
    slices = [part for _, part in zip(range(slices_before), snapshot, strict=False)]
    for command in later:
        machine.apply([command], CONTEXT)
        slices.extend(part for _, part in zip(range(1), snapshot, strict=False))
        machine.page(limit=2)
    slices.extend(snapshot)
    assert contents(restored(slices)) == expected


@given(st.lists(commands(), max_size=40), st.integers(0, 40), st.lists(commands(), max_size=20))
def test_a_restored_store_goes_on_as_the_one_it_was_taken_from(
    some: list[Command], cut: int, more: list[Command]
) -> None:
    straight = filled(*some[:cut])
    detour = restored(straight.snapshot())
    for machine in (straight, detour):
        machine.apply(some[cut:], CONTEXT)
    assert straight.apply(more, CONTEXT) == detour.apply(more, CONTEXT)
    assert b"".join(straight.snapshot()) == b"".join(detour.snapshot())


def test_the_same_state_gives_the_same_bytes_however_it_came_about() -> None:
    one = filled(Put("b", b""), Put("a", b""), Put("c", b""), Put("a", b"1"))
    other = filled(Put("c", b"x"), Put("b", b""), Put("c", b""), Put("a", b"1"))
    assert contents(one) != contents(other)
    other = filled(Put("b", b""), Put("x", b""), Put("c", b""), Put("a", b"1"), Delete("x"))
    one = filled(Put("b", b""), Put("d", b""), Put("c", b""), Put("a", b"1"), Delete("d"))
    assert b"".join(one.snapshot()) == b"".join(other.snapshot())


def test_a_key_that_came_back_is_in_the_snapshot_once() -> None:
    machine = filled(*(Put(name, b"") for name in "abcdefgh"))
    machine.page()
    machine.apply([Delete("c"), Put("c", b"again")], CONTEXT)
    assert len(machine._index.runs()) == 2
    assert contents(restored(machine.snapshot())) == contents(machine)


@given(st.lists(st.integers(0, 200), max_size=8))
def test_chunks_may_be_cut_anywhere(cuts: list[int]) -> None:
    machine = filled(*SMALL)
    data = b"".join(machine.snapshot())
    edges = sorted({0, len(data), *(min(cut, len(data)) for cut in cuts)})
    chunks = [b"", *(data[a:b] for a, b in itertools.pairwise(edges)), b""]
    assert contents(restored(chunks)) == contents(machine)


def test_a_snapshot_cut_short_changes_nothing() -> None:
    data = b"".join(filled(*SMALL).snapshot())
    machine = filled(Put("old", b"value"))
    before = contents(machine)
    for length in range(len(data)):
        with pytest.raises(InvalidSnapshot):
            machine.restore([data[:length]])
        assert contents(machine) == before
    with pytest.raises(InvalidSnapshot, match="behind the end"):
        machine.restore([data, b"x"])
    assert contents(machine) == before


def test_any_byte_flipped_is_refused_or_another_valid_state() -> None:
    """Checksums are the file's; but whatever gets here never breaks the machine."""
    data = b"".join(filled(*SMALL).snapshot())
    refused = 0
    for position in range(len(data)):
        for bit in range(8):
            flipped = bytearray(data)
            flipped[position] ^= 1 << bit
            machine = KvMachine()
            try:
                machine.restore([bytes(flipped)])
            except InvalidSnapshot:
                refused += 1
                assert contents(machine) == ([], 0)
                continue
            items, _ = contents(machine)
            assert items == sorted(items)
    assert refused > 3 * len(data)


def block(*items: list[object]) -> bytes:
    encoded = msgspec.msgpack.encode(items)
    return len(encoded).to_bytes(4, "big") + encoded


def header(count: int, revision: int = 9) -> bytes:
    return b"RWKV\x01" + count.to_bytes(8, "big") + revision.to_bytes(8, "big")


END = bytes(4)


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (header(1) + block(["b", 1, b""], ["a", 1, b""]) + END, "ascending"),
        (header(2) + block(["b", 1, b""]) + block(["b", 1, b""]) + END, "ascending"),
        (header(1) + block(["a", 10, b""]) + END, "revision"),
        (header(1) + block(["a", 0, b""]) + END, "revision"),
        (header(1) + block(["a", 1, None]) + END, "decoded"),
        (header(1) + block() + END, "empty"),
        (header(2) + block(["a", 1, b""]) + END, "1 keys where the header says 2"),
        (header(1) + b"\xff\xff\xff\xff", "allowed"),
        (b"RWKV\x02" + bytes(16) + END, "version"),
        (b"NOPE\x01" + bytes(16) + END, "NOPE"),
    ],
)
def test_what_contradicts_itself_is_refused(data: bytes, says: str) -> None:
    with pytest.raises(InvalidSnapshot, match=says):
        KvMachine().restore([data])


def test_an_error_of_the_reader_passes_and_changes_nothing() -> None:
    def broken() -> Iterator[bytes]:
        yield header(1)
        raise OSError("disk")

    machine = filled(Put("old", b"value"))
    with pytest.raises(OSError, match="disk"):
        machine.restore(broken())
    assert contents(machine) == ([("old", 1, b"value")], 1)


def test_slices_are_bounded_by_bytes_too() -> None:
    machine = filled(*(Put(f"{number}", bytes(snapshot_module.SLICE_BYTES)) for number in range(5)))
    assert max(map(len, machine.snapshot())) < snapshot_module.SLICE_BYTES + 100
