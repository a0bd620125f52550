"""How fast the store is on this machine: appends with their sync, recovery, reading back, a snapshot.

Run as `python bench/storage.py [DIRECTORY]`; the directory must be on the disk that is to be measured.
"""

import shutil
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from statistics import median
from zlib import crc32

from raftwright.raft.entries import Entry, EntryId, EntryKind, HardState
from raftwright.raft.membership import Membership
from raftwright.storage.files import OsFiles
from raftwright.storage.storage import Storage, StorageSettings

ENTRIES = 1_000_000
PAYLOAD = b"v" * 100
CHECKSUM = crc32(PAYLOAD)
LARGE = bytes(1 << 20)


@contextmanager
def timed(what: str, count: int, unit: str) -> Iterator[None]:
    """Print the time that passed, and what of it this process spent computing: the machine may have other work."""
    started, computing = time.perf_counter(), time.process_time()
    yield
    seconds, computing = time.perf_counter() - started, time.process_time() - computing
    rate, each = count / seconds, computing / count * 1e6
    print(f"{what:38} {seconds:8.3f} s {rate:11,.0f} {unit}/s   CPU {computing:7.3f} s, {each:8.2f} µs each")


def opened(root: Path) -> Storage:
    return Storage.open(OsFiles(root), StorageSettings(), new_store_id="0" * 32)


def made(first: int, count: int, payload: bytes = PAYLOAD, checksum: int = CHECKSUM) -> list[Entry]:
    kind = int(EntryKind.COMMANDS)
    return [Entry(1, index, kind, 1, 0, payload, checksum) for index in range(first, first + count)]


def append_one_by_one(store: Storage, count: int) -> None:
    times = []
    for _ in range(count):
        started = time.perf_counter()
        store.write(entries=made(store.last_id.index + 1, 1))
        times.append(time.perf_counter() - started)
    times.sort()
    p50, p99 = median(times) * 1e6, times[-count // 100] * 1e6
    print(f"{'  one entry and its sync':38} p50 {p50:.0f} µs, p99 {p99:.0f} µs")


def append_all(store: Storage, until: int) -> None:
    while store.last_id.index < until:
        store.write(entries=made(store.last_id.index + 1, min(1000, until - store.last_id.index)))
        if store.needs_prepare:
            store.prepare()


def read_all(store: Storage) -> int:
    first, count = store.first_index, 0
    while batch := store.read(first, 1 << 20, store.last_id.index):
        count += len(batch)
        first = batch[-1].index + 1
    return count


def write_snapshot(store: Storage, pieces: int) -> None:
    writer = store.new_snapshot(id=store.last_id, time_ms=0, membership=Membership())
    writer.section("machine", 1, True)
    for _ in range(pieces):
        writer.write(LARGE)
    writer.finish()


def run(root: Path) -> None:
    store = opened(root)
    writer = store.new_snapshot(id=EntryId(1, 1), time_ms=0, membership=Membership())
    writer.finish()
    store.write(hard_state=HardState(1))
    store.prepare()
    with timed("append one entry a write", 2000, "entry"):
        append_one_by_one(store, 2000)
    with timed("append 1000 entries a write", ENTRIES - 2000, "entry"):
        append_all(store, ENTRIES + 1)
    print(f"{'  the log on disk':38} {store.log_bytes / 2**20:.0f} MiB, {store.sync_count} syncs")
    store.close()
    with timed("recover", ENTRIES, "entry"):
        store = opened(root)
    with timed("read back", ENTRIES, "entry"):
        assert read_all(store) == ENTRIES
    with timed("write a snapshot of 256 MiB", 256, "MiB"):
        write_snapshot(store, 256)
    store.compact(store.last_id.index)
    store.close()
    with timed("recover behind that snapshot", 256, "MiB"):
        store = opened(root)
    with timed("load that snapshot", 256, "MiB"):
        for _, _, _, data in store.open_snapshot().sections():
            for _piece in data:
                pass
    store.close()


def main() -> None:
    parent = Path(sys.argv[1]) if len(sys.argv) > 1 else Path.cwd()
    root = Path(tempfile.mkdtemp(dir=parent))
    try:
        run(root)
    finally:
        shutil.rmtree(root)


if __name__ == "__main__":
    main()
