"""The key-value store against its dumb twin, and what its operations promise."""

from collections.abc import Iterator

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from raftwright.client.models import BatchFailed, NotFound, PreconditionFailed
from raftwright.kv import index as index_module
from raftwright.kv import store as store_module
from raftwright.kv.commands import Batch, Command, Compare, Delete, Put
from raftwright.kv.store import KvMachine
from raftwright.server.machine import ApplyContext
from tests.kv.strategies import commands, keys
from tests.kv.twin import TwinStore

CONTEXT = ApplyContext(1, 1, 1)


@pytest.fixture(scope="module", autouse=True)
def short_runs() -> Iterator[None]:
    """Runs of three keys, so that a few commands already flush, merge and compact the index."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(index_module, "RUN_KEYS", 3)
        patch.setattr(store_module, "RUN_KEYS", 3)
        yield


def run(machine: KvMachine, *some: Command) -> list[object]:
    return machine.apply(list(some), CONTEXT).results


pages = st.tuples(
    st.sampled_from(["", "a", "a/", "b", "z", "\U0001f600"]), st.just("") | keys, st.integers(1, 5), st.integers(1, 30)
)


@settings(max_examples=400)
@given(st.lists(st.tuples(st.lists(commands(), max_size=8), st.none() | pages), max_size=12))
def test_results_reads_and_pages_are_those_of_a_plain_dict(
    steps: list[tuple[list[Command], tuple[str, str, int, int] | None]],
) -> None:
    machine, twin = KvMachine(), TwinStore()
    for batch, asked in steps:
        before = len(twin.changes)
        applied = machine.apply(batch, CONTEXT)
        assert applied.results == [twin.apply(command) for command in batch]
        assert [(c.key, c.revision, c.value) for c in applied.changes] == twin.changes[before:]
        if asked is not None:
            prefix, start, limit, bytes_max = asked
            page = machine.page(prefix=prefix, start=start, limit=limit, bytes_max=bytes_max)
            items = [(item.key, item.revision, item.value) for item in page.items]
            assert (items, page.next) == twin.page(prefix, start, limit, bytes_max)
            assert page.revision == twin.revision
    assert machine.revision == twin.revision
    assert {item.key: (item.revision, item.value) for item in machine.page(limit=100).items} == twin.data
    assert all(machine.get(key) is None for key in {"nope"} - twin.data.keys())


@given(st.lists(st.sampled_from("abcdefghijklmnopqrstuvwxyz"), unique=True), st.integers(1, 4))
def test_pages_one_after_another_show_every_key_once(names: list[str], limit: int) -> None:
    machine = KvMachine()
    run(machine, *(Put(name, b"v") for name in names))
    seen: list[str] = []
    start: str | None = ""
    while start is not None:
        page = machine.page(start=start, limit=limit)
        seen += [item.key for item in page.items]
        start = page.next
    assert seen == sorted(names)


def test_each_changing_command_has_the_next_revision_and_a_failed_one_none() -> None:
    machine = KvMachine()
    results = run(
        machine,
        Put("a", b"1"),
        Put("a", b"2", if_revision=9),
        Put("a", b"2", if_revision=1),
        Put("a", b"3", if_absent=True),
        Delete("b"),
        Delete("b", if_revision=1),
        Delete("a", if_revision=1),
        Delete("a", if_revision=2),
        Put("a", b"4", if_revision=2),
        Put("a", b"4", if_absent=True),
    )
    failed = PreconditionFailed
    assert results == [1, failed(1), 2, failed(2), NotFound(), failed(None), failed(2), 3, failed(None), 4]


def test_a_batch_is_all_or_nothing_and_one_revision() -> None:
    machine = KvMachine()
    run(machine, Put("a", b"1"), Put("b", b"1"))
    refused = Batch([Put("c", b"2"), Delete("a"), Compare("b", 1)])
    assert run(machine, refused) == [BatchFailed(2, 2)]
    assert [item.key for item in machine.page().items] == ["a", "b"]
    assert run(machine, Batch([Put("c", b"2"), Delete("a"), Compare("b", 2), Compare("x", None)])) == [3]
    assert [(item.key, item.revision) for item in machine.page().items] == [("b", 2), ("c", 3)]


def test_conditions_of_a_batch_are_judged_by_the_state_before_it() -> None:
    machine = KvMachine()
    run(machine, Put("a", b"1"))
    assert run(machine, Batch([Delete("a"), Compare("a", 1)])) == [2]
    assert run(machine, Batch([Put("a", b"1"), Put("a", b"2", if_absent=True)])) == [3]
    item = machine.get("a")
    assert item is not None and item.value == b"2"


def test_a_batch_that_changes_nothing_takes_no_revision() -> None:
    machine = KvMachine()
    run(machine, Put("a", b"1"))
    assert run(machine, Batch([Compare("a", 1), Delete("absent")]), Put("b", b"")) == [1, 2]


def test_deleting_a_range_does_not_make_its_listing_slow_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    """A walk that meets many dead keys cleans the index, so that the next one does not."""
    monkeypatch.setattr(index_module, "RUN_KEYS", 100)
    monkeypatch.setattr(store_module, "RUN_KEYS", 100)
    machine = KvMachine()
    names = [f"{number:04}" for number in range(1000)]
    run(machine, *(Put(name, b"") for name in names))
    run(machine, *(Delete(name) for name in names[:300]))
    assert sum(map(len, machine._index.runs())) == 1000
    assert machine.page(limit=1).items[0].key == "0300"
    assert sum(map(len, machine._index.runs())) == 700


def test_a_key_that_comes_and_goes_does_not_fill_the_index() -> None:
    machine = KvMachine()
    run(machine, *(Put(f"{number}", b"") for number in range(10)))
    for _ in range(1000):
        run(machine, Delete("5"))
        run(machine, Put("5", b""))
        machine.page(limit=1)
    assert sum(map(len, machine._index.runs())) <= 20


def test_keys_that_come_and_go_at_once_leave_nothing_in_the_index(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(index_module, "RUN_KEYS", 100)
    monkeypatch.setattr(store_module, "RUN_KEYS", 100)
    machine = KvMachine()
    for number in range(1000):
        run(machine, Put(f"{number}", b""))
        run(machine, Delete(f"{number}"))
    assert sum(map(len, machine._index.runs())) == 0
