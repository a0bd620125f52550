"""What the tests of storage share: small entries, small segments, a disk in memory, and what a store holds."""

from random import Random
from typing import NamedTuple
from zlib import crc32

from raftwright.raft.entries import Entry, EntryId, EntryKind, HardState, SnapshotMeta
from raftwright.raft.membership import Addresses, Member, Membership, first_membership
from raftwright.raft.ready import SnapshotChunk
from raftwright.sim.disk import SimFiles
from raftwright.storage.files import Files
from raftwright.storage.storage import Storage, StorageSettings

SMALL = StorageSettings(segment_bytes=4096, tail_bytes_max=1 << 20)
STORE_ID = "0123456789abcdef0123456789abcdef"
OTHER_ID = "fedcba9876543210fedcba9876543210"
FOUNDING = EntryId(1, 1)


def disk(seed: int = 1, *, capacity_bytes: int = 1 << 40) -> SimFiles:
    return SimFiles(Random(seed), capacity_bytes=capacity_bytes)


def membership(version: int = 1) -> Membership:
    addresses = Addresses(peer="127.0.0.1:1", client="127.0.0.1:2")
    first = first_membership([(Member(name="a", store_id=STORE_ID, addresses=addresses), True)])
    return Membership(version=version, last_member_id=first.last_member_id, members=first.members, voters=first.voters)


def entry(index: int, term: int = 1, size: int = 20, kind: EntryKind = EntryKind.COMMANDS, fill: int = 0) -> Entry:
    """Its payload tells index and term, so that one entry is never taken for another."""
    payload = (b"%d.%d.%d " % (term, index, fill)).ljust(size, b"abcdefghijklmnopqrstuvwxyz"[index % 26 :][:1])
    if kind is EntryKind.MEMBERSHIP:
        payload = membership(index).encode()
    return Entry(term, index, kind, 3, 1_700_000_000_000 + index, payload, crc32(payload))


def entries(first: int, last: int, term: int = 1, size: int = 20, fill: int = 0) -> list[Entry]:
    return [entry(index, term, size, fill=fill) for index in range(first, last + 1)]


def opened(files: Files, settings: StorageSettings = SMALL) -> Storage:
    return Storage.open(files, settings, new_store_id=STORE_ID)


def take_snapshot(store: Storage, at: EntryId, data: bytes = b"state") -> SnapshotMeta:
    writer = store.new_snapshot(id=at, time_ms=at.index, membership=membership(at.index))
    writer.section("machine", 1, True)
    writer.write(data)
    return writer.finish()


def founded(files: Files, settings: StorageSettings = SMALL) -> Storage:
    """A store whose log begins after entry 1."""
    store = opened(files, settings)
    take_snapshot(store, FOUNDING)
    store.write(hard_state=HardState(1))
    return store


def whole_log(store: Storage, bytes_max: int = 1 << 20) -> list[Entry]:
    found: list[Entry] = []
    first = store.first_index
    while batch := store.read(first, bytes_max, store.last_id.index):
        assert [each.index for each in batch] == list(range(first, first + len(batch)))
        found += batch
        first = batch[-1].index + 1
    return found


class Transfer(NamedTuple):
    """A snapshot as another member would send it."""

    meta: SnapshotMeta
    file: bytes

    def chunks(self, size: int = 100) -> list[SnapshotChunk]:
        return [
            SnapshotChunk(
                meta=self.meta,
                offset=offset,
                data=self.file[offset : offset + size],
                done=offset + size >= len(self.file),
            )
            for offset in range(0, len(self.file), size)
        ]


def transfer(at: EntryId, data: bytes = b"state of the leader") -> Transfer:
    store = opened(disk())
    meta = take_snapshot(store, at, data)
    file = store.read_chunk(meta, 0, meta.size)
    assert file is not None
    return Transfer(meta, file)


def snapshot_data(store: Storage) -> dict[str, bytes]:
    return {name: b"".join(data) for name, _, _, data in store.open_snapshot().sections()}
