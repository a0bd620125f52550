"""Compressed snapshots: the same data comes back, and damage is found before it is used."""

import random
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from raftwright.raft.entries import EntryId
from raftwright.storage.errors import CorruptSnapshot, UnsupportedFormat
from raftwright.storage.snapshots import snapshot_path
from raftwright.storage.transforms import NAMES, transform_named, transform_numbered
from tests.storage.support import disk, founded, membership, opened

NOISE = random.Random(1).randbytes(3 << 20)
TEXT = b"the same words again and again; " * 60_000


@pytest.mark.parametrize("name", NAMES)
@given(data=st.binary(max_size=5000))
def test_every_block_comes_back(name: str, data: bytes) -> None:
    transform = transform_named(name)
    assert transform.decode(transform.encode(data), 5000) == data


@pytest.mark.parametrize("name", NAMES)
def test_sections_come_back_also_after_a_restart(name: str) -> None:
    files = disk()
    store = founded(files)
    store.snapshot_compression = name
    writer = store.new_snapshot(id=EntryId(1, 1), time_ms=7, membership=membership())
    for section, data in (("noise", NOISE), ("text", TEXT), ("empty", b"")):
        writer.section(section, 1, True)
        writer.write(data)
    meta = writer.finish()
    assert (meta.size < len(NOISE) + len(TEXT) // 10) is (name != "none")
    files.power_loss("drop")
    again = opened(files)
    assert again.snapshot_meta == meta
    found = {section: b"".join(data) for section, _, _, data in again.open_snapshot().sections()}
    assert found == {"noise": NOISE, "text": TEXT, "empty": b""}


@pytest.mark.parametrize("name", ["gzip", "zstd"])
def test_a_block_that_would_become_too_long_is_refused(name: str) -> None:
    transform = transform_named(name)
    bomb = transform.encode(bytes(50 << 20))
    assert len(bomb) < 1 << 20
    with pytest.raises(ValueError, match="too long"):
        transform.decode(bomb, 1 << 20)
    assert transform.decode(transform.encode(bytes(1 << 20)), 1 << 20) == bytes(1 << 20)


@pytest.mark.parametrize("name", ["gzip", "zstd"])
@given(data=st.binary(max_size=200), cut=st.integers(0, 50))
def test_damage_is_a_value_error(name: str, data: bytes, cut: int) -> None:
    transform = transform_named(name)
    whole = transform.encode(b"some data that is long enough to be compressed" * 3)
    for damaged in (data, whole[:cut], whole + b"x"):
        try:
            assert len(transform.decode(damaged, 1000)) <= 1000
        except ValueError:
            continue
        assert damaged not in (whole[:cut], whole + b"x")


def test_a_file_of_an_unknown_transform_is_refused() -> None:
    with pytest.raises(UnsupportedFormat, match="transform 3 is not known"):
        transform_numbered(3)


def test_zstd_that_is_not_installed_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    files = disk()
    store = founded(files)
    store.snapshot_compression = "zstd"
    writer = store.new_snapshot(id=EntryId(1, 1), time_ms=0, membership=membership())
    writer.section("a", 1, True)
    writer.write(b"data")
    writer.finish()
    monkeypatch.setitem(sys.modules, "zstandard", None)
    with pytest.raises(UnsupportedFormat, match=r"pip install 'raftwright\[zstd\]'"):
        transform_named("zstd")
    with pytest.raises(UnsupportedFormat, match="zstandard"):
        list(store.open_snapshot().sections())


def test_a_block_that_does_not_decompress_is_damage(monkeypatch: pytest.MonkeyPatch) -> None:
    files = disk()
    store = founded(files)
    store.snapshot_compression = "gzip"
    writer = store.new_snapshot(id=EntryId(1, 1), time_ms=0, membership=membership())
    monkeypatch.setattr(writer._transform, "encode", lambda data: data)
    writer.section("a", 1, True)
    writer.write(b"not gzip")
    writer.finish()
    with pytest.raises(CorruptSnapshot, match="cannot be decompressed") as caught:
        for *_, data in store.open_snapshot().sections():
            list(data)
    assert caught.value.file == snapshot_path(EntryId(1, 1))
