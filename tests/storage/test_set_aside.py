"""A store that is set aside: whatever crashes meanwhile, it is either still the old one, or the new one with nothing of
the old in it."""

from collections.abc import Callable
from errno import EIO, ENOSPC
from pathlib import Path

import pytest

from raftwright.raft.entries import HardState
from raftwright.sim.disk import SimulatedCrash, Unsynced
from raftwright.storage import set_aside
from raftwright.storage.errors import CorruptIdentity, DiskFull, StorageError, SyncFailed
from raftwright.storage.files import Files, OsFiles
from raftwright.storage.identity import COPIES
from raftwright.storage.storage import Storage
from tests.storage.support import FOUNDING, OTHER_ID, SMALL, STORE_ID, disk, entries, entry, founded, opened, whole_log

LOSSES: list[Unsynced | None] = [None, "drop", "keep", "mix"]
"""None: the process is killed, and the machine goes on."""
THIRD_ID = "abcdef0123456789abcdef0123456789"


def removed(files: Files) -> Storage:
    """A store with a snapshot and some log, of a member that was removed."""
    store = founded(files)
    store.save_identity("cluster", 3, "a")
    store.write(hard_state=HardState(2, 1), entries=entries(2, 5, term=2))
    store.mark_removed()
    return store


def everything(files: Files, directory: str) -> dict[str, bytes]:
    found = {}
    for name in files.list(directory):
        file = files.open(f"{directory}/{name}")
        found[name] = file.pread(file.size(), 0)
        file.close()
    return found


def begun_anew(store: Storage, files: Files, new: str = OTHER_ID) -> Storage:
    store.begin_anew(new)
    store.close()
    return opened(files)


@pytest.fixture(params=["memory", "disk"])
def make(request: pytest.FixtureRequest, tmp_path: Path) -> Callable[[], Files]:
    return disk if request.param == "memory" else lambda: OsFiles(tmp_path)


def test_the_old_store_is_kept_aside_whole_and_the_new_one_is_empty(make: Callable[[], Files]) -> None:
    files = make()
    store = removed(files)
    before = {name: everything(files, name) for name in ("log", "snapshots")}
    assert before["log"] and before["snapshots"]
    store = begun_anew(store, files)
    assert (store.identity.store_id, store.identity.replaces) == (OTHER_ID, STORE_ID)
    assert (store.identity.cluster_id, store.identity.member_id, store.identity.removed) == (None, None, False)
    assert store.snapshot_meta is None and whole_log(store) == [] and store.recovered.hard_state == HardState()
    assert {name: everything(files, f"set-aside/{name}") for name in before} == before
    kept = files.open(set_aside.IDENTITY)
    assert b'"removed": true' in kept.pread(kept.size(), 0)
    kept.close()
    store.close()
    again = opened(files)
    assert again.identity.store_id == OTHER_ID, "another start changes nothing"
    again.close()


def test_only_the_newest_is_kept() -> None:
    files = disk()
    store = begun_anew(removed(files), files)
    store.save_identity("cluster", 4, "a")
    store.write(hard_state=HardState(3), entries=[])
    store.mark_removed()
    log = everything(files, "log")
    store = begun_anew(store, files, THIRD_ID)
    assert (store.identity.store_id, store.identity.replaces) == (THIRD_ID, OTHER_ID)
    assert everything(files, "set-aside/log") == log
    assert OTHER_ID.encode() in files.content(set_aside.IDENTITY)


@pytest.mark.parametrize("loss", LOSSES)
def test_a_crash_leaves_the_old_store_whole_or_a_new_empty_one(loss: Unsynced | None) -> None:
    """At every effect of the setting aside and of the start after it."""
    outcomes = set()
    for crash_at in range(1, 200):
        files = disk(crash_at)
        removed(files).close()
        log = everything(files, "log")
        files.effects, files.crash_at = 0, crash_at
        returned = False
        try:
            store = opened(files)
            store.begin_anew(OTHER_ID)
            returned = True
            store.close()
            opened(files)
        except SimulatedCrash:
            pass
        else:
            break
        files.kill() if loss is None else files.power_loss(loss)
        store = opened(files)
        outcomes.add((store.identity.store_id, returned))
        if store.identity.store_id == STORE_ID:
            assert not returned, "what returned is durable"
            assert store.identity.removed and whole_log(store) == entries(2, 5, term=2)
            store = begun_anew(store, files)
        assert store.identity.store_id == OTHER_ID
        assert whole_log(store) == [] and store.snapshot_meta is None
        assert everything(files, "set-aside/log") == log, "nothing of the old store is lost either"
        store.write(hard_state=HardState(1, 1), entries=[entry(1)])
        files.power_loss("drop")
        assert whole_log(opened(files)) == [entry(1)], "the new one works"
    assert crash_at > 20
    assert {(STORE_ID, False), (OTHER_ID, True)} <= outcomes


def test_a_full_disk_leaves_the_old_store_as_it_was() -> None:
    files = disk()
    store = removed(files)
    files.fault = lambda effect, path: OSError(ENOSPC, "full") if effect == "pwrite" else None
    with pytest.raises(DiskFull):
        store.begin_anew(OTHER_ID)
    files.fault = None
    assert store.identity.store_id == STORE_ID
    store.close()
    assert opened(files).identity.removed


def test_a_failed_sync_ends_it() -> None:
    files = disk()
    store = removed(files)
    files.fault = lambda effect, path: OSError(EIO, "broken") if effect == "sync_directory" else None
    with pytest.raises(SyncFailed):
        store.begin_anew(OTHER_ID)


def test_a_copy_of_a_store_that_was_not_removed_is_not_given_up() -> None:
    """Somebody put two stores together: neither is taken for the other's successor by its word alone."""
    files, other = disk(), disk()
    founded(files).close()
    begun_anew(removed(other), other).close()
    files.damage(COPIES[1], other.content(COPIES[1]))
    with pytest.raises(CorruptIdentity, match="two different stores"):
        opened(files)


def test_the_new_store_needs_an_id_of_its_own() -> None:
    store = removed(disk())
    with pytest.raises((ValueError, StorageError)):
        store.begin_anew("short")
    with pytest.raises(AssertionError):
        Storage.open(disk(), SMALL, new_store_id=STORE_ID).begin_anew(OTHER_ID)
    assert store.recovered.snapshot is not None and store.recovered.snapshot.id == FOUNDING
