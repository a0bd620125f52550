"""Segments: filled ahead of need, recycled without a trace of what they held, begun with what must not be lost."""

import logging

import pytest

from raftwright.raft.entries import EntryId, HardState
from raftwright.sim.disk import SimFiles
from raftwright.storage import records
from raftwright.storage.errors import CorruptLog
from raftwright.storage.segments import generation_of, segment_path
from tests.storage.support import FOUNDING, STORE_ID, disk, entries, entry, founded, opened, take_snapshot, whole_log


def test_one_write_costs_one_sync() -> None:
    files = disk()
    store = founded(files)
    effects, syncs = files.effects, store.sync_count
    store.write(hard_state=HardState(2, 1), entries=entries(2, 20, term=2))
    assert files.effects - effects == 2, "one write and one sync for hard state and entries together"
    assert store.sync_count - syncs == 1


def test_rolling_to_a_prepared_segment_changes_no_directory() -> None:
    files = disk()
    store = founded(files)
    store.prepare()
    seen: list[str] = []
    files.fault = lambda effect, path: seen.append(effect)
    store.write(entries=entries(2, 40, size=100))
    assert seen == ["pwrite", "sync"] * 2


def test_a_vote_survives_the_recycling_of_the_segment_that_held_it() -> None:
    files = disk()
    store = founded(files)
    store.write(hard_state=HardState(7, 3))
    voted_in = store._log._index.current
    store.write(entries=entries(2, 150, term=7, size=100))
    take_snapshot(store, EntryId(7, 150))
    store.compact(151)
    assert voted_in.path not in [f"log/{name}" for name in files.list("log")]
    files.power_loss("drop")
    assert opened(files).recovered.hard_state == HardState(7, 3)


def test_the_only_segment_left_after_compaction_is_known_to_be_durable() -> None:
    """Its begin holds the vote now: damaged, it must not be taken for a segment that was never begun."""
    files = disk()
    store = founded(files)
    store.write(hard_state=HardState(7, 3))
    store.write(entries=entries(2, 36, term=7, size=100))
    take_snapshot(store, EntryId(7, 36))
    first, current = store._log._index.segments
    store.compact(37)
    assert store._log._index.segments == [current]
    files.kill()
    content = bytearray(files.content(current.path))
    content[20] ^= 1
    files.damage(current.path, bytes(content))
    with pytest.raises(CorruptLog):
        opened(files)
    assert first.generation < current.generation


def test_what_a_recycled_segment_held_is_never_valid_in_it() -> None:
    files = disk()
    store = founded(files)
    old = store._log._index.current
    store.write(entries=entries(2, 60, size=100))
    content = files.content(old.path)
    take_snapshot(store, EntryId(1, 60))
    store.compact(61)
    recycled = next(segment for segment in store._log._prepared if files.content(segment.path) == content)
    assert recycled.generation > old.generation
    own = list(records.find_headers(content, records.segment_seed(bytes.fromhex(STORE_ID), old.generation), 0))
    assert len(own) > 20
    assert list(records.find_headers(content, recycled.seed, 0)) == []
    expected = whole_log(store)
    files.kill()
    again = opened(files)
    assert whole_log(again) == expected
    assert recycled.generation in [segment.generation for segment in again._log._prepared]


def test_no_two_generations_validate_each_others_records_at_any_offset() -> None:
    seeds = {records.segment_seed(bytes.fromhex(STORE_ID), generation) for generation in range(100_000)}
    assert len(seeds) == 100_000
    item = records.Item(records.ENTRY, entry(9))
    for offset in (0, 8, 4096):
        data = bytes(offset) + b"".join(records.encode([item], 77, offset, records.START))
        assert len(list(records.find_headers(data, 77, 0))) == 1
        assert list(records.find_headers(data, 78, 0)) == []


def test_records_behind_a_cut_never_come_back_to_life(caplog: pytest.LogCaptureFixture) -> None:
    """Three records were being written when the power failed, and the first did not reach the disk. Later its place is
    filled by one that leads right up to the third, and what was to be written behind that is lost in a tear."""
    files = disk()
    store = founded(files)
    segment = store._log._index.current
    at = segment.end
    store.write(entries=entries(2, 4))
    third = segment.offsets[2]
    files.kill()
    content = bytearray(files.content(segment.path))
    content[at : at + 8] = bytes(8)
    files.damage(segment.path, bytes(content))
    with caplog.at_level(logging.WARNING):
        again = opened(files)
    assert "cut at offset" in caplog.text
    assert whole_log(again) == []
    files.power_loss("drop")
    cut = files.content(segment.path)
    again = opened(files)
    new = entry(2, size=third - at - records.HEADER_BYTES)
    again.write(entries=[new])
    files.kill()
    files.damage(segment.path, files.content(segment.path)[:third] + cut[third:])
    assert whole_log(opened(files)) == [new]


