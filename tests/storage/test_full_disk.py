"""A full disk is met while a file is prepared, harms nothing that is there, and passes when there is space."""

import logging
from errno import EDQUOT, ENOSPC

import pytest

from raftwright.raft.entries import EntryId, HardState
from raftwright.sim.disk import SimFiles
from raftwright.storage.errors import DiskFull, SyncFailed
from raftwright.storage.room import sizes_of
from tests.storage.support import disk, entries, entry, founded, opened, take_snapshot, transfer, whole_log


def fill(files: SimFiles) -> None:
    files.capacity_bytes = files.used_bytes()


def test_the_log_goes_on_with_what_it_has_when_preparing_meets_a_full_disk() -> None:
    files = disk()
    store = founded(files)
    store.prepare()
    before = sorted(files.list("log"))
    files.capacity_bytes = files.used_bytes() + 5000
    store.write(entries=entries(2, 40, size=100))
    store.write(entries=entries(41, 60, size=100))
    with pytest.raises(DiskFull, match="free some space"):
        store.prepare()
    assert sorted(files.list("log")) == before or len(files.list("log")) == len(before) + 1
    assert not any(name.endswith(".tmp") for name in files.list("log"))
    store.write(hard_state=HardState(2, 1), entries=[entry(61, term=2)])
    files.capacity_bytes = 1 << 30
    store.prepare()
    assert not store.needs_prepare
    files.power_loss("drop")
    assert opened(files).recovered.hard_state == HardState(2, 1)


def test_what_does_not_fit_is_refused_whole_and_works_when_there_is_space() -> None:
    files = disk()
    store = founded(files)
    fill(files)
    with pytest.raises(DiskFull):
        store.write(hard_state=HardState(5, 1), entries=entries(2, 100, size=100))
    assert whole_log(store) == []
    assert store.recovered.hard_state == HardState(1)
    store.write(entries=entries(2, 36, size=100))
    assert len(store._log._index.segments) == 2, "what was refused has not used the reserve up"
    files.capacity_bytes = 1 << 30
    store.write(hard_state=HardState(5, 1), entries=entries(37, 100, size=100))
    files.power_loss("drop")
    again = opened(files)
    assert again.last_id.index == 100
    assert again.recovered.hard_state == HardState(5, 1)


def test_the_reserve_is_not_counted_as_room_and_takes_what_frees_space() -> None:
    files = disk()
    store = founded(files)
    fill(files)
    index = 2
    while store.room.after(sizes_of([entry(index, size=100)])):
        store.write(entries=[entry(index, size=100)])
        index += 1
    assert 3000 < index * 168 < 4096, "the rest of the segment was used, and nothing else"
    with pytest.raises(DiskFull):
        store.prepare()
    for term in range(2, 12):
        store.write(hard_state=HardState(term, 1), entries=[entry(index, term=term, size=0)])
        index += 1
    files.capacity_bytes += 3000
    take_snapshot(store, EntryId(11, index - 1))
    store.compact(index)
    assert store.room.after(sizes_of([entry(index, size=100)]))
    store.write(entries=[entry(index, term=11, size=100)])
    index += 1
    files.capacity_bytes = 1 << 30
    store.prepare()
    store.write(entries=entries(index, index + 20, term=11, size=100))
    files.power_loss("drop")
    assert opened(files).last_id.index == index + 20


def test_the_reserve_survives_a_restart_on_a_full_disk(caplog: pytest.LogCaptureFixture) -> None:
    files = disk()
    store = founded(files)
    prepared = [segment.generation for segment in store._log._prepared]
    assert prepared
    fill(files)
    files.power_loss("drop")
    again = opened(files)
    assert [segment.generation for segment in again._log._prepared] == prepared
    assert caplog.text == ""


def test_a_store_without_reserve_opens_on_a_full_disk_and_says_so(caplog: pytest.LogCaptureFixture) -> None:
    files = disk()
    store = founded(files)
    reserve = store._log._prepared[0].path
    files.kill()
    files.remove(reserve)
    fill(files)
    with caplog.at_level(logging.WARNING):
        again = opened(files)
    assert "no reserve" in caplog.text
    assert again.needs_prepare
    again.write(entries=[entry(2)])


@pytest.mark.parametrize("number", [ENOSPC, EDQUOT])
def test_a_snapshot_on_a_full_disk_is_dropped_and_the_older_one_stays(number: int) -> None:
    files = disk()
    store = founded(files)
    store.write(entries=entries(2, 9))
    files.fault = lambda effect, path: (
        OSError(number, "full", path) if effect == "pwrite" and path.startswith("snapshots") else None
    )
    with pytest.raises(DiskFull):
        take_snapshot(store, EntryId(1, 9), bytes(1 << 20))
    files.fault = None
    assert store.snapshot_meta is not None and store.snapshot_meta.id.index == 1
    assert len(files.list("snapshots")) == 1
    assert take_snapshot(store, EntryId(1, 9)).id.index == 9


def test_a_snapshot_being_received_on_a_full_disk_is_not_taken_for_whole() -> None:
    files = disk()
    store = founded(files)
    sent = transfer(EntryId(2, 50), bytes(3000))
    files.capacity_bytes = files.used_bytes() + 2000
    store.write(chunks=sent.chunks(500))
    assert not store.finish_received(sent.meta)
    files.capacity_bytes = 1 << 30
    store.write(chunks=sent.chunks(500))
    assert store.finish_received(sent.meta)


def test_a_snapshot_that_meets_a_full_disk_while_it_is_received_gives_its_space_back_at_once() -> None:
    files = disk()
    store = founded(files)
    before = files.used_bytes()
    files.capacity_bytes = before + 2000
    for chunk in transfer(EntryId(2, 50), bytes(3000)).chunks(500)[:-1]:
        store.write(chunks=[chunk])
    assert files.used_bytes() == before
    take_snapshot(store, EntryId(1, 1), bytes(1000))


def test_the_log_leaves_the_space_that_another_snapshot_needs() -> None:
    """Else a log that grew while there was no space for a snapshot could never be cut again."""
    files = disk()
    store = founded(files)
    store.write(entries=entries(2, 9))
    state = bytes(20_000)
    take_snapshot(store, EntryId(1, 9), state)
    files.capacity_bytes = files.used_bytes() + 50_000
    index = 10
    with pytest.raises(DiskFull, match="kept for the next snapshot"):
        while True:
            store.prepare()
            while store.room.after(sizes_of([entry(index, size=100)])):
                store.write(entries=[entry(index, size=100)])
                index += 1
    assert index > 150, "the rest of the disk was used"
    take_snapshot(store, EntryId(1, index - 1), state)
    store.compact(index)
    store.prepare()
    assert store.room.after(sizes_of([entry(index, size=3000)]))


def test_a_full_disk_inside_a_prepared_segment_ends_the_store() -> None:
    files = disk()
    store = founded(files)
    files.fault = lambda effect, path: OSError(ENOSPC, "full", path) if effect == "pwrite" else None
    with pytest.raises(SyncFailed):
        store.write(entries=[entry(2)])


def test_a_new_store_on_a_full_disk_is_refused_and_can_be_made_later() -> None:
    files = disk(capacity_bytes=6000)
    with pytest.raises(DiskFull):
        opened(files)
    files.capacity_bytes = 1 << 30
    assert founded(files).last_id.index == 1
