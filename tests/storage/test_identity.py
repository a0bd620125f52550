"""Who a store is: kept twice, repaired from its copy, never guessed; and one process at a time."""

import logging
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from zlib import crc32

import pytest

from raftwright.sim.disk import SimFiles
from raftwright.storage import identity as identities
from raftwright.storage.errors import CorruptIdentity, CorruptLog, LockedStore, UnsupportedFormat, WrongStore
from raftwright.storage.files import OsFiles
from raftwright.storage.storage import Storage
from tests.storage.support import OTHER_ID, SMALL, STORE_ID, disk, founded, opened


def bound_store() -> SimFiles:
    files = disk()
    founded(files).save_identity("cluster", 2, "b")
    files.power_loss("drop")
    return files


def test_an_identity_is_made_once_and_kept() -> None:
    files = bound_store()
    again = Storage.open(files, SMALL, new_store_id=OTHER_ID)
    identity = again.identity
    assert (identity.store_id, identity.cluster_id, identity.member_id, identity.name) == (STORE_ID, "cluster", 2, "b")


def test_each_copy_is_repaired_from_the_other_whatever_byte_is_damaged(caplog: pytest.LogCaptureFixture) -> None:
    for name in identities.COPIES:
        sound = bound_store().content(name)
        for offset in range(len(sound)):
            files = bound_store()
            damaged = bytearray(sound)
            damaged[offset] ^= 0x04
            files.damage(name, bytes(damaged))
            caplog.clear()
            with caplog.at_level(logging.WARNING):
                assert opened(files).identity.name == "b"
            assert "repaired" in caplog.text
            assert files.content(name) == sound


def test_a_missing_copy_is_made_again() -> None:
    for name in identities.COPIES:
        files = bound_store()
        files.remove(name)
        assert opened(files).identity.member_id == 2
        assert files.exists(name)


def test_two_damaged_copies_are_refused() -> None:
    files = bound_store()
    for name in identities.COPIES:
        files.damage(name, files.content(name)[:-3])
    with pytest.raises(CorruptIdentity, match="put one of the two"):
        opened(files)


def test_data_without_an_identity_is_refused() -> None:
    files = bound_store()
    for name in identities.COPIES:
        files.remove(name)
    with pytest.raises(CorruptIdentity, match="gone"):
        opened(files)


def test_an_identity_without_its_log_is_refused() -> None:
    files = bound_store()
    for name in files.list("log"):
        files.remove(f"log/{name}")
    with pytest.raises(CorruptLog):
        opened(files)


def test_copies_of_two_stores_are_refused() -> None:
    files = bound_store()
    other = identities.encode(identities.StoreIdentity(store_id=OTHER_ID))
    files.damage(identities.COPIES[1], other)
    with pytest.raises(CorruptIdentity, match="two different stores"):
        opened(files)


def test_the_log_of_another_store_is_refused_by_name() -> None:
    files, other = bound_store(), disk()
    Storage.open(other, SMALL, new_store_id=OTHER_ID)
    for name in files.list("log"):
        files.remove(f"log/{name}")
    for name in other.list("log"):
        files.open(f"log/{name}", create=True).pwrite(other.content(f"log/{name}"), 0)
    with pytest.raises(WrongStore, match=OTHER_ID):
        opened(files)


def test_a_bound_store_is_not_bound_to_anything_else() -> None:
    store = opened(bound_store())
    store.save_identity("cluster", 2, "b")
    store.save_identity(None, None, None)
    for cluster_id, member_id, name in (("other", 2, "b"), ("cluster", 3, "b"), ("cluster", 2, "c")):
        with pytest.raises(WrongStore):
            store.save_identity(cluster_id, member_id, name)
    assert store.identity.name == "b"


def test_an_unknown_format_is_refused() -> None:
    files = bound_store()
    for name in identities.COPIES:
        line = files.content(name).split(b"\n")[0].replace(b'"format": 2', b'"format": 3') + b"\n"
        files.damage(name, line + b"%08x\n" % crc32(line))
    with pytest.raises(UnsupportedFormat, match="newer"):
        opened(files)


def test_an_identity_of_format_1_is_read_and_what_it_does_not_say_is_not_known() -> None:
    files = bound_store()
    for name in identities.COPIES:
        line = (
            files.content(name).split(b"\n")[0].replace(b'"format": 2', b'"format": 1, "founding": "%s"' % (b"a" * 64))
        )
        line += b"\n"
        files.damage(name, line + b"%08x\n" % crc32(line))
    store = opened(files)
    identity = store.identity
    assert (identity.cluster_id, identity.member_id, identity.name) == ("cluster", 2, "b")
    assert (identity.founding, identity.election_timeout_ms) == (None, None)
    store.save_identity(None, None, None, "0123")
    store.promise(600)
    store.close()
    files.power_loss("drop")
    identity = opened(files).identity
    assert (identity.founding, identity.election_timeout_ms) == ("0123", 600)


def test_what_a_cluster_was_founded_as_never_changes() -> None:
    store = opened(bound_store())
    store.save_identity(None, None, None, "0123")
    with pytest.raises(WrongStore, match="founding"):
        store.save_identity(None, None, None, "4567")


def test_what_several_threads_change_at_once_is_all_there() -> None:
    """What one reads before another writes must not be what it writes."""
    store = opened(bound_store())
    before = store.identity.revision
    with ThreadPoolExecutor(3) as pool:
        for ended in [
            pool.submit(store.mark_removed),
            *(pool.submit(store.promise, number) for number in range(100, 150)),
            pool.submit(store.save_identity, None, None, None, "0123"),
        ]:
            ended.result()
    assert store.identity.removed
    assert store.identity.founding == "0123"
    assert store.identity.revision == before + 52


@pytest.mark.parametrize("store_id", ["", "0123", "G" * 32, "0123456789ABCDEF0123456789ABCDEF"])
def test_a_store_id_is_32_hexadecimal_digits(store_id: str) -> None:
    with pytest.raises(ValueError, match="32 hexadecimal"):
        Storage.open(disk(), SMALL, new_store_id=store_id)


def test_a_second_process_is_kept_out(tmp_path: Path) -> None:
    for first, second in ((OsFiles(tmp_path), OsFiles(tmp_path)), [disk()] * 2):
        store = Storage.open(first, SMALL, new_store_id=STORE_ID)
        with pytest.raises(LockedStore, match="stop it first"):
            Storage.open(second, SMALL, new_store_id=STORE_ID)
        store.close()
        Storage.open(second, SMALL, new_store_id=STORE_ID).close()


def test_a_store_that_was_refused_lets_the_lock_go() -> None:
    files = bound_store()
    whole = {name: files.content(name) for name in identities.COPIES}
    for name in identities.COPIES:
        files.damage(name, b"")
    with pytest.raises(CorruptIdentity):
        opened(files)
    for name, content in whole.items():
        files.damage(name, content)
    assert opened(files).identity.name == "b"
