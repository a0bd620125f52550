"""In the place of `server/glue.py`: carries out the driver's effects in a simulated process.

`node.py` makes one for each life of a node. Its one rule: it does what the real glue does, in the same order and in
the same threads, and lets virtual time pass in between.
"""

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any, Protocol

from raftwright.raft.entries import Entry, EntryId, SnapshotMeta
from raftwright.raft.events import ChunkLoaded, EntriesLoaded
from raftwright.raft.membership import Membership
from raftwright.raft.ready import LoadChunk, LoadEntries
from raftwright.server.digests import WrongState
from raftwright.server.driver import Driver
from raftwright.server.effects import Answer, ControlDone, Effects, Persist, ReadDone, SnapshotJob
from raftwright.server.machine import InvalidSnapshot
from raftwright.server.wire import PeerMessage
from raftwright.sim.workers import Process, Work, Workers
from raftwright.sim.world import World
from raftwright.storage.errors import DiskFull
from raftwright.storage.snapshot_io import SnapshotWriter
from raftwright.storage.storage import Storage

APPLY_LOAD_BYTES = 2048
PREPARE_RETRY_S = 0.1


class Outside(Process, Protocol):
    """What the node has for its glue."""

    @property
    def clock(self) -> float: ...

    def send(self, to: int, messages: Sequence[PeerMessage]) -> None: ...

    def answer(self, answer: Answer) -> None: ...

    def read_done(self, done: ReadDone) -> None: ...

    def control_done(self, done: ControlDone) -> None: ...

    def membership_changed(self, membership: Membership) -> None: ...

    def was_removed(self) -> None: ...

    def written(self, entries: Sequence[Entry], snapshot: EntryId | None) -> None: ...

    def restored(self) -> None: ...


