"""What the log says fits does fit, without a new file and without its reserve, whatever the sizes; and the rest can be
made room for."""

from random import Random

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from raftwright.raft.entries import Entry, EntryId, HardState
from raftwright.sim.disk import SimFiles
from raftwright.storage import records
from raftwright.storage.errors import DiskFull
from raftwright.storage.room import CONTROL_BYTES, NO_ROOM, Room, sizes_of
from raftwright.storage.storage import Storage, StorageSettings
from tests.storage.support import disk, entries, entry, founded, opened, take_snapshot, whole_log

SEGMENT = 4096
LARGEST = SEGMENT - records.SEGMENT_RECORD_BYTES - records.HEADER_BYTES
"""The largest payload of an entry that fits into a segment of its own, in bytes."""

halves = st.integers(LARGEST // 2 - 40, LARGEST // 2 + 40)
fitting = st.one_of(st.integers(20, 200), halves, st.integers(LARGEST - 300, LARGEST))
lengths = st.one_of(fitting, st.integers(LARGEST, LARGEST + 300), st.integers(SEGMENT, 3 * SEGMENT))


def no_new_files(files: SimFiles) -> None:
    """From now on a file that is made meets a full disk."""
    files.capacity_bytes = files.used_bytes()


def write_sizes(store: Storage, sizes: list[int], term: int) -> None:
    """One write, with a hard state, of entries whose payloads have these lengths."""
    first = store.last_id.index + 1
    made = [entry(first + number, term, size) for number, size in enumerate(sizes)]
    store.write(hard_state=HardState(term, 1), entries=made)


@settings(max_examples=60)
@given(st.lists(st.lists(fitting, min_size=1, max_size=6), min_size=1, max_size=12))
@example([[LARGEST], [LARGEST]])
def test_what_fits_needs_no_file_and_leaves_the_reserve(rounds: list[list[int]]) -> None:
    files = disk()
    store = founded(files)
    for term, of_round in enumerate(rounds, 2):
        sizes = [records.record_bytes(length) for length in of_round]
        files.capacity_bytes = 1 << 40
        store.prepare(sizes)
        room = store.room.after(sizes)
        assert room is not None
        no_new_files(files)
        write_sizes(store, of_round, term)
        assert len(store._log._prepared) >= len(room.ready) >= 1, "no more of them was used than was said"
    expected = whole_log(store)
    files.power_loss("drop")
    assert whole_log(opened(files)) == expected


@settings(max_examples=60)
@given(st.lists(st.lists(lengths, min_size=1, max_size=4), min_size=1, max_size=12))
def test_room_can_be_made_for_entries_of_any_size(rounds: list[list[int]]) -> None:
    files = disk()
    store = founded(files)
    for term, of_round in enumerate(rounds, 2):
        sizes = [records.record_bytes(length) for length in of_round]
        store.prepare(sizes)
        assert store.room.after(sizes) is not None
        before = len(files.list("log"))
        store.prepare(sizes)
        assert len(files.list("log")) == before, "what is there already is not made again"
        write_sizes(store, of_round, term)
    expected = whole_log(store)
    files.power_loss("drop")
    assert whole_log(opened(files)) == expected


@pytest.mark.parametrize("more", range(-24, 25, 8))
def test_an_entry_at_the_very_edge_of_a_segment(more: int) -> None:
    files = disk()
    store = founded(files)
    store.prepare()
    write_sizes(store, [LARGEST - 600], 2)
    for term in range(3, 7):
        write_sizes(store, [LARGEST + more], term)
        assert store.last_id == EntryId(term, store.last_id.index)
        store.prepare([records.record_bytes(LARGEST + more)])
    expected = whole_log(store)
    capacities = {segment.capacity for segment in store._log._index.segments}
    assert (max(capacities) > SEGMENT) == (more > 0)
    files.power_loss("drop")
    assert whole_log(opened(files)) == expected


def test_room_counts_each_record_in_one_place() -> None:
    room = Room(100, (1000, 1000), is_begun=True)
    assert room.after([60, 40]) == Room(0, (1000, 1000), True)
    assert room.after([60, 48]) == Room(952, (1000,), True)
    assert room.after([1000]) == Room(0, (1000,), True)
    assert room.after([1008]) is None
    assert room.after([1000, 8]) is None, "the last one stays"
    assert Room(0, (100, 5000, 100), True).after([4000, 60]) == Room(940, (100, 100), True)
    assert NO_ROOM.after([8]) is None
    assert NO_ROOM.after([]) == NO_ROOM


def test_room_counts_control_records_once_and_first() -> None:
    assert Room(CONTROL_BYTES + 100).after([60]) == Room(40, is_begun=True)
    assert Room(CONTROL_BYTES - 8, (1000, 2000, 1000)).after([1000]) == Room(1000, (1000,), True)


@given(st.integers(0, 500), st.lists(st.integers(100, 900), max_size=6), st.lists(st.integers(64, 900)), st.data())
def test_room_is_the_same_whether_it_is_asked_for_at_once_or_in_parts(
    rest: int, ready: list[int], sizes: list[int], data: st.DataObject
) -> None:
    room = Room(rest, tuple(ready))
    cut = data.draw(st.integers(0, len(sizes)))
    first = room.after(sizes[:cut])
    assert room.after(sizes) == (None if first is None else first.after(sizes[cut:]))


def test_without_a_reserve_a_part_of_the_segment_in_use_is_kept_in_its_place() -> None:
    files = disk()
    store = founded(files)
    with_reserve = store.room.rest
    assert store.release_reserve()
    assert store.room.rest < with_reserve - SEGMENT // 6
    index = store.last_id.index + 1
    while store.room.after(sizes_of([entry(index)])):
        store.write(entries=[entry(index)])
        index += 1
    no_new_files(files)
    for term in range(2, 10):
        store.write(hard_state=HardState(term, 1))


def test_what_cannot_be_made_room_for_changes_nothing_and_small_entries_go_on() -> None:
    files = disk()
    store = founded(files)
    store.prepare()
    files.capacity_bytes = files.used_bytes() + SEGMENT
    before = store.room
    with pytest.raises(DiskFull):
        store.prepare([3 * SEGMENT])
    assert (store.room, store.needs_prepare) == (before, False)
    store.write(entries=entries(2, 50, size=60))


@pytest.mark.parametrize(("before", "after"), [(16384, 4096), (4096, 16384)])
def test_prepared_segments_of_another_size_are_used_up_after_a_restart_on_a_full_disk(before: int, after: int) -> None:
    files = disk()
    store = founded(files, StorageSettings(segment_bytes=before))
    store.prepare()
    files.power_loss("drop")
    files.capacity_bytes = files.used_bytes()
    again = opened(files, StorageSettings(segment_bytes=after))
    assert len(again._log._prepared) == 2
    index = 2
    while again.room.after(sizes_of([entry(index)])):
        again.write(entries=[entry(index)])
        index += 1
    assert index * 80 > before, "the segment in use and the next one"
    assert len(again._log._prepared) == 1
    files.power_loss("drop")
    assert opened(files, StorageSettings(segment_bytes=after)).last_id.index == index - 1


@settings(max_examples=60)
@given(st.lists(st.tuples(st.sampled_from([4096, 4104, 8192, 20_000]), st.lists(lengths, max_size=8)), max_size=6))
def test_the_size_of_segments_may_be_another_at_each_start(lives: list[tuple[int, list[int]]]) -> None:
    files = disk()
    founded(files).close()
    random = Random(1)
    expected: list[Entry] = []
    for life, (segment_bytes, of_life) in enumerate(lives, 2):
        store = opened(files, StorageSettings(segment_bytes=segment_bytes))
        assert whole_log(store) == expected
        for length in of_life:
            store.prepare([records.record_bytes(length)])
            no_new_files(files)
            write_sizes(store, [length], life)
            files.capacity_bytes = 1 << 40
            if random.random() < 0.3:
                take_snapshot(store, store.last_id)
                store.compact(store.last_id.index - 1)
        expected = whole_log(store)
        assert len(store._log._prepared) <= 4
        files.power_loss("drop")
    assert whole_log(opened(files)) == expected
