"""A simulated node: the real core, driver and storage, on a host whose disk and clock are simulated.

`simulation.py` owns the nodes, faults act on them. Rules: it carries out the driver's effects as `server/glue.py`
does, with time passing in between; it becomes a member and ceases to be one as `server/admission.py` and
`server/node.py` have it.
"""

from collections.abc import Callable, Sequence
from functools import partial
from random import Random
from typing import Any

from raftwright.raft.entries import Entry, EntryId, Recovered
from raftwright.raft.membership import Membership
from raftwright.raft.raft import RaftSettings
from raftwright.server.admission import is_adopted_by
from raftwright.server.driver import Driver, DriverSettings
from raftwright.server.effects import Answer, ControlDone, ReadDone
from raftwright.server.founding import Founding, make_durable
from raftwright.server.machine import Machine
from raftwright.server.peer_streams import REMOVED
from raftwright.server.peers import LocalIdentity
from raftwright.server.wire import Forward, PeerHello, PeerMessage
from raftwright.sim.disk import SimulatedCrash
from raftwright.sim.glue import SimGlue
from raftwright.sim.host import SimHost
from raftwright.sim.network import Network
from raftwright.sim.profile import Profile
from raftwright.sim.streams import KNOCK_INTERVAL_S, SimStreams, peer_address
from raftwright.sim.watching import WatchedRaft, WatchedState, Watcher
from raftwright.sim.workers import Work
from raftwright.sim.world import Violation, World
from raftwright.storage.errors import DiskFull, StorageError, SyncFailed
from raftwright.storage.storage import Storage, StorageSettings


