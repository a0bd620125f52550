"""Snapshots: whole or not there, checked before a byte is handed out, never missing when the log needs one."""

import logging

import pytest

from raftwright.raft.entries import EntryId, HardState
from raftwright.raft.ready import SnapshotChunk
from raftwright.storage import snapshot_format as form
from raftwright.storage.errors import CorruptSnapshot, UnsupportedFormat
from raftwright.storage.snapshots import snapshot_path
from tests.storage.support import (
    FOUNDING,
    disk,
    entries,
    entry,
    founded,
    membership,
    opened,
    snapshot_data,
    take_snapshot,
    transfer,
    whole_log,
)


def test_sections_come_back_as_they_were_written() -> None:
    files = disk()
    store = founded(files)
    writer = store.new_snapshot(id=EntryId(1, 1), time_ms=77, membership=membership(5))
    big = bytes(range(256)) * 9000
    writer.section("sessions", 3, True)
    writer.write(b"a")
    writer.write(b"")
    writer.write(b"b")
    writer.section("empty", 1, False)
    writer.section("machine", 2, True)
    writer.write(big)
    meta = writer.finish()
    reader = store.open_snapshot()
    assert reader.meta == meta == store.snapshot_meta
    found = []
    for name, version, required, data in reader.sections():
        pieces = list(data)
        assert all(len(piece) <= 1 << 20 for piece in pieces)
        found.append((name, version, required, b"".join(pieces)))
    assert found == [("sessions", 3, True, b"ab"), ("empty", 1, False, b""), ("machine", 2, True, big)]
    files.power_loss("drop")
    again = opened(files)
    assert again.recovered.snapshot == meta
    assert (meta.time_ms, meta.membership) == (77, membership(5))


def test_sections_may_be_skipped() -> None:
    store = founded(disk())
    writer = store.new_snapshot(id=EntryId(1, 1), time_ms=0, membership=membership())
    for name in "abc":
        writer.section(name, 1, False)
        writer.write(bytes(600_000))
    writer.finish()
    assert [name for name, *_ in store.open_snapshot().sections()] == ["a", "b", "c"]


def test_data_outside_a_section_is_refused() -> None:
    writer = founded(disk()).new_snapshot(id=EntryId(1, 1), time_ms=0, membership=membership())
    with pytest.raises(ValueError, match="section"):
        writer.write(b"x")


def test_a_snapshot_flipped_or_cut_at_any_byte_is_never_handed_out_whole() -> None:
    files = disk()
    store = founded(files)
    store.write(entries=entries(2, 9))
    meta = take_snapshot(store, EntryId(1, 9), b"precious state")
    path = snapshot_path(meta.id)
    sound = files.content(path)
    variants = [sound[:size] for size in range(len(sound))] + [sound + b"\0"]
    for offset in range(len(sound)):
        damaged = bytearray(sound)
        damaged[offset] ^= 0x20
        variants.append(bytes(damaged))
    for content in variants:
        files.damage(path, content)
        with pytest.raises((CorruptSnapshot, UnsupportedFormat)):
            reader = store.open_snapshot()
            loaded = {name: b"".join(data) for name, _, _, data in reader.sections()}
            raise AssertionError(loaded)
        with pytest.raises((CorruptSnapshot, UnsupportedFormat)):
            form.verify(files.open(path), path)
    files.damage(path, sound)
    assert snapshot_data(store) == {"machine": b"precious state"}


def test_a_damaged_length_allocates_nothing() -> None:
    files = disk()
    store = founded(files)
    path = snapshot_path(FOUNDING)
    content = bytearray(files.content(path))
    content[12:16] = (0xFFFFFFFF).to_bytes(4, "little")
    asked: list[int] = []
    file = files.open(path)
    files.damage(path, bytes(content))

    class Watching:
        def pread(self, size: int, offset: int) -> bytes:
            asked.append(size)
            return file.pread(size, offset)

        def __getattr__(self, name: str) -> object:
            return getattr(file, name)

    with pytest.raises(CorruptSnapshot):
        form.read_header(Watching(), path)  # type: ignore[arg-type]
    assert max(asked) < 100
    assert store.snapshot_meta is not None


