"""One thread writes while others read, take snapshots, compact and prepare: nobody sees anything but the log."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from random import Random
from threading import Event

import pytest

from raftwright.raft.entries import EntryId
from raftwright.storage.files import OsFiles
from raftwright.storage.storage import StorageSettings
from tests.storage.support import entries, entry, founded, opened, take_snapshot, whole_log

LAST = 2000
SETTINGS = StorageSettings(segment_bytes=16384)


@pytest.mark.slow
def test_writing_reading_compacting_and_preparing_at_once(tmp_path: Path) -> None:
    store = founded(OsFiles(tmp_path), SETTINGS)
    done = Event()
    reads = [0]

    def write() -> None:
        try:
            for first in range(2, LAST, 16):
                store.write(entries=entries(first, first + 15, size=60))
        finally:
            done.set()

    def read() -> None:
        random = Random(1)
        while not done.is_set():
            low, high = store.first_index, store.last_id.index
            first = random.randint(low, max(low, high))
            found = store.read(first, random.choice([1, 500, 100_000]), high)
            assert found == [entry(first + number, size=60) for number in range(len(found))]
            reads[0] += len(found)

    def compact() -> None:
        while not done.is_set():
            last = store.last_id
            newest = store.snapshot_meta
            if newest is not None and last.index > newest.id.index + 50:
                take_snapshot(store, EntryId(1, last.index))
                store.compact(last.index - 20)

    def prepare() -> None:
        while not done.is_set():
            if store.needs_prepare:
                store.prepare()

    work: list[Callable[[], None]] = [write, read, compact, prepare]
    with ThreadPoolExecutor(len(work)) as pool:
        for future in [pool.submit(each) for each in work]:
            future.result()
    assert reads[0] > 0
    assert store.first_index > 1000, "compaction took place"
    expected = whole_log(store)
    assert expected[-1].index >= LAST - 16
    store.close()
    again = opened(OsFiles(tmp_path), SETTINGS)
    assert whole_log(again) == expected
    again.close()
