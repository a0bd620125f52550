"""The real disk behind the seam, and the simulated one: the same behaviour, save that one of them forgets."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from raftwright.raft.entries import EntryId, HardState
from raftwright.storage.errors import ReadFailed
from raftwright.storage.files import Files, OsFiles
from tests.storage.support import disk, entries, founded, opened, snapshot_data, take_snapshot, whole_log


@pytest.fixture(params=["os", "sim"])
def files(request: pytest.FixtureRequest, tmp_path: Path) -> Files:
    return OsFiles(tmp_path / "data") if request.param == "os" else disk()


def test_files_behave_alike(files: Files) -> None:
    files.mkdir("a")
    files.mkdir("a")
    assert not files.exists("a/x")
    with pytest.raises(FileNotFoundError):
        files.open("a/x")
    with pytest.raises(FileNotFoundError):
        files.open("nowhere/x", create=True)
    file = files.open("a/x", create=True)
    file.pwrite(b"hello", 3)
    assert file.pread(100, 0) == b"\0\0\0hello"
    assert file.pread(2, 4) == b"el"
    assert file.pread(5, 50) == b""
    file.truncate(5)
    assert file.size() == 5
    file.sync()
    files.rename("a/x", "a/y")
    files.sync_directory("a")
    assert files.list("a") == ["y"]
    assert files.list(".") == ["a"]
    again = files.open("a/y", create=True)
    assert again.pread(9, 0) == b"\0\0\0he"
    again.close()
    again.close()
    files.remove("a/y")
    with pytest.raises(FileNotFoundError):
        files.remove("a/y")
    assert files.list("a") == []
    assert files.free_bytes() > 0


def test_a_lock_is_held_by_one(files: Files) -> None:
    lock = files.lock("lock")
    with pytest.raises(BlockingIOError):
        files.lock("lock")
    lock.release()
    lock.release()
    files.lock("lock").release()


def test_a_store_on_the_real_disk(tmp_path: Path) -> None:
    files = OsFiles(tmp_path)
    store = founded(files)
    store.write(hard_state=HardState(2, 1), entries=entries(2, 200, term=2, size=150))
    store.prepare()
    take_snapshot(store, EntryId(2, 150), bytes(3 << 20))
    store.compact(140)
    store.write(entries=entries(201, 260, term=2, size=150))
    expected = whole_log(store)
    assert expected[-1].index == 260 and 2 < expected[0].index <= 140
    store.close()
    again = opened(files)
    assert whole_log(again) == expected
    assert again.recovered.hard_state == HardState(2, 1)
    assert snapshot_data(again) == {"machine": bytes(3 << 20)}
    again.close()
    assert not list(tmp_path.glob("**/*.tmp"))


@pytest.mark.skipif(not hasattr(os, "fdatasync"), reason="only Linux has fdatasync")
def test_a_write_is_synced_before_it_returns(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = founded(OsFiles(tmp_path))
    calls: list[str] = []

    def spy(name: str) -> None:
        real: Callable[..., object] = getattr(os, name)

        def call(*arguments: object) -> object:
            calls.append(name)
            return real(*arguments)

        monkeypatch.setattr(os, name, call)

    spy("pwrite")
    spy("fdatasync")
    store.write(entries=entries(2, 9))
    assert calls == ["pwrite", "fdatasync"]
    store.close()


def test_a_read_error_names_file_and_offset() -> None:
    files = disk()
    store = founded(files)
    store.write(entries=entries(2, 9))
    files.fault = lambda effect, path: OSError(5, "input/output error", path) if effect == "pread" else None
    with pytest.raises(ReadFailed, match=r"log/0000000000000001\.segment, offset \d+"):
        store.read(2, 1000, 9)
    files.kill()
    with pytest.raises(ReadFailed):
        opened(files)
