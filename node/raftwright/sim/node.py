"""A simulated node: the real core, driver and storage, and in place of the glue, disk and clock that are simulated.

`simulation.py` owns the nodes, faults act on them. Rules: it carries out the driver's effects as `server/glue.py`
does, with time passing in between; a crash takes everything but the disk, and of that what was not synced.
"""

from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import partial
from random import Random
from typing import Any, Protocol

from raftwright.raft import invariants
from raftwright.raft.entries import Entry, EntryId, HardState, Recovered
from raftwright.raft.events import AnyEvent
from raftwright.raft.membership import Membership
from raftwright.raft.raft import Raft, RaftSettings
from raftwright.server.driver import Driver, DriverSettings
from raftwright.server.effects import Answer, ReadDone
from raftwright.server.founding import FOUNDING_ID
from raftwright.server.machine import Machine
from raftwright.server.state import BlobOutcome, ReplicatedState
from raftwright.server.wire import PeerMessage
from raftwright.sim.disk import SimFiles, SimulatedCrash, Unsynced
from raftwright.sim.glue import SimGlue
from raftwright.sim.network import Network
from raftwright.sim.profile import Profile
from raftwright.sim.workers import Work
from raftwright.sim.world import Violation, World
from raftwright.storage.errors import DiskFull, StorageError, SyncFailed
from raftwright.storage.storage import Storage, StorageSettings

WALL_EPOCH_MS = 1_700_000_000_000
CRASHES: tuple[Unsynced | None, ...] = ("drop", "drop", "drop", "drop", "drop", "mix", "mix", "mix", "keep", None)
"""What becomes of un-synced bytes in a crash. None: only the process ends, and the machine goes on."""
DISK_TIME_MAX_S = 1.0
STEP_S = 1e-6
"""Added to deadlines, so that a rounded one is not met a moment too early for ever."""


class Watcher(Protocol):
    """Who looks at every step. See `checkers.py`."""

    def started(self, node: "SimNode") -> None: ...

    def stepped(self, node: "SimNode", before: invariants.Captured) -> None: ...

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