class SimNode(SimHost):
    def __init__(
        self,
        *,
        world: World,
        network: Network,
        watcher: Watcher,
        profile: Profile,
        place: int,
        machine: Callable[[], Machine],
    ) -> None:
        super().__init__(world=world, profile=profile, place=place)
        self.network = network
        self.watcher = watcher
        self.crash_at_write = False
        self.incarnation = 0
        self.recovered: Recovered
        """What the newest start found."""
        self.glue: SimGlue | None = None
        """None while the process is down, and while it takes no part."""
        self.phase = "down"
        """`down`, `waiting` (to become a member), `serving`, `removed`."""
        self.identity = LocalIdentity(name=repr(self), store_id=self.store_id)
        self.storage: Storage
        self.streams: SimStreams
        self.state: WatchedState
        self.on_answer: Callable[[Answer], None] = lambda answer: None
        self.on_read: Callable[[ReadDone], None] = lambda done: None
        self.on_control: Callable[[ControlDone], None] = lambda done: None
        self.on_down: Callable[[SimNode], None] = lambda node: None
        self._machine = machine
        self._scheduled = False
        self._timer_at = float("inf")
        self._is_adopting = self._is_leaving = False

    @property
    def member_id(self) -> int | None:
        """Of the store that started last."""
        return self.identity.member_id

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

    def found(self, founding: Founding) -> None:
        """Before the first start: the founding is on the disk already."""
        storage = self._open()
        make_durable(storage, self._machine(), founding, repr(self))
        storage.close()

    def bootstrap(self, founding: Founding) -> None:
        """A waiting node is told to found a cluster; power may go at any point of it."""
        make = partial(make_durable, self.storage, self._machine(), founding, repr(self))
        if self.phase == "waiting" and self._survives(make):
            self._become(founding.cluster_id, founding.member_id)

    def _become(self, cluster_id: str, member_id: int) -> None:
        self.identity.cluster_id, self.identity.member_id = cluster_id, member_id
        self.identity.founding = self.storage.identity.founding
        self.world.trace(f"{self} is member {member_id}")
        self._take_part()

    def _survives(self, work: Work) -> bool:
        """Do it, unless power goes in its middle: then the node starts again a little later."""
        if self.world.chance(0.15):
            self.disk.crash_at = self.disk.effects + self.world.random.randint(1, 12)
        try:
            self.guarded(work)
        except SimulatedCrash:
            self.world.counts["crashes on becoming a member"] += 1
            self.crash()
            self.world.after(0.05, self.start)
        finally:
            self.disk.crash_at = None
        return self.phase == "waiting"

    def _open(self) -> Storage:
        settings = StorageSettings(segment_bytes=self.profile.segment_bytes, tail_bytes_max=self.profile.tail_bytes_max)
        return Storage.open(self.disk, settings, new_store_id=self.store_id)

    def lose_disk(self) -> None:
        """The machine comes back with an empty disk: somebody new."""
        if self.phase != "down":
            self.crash()
        self.replace_disk()

    def start(self) -> None:
        """Start the process on what the disk holds."""
        if self.phase != "down":
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
        self._is_adopting = self._is_leaving = False
        storage = self.storage = self._open()
        mine = storage.identity
        self.identity = LocalIdentity(
            name=repr(self),
            store_id=mine.store_id,
            client=f"{self}:2",
            peer=peer_address(self.place),
            cluster_id=mine.cluster_id,
            member_id=mine.member_id,
            founding=mine.founding,
            removed=mine.removed,
        )
        self.streams = SimStreams(network=self.network, place=self.place, identity=self.identity)
        if mine.removed or mine.cluster_id is None:
            self.phase = "removed" if mine.removed else "waiting"
            self.world.trace(f"{self} is {self.phase}")
        else:
            self._take_part()

    def _take_part(self) -> None:
        storage = self.storage
        state = self.state = WatchedState(self._machine())
        state.node = self
        if storage.snapshot_meta is not None:
            state.restore(storage.open_snapshot().sections())
        self.recovered = storage.recovered
        driver = self._make_driver(state, self.recovered)
        driver.set_room(storage.room, disk_is_full=False)
        self.glue = SimGlue(outside=self, driver=driver, storage=storage)
        self.phase = "serving"
        raft = driver.raft
        self.streams.take_part(raft)
        self.world.trace(f"{self} starts: {raft.hard_state}, log to {raft.log.last_id}, snapshot {raft.commit_index}")
        self.watcher.started(self)
        self.poke()
        if self.profile.lives:
            self._knock(self.incarnation)

    def _knock(self, incarnation: int) -> None:
        if incarnation == self.incarnation and self.glue is not None:
            self.when_running(self.streams.knock)
            self.world.after(self.world.random.uniform(0.5, 1.5) * KNOCK_INTERVAL_S, self._knock, incarnation)

    def _make_driver(self, state: WatchedState, recovered: Recovered) -> Driver:
        profile = self.profile
        election_timeout_s = profile.election_timeout_s * (4 if self.place <= profile.patient else 1)
        raft = WatchedRaft(
            member_id=self.member_id,
            settings=RaftSettings(
                election_timeout_s=election_timeout_s,
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
            membership=recovered.snapshot.membership if recovered.snapshot else Membership(),
            settings=DriverSettings(
                request_timeout_s=profile.request_timeout_s,
                entry_bytes_max=profile.entry_bytes_max,
                election_timeout_s=election_timeout_s,
                snapshot_commands=profile.snapshot_commands,
                snapshot_log_bytes=profile.snapshot_log_bytes,
            ),
        )

    def crash(self) -> None:
        """Power goes."""
        self.lose_power(self.glue.workers.end() if self.glue is not None else [])
        self.glue = None
        self.phase = "down"
        self.crash_at_write = False
        self.on_down(self)

    def crash_in_write(self) -> None:
        self.crash()
        self.world.after(self.world.random.choice((0.02, 0.3, 1.0)) * self.world.random.random(), self.start)

    def resume(self) -> None:
        super().resume()
        self.poke()

    # Input

    def submit(self, action: Callable[[Driver], None]) -> None:
        """A client's or a peer's doing: now, or when a paused node goes on. Nothing if the node is down."""
        if self.glue is not None:
            self.when_running(partial(self._submit, action))

    def _submit(self, action: Callable[[Driver], None]) -> None:
        assert self.glue is not None
        action(self.glue.driver)
        self.poke()

    def receive(self, sender: int, hello: PeerHello, messages: Sequence[PeerMessage]) -> None:
        if self.phase != "down":
            self.when_running(partial(self._receive, sender, hello, messages))

    def _receive(self, sender: int, hello: PeerHello, messages: Sequence[PeerMessage]) -> None:
        if self.phase == "waiting" and not self._is_adopting and is_adopted_by(hello, self.identity):
            self._is_adopting = True
            self.world.after(self.disk_time(), self._adopt, self.incarnation, hello)
        elif self.streams.takes(sender, hello) and self.glue is not None and messages:
            self.glue.driver.receive(messages, self.clock)
            self.poke()

    def _adopt(self, incarnation: int, hello: PeerHello) -> None:
        if incarnation != self.incarnation or self.phase != "waiting":
            return
        self._is_adopting = False
        bind = partial(
            self.storage.save_identity,
            cluster_id=hello.cluster_id,
            member_id=hello.to_member_id,
            name=repr(self),
            founding=hello.founding or None,
        )
        if self._survives(bind):
            self.world.counts["stores adopted"] += 1
            self._become(hello.cluster_id, hello.to_member_id)

    def refused(self, hello: PeerHello, why: str) -> None:
        if self.phase == "serving" and hello.store_id == self.identity.store_id:
            if why.startswith(REMOVED):
                self.when_running(self.was_removed)
            else:
                self.stream_lost(hello.to_member_id)

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
        if not self.streams.send(to, messages) and self.glue is not None:
            self.glue.driver.unsent(to, [message.id for message in messages if isinstance(message, Forward)])

    def answer(self, answer: Answer) -> None:
        self.on_answer(answer)

    def read_done(self, done: ReadDone) -> None:
        self.on_read(done)

    def control_done(self, done: ControlDone) -> None:
        self.on_control(done)

    def membership_changed(self, membership: Membership) -> None:
        self.streams.update(membership)

    def was_removed(self) -> None:
        """It is made durable, and then the node takes no part any more."""
        if self.glue is not None and not self._is_leaving:
            self._is_leaving = True
            self.glue.workers.on_disk(self.storage.mark_removed, lambda _: self._leave())

    def _leave(self) -> None:
        assert self.glue is not None
        self.world.counts["members that learned of their removal"] += 1
        self.world.trace(f"{self} knows that it was removed")
        self.identity.removed = True
        self.watcher.removed(self)
        self.glue.workers.end()
        self.glue = None
        self.phase = "removed"
        self.on_down(self)

    def written(self, entries: Sequence[Entry], snapshot: EntryId | None) -> None:
        self.watcher.written(self, entries, snapshot)

    def restored(self) -> None:
        self.watcher.restored(self)

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