def rolled(more_rounds: int) -> tuple[SimFiles, str, int]:
    """A log that went on into a second segment, whose first record is then lost."""
    files = disk()
    store = founded(files)
    store.write(entries=entries(2, 36, size=100))
    for index in range(37, 37 + more_rounds):
        store.write(entries=[entry(index)])
    current = store._log._index.current
    last_before = store._log._index.segments[0].last_index
    files.kill()
    files.damage(current.path, bytes(64) + files.content(current.path)[64:])
    return files, current.path, last_before


def test_a_segment_that_was_being_begun_is_wiped_before_it_is_begun_again(caplog: pytest.LogCaptureFixture) -> None:
    files, path, last_before = rolled(0)
    assert files.content(path).strip(b"\0")
    with caplog.at_level(logging.WARNING):
        store = opened(files)
    assert f"{path}: was being begun" in caplog.text
    assert store.last_id.index == last_before
    files.power_loss("drop")
    assert not files.content(path).strip(b"\0")


def test_a_segment_that_lost_its_first_record_later_is_refused() -> None:
    files, path, _ = rolled(1)
    with pytest.raises(CorruptLog) as caught:
        opened(files)
    assert (caught.value.file, caught.value.offset) == (path, 0)


def test_a_clean_log_is_opened_without_a_warning(caplog: pytest.LogCaptureFixture) -> None:
    files = disk()
    store = founded(files)
    for index in range(2, 100):
        store.write(entries=[entry(index, size=100)])
        if index == 60:
            take_snapshot(store, EntryId(1, 60))
            store.compact(50)
        files.kill()
        with caplog.at_level(logging.WARNING):
            store = opened(files)
        assert store.last_id.index == index
    assert caplog.text == ""


def test_an_entry_larger_than_a_segment_gets_one_of_its_own() -> None:
    files = disk()
    store = founded(files)
    store.prepare()
    for index in range(2, 12, 2):
        store.write(entries=[entry(index, size=50), entry(index + 1, size=9000)])
    expected = whole_log(store)
    assert [len(each.payload) for each in expected] == [50, 9000] * 5
    files.power_loss("drop")
    again = opened(files)
    assert whole_log(again) == expected
    again.write(entries=entries(12, 80, size=100))
    files.power_loss("drop")
    assert opened(files).last_id.index == 80


def test_compaction_recycles_so_that_the_log_does_not_grow() -> None:
    files = disk()
    store = founded(files)
    sizes = set()
    for index in range(2, 600):
        store.write(entries=[entry(index, size=200)])
        if index % 20 == 0:
            take_snapshot(store, EntryId(1, index))
            store.compact(index - 10)
        if store.needs_prepare:
            store.prepare()
        if index > 100:
            sizes.add(files.used_bytes())
    assert max(sizes) < 10 * 4096
    assert store.log_bytes <= 5 * 4096


def test_compaction_never_goes_beyond_the_snapshot() -> None:
    store = founded(disk())
    store.write(entries=entries(2, 100, size=100))
    store.compact(90)
    assert store.first_index == 2
    take_snapshot(store, EntryId(1, 50))
    store.compact(90)
    assert 2 < store.first_index <= 51


def test_the_size_of_a_segment_may_be_changed() -> None:
    from raftwright.storage.storage import StorageSettings

    files = disk()
    store = founded(files)
    store.write(entries=entries(2, 60, size=100))
    expected = whole_log(store)
    files.kill()
    again = opened(files, StorageSettings(segment_bytes=8192))
    assert whole_log(again) == expected
    again.write(entries=entries(61, 200, size=100))
    assert again._log._index.current.capacity == 8192


def test_settings_that_cannot_be_are_refused() -> None:
    from raftwright.storage.storage import StorageSettings

    for size in (0, 4095, 4097):
        with pytest.raises(ValueError, match="segment_bytes"):
            StorageSettings(segment_bytes=size)


def test_entries_that_do_not_follow_are_refused() -> None:
    store = founded(disk())
    store.write(entries=entries(2, 5))
    for first in (1, 7):
        with pytest.raises(ValueError, match="does not follow"):
            store.write(entries=[entry(first)])
    assert store.last_id == EntryId(1, 5)
    assert store.first_index == FOUNDING.index + 1


def test_names_of_segments() -> None:
    assert generation_of(segment_path(255).removeprefix("log/")) == 255
    for name in ("lost+found", "1.segment", "00000000000000zz.segment", "0000000000000001.segment.tmp"):
        assert generation_of(name) is None