class WatchedState(ReplicatedState):
    node: "SimNode"

    def apply(self, entry: Entry, decoded: Sequence[list[Any] | None] | None = None) -> list[BlobOutcome]:
        outcomes = super().apply(entry, decoded)
        self.node.watcher.applied(self.node, entry, outcomes)
        return outcomes

    def replay(self, entries: Sequence[Entry]) -> int:
        """One by one, so that the watcher sees each; it comes to the same."""
        return sum(outcome.origin.count for entry in entries for outcome in self.apply(entry))


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
        self.recovered: Recovered
        """What the newest start found."""
        self.glue: SimGlue | None = None
        """None while the process is down."""
        self.state: WatchedState
        self.on_answer: Callable[[Answer], None] = lambda answer: None
        self.on_read: Callable[[ReadDone], None] = lambda done: None
        self.on_down: Callable[[SimNode], None] = lambda node: None
        self._machine = machine
        self._paused = False
        self._deferred: list[Callable[[], None]] = []
        self._scheduled = False
        self._timer_at = float("inf")

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
    def driver(self) -> Driver | None:
        return self.glue.driver if self.glue is not None else None

    @property
    def is_up(self) -> bool:
        return self.glue is not None

    @property
    def is_running(self) -> bool:
        return self.glue is not None and not self._paused

    @property
    def has_unwritten(self) -> bool:
        """Whether a write to disk is under way."""
        return self.glue is not None and self.glue.workers.is_writing

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
        if self.glue is not None:
            return
        if self.world.chance(0.03):  # power may go in the middle of recovery, too
            self.disk.crash_at = self.disk.effects + self.world.random.randint(1, 12)
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
        self._paused = self._scheduled = False
        self._timer_at = float("inf")
        storage = self._open()
        state = self.state = WatchedState(self._machine())
        state.node = self
        state.restore(storage.open_snapshot().sections())
        self.recovered = storage.recovered
        driver = self._make_driver(state, self.recovered)
        driver.set_room_bytes(storage.room_bytes, disk_is_full=False)
        self.glue = SimGlue(outside=self, driver=driver, storage=storage)
        raft = driver.raft
        self.world.trace(f"{self} starts: {raft.hard_state}, log to {raft.log.last_id}, snapshot {raft.commit_index}")
        self.watcher.started(self)
        self.poke()

    def _make_driver(self, state: ReplicatedState, recovered: Recovered) -> Driver:
        assert recovered.snapshot is not None
        profile = self.profile
        raft = WatchedRaft(
            member_id=self.member_id,
            settings=RaftSettings(
                election_timeout_s=profile.election_timeout_s,
                heartbeat_interval_s=profile.heartbeat_interval_s,
                lease_clock_drift=2 * profile.clock_skew / (1 + profile.clock_skew),
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
        return Driver(
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

    def crash(self) -> None:
        """Power goes. A write that is under way has got anywhere between its begin and its end."""
        world = self.world
        for work in self.glue.workers.end() if self.glue is not None else []:
            if world.chance(0.95):
                self.disk.crash_at = self.disk.effects + world.random.choice((1, 2, 2, 2, 2, 3))
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
        self.glue = None
        self.crash_at_write = self._paused = False
        self._deferred.clear()
        self.on_down(self)

    def crash_in_write(self) -> None:
        self.crash()
        self.world.after(self.world.random.choice((0.02, 0.3, 1.0)) * self.world.random.random(), self.start)

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

    def when_running(self, action: Callable[[], None]) -> None:
        """Do it now, or when the node goes on; it is lost if the node crashes before."""
        if self._paused:
            self._deferred.append(action)
        else:
            action()

    # Input

    def submit(self, action: Callable[[Driver], None]) -> None:
        """A client's or a peer's doing: now, or when a paused node goes on. Nothing if the node is down."""
        if self.glue is not None:
            self.when_running(partial(self._submit, action))

    def _submit(self, action: Callable[[Driver], None]) -> None:
        assert self.glue is not None
        action(self.glue.driver)
        self.poke()

    def receive(self, messages: Sequence[PeerMessage]) -> None:
        self.submit(lambda driver: driver.receive(messages, self.clock))

    def stream_lost(self, peer: int) -> None:
        self.submit(lambda driver: driver.stream_lost(peer, self.clock))

    # Running

    def poke(self) -> None:
        if self.glue is not None and not self._scheduled and not self._paused:
            self._scheduled = True
            self.world.after(self.world.random.uniform(0, 0.0002), self._run, self.incarnation)

    def _run(self, incarnation: int) -> None:
        if incarnation != self.incarnation or self.glue is None:
            return
        self._scheduled = False
        if self._paused:
            return
        glue = self.glue
        driver, raft = glue.driver, glue.driver.raft
        try:
            effects = driver.run(self.clock, self.wall_ms)
        except AssertionError as error:
            raise Violation("assertion", f"{self}: {error}") from error
        self.world.trace(
            f"{self} {type(raft.role).__name__} t{raft.term} log {raft.log.last_id.term}.{raft.log.last_index}"
            f" durable {raft.durability.persisted_index} commit {raft.commit_index} applied {self.state.applied_index}"
        )
        glue.carry_out(effects)
        deadline = driver.next_deadline()
        if self.glue is glue and deadline < self._timer_at:
            self._timer_at = deadline
            self.world.at(self._world_time(deadline), self._on_timer, self.incarnation, deadline)

    def _on_timer(self, incarnation: int, deadline: float) -> None:
        if incarnation == self.incarnation and deadline == self._timer_at:
            self._timer_at = float("inf")
            self.poke()

    # What the glue and its threads ask for

    def send(self, to: int, messages: Sequence[PeerMessage]) -> None:
        self.network.send(self.member_id, to, messages)

    def answer(self, answer: Answer) -> None:
        self.on_answer(answer)

    def read_done(self, done: ReadDone) -> None:
        self.on_read(done)

    def written(self, entries: Sequence[Entry], snapshot: EntryId | None) -> None:
        self.watcher.written(self, entries, snapshot)

    def restored(self) -> None:
        self.watcher.restored(self)

    def disk_time(self) -> float:
        return min(DISK_TIME_MAX_S, self.world.random.expovariate(1 / (self.disk_delay_s * self.disk_slowness)))

    def guarded(self, work: Work) -> Any:
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
        self.crash()
        self.world.after(self.world.random.uniform(0.01, 0.5), self.start)