def test_a_damaged_newest_snapshot_is_refused_when_the_log_was_cut() -> None:
    files = disk()
    store = founded(files)
    store.write(entries=entries(2, 150, size=100))
    older = files.content(snapshot_path(FOUNDING))
    meta = take_snapshot(store, EntryId(1, 140))
    store.compact(130)
    assert store.first_index > 2
    files.kill()
    path = snapshot_path(meta.id)
    sound = files.content(path)
    files.damage(path, sound[:-1] + b"?")
    with pytest.raises(CorruptSnapshot) as caught:
        opened(files)
    assert caught.value.file == path
    assert "put the file back" in caught.value.what_to_do
    files.kill()
    files.remove(path)
    files.open(snapshot_path(FOUNDING), create=True).pwrite(older, 0)
    with pytest.raises(CorruptSnapshot, match="no snapshot reaches"):
        opened(files)


def test_an_older_snapshot_serves_while_the_log_still_goes_on_from_it(caplog: pytest.LogCaptureFixture) -> None:
    files = disk()
    store = founded(files)
    store.write(entries=entries(2, 9))
    older = files.content(snapshot_path(FOUNDING))
    take_snapshot(store, EntryId(1, 9))
    files.kill()
    files.open(snapshot_path(FOUNDING), create=True).pwrite(older, 0)
    path = snapshot_path(EntryId(1, 9))
    files.damage(path, files.content(path)[:-1])
    with caplog.at_level(logging.WARNING):
        again = opened(files)
    assert path in caplog.text
    assert again.recovered.snapshot is not None and again.recovered.snapshot.id == FOUNDING
    assert whole_log(again) == entries(2, 9)


def test_an_unfinished_snapshot_is_gone_after_a_restart() -> None:
    files = disk()
    store = founded(files)
    writer = store.new_snapshot(id=EntryId(1, 1), time_ms=0, membership=membership())
    writer.section("machine", 1, True)
    store.write(chunks=transfer(EntryId(2, 9)).chunks()[:1])
    assert len(files.list("snapshots")) == 3
    files.power_loss("keep")
    assert opened(files).snapshot_meta is not None
    assert len(files.list("snapshots")) == 1


def test_an_aborted_snapshot_leaves_nothing() -> None:
    files = disk()
    store = founded(files)
    writer = store.new_snapshot(id=EntryId(1, 1), time_ms=0, membership=membership())
    writer.section("machine", 1, True)
    writer.abort()
    writer.abort()
    assert len(files.list("snapshots")) == 1
    with pytest.raises(ValueError, match="aborted"):
        writer.section("more", 1, True)


def test_a_received_snapshot_replaces_log_and_state() -> None:
    files = disk()
    store = founded(files)
    store.write(hard_state=HardState(3, 2), entries=entries(2, 80, term=3, size=100))
    sent = transfer(EntryId(5, 60), b"of the leader")
    for chunk in sent.chunks():
        store.write(chunks=[chunk])
    assert store.finish_received(sent.meta)
    store.write(hard_state=HardState(5), snapshot=sent.meta, entries=entries(61, 63, term=5))
    for each in (store, None):
        if each is None:
            files.power_loss("drop")
            each = opened(files)
        recovered = each.recovered
        assert recovered.snapshot == sent.meta
        assert (recovered.base, recovered.last, recovered.hard_state) == (EntryId(5, 60), EntryId(5, 63), HardState(5))
        assert whole_log(each) == entries(61, 63, term=5)
        assert snapshot_data(each) == {"machine": b"of the leader"}
    assert len(files.list("snapshots")) == 1


def test_a_transfer_goes_on_where_it_was_and_repeats_do_no_harm() -> None:
    store = founded(disk())
    sent = transfer(EntryId(5, 60), bytes(range(250)) * 4)
    chunks = sent.chunks()
    for chunk in (*chunks[:4], chunks[2], chunks[3], *chunks[4:]):
        store.write(chunks=[chunk])
    assert store.finish_received(sent.meta)


