"""A simulated node: the real core, driver and storage, and in place of the glue, disk and clock that are simulated.

`simulation.py` owns the nodes, faults act on them. Rules: it carries out the driver's effects as `server/glue.py`
does, with time passing in between; a crash takes everything but the disk, and of that what was not synced.
"""

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from functools import partial
from random import Random
from typing import Any, Protocol

from raftwright.raft import invariants
from raftwright.raft.entries import Entry, EntryId, HardState, Recovered, SnapshotMeta
from raftwright.raft.events import AnyEvent, ChunkLoaded, EntriesLoaded
from raftwright.raft.membership import Membership
from raftwright.raft.raft import Raft, RaftSettings
from raftwright.raft.ready import LoadChunk, LoadEntries, Ready
from raftwright.server.driver import Driver, DriverSettings
from raftwright.server.effects import Answer, Effects, Persist, ReadDone, SnapshotJob
from raftwright.server.machine import Machine
from raftwright.server.state import BlobOutcome, ReplicatedState
from raftwright.server.wire import PeerMessage
from raftwright.sim.disk import SimFiles, SimulatedCrash, Unsynced
from raftwright.sim.network import Network
from raftwright.sim.profile import Profile
from raftwright.sim.world import Violation, World
from raftwright.storage.errors import DiskFull, StorageError, SyncFailed
from raftwright.storage.snapshot_io import SnapshotWriter
from raftwright.storage.storage import Storage, StorageSettings

FOUNDING_ID = EntryId(1, 1)
WALL_EPOCH_MS = 1_700_000_000_000
PREPARE_RETRY_S = 0.1
CRASHES: tuple[Unsynced | None, ...] = ("drop", "drop", "drop", "drop", "mix", "mix", "mix", "keep", None)
"""What becomes of un-synced bytes in a crash. None: only the process ends, and the machine goes on."""
STEP_S = 1e-6
"""Added to deadlines, so that a rounded one is not met a moment too early for ever."""


class Watcher(Protocol):
    """Who looks at every step. See `checkers.py`."""

    def started(self, node: "SimNode") -> None: ...

    def stepped(self, node: "SimNode", before: invariants.Captured) -> None: ...

    def handed_out(self, node: "SimNode", ready: Ready) -> None: ...

    def applied(self, node: "SimNode", entry: Entry, outcomes: Sequence[BlobOutcome]) -> None: ...

    def restored(self, node: "SimNode") -> None: ...

    def written(self, node: "SimNode", entries: Sequence[Entry], snapshot: EntryId | None) -> None: ...


class WatchedRaft(Raft):
    """The core, looked at before and after each step."""

    node: "SimNode"

    def step(self, event: AnyEvent) -> None:
        before = invariants.capture(self)
        try:
            super().step(event)
        finally:
            invariants.check(self)
            invariants.check_delta(before, self)
            self.node.watcher.stepped(self.node, before)

    def ready(self) -> Ready:
        ready = super().ready()
        self.node.watcher.handed_out(self.node, ready)
        return ready


class WatchedState(ReplicatedState):
    node: "SimNode"

    def apply(self, entry: Entry, decoded: Sequence[list[Any] | None] | None = None) -> list[BlobOutcome]:
        outcomes = super().apply(entry, decoded)
        self.node.watcher.applied(self.node, entry, outcomes)
        return outcomes


