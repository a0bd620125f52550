"""A snapshot that replaces the state and leaves the log as it is."""

import pytest

from raftwright.raft.entries import EntryId, HardState
from raftwright.storage.storage import Storage
from tests.storage.support import (
    Transfer,
    disk,
    entries,
    founded,
    opened,
    snapshot_data,
    take_snapshot,
    transfer,
    whole_log,
)


def receive(store: Storage, sent: Transfer) -> None:
    for chunk in sent.chunks():
        store.write(chunks=[chunk])
    assert store.finish_received(sent.meta)


@pytest.mark.parametrize("own", [20, 60])
def test_the_log_stays_and_the_snapshot_is_the_newest(own: int) -> None:
    """Also one of the same index takes the place of this store's own, which is known to be wrong."""
    files = disk()
    store = founded(files)
    store.write(hard_state=HardState(3, 2), entries=entries(2, 80, term=3, size=100))
    take_snapshot(store, EntryId(3, own), b"wrong")
    sent = transfer(EntryId(3, 60), b"right")
    receive(store, sent)
    reader = store.open_received(sent.meta)
    assert reader is not None
    assert {name: b"".join(data) for name, _, _, data in reader.sections()} == {"machine": b"right"}
    assert snapshot_data(store) == {"machine": b"wrong"}, "not yet"
    assert store.adopt_received(sent.meta)
    for restarted in (False, True):
        if restarted:
            files.power_loss("drop")
            store = opened(files)
        recovered = store.recovered
        assert recovered.snapshot == sent.meta
        assert (recovered.last, recovered.hard_state) == (EntryId(3, 80), HardState(3, 2))
        assert whole_log(store) == entries(2, 80, term=3, size=100)
        assert snapshot_data(store) == {"machine": b"right"}
    assert len(files.list("snapshots")) == 1


def test_what_is_no_longer_there_is_not_adopted() -> None:
    store = founded(disk())
    store.write(entries=entries(2, 80))
    sent, other = transfer(EntryId(1, 60)), transfer(EntryId(1, 70))
    assert store.open_received(sent.meta) is None
    assert not store.adopt_received(sent.meta)
    receive(store, sent)
    store.write(chunks=other.chunks()[:1])
    assert store.open_received(sent.meta) is None
    assert not store.adopt_received(sent.meta)
    assert store.recovered.snapshot != sent.meta


def test_one_that_is_older_than_the_newest_is_dropped() -> None:
    store = founded(disk())
    store.write(entries=entries(2, 80))
    sent = transfer(EntryId(1, 60))
    receive(store, sent)
    newest = take_snapshot(store, EntryId(1, 70))
    assert not store.adopt_received(sent.meta)
    assert store.snapshot_meta == newest