class SimGlue:
    def __init__(self, *, outside: Outside, driver: Driver, storage: Storage) -> None:
        self.outside = outside
        self.driver = driver
        self.storage = storage
        self.workers = Workers(outside)
        self._world: World = outside.world
        self._preparing = False
        self._wanted: tuple[int, ...] = ()
        """Sizes of records that wait for room."""
        self._waits = False
        """For the next try to prepare a segment."""
        self._is_full = False
        """The last try to prepare a segment failed for want of space."""
        self.prepare()

    def carry_out(self, effects: Effects) -> None:
        for to in sorted(effects.sends):
            self.outside.send(to, effects.sends[to])
        for answer in effects.answers:
            self.outside.answer(answer)
        for done in effects.reads:
            self.outside.read_done(done)
        for ended in effects.controls:
            self.outside.control_done(ended)
        if effects.persist is not None:
            self.persist(effects.persist)
        for load in effects.loads:
            self._load(load)
        if effects.apply_load is not None:
            first, last = effects.apply_load
            self._world.counts["entries loaded for apply"] += 1
            read = partial(self.storage.read, first, APPLY_LOAD_BYTES, last)
            self.workers.on_disk(read, self.driver.entries_for_apply)
        if effects.snapshot is not None:
            self.workers.spawn(self._take_snapshot(effects.snapshot))
        if effects.restore is not None:
            self.workers.spawn(self._restore(effects.restore))
        if effects.adopt is not None:
            self.workers.spawn(self._adopt(effects.adopt))
        if effects.prepare:
            self._wanted = effects.prepare
            self.prepare()
        if effects.compact is not None:
            self.workers.on_disk(partial(self.storage.compact, effects.compact), self._measure)
        if effects.membership is not None:
            self.outside.membership_changed(effects.membership)
        if effects.removed:
            self.outside.was_removed()
        if effects.again:
            self.outside.poke()

    # The log

    def persist(self, batch: Persist) -> None:
        self.workers.on_disk(partial(self.write, batch), self.persisted)

    def write(self, batch: Persist) -> tuple[SnapshotMeta, bool] | None:
        """In the thread of the log: durable on return."""
        self.storage.write(
            hard_state=batch.hard_state, snapshot=batch.snapshot, chunks=batch.chunks, entries=batch.entries
        )
        self.outside.written(batch.entries, batch.snapshot.id if batch.snapshot else None)
        finished = next((chunk.meta for chunk in batch.chunks if chunk.done), None)
        return None if finished is None else (finished, self.storage.finish_received(finished))

    def persisted(self, received: tuple[SnapshotMeta, bool] | None) -> None:
        self._measure(None)
        self.driver.persisted(received, self.outside.clock)
        self.prepare()

    def _measure(self, _: None) -> None:
        self.driver.set_room(self.storage.room, disk_is_full=self._is_full)

    def _load(self, load: LoadEntries | LoadChunk) -> None:
        if isinstance(load, LoadEntries):
            self._world.counts["entries loaded for a peer"] += 1
            last = self.driver.raft.log.last_id.index
            read = partial(self.storage.read, load.first, load.bytes_max, last)
            self.workers.on_disk(read, partial(self._entries_loaded, load))
        else:
            self.workers.on_disk(partial(self._read_chunk, load), partial(self._chunk_loaded, load))

    def _entries_loaded(self, load: LoadEntries, entries: list[Entry]) -> None:
        now = self.outside.clock
        self.driver.step(EntriesLoaded(now=now, peer=load.peer, first=load.first, entries=tuple(entries)))

    def _read_chunk(self, load: LoadChunk) -> tuple[SnapshotMeta, bytes | None]:
        meta = load.meta or self.storage.snapshot_meta
        assert meta is not None
        return meta, self.storage.read_chunk(meta, load.offset, load.bytes_max)

    def _chunk_loaded(self, load: LoadChunk, found: tuple[SnapshotMeta, bytes | None]) -> None:
        meta, data = found
        now = self.outside.clock
        self.driver.step(ChunkLoaded(now=now, peer=load.peer, meta=meta, offset=load.offset, data=data))

    # Segments

    def prepare(self) -> None:
        if self._preparing or self._waits:
            return
        if self._wanted or self._is_full or self.storage.needs_prepare:
            self._preparing = True
            self.workers.spawn(self._prepare())

    def _prepare(self) -> Iterator[Work]:
        full: list[DiskFull] = []
        wanted, self._wanted = self._wanted, ()
        yield partial(_unless_full, partial(self.storage.prepare, wanted), full)
        self._preparing = False
        self._is_full = bool(full)
        self._measure(None)
        if full:
            self._world.counts["segments not prepared: disk full"] += 1
            self._waits = True
            self._world.after(PREPARE_RETRY_S, self.outside.when_running, self._prepare_again)

    def _prepare_again(self) -> None:
        self._waits = False
        if not self.workers.is_ended:
            self.prepare()

    # Snapshots

    def _take_snapshot(self, job: SnapshotJob) -> Iterator[Work]:
        full: list[DiskFull] = []
        made: list[Any] = []
        begin = partial(self.storage.new_snapshot, id=job.id, time_ms=job.time_ms, membership=job.membership)
        yield partial(_unless_full, lambda: made.append(begin()), full)
        for name, version, required, chunks in job.sections:
            for chunk in [None, *chunks]:
                if full:
                    break
                writer: SnapshotWriter = made[0]
                if chunk is None:
                    yield partial(_unless_full, partial(writer.section, name, version, required), full)
                else:
                    yield partial(_unless_full, partial(writer.write, chunk), full)
        if not full:
            yield partial(_unless_full, lambda: made.append(made[0].finish()), full)
        self._world.counts["snapshots not taken: disk full" if full else "snapshots taken"] += 1
        self.driver.snapshot_taken(job, None if full else made[-1], self.outside.clock)

    def _restore(self, meta: SnapshotMeta) -> Iterator[Work]:
        yield lambda: None
        self.driver.state.restore(self.storage.open_snapshot().sections())
        self._world.counts["snapshots installed"] += 1
        self.driver.restored(meta)
        self.outside.restored()

    def _adopt(self, meta: SnapshotMeta) -> Iterator[Work]:
        yield lambda: None
        reader = self.storage.open_received(meta)
        try:
            if reader is None:
                raise WrongState("another snapshot took its place")
            self.driver.state.restore(reader.sections(), self.driver.checks.known())
        except InvalidSnapshot as error:
            self.driver.adopted(meta, self.outside.clock, problem=str(error))
            return
        durable: list[bool] = []
        yield lambda: durable.append(self.storage.adopt_received(meta))
        self._world.counts["states repaired"] += 1
        self.driver.adopted(meta, self.outside.clock, durable=durable[0])
        self.outside.restored()


def _unless_full(work: Callable[[], Any], full: list[DiskFull]) -> None:
    if not full:
        try:
            work()
        except DiskFull as error:
            full.append(error)