class SimNode:
    def __init__(
        self,
        *,
        world: World,
        network: Network,
        watcher: Watcher,
        profile: Profile,
        member_id: int,
        machine: Callable[[], Machine],
    ) -> None:
        random = world.random
        self.world = world
        self.network = network
        self.watcher = watcher
        self.profile = profile
        self.member_id = member_id
        self.store_id = f"{random.getrandbits(128):032x}"
        self.disk = SimFiles(Random(random.getrandbits(64)))
        self.clock_offset = random.uniform(0, 1e6)
        self.clock_rate = 1 + random.uniform(-profile.clock_skew, profile.clock_skew)
        self.wall_offset_ms = random.randint(-2000, 2000)
        self.disk_delay_s = profile.disk_delay_s * (20 if world.chance(profile.slow_disk_share) else 1)
        self.disk_slowness = 1.0
        self.crash_at_write = False
        self.incarnation = 0
        self.storage: Storage
        self.recovered: Recovered
        """What the newest start found."""
        self.driver: Driver | None = None
        self.state: WatchedState
        self.on_answer: Callable[[Answer], None] = lambda answer: None
        self.on_read: Callable[[ReadDone], None] = lambda done: None
        self.on_down: Callable[[SimNode], None] = lambda node: None
        self._machine = machine
        self._paused = False
        self._deferred: list[Callable[[], None]] = []
        self._reset()

    def _reset(self) -> None:
        """What a process forgets when it ends."""
        self._queue: deque[tuple[Callable[[], Any], Callable[[Any], None]]] = deque()
        self._writing: Callable[[], Any] | None = None
        self._aside: dict[int, Callable[[], Any]] = {}
        self._aside_number = 0
        self._scheduled = False
        self._timer_at = float("inf")
        self._preparing = False
        self._deferred.clear()
        self._paused = False

    def __repr__(self) -> str:
        return f"n{self.member_id}"

    # Clocks

    @property
    def clock(self) -> float:
        """This node's monotonic clock."""
        return self.clock_offset + self.world.now * self.clock_rate

    @property
    def wall_ms(self) -> int:
        return WALL_EPOCH_MS + self.wall_offset_ms + int(self.world.now * 1000)

    def _world_time(self, clock: float) -> float:
        return (clock - self.clock_offset) / self.clock_rate + STEP_S

    # Life

    @property
    def is_up(self) -> bool:
        return self.driver is not None

    @property
    def is_running(self) -> bool:
        return self.driver is not None and not self._paused

    @property
    def has_unwritten(self) -> bool:
        """Whether a write to disk is under way."""
        return self._writing is not None

    def found(self, membership: Membership) -> None:
        """The first start, on an empty disk, as `server/node.py` does it."""
        storage = self._open()
        state = ReplicatedState(self._machine(), applied=FOUNDING_ID)
        writer = storage.new_snapshot(id=FOUNDING_ID, time_ms=0, membership=membership)
        for name, version, required, chunks in state.sections():
            writer.section(name, version, required)
            for chunk in chunks:
                writer.write(chunk)
        writer.finish()
        storage.write(hard_state=HardState(term=FOUNDING_ID.term))
        storage.save_identity(cluster_id="5" * 32, member_id=self.member_id, name=repr(self))
        storage.close()

    def _open(self) -> Storage:
        settings = StorageSettings(segment_bytes=self.profile.segment_bytes, tail_bytes_max=self.profile.tail_bytes_max)
        return Storage.open(self.disk, settings, new_store_id=self.store_id)

    def start(self) -> None:
        """Start the process on what the disk holds."""
        if self.driver is not None:
            return
        if self.world.chance(0.05):
            self.disk.crash_at = self.disk.effects + self.world.random.randint(
                1, 12
            )  # power may go in the middle of recovery, too
        try:
            self._start()
        except SimulatedCrash:
            self.world.counts["crashes in recovery"] += 1
            self.crash()
            self.world.after(0.05, self.start)
        except DiskFull:
            self.world.counts["starts on a full disk"] += 1
            self.disk.kill()
            self.world.after(0.1, self.start)
        except StorageError as error:
            if self.disk.fault is None or not isinstance(error, SyncFailed):
                raise Violation("recovery", f"{self} cannot start: {error}") from error
            self._end("ended by a failed sync")
        finally:
            self.disk.crash_at = None

    def _start(self) -> None:
        self.incarnation += 1
        self._reset()
        storage = self.storage = self._open()
        state = self.state = WatchedState(self._machine())
        state.node = self
        reader = storage.open_snapshot()
        state.restore(reader.sections())
        recovered = self.recovered = storage.recovered
        assert recovered.snapshot is not None
        profile = self.profile
        raft = WatchedRaft(
            member_id=self.member_id,
            settings=RaftSettings(
                election_timeout_s=profile.election_timeout_s,
                heartbeat_interval_s=profile.heartbeat_interval_s,
                append_bytes_max=profile.append_bytes_max,
                inflight_appends_max=profile.inflight_appends_max,
                tail_bytes_max=profile.tail_bytes_max,
                chunk_bytes=profile.chunk_bytes,
            ),
            recovered=recovered,
            random=Random(self.world.random.getrandbits(64)),
            now=self.clock,
        )
        raft.node = self
        self.driver = Driver(
            raft=raft,
            state=state,
            membership=recovered.snapshot.membership,
            settings=DriverSettings(
                request_timeout_s=profile.request_timeout_s,
                entry_bytes_max=profile.entry_bytes_max,
                election_timeout_s=profile.election_timeout_s,
                snapshot_commands=profile.snapshot_commands,
                snapshot_log_bytes=profile.snapshot_log_bytes,
            ),
        )
        self.driver.set_room_bytes(storage.room_bytes)
        self.world.trace(f"{self} starts: {raft.hard_state}, log to {raft.log.last_id}, snapshot {raft.commit_index}")
        self.watcher.started(self)
        self._prepare()
        self.poke()

    def crash(self) -> None:
        """Power goes. A write that is under way has got anywhere between its begin and its end."""
        world = self.world
        for work in [*([self._writing] if self._writing else []), *self._aside.values()]:
            if world.chance(0.9):
                self.disk.crash_at = self.disk.effects + world.random.choice((1, 2, 2, 3))
                with suppress(SimulatedCrash, StorageError):
                    work()
        before = self._content()
        how: Unsynced | None = world.random.choice(CRASHES)
        if how is None:
            self.disk.kill()
        else:
            self.disk.power_loss(how)
        dropped = self._content() != before
        world.counts["crashes"] += 1
        world.counts["crashes that dropped un-synced bytes"] += dropped
        world.trace(f"{self} crashes, un-synced bytes: {how}, dropped: {dropped}")
        self.driver = None
        self.crash_at_write = False
        self._reset()
        self.on_down(self)

    def _content(self) -> dict[str, bytes]:
        content: dict[str, bytes] = {}
        for directory in ("log", "snapshots"):
            if self.disk.exists(directory):
                paths = [f"{directory}/{name}" for name in self.disk.list(directory)]
                content.update({path: self.disk.content(path) for path in paths})
        return content

    def pause(self) -> None:
        self._paused = True

    def resume(self) -> None:
        self._paused = False
        deferred, self._deferred = self._deferred, []
        for action in deferred:
            action()
        self.poke()

    def _when_running(self, action: Callable[[], None]) -> None:
        """Do it now, or when the node goes on; it is lost if the node crashes before."""
        if self._paused:
            self._deferred.append(action)
        else:
            action()

    # Input

    def submit(self, action: Callable[[Driver], None]) -> None:
        """A client's request: handed to the driver now, or when a paused node goes on. Only while it is up."""
        assert self.driver is not None
        self._when_running(partial(self._submit, action))

    def _submit(self, action: Callable[[Driver], None]) -> None:
        assert self.driver is not None
        action(self.driver)
        self.poke()

    def receive(self, messages: Sequence[PeerMessage]) -> None:
        if self.driver is not None:
            self._when_running(partial(self._receive, messages))

    def _receive(self, messages: Sequence[PeerMessage]) -> None:
        assert self.driver is not None
        self.driver.receive(messages, self.clock)
        self.poke()

    def stream_lost(self, peer: int) -> None:
        if self.driver is not None:
            self._when_running(partial(self._stream_lost, peer))

    def _stream_lost(self, peer: int) -> None:
        assert self.driver is not None
        self.driver.stream_lost(peer, self.clock)
        self.poke()

    # Running

    def poke(self) -> None:
        if self.driver is not None and not self._scheduled and not self._paused:
            self._scheduled = True
            self.world.after(self.world.random.uniform(0, 0.0002), self._run, self.incarnation)

    def _run(self, incarnation: int) -> None:
        if incarnation != self.incarnation or self.driver is None:
            return
        self._scheduled = False
        if self._paused:
            return
        driver, raft = self.driver, self.driver.raft
        try:
            effects = driver.run(self.clock, self.wall_ms)
        except AssertionError as error:
            raise Violation("assertion", f"{self}: {error}") from error
        self.world.trace(
            f"{self} {type(raft.role).__name__} t{raft.term} log {raft.log.last_id.term}.{raft.log.last_index}"
            f" durable {raft.durability.persisted_index} commit {raft.commit_index} applied {self.state.applied_index}"
        )
        self._carry_out(effects)
        if self.driver is not driver:
            return  # it crashed in the middle of this
        deadline = driver.next_deadline()
        if deadline < self._timer_at:
            self._timer_at = deadline
            self.world.at(self._world_time(deadline), self._on_timer, self.incarnation, deadline)

    def _on_timer(self, incarnation: int, deadline: float) -> None:
        if incarnation == self.incarnation and deadline == self._timer_at:
            self._timer_at = float("inf")
            self.poke()

    def _carry_out(self, effects: Effects) -> None:
        for to in sorted(effects.sends):
            self.network.send(self.member_id, to, effects.sends[to])
        for answer in effects.answers:
            self.on_answer(answer)
        for done in effects.reads:
            self.on_read(done)
        if effects.persist is not None:
            self._persist(effects.persist)
        for load in effects.loads:
            self._load(load)
        if effects.apply_load is not None:
            first, last = effects.apply_load
            self.world.counts["entries loaded for apply"] += 1
            self._on_disk(partial(self.storage.read, first, 2048, last), self._apply_loaded)
        if effects.snapshot is not None:
            self._spawn(self._take_snapshot(effects.snapshot))
        if effects.restore is not None:
            self._spawn(self._restore(effects.restore))
        if effects.compact is not None:
            self._on_disk(partial(self.storage.compact, effects.compact), self._compacted)
        if effects.again:
            self.poke()

    # The disk's thread: one thing at a time, in order

    def _persist(self, batch: Persist) -> None:
        self._on_disk(partial(self._write, batch), self._persisted)

    def _write(self, batch: Persist) -> tuple[SnapshotMeta, bool] | None:
        self.storage.write(
            hard_state=batch.hard_state, snapshot=batch.snapshot, chunks=batch.chunks, entries=batch.entries
        )
        self.watcher.written(self, batch.entries, batch.snapshot.id if batch.snapshot else None)
        finished = next((chunk.meta for chunk in batch.chunks if chunk.done), None)
        return None if finished is None else (finished, self.storage.finish_received(finished))

    def _persisted(self, received: tuple[SnapshotMeta, bool] | None) -> None:
        assert self.driver is not None
        self.driver.set_room_bytes(self.storage.room_bytes)
        self.driver.persisted(received, self.clock)
        self._prepare()

    def _apply_loaded(self, entries: list[Entry]) -> None:
        assert self.driver is not None
        self.driver.entries_for_apply(entries)

    def _compacted(self, _: None) -> None:
        assert self.driver is not None
        self.driver.set_room_bytes(self.storage.room_bytes)

    def _load(self, load: LoadEntries | LoadChunk) -> None:
        assert self.driver is not None
        if isinstance(load, LoadEntries):
            self.world.counts["entries loaded for a peer"] += 1
            last = self.driver.raft.log.last_id.index
            self._on_disk(
                partial(self.storage.read, load.first, load.bytes_max, last), partial(self._entries_loaded, load)
            )
        else:
            self._on_disk(partial(self._read_chunk, load), partial(self._chunk_loaded, load))

    def _entries_loaded(self, load: LoadEntries, entries: list[Entry]) -> None:
        assert self.driver is not None
        self.driver.step(EntriesLoaded(now=self.clock, peer=load.peer, first=load.first, entries=tuple(entries)))

    def _read_chunk(self, load: LoadChunk) -> tuple[SnapshotMeta, bytes | None]:
        meta = load.meta or self.storage.snapshot_meta
        assert meta is not None
        return meta, self.storage.read_chunk(meta, load.offset, load.bytes_max)

    def _chunk_loaded(self, load: LoadChunk, found: tuple[SnapshotMeta, bytes | None]) -> None:
        assert self.driver is not None
        meta, data = found
        self.driver.step(ChunkLoaded(now=self.clock, peer=load.peer, meta=meta, offset=load.offset, data=data))

    def _on_disk(self, work: Callable[[], Any], then: Callable[[Any], None]) -> None:
        self._queue.append((work, then))
        if self._writing is None:
            self._next_on_disk()

    def _next_on_disk(self) -> None:
        work, then = self._queue.popleft()
        self._writing = work
        time = self._disk_time()
        if self.crash_at_write:
            self.world.after(time * self.world.random.random(), self._crash_at_write, self.incarnation)
        self.world.after(time, self._disk_done, self.incarnation, work, then)

    def _crash_at_write(self, incarnation: int) -> None:
        if incarnation == self.incarnation and self.driver is not None:
            self.crash()
            self.world.after(self.world.random.choice((0.02, 0.3, 1.0)) * self.world.random.random(), self.start)

    def _disk_time(self) -> float:
        return self.world.random.expovariate(1 / (self.disk_delay_s * self.disk_slowness))

    def _disk_done(self, incarnation: int, work: Callable[[], Any], then: Callable[[Any], None]) -> None:
        if incarnation != self.incarnation or self.driver is None:
            return
        result = self._guarded(work)
        if self.driver is None:
            return
        self._writing = None
        if self._queue:
            self._next_on_disk()
        self._when_running(partial(self._finish, then, result))

    def _finish(self, then: Callable[[Any], None], result: Any) -> None:
        then(result)
        self.poke()

    def _guarded(self, work: Callable[[], Any]) -> Any:
        """A failed sync ends the process at once, as it does in `server/run.py`."""
        try:
            return work()
        except DiskFull:
            self._end("ended by a full disk")
        except SyncFailed as error:
            if self.disk.fault is None:
                raise Violation("storage", f"{self}: {error}") from error
            self._end("ended by a failed sync")
        except StorageError as error:
            raise Violation("storage", f"{self}: {error}") from error
        return None

    def _end(self, why: str) -> None:
        self.world.counts[why] += 1
        self.disk.fault = None
        self._writing = None
        self.crash()
        self.world.after(self.world.random.uniform(0.01, 0.5), self.start)

    # Work beside the log: generators that yield the next piece of blocking work

    def _spawn(self, job: Iterator[Callable[[], Any]]) -> None:
        self._aside_number += 1
        self._continue(self.incarnation, self._aside_number, job)

    def _continue(self, incarnation: int, number: int, job: Iterator[Callable[[], Any]]) -> None:
        if incarnation != self.incarnation or self.driver is None:
            return
        work = next(job, None)
        if work is None:
            self.poke()
            return
        self._aside[number] = work
        self.world.after(self._disk_time(), self._piece_done, incarnation, number, job, work)

    def _piece_done(
        self, incarnation: int, number: int, job: Iterator[Callable[[], Any]], work: Callable[[], Any]
    ) -> None:
        if incarnation != self.incarnation or self.driver is None:
            return
        self._aside.pop(number, None)
        self._guarded(work)
        self._when_running(partial(self._continue, incarnation, number, job))

    def _prepare(self) -> None:
        if not self._preparing and self.driver is not None and self.storage.needs_prepare:
            self._preparing = True
            self._spawn(self._prepare_aside())

    def _prepare_aside(self) -> Iterator[Callable[[], Any]]:
        full: list[DiskFull] = []
        yield partial(_unless_full, self.storage.prepare, full)
        assert self.driver is not None
        self._preparing = False
        self.driver.set_room_bytes(self.storage.room_bytes)
        if full:
            self.world.counts["segments not prepared: disk full"] += 1
            incarnation = self.incarnation
            self.world.after(PREPARE_RETRY_S, lambda: self._prepare() if incarnation == self.incarnation else None)

    def _take_snapshot(self, job: SnapshotJob) -> Iterator[Callable[[], Any]]:
        assert self.driver is not None
        full: list[DiskFull] = []
        made: list[Any] = []
        yield partial(
            _unless_full,
            lambda: made.append(self.storage.new_snapshot(id=job.id, time_ms=job.time_ms, membership=job.membership)),
            full,
        )
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
        if full:
            self.world.counts["snapshots not taken: disk full"] += 1
        else:
            self.world.counts["snapshots taken"] += 1
        self.driver.snapshot_taken(job, None if full else made[-1], self.clock)

    def _restore(self, meta: SnapshotMeta) -> Iterator[Callable[[], Any]]:
        assert self.driver is not None
        yield lambda: None
        self.state.restore(self.storage.open_snapshot().sections())
        self.world.counts["snapshots installed"] += 1
        self.driver.restored(meta)
        self.watcher.restored(self)


def _unless_full(work: Callable[[], Any], full: list[DiskFull]) -> None:
    if not full:
        try:
            work()
        except DiskFull as error:
            full.append(error)