def test_a_transfer_with_a_hole_a_wrong_byte_or_two_sources_is_not_taken() -> None:
    sent = transfer(EntryId(5, 60), bytes(1000))
    other = transfer(EntryId(5, 60), bytes(999) + b"x")
    chunks = sent.chunks()
    changed = chunks[3]
    wrong = SnapshotChunk(meta=sent.meta, offset=changed.offset, data=b"\xff" + changed.data[1:], done=False)
    beyond = SnapshotChunk(meta=sent.meta, offset=changed.offset, data=bytes(2000), done=False)
    for attempt in (
        [*chunks[:3], *chunks[4:]],
        [*chunks[:3], wrong, *chunks[4:]],
        [*chunks[:3], beyond, *chunks[4:]],
        [*chunks[:3], *other.chunks()[3:]],
        chunks[:-1],
        chunks[1:],
    ):
        store = founded(disk())
        store.write(chunks=attempt)
        assert not store.finish_received(sent.meta)
        with pytest.raises(ValueError, match="no checked snapshot"):
            store.write(snapshot=sent.meta)
        assert store.snapshot_meta is not None and store.snapshot_meta.id == FOUNDING


def test_chunks_are_read_only_from_the_snapshot_that_was_meant() -> None:
    store = founded(disk())
    first = store.snapshot_meta
    assert first is not None
    whole = b"".join(store.read_chunk(first, offset, 50) or b"" for offset in range(0, first.size, 50))
    assert len(whole) == first.size
    store.write(entries=entries(2, 4))
    take_snapshot(store, EntryId(1, 4))
    assert store.read_chunk(first, 0, 50) is None


def test_a_snapshot_ahead_of_the_log_replaces_it_after_a_restart() -> None:
    """Entries are applied once a quorum has them, which may be before the own disk has."""
    files = disk()
    store = founded(files)
    store.write(entries=entries(2, 5))
    take_snapshot(store, EntryId(1, 9))
    files.power_loss("drop")
    again = opened(files)
    assert (again.recovered.base, again.recovered.last) == (EntryId(1, 9), EntryId(1, 9))
    again.write(entries=entries(10, 11))
    files.power_loss("drop")
    assert whole_log(opened(files)) == entries(10, 11)


def test_a_snapshot_ahead_of_the_log_is_caught_up_with_where_there_is_no_restart() -> None:
    files = disk()
    store = founded(files)
    store.write(entries=entries(2, 5))
    take_snapshot(store, EntryId(1, 9))
    store.write(entries=entries(6, 12))
    files.power_loss("drop")
    assert whole_log(opened(files)) == entries(2, 12)


def test_a_log_with_another_term_at_the_snapshot_is_dropped_and_one_with_the_same_kept() -> None:
    for term, kept in ((2, False), (1, True)):
        files = disk()
        store = founded(files)
        store.write(entries=entries(2, 9, term=1))
        take_snapshot(store, EntryId(term, 7))
        files.power_loss("drop")
        again = opened(files)
        assert whole_log(again) == (entries(2, 9) if kept else [])
        assert again.recovered.last == (EntryId(1, 9) if kept else EntryId(2, 7))
        assert again.recovered.hard_state.term == term


def test_an_own_snapshot_that_a_newer_one_overtook_is_dropped() -> None:
    files = disk()
    store = founded(files)
    store.write(entries=entries(2, 9))
    writer = store.new_snapshot(id=EntryId(1, 9), time_ms=0, membership=membership())
    sent = transfer(EntryId(5, 60))
    store.write(chunks=sent.chunks())
    assert store.finish_received(sent.meta)
    store.write(snapshot=sent.meta)
    assert writer.finish() == sent.meta == store.snapshot_meta
    assert len(files.list("snapshots")) == 1


def test_founding_gives_a_log_that_begins_after_the_first_snapshot() -> None:
    files = disk()
    store = opened(files)
    assert store.recovered.snapshot is None
    meta = take_snapshot(store, FOUNDING)
    store.write(hard_state=HardState(1), snapshot=meta)
    files.power_loss("drop")
    again = opened(files)
    for recovered in (store.recovered, again.recovered):
        assert (recovered.base, recovered.last, recovered.hard_state) == (FOUNDING, FOUNDING, HardState(1))
    again.write(entries=[entry(2)])
    assert whole_log(again) == [entry(2)]
