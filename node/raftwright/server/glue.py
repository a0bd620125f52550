"""The asyncio glue: runs the driver when there is something to do, and carries out its effects.

`node.py` owns it. Rules: it decides nothing; the write to disk runs in a thread of its own, one at a time, and the
loop gathers the next batch meanwhile; any failure of that write ends the node, since after it nothing that memory
says of the disk is true.
"""

import asyncio
import logging
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any

from raftwright.raft.entries import Entry, SnapshotMeta
from raftwright.raft.events import ChunkLoaded, EntriesLoaded
from raftwright.raft.ready import LoadChunk, LoadEntries
from raftwright.server import clock
from raftwright.server.driver import Driver
from raftwright.server.effects import Answer, ControlDone, Effects, Persist, SnapshotJob
from raftwright.server.feeds import Feeds, LeaderChange
from raftwright.server.metrics import Metrics
from raftwright.server.peers import PeerTransport
from raftwright.server.service import WriteFuture
from raftwright.server.snapshot_jobs import SnapshotJobs
from raftwright.storage.errors import DiskFull
from raftwright.storage.storage import Storage

_log = logging.getLogger(__name__)

APPLY_LOAD_BYTES = 4 << 20
PREPARE_RETRY_S = 2.0
FULL_RETRY_S = 0.5
RECEIVE_RETRY_S = 1.0
"""Until a snapshot that was received in vain is asked for again: on a full disk it is in vain again at once."""


