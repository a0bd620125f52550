"""Drivers as in `drivers.py`, each with a disk that holds its log and snapshots, so that state can move and survive."""

import random
from dataclasses import dataclass, field
from typing import Any
from zlib import crc32

import msgspec

from raftwright.raft.entries import Entry, EntryId, HardState, Recovered, SnapshotMeta
from raftwright.raft.events import ChunkLoaded, EntriesLoaded
from raftwright.raft.raft import Raft, RaftSettings
from raftwright.raft.ready import LoadChunk, SnapshotChunk
from raftwright.server.driver import Driver, DriverSettings
from raftwright.server.effects import Effects, Persist, SnapshotJob
from raftwright.server.machine import InvalidSnapshot
from raftwright.server.state import ReplicatedState
from tests.server.drivers import FOUNDING, Cluster

CHUNK_BYTES = 200

Sections = list[tuple[str, int, bool, list[bytes]]]


def frozen(state: ReplicatedState) -> bytes:
    return msgspec.msgpack.encode(
        [(name, version, required, list(chunks)) for name, version, required, chunks in state.sections()]
    )


def sections_of(data: bytes) -> Sections:
    return msgspec.msgpack.decode(data, type=Sections)


@dataclass
class Disk:
    """What one member wrote."""

    meta: SnapshotMeta
    snapshot: bytes
    hard_state: HardState = field(default_factory=lambda: HardState(term=1))
    entries: dict[int, Entry] = field(default_factory=dict)
    received: bytearray = field(default_factory=bytearray)

    def write(self, batch: Persist) -> tuple[SnapshotMeta, bool] | None:
        finished = None
        for chunk in batch.chunks:
            finished = self._receive(chunk) or finished
        self.hard_state = batch.hard_state or self.hard_state
        if batch.snapshot is not None:
            self.meta, self.snapshot, self.entries = batch.snapshot, bytes(self.received), {}
        for entry in batch.entries:
            self.entries = {index: held for index, held in self.entries.items() if index < entry.index}
            self.entries[entry.index] = entry
        return finished

    def _receive(self, chunk: SnapshotChunk) -> tuple[SnapshotMeta, bool] | None:
        if chunk.offset == 0:
            self.received = bytearray()
        assert chunk.offset == len(self.received)
        self.received += chunk.data
        ok = len(self.received) == chunk.meta.size and crc32(self.received) == chunk.meta.checksum
        return (chunk.meta, ok) if chunk.done else None

    def log(self) -> list[Entry]:
        """All entries behind the snapshot, and the ones before that are still there."""
        return [self.entries[index] for index in sorted(self.entries)]


class Replicas(Cluster):
    def __init__(self, size: int = 3, learners: int = 0, **settings: Any) -> None:
        self.disks: dict[int, Disk] = {}
        self.adopted: list[int] = []
        """Members whose state was repaired, in order."""
        super().__init__(size, learners, **settings)

    def start(self, number: int) -> None:
        super().start(number)
        data = frozen(self.drivers[number].state)
        meta = SnapshotMeta(id=FOUNDING, time_ms=0, membership=self.membership, size=len(data), checksum=crc32(data))
        self.disks.setdefault(number, Disk(meta, data))
        self.restart(number)

    def restart(self, number: int) -> None:
        """Start a member anew from what its disk holds."""
        disk = self.disks[number]
        log = disk.log()
        base = disk.meta.id if not log or log[0].index > disk.meta.id.index else EntryId(1, log[0].index - 1)
        runs = [entry.id for position, entry in enumerate(log) if not position or log[position - 1].term != entry.term]
        recovered = Recovered(
            hard_state=disk.hard_state,
            snapshot=disk.meta,
            base=base,
            terms=tuple(runs),
            last=log[-1].id if log else base,
            tail=tuple(log),
        )
        raft = Raft(
            member_id=number,
            settings=RaftSettings(chunk_bytes=CHUNK_BYTES),
            recovered=recovered,
            random=random.Random(number),
            now=self.now,
        )
        state = ReplicatedState(self.machine(number))
        state.restore(sections_of(disk.snapshot))
        settings = DriverSettings(**self.settings)
        self.persists[number].clear()
        self.drivers[number] = Driver(raft=raft, state=state, membership=disk.meta.membership, settings=settings)

    def run(self, number: int) -> Effects:
        effects = super().run(number)
        driver, disk = self.drivers[number], self.disks[number]
        for load in effects.loads:
            if isinstance(load, LoadChunk):
                meta = load.meta or disk.meta
                data = disk.snapshot[load.offset : load.offset + load.bytes_max] if meta == disk.meta else None
                loaded = ChunkLoaded(now=self.now, peer=load.peer, meta=meta, offset=load.offset, data=data)
                driver.step(loaded)
            else:
                entries = tuple(disk.entries[index] for index in sorted(disk.entries) if index >= load.first)
                driver.step(EntriesLoaded(now=self.now, peer=load.peer, first=load.first, entries=entries))
            effects.again = True
        if effects.snapshot is not None:
            self.take(number, effects.snapshot)
        if effects.compact is not None:
            disk.entries = {index: entry for index, entry in disk.entries.items() if index >= effects.compact}
        if effects.restore is not None:
            driver.state.restore(sections_of(disk.snapshot))
            driver.restored(effects.restore)
            effects.again = True
        if effects.adopt is not None:
            self.adopt(number, effects.adopt)
            effects.again = True
        return effects

    def take(self, number: int, job: SnapshotJob) -> None:
        data = msgspec.msgpack.encode([(*section[:3], list(section[3])) for section in job.sections])
        meta = SnapshotMeta(
            id=job.id, time_ms=job.time_ms, membership=job.membership, size=len(data), checksum=crc32(data)
        )
        self.disks[number].meta, self.disks[number].snapshot = meta, data
        self.drivers[number].snapshot_taken(job, meta, self.now)

    def adopt(self, number: int, meta: SnapshotMeta) -> None:
        driver, disk = self.drivers[number], self.disks[number]
        try:
            driver.state.restore(sections_of(bytes(disk.received)), driver.checks.known())
        except InvalidSnapshot as error:
            driver.adopted(meta, self.now, problem=str(error))
            return
        assert meta.id.index in disk.entries or meta.id == disk.meta.id, "the durable log leads up to it"
        disk.meta, disk.snapshot = meta, bytes(disk.received)
        self.adopted.append(number)
        driver.adopted(meta, self.now)

    def sync(self, number: int) -> None:
        received = self.disks[number].write(self.persists[number].popleft())
        self.drivers[number].persisted(received, self.now)
        self.run(number)

    def writes(self, count: int, *, prefix: str = "k") -> None:
        """So many writes, an entry each, all of them answered."""
        for position in range(count):
            leader = next((number for number, driver in self.drivers.items() if driver.is_leader), None)
            if leader is None:
                leader = self.elect()
            self.write(leader, f"{prefix}{position % 50}", f"{prefix}-{position}-{len(self.sent)}")
            self.settle()

    def states(self) -> dict[int, bytes]:
        """What every machine holds."""
        return {number: b"".join(driver.state.machine.snapshot()) for number, driver in self.drivers.items()}