class Glue:
    """Runs one driver on one event loop, one storage and one transport."""

    def __init__(
        self,
        *,
        driver: Driver,
        storage: Storage,
        transport: PeerTransport,
        metrics: Metrics,
        feeds: Feeds | None = None,
    ) -> None:
        self.driver = driver
        self.storage = storage
        self.transport = transport
        self.metrics = metrics
        self.feeds = feeds or Feeds()
        self._told_membership = -1
        self.loop = asyncio.get_running_loop()
        self._snapshots = SnapshotJobs(
            driver=driver,
            storage=storage,
            metrics=metrics,
            feeds=self.feeds,
            aside=self._aside,
            in_log_thread=self._in_log_thread,
        )
        self.failed: asyncio.Future[None] = self.loop.create_future()
        """Ends with the error that ends the node."""
        self.removed = asyncio.Event()
        """Set once this member finds itself removed from the membership."""
        self._disk = ThreadPoolExecutor(1, thread_name_prefix="raftwright-log")
        self._side = ThreadPoolExecutor(2, thread_name_prefix="raftwright-side")
        self._tasks: asyncio.TaskGroup | None = None
        self._scheduled = False
        self._timer: asyncio.TimerHandle | None = None
        self._timer_at = float("inf")
        self._preparing = False
        self._wanted: tuple[int, ...] = ()
        """Sizes of records that wait for room."""
        self._is_full = False
        """The last try to prepare a segment failed for want of space."""
        self._retry: asyncio.TimerHandle | None = None
        self._closed = False

    async def run(self) -> None:
        """Own every task of the glue until cancelled, or until a failure that ends the node."""
        try:
            async with asyncio.TaskGroup() as self._tasks:
                self._tell_room()
                self._prepare()
                self.poke()
                await self.failed
        finally:
            self._closed = True
            if self._timer is not None:
                self._timer.cancel()
            self._disk.shutdown(wait=True)
            self._side.shutdown(wait=True)

    def poke(self) -> None:
        """Run the driver soon: once for all that arrives in this turn of the loop."""
        if not self._scheduled:
            self._scheduled = True
            self.loop.call_soon(self._run)

    async def until(self, true: Callable[[], bool], deadline: float) -> None:
        """Wait until something is true of the driver, or for `deadline`. Only for the end of a node's life."""
        while not true() and clock.now() < deadline:
            self.poke()
            await asyncio.sleep(0.01)

    def _run(self) -> None:
        self._scheduled = False
        if self._closed:
            return
        try:
            self._carry_out(self.driver.run(clock.now(), clock.wall_ms()))
        except Exception as error:
            self._fail(error)
            return
        deadline = self.driver.next_deadline()
        if deadline < self._timer_at:
            if self._timer is not None:
                self._timer.cancel()
            self._timer_at = deadline
            self._timer = self.loop.call_later(max(0.0, deadline - clock.now()), self._on_timer)

    def _on_timer(self) -> None:
        # Deadlines move back with every heartbeat: a timer that comes early finds nothing due and is set again.
        self._timer = None
        self._timer_at = float("inf")
        self.poke()

    def _fail(self, error: BaseException) -> None:
        self._closed = True  # nothing runs any more on a state that may be half changed
        if not self.failed.done():
            self.failed.set_exception(error)

    # Effects

    def _carry_out(self, effects: Effects) -> None:
        if effects.sends:
            self.transport.send(effects.sends)
            self.metrics.peer_messages_sent += sum(map(len, effects.sends.values()))
        for seconds, commands in effects.committed:
            self.metrics.commit_seconds.observe(seconds)
            self.metrics.commands_per_round.observe(commands)
        if effects.persist is not None:
            self._persist(effects.persist)
        for answer in effects.answers:
            self._answer(answer)
        for done in effects.reads:
            for token in done.tokens:
                if not token.done():
                    if done.error is None:
                        token.set_result(done.index)
                    else:
                        token.set_exception(done.error)
        for ended in effects.controls:
            self._answer_control(ended)
        for load in effects.loads:
            self._load(load)
        if effects.apply_load is not None:
            first, last = effects.apply_load
            self._in_disk_thread(partial(self.storage.read, first, APPLY_LOAD_BYTES, last), self._apply_loaded)
        if effects.snapshot is not None:
            self._spawn(self._take_snapshot(effects.snapshot))
        if effects.restore is not None:
            self._spawn(self._snapshots.restore(effects.restore))
        if effects.adopt is not None:
            self._spawn(self._snapshots.adopt(effects.adopt))
        if effects.prepare:
            self._wanted = effects.prepare
            self._prepare()
        if effects.compact is not None:
            self._in_disk_thread(partial(self.storage.compact, effects.compact), self._compacted)
        if effects.membership is not None:
            self.transport.update(effects.membership)
        if effects.removed:
            self.removed.set()
        if effects.leader_changed:
            self.metrics.leader_changes += 1
            raft = self.driver.raft
            self.feeds.leaders.publish(LeaderChange(raft.term, raft.leader_id, self.driver.is_leader))
        if self.driver.raft.committed_membership.version != self._told_membership:
            self._told_membership = self.driver.raft.committed_membership.version
            self.feeds.memberships.publish(self.driver.raft.committed_membership)
        if effects.again:
            self.poke()

    @staticmethod
    def _answer_control(done: ControlDone) -> None:
        if not done.token.done():
            if done.error is not None:
                done.token.set_exception(done.error)
            else:
                done.token.set_result((done.status, done.answer))

    def _answer(self, answer: Answer) -> None:
        token = answer.token
        if type(token) is list:
            self._answer_singles(token, answer)
        elif not token.done():
            if answer.error is not None:
                token.set_exception(answer.error)
            else:
                token.index = answer.index
                token.set_result(answer.encoded)

    def _answer_singles(self, tokens: list[WriteFuture], answer: Answer) -> None:
        if answer.error is not None:
            for token in tokens:
                if not token.done():
                    token.set_exception(answer.error)
            return
        results = answer.results
        if results is None:
            results = self.driver.state.machine.decode_results(answer.encoded or b"")
        for token, result in zip(tokens, results, strict=True):
            if not token.done():
                token.index = answer.index
                token.set_result(result)

    # Disk

    def _persist(self, batch: Persist) -> None:
        self._in_disk_thread(partial(self._write, batch), partial(self._persisted, batch))

    def _write(self, batch: Persist) -> DiskFull | tuple[SnapshotMeta, bool] | None:
        """In the disk thread: durable on return, or nothing of it but chunks is written for want of space."""
        started = clock.now()
        try:
            self._write_all(batch)
        except DiskFull as error:
            return error
        self.metrics.fsync_seconds.observe(clock.now() - started)
        finished = next((chunk.meta for chunk in batch.chunks if chunk.done), None)
        return None if finished is None else (finished, self.storage.finish_received(finished))

    def _write_all(self, batch: Persist) -> None:
        write = partial(self.storage.write, hard_state=batch.hard_state, snapshot=batch.snapshot, entries=batch.entries)
        try:
            write(chunks=batch.chunks)
        except DiskFull as error:
            if not batch.chunks:
                raise
            # The check of the whole file fails at its end, and the leader sends it again.
            _log.error("%s; the leader's snapshot is not taken", error)
            write()

    def _persisted(self, batch: Persist, done: DiskFull | tuple[SnapshotMeta, bool] | None) -> None:
        if isinstance(done, DiskFull):
            # Not even the reserve is left: nothing is promised, to nobody, until there is space. The thread is free
            # meanwhile, for a snapshot may be what makes space.
            _log.error("%s; this node waits for space", done)
            self.loop.call_later(FULL_RETRY_S, self._persist, batch)
            return
        self._tell_room()
        if done is not None and not done[1]:
            self.loop.call_later(RECEIVE_RETRY_S, self._received_in_vain, done[0])
            done = None
        self.driver.persisted(done, clock.now())
        self._prepare()

    def _received_in_vain(self, meta: SnapshotMeta) -> None:
        self.driver.received(meta, False, clock.now())
        self.poke()

    def _apply_loaded(self, entries: list[Entry]) -> None:
        self.driver.entries_for_apply(entries)

    def _compacted(self, _: None) -> None:
        self._tell_room()

    def _in_disk_thread(self, work: Callable[[], Any], then: Callable[[Any], None]) -> None:
        if self._closed:
            return
        self.loop.run_in_executor(self._disk, work).add_done_callback(partial(self._finish, then))

    def _finish(self, then: Callable[[Any], None], future: "asyncio.Future[Any]") -> None:
        if future.cancelled() or self._closed:
            return
        error = future.exception()
        if error is not None:
            self._fail(error)
            return
        then(future.result())
        self.poke()

    def _tell_room(self) -> None:
        self.driver.set_room(self.storage.room, disk_is_full=self._is_full)

    def _prepare(self) -> None:
        """Fill the next segment ahead of need. A full disk is met here, and only here, and passes."""
        if self._preparing or self._closed or self._snapshots.reserve_is_spent or self._retry is not None:
            return
        if not (self._wanted or self._is_full or self.storage.needs_prepare):
            return
        self._preparing = True
        self._spawn(self._prepare_aside())

    def _prepare_again(self) -> None:
        """Whatever was wanted when the disk was full is wanted again, or not any more."""
        self._retry = None
        self._prepare()

    async def _prepare_aside(self) -> None:
        wanted, self._wanted = self._wanted, ()
        try:
            await self.loop.run_in_executor(self._side, self.storage.prepare, wanted)
        except DiskFull as error:
            if not self._is_full:
                _log.error("%s; client writes are refused until there is room", error)
            self._is_full = True
            self._retry = self.loop.call_later(PREPARE_RETRY_S, self._prepare_again)
        else:
            if self._is_full:
                _log.info("there is room on the disk again")
            self._is_full = False
        finally:
            self._preparing = False
            self._tell_room()

    def _load(self, load: LoadEntries | LoadChunk) -> None:
        if isinstance(load, LoadEntries):
            self._in_disk_thread(
                partial(self.storage.read, load.first, load.bytes_max, self.driver.raft.log.last_id.index),
                partial(self._entries_loaded, load),
            )
        else:
            self._in_disk_thread(partial(self._read_chunk, load), partial(self._chunk_loaded, load))

    def _entries_loaded(self, load: LoadEntries, entries: list[Entry]) -> None:
        self.driver.step(EntriesLoaded(now=clock.now(), peer=load.peer, first=load.first, entries=tuple(entries)))

    def _read_chunk(self, load: LoadChunk) -> tuple[SnapshotMeta, bytes | None]:
        meta = load.meta or self.storage.snapshot_meta
        assert meta is not None
        return meta, self.storage.read_chunk(meta, load.offset, load.bytes_max)

    def _chunk_loaded(self, load: LoadChunk, found: tuple[SnapshotMeta, bytes | None]) -> None:
        meta, data = found
        self.driver.step(ChunkLoaded(now=clock.now(), peer=load.peer, meta=meta, offset=load.offset, data=data))

    def _spawn(self, work: Any) -> None:
        assert self._tasks is not None
        if self._closed:
            work.close()
            return
        self._tasks.create_task(self._guard(work))

    async def _guard(self, work: Any) -> None:
        try:
            await work
        except Exception as error:
            self._fail(error)
        self.poke()

    async def _take_snapshot(self, job: SnapshotJob) -> None:
        await self._snapshots.take(job)
        self._prepare()

    async def _aside(self, work: Callable[[], Any]) -> Any:
        return await self.loop.run_in_executor(self._side, work)

    async def _in_log_thread(self, work: Callable[[], Any]) -> Any:
        return await self.loop.run_in_executor(self._disk, work)
