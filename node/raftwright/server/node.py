"""A node: storage, core, driver, glue, peers and the HTTP API put together, from start to stop.

`raftwright node` runs it; the HTTP routes see it as a `Service`. Rules: the data directory alone says who this node
is; it takes no part in anything before its identity and its first membership are durable.
"""

import asyncio
import logging
from asyncio import Future
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

from msgspec.structs import replace

from raftwright.client.member_models import BootstrapAnswer, BootstrapRequest
from raftwright.client.models import DiscardAnswer, NodeStatus, SnapshotAnswer
from raftwright.kv.store import KvMachine
from raftwright.raft.errors import Refusal
from raftwright.server import clock
from raftwright.server.admission import Admission
from raftwright.server.blobs import Blob
from raftwright.server.discarding import Discarding
from raftwright.server.driver import Driver
from raftwright.server.election_timeouts import keep_promise
from raftwright.server.errors import NotServing, RequestTimeout, ShuttingDown, SnapshotFailed
from raftwright.server.feeds import Feeds
from raftwright.server.glue import Glue
from raftwright.server.http import ClientServer
from raftwright.server.joining import answer_join
from raftwright.server.live_settings import changed, put_into_effect
from raftwright.server.machine import Machine
from raftwright.server.membership_requests import Call
from raftwright.server.metrics import Metrics
from raftwright.server.parts import make_driver, open_storage, report_contradictions
from raftwright.server.peer_listener import listen_to_peers
from raftwright.server.peers import LocalIdentity, PeerTransport
from raftwright.server.policies import SnapshotPolicy
from raftwright.server.service import WriteFuture
from raftwright.server.settings import NodeSettings
from raftwright.server.state import ReplicatedState
from raftwright.server.status import node_status, wrong_state
from raftwright.server.telemetry import refresh
from raftwright.server.writes import Write
from raftwright.storage.storage import Storage

_log = logging.getLogger(__name__)

REMOVAL_GRACE_S = 0.5
"""How much longer than a request may take a removed node waits for the answers to what was asked of it."""

NEXT_LEADER_S = 1.0
"""How long a node that stops waits to know the next leader, for the writes that wait for it."""


class Node:
    """One running node. `run` does everything; the rest is what the routes ask."""

    def __init__(
        self, settings: NodeSettings, machine: Machine | None = None, policy: SnapshotPolicy | None = None
    ) -> None:
        """`machine` is the key-value store unless it is given, and `policy` that of the settings."""
        self._policy = policy
        self.settings = settings
        self.machine: Machine = KvMachine(settings.command_limits) if machine is None else machine
        self.state = ReplicatedState(self.machine)
        self.metrics = Metrics()
        self.phase = "starting"
        """`starting`, `waiting` (to become a member), `serving`, `stranger`, `removed`, `stopping`."""
        self.why = "the node is starting"
        self.started_at = clock.now()
        self.storage: Storage
        self.driver: Driver | None = None
        self.glue: Glue | None = None
        self.identity: LocalIdentity
        self.transport: PeerTransport
        self.feeds = Feeds()
        self.listening = asyncio.Event()
        """Set once the listeners are up; whether it takes part yet is another matter."""
        self.serving = asyncio.Event()
        """Set once it takes part."""
        self.admission: Admission
        self.discarding = Discarding()
        self.begins_anew = False
        """Set when `run` ends: the data directory holds another store now, for another `Node`."""
        self._is_restart = False
        self._clients: ClientServer | None = None
        self._stop = asyncio.Event()

    # Life

    def stop(self) -> None:
        """Hand leadership over, finish what is under way, and end `run`."""
        self._stop.set()

    async def run(self) -> None:
        """Serve until `stop`. Raises StorageError, WrongIdentity, WrongMembers, or OSError where it cannot."""
        await asyncio.to_thread(self._open_storage)
        try:
            self._is_restart = self.identity.cluster_id is not None
            self.transport = PeerTransport(self.identity, on_messages=self._on_messages, on_lost=self._on_lost)
            self.admission = Admission(
                settings=self.settings,
                storage=self.storage,
                identity=self.identity,
                machine=self.machine,
                say=self._wait,
            )
            self.transport.admit = self.admission.adopt
            self.transport.learn_founding = self.admission.learn_founding
            self.transport.on_unsent = self._on_unsent
            self.transport.on_join = partial(answer_join, self.control)
            peers = await listen_to_peers(self.settings, self.transport) if self.settings.peer_listen else None
            clients = ClientServer(self, self.settings, self.metrics) if self.settings.client_listen else None
            self._clients = clients
            try:
                if clients is not None:
                    await clients.start()
                self.listening.set()
                await self._serve()
            finally:
                self.discarding.close()
                self.feeds.close()
                if clients is not None:
                    await clients.stop()
                if peers is not None:
                    await peers.cleanup()
                await self.admission.close()
        finally:
            await asyncio.to_thread(self.storage.close)

    def _open_storage(self) -> None:
        self.storage, self.identity = open_storage(self.settings)

    async def _serve(self) -> None:
        admission = asyncio.create_task(self.admission.run())
        stopping = asyncio.create_task(self._stop.wait())
        await asyncio.wait((admission, stopping), return_when=asyncio.FIRST_COMPLETED)
        if not admission.done():
            admission.cancel()
            return
        stopping.cancel()
        if admission.result():
            await self._take_part()
        if self.identity.removed and await self.discarding.is_done(self.storage, self._stop):
            self.phase, self.why, self.begins_anew = "stopping", "this node begins anew with an empty store", True
            return
        await self._stop.wait()

    def _wait(self, phase: str, why: str) -> None:
        if (phase, why) == (self.phase, self.why):
            return
        self.phase, self.why = phase, why
        log = _log.error if phase in ("stranger", "removed") else _log.info
        log("%s (store %s)", why, self.identity.store_id)

    async def _take_part(self) -> None:
        if not await keep_promise(self.storage, self.settings.election_timeout_ms, self._stop, self._wait):
            return
        recovered = self.storage.recovered
        await asyncio.to_thread(self._restore)
        report_contradictions(self.settings, recovered.snapshot, is_restart=self._is_restart)
        self.driver = make_driver(self.settings, self.identity, self.state, recovered)
        if self._policy is not None:
            self.driver.snapshotting.policy = self._policy
        raft = self.driver.raft
        transport = self.transport
        transport.is_removed = lambda member_id: raft.committed_membership.was_removed(member_id)
        transport.is_settled = lambda member_id: member_id in raft.committed_membership.members
        # A leader that removed itself still has to say that this is committed, and who is to follow.
        transport.is_shut_out = lambda member_id: member_id != raft.leader_id and transport.is_removed(member_id)
        self.transport.update(self.driver.raft.membership)
        self.glue = Glue(
            driver=self.driver,
            storage=self.storage,
            transport=self.transport,
            metrics=self.metrics,
            feeds=self.feeds,
        )
        self.metrics.before_collect.append(partial(refresh, self.metrics, self))
        self.phase, self.why = "serving", ""
        _log.info(
            "%s is member %s of cluster %s; clients at %s, peers at %s",
            self.identity.name,
            self.identity.member_id,
            self.identity.cluster_id,
            self.settings.client_address,
            self.settings.peer_address,
        )
        async with asyncio.TaskGroup() as group:
            streams = group.create_task(self.transport.run())
            running = group.create_task(self.glue.run())
            self.serving.set()
            self.transport.on_removed = self.glue.removed.set
            ends = [group.create_task(self._stop.wait()), group.create_task(self.glue.removed.wait())]
            await asyncio.wait(ends, return_when=asyncio.FIRST_COMPLETED)
            for end in ends:
                end.cancel()
            if self.glue.removed.is_set():
                await self._be_removed(self.driver, self.glue)
            else:
                await self._leave(self.driver, self.glue)
            running.cancel()
            await asyncio.sleep(0)
            streams.cancel()

    async def _be_removed(self, driver: Driver, glue: Glue) -> None:
        """Make it durable, take no more part, and say so. What others have to hear of it was sent before."""
        await asyncio.to_thread(self.storage.mark_removed)
        self.identity.removed = True
        self._wait("removed", "this node was removed from its cluster; it can come back only with an empty disk")
        driver.close()
        # Whatever was asked of this node before ends by then, with an answer or its time-out.
        deadline = clock.now() + self.settings.request_timeout_s + REMOVAL_GRACE_S
        await glue.until(
            lambda: not (driver.writes.commands or driver.reads.count or driver.control.is_waiting), deadline
        )
        self.driver = self.glue = None

    def _restore(self) -> None:
        if self.storage.snapshot_meta is None:
            return  # it was added to a cluster and has heard nothing yet
        reader = self.storage.open_snapshot()
        self.state.restore(reader.sections())

    async def _leave(self, driver: Driver, glue: Glue) -> None:
        """Hand leadership over, then refuse what is new and wait until nothing is pending, or the time-out.

        Writes that come meanwhile wait, and go to the next leader.
        """
        deadline = clock.now() + self.settings.shutdown_timeout_s
        if driver.is_leader and len(driver.raft.membership.all_voters) > 1:
            try:
                driver.transfer_leadership(None, clock.now())
            except Refusal as refusal:
                _log.info("leadership is not handed over: %s", refusal)
            else:
                await glue.until(lambda: not driver.is_transferring, deadline)
        if not driver.is_leader:
            await glue.until(lambda: driver.raft.leader_id is not None, min(deadline, clock.now() + NEXT_LEADER_S))
        self.phase, self.why = "stopping", "this node is shutting down"
        driver.close()
        await glue.until(lambda: not driver.writes.commands, deadline)

    # Peers

    def _on_messages(self, messages: list[Any]) -> None:
        if self.driver is not None and self.glue is not None:
            self.metrics.peer_messages_received += len(messages)
            self.driver.receive(messages, clock.now())
            self.glue.poke()

    def _on_lost(self, peer: int) -> None:
        if self.driver is not None and self.glue is not None:
            self.driver.stream_lost(peer, clock.now())
            self.glue.poke()

    def _on_unsent(self, peer: int, forwards: list[int]) -> None:
        if self.driver is not None and self.glue is not None:
            self.driver.unsent(peer, forwards)
            self.glue.poke()

    # What the routes ask (`Service`)

    @property
    def name(self) -> str:
        return self.settings.name

    @property
    def cluster_id(self) -> str | None:
        return self.identity.cluster_id

    @property
    def term(self) -> int:
        return self.driver.raft.term if self.driver else 0

    @property
    def applied_index(self) -> int:
        return self.state.applied_index

    def _serving(self) -> tuple[Driver, Glue]:
        if self.phase == "stopping":
            raise ShuttingDown
        if self.driver is None or self.glue is None or self.phase == "removed":
            raise NotServing(self.why)
        return self.driver, self.glue

    async def control(self, call: Call) -> tuple[int, Any]:
        if call.linearizable:
            await self.read_barrier()
        driver, glue = self._serving()
        if call.linearizable:
            raft = driver.raft
            call = replace(call, term_min=raft.term, version_min=raft.committed_membership.version)
        token: Future[tuple[int, Any]] = glue.loop.create_future()
        driver.ask(call, token, clock.now())
        glue.poke()
        return await token

    def change_settings(self, changes: Mapping[str, Any]) -> NodeSettings:
        self.use(changed(self.settings, changes, "the request"))
        return self.settings

    def use(self, settings: NodeSettings) -> None:
        """Settings of which only those that may change differ."""
        before, self.settings = self.settings, settings
        put_into_effect(settings, before, self.storage, self.driver)
        if self._clients is not None:
            self._clients.use(settings)

    async def take_snapshot(self) -> SnapshotAnswer:
        driver, glue = self._serving()
        wanted = self.state.applied_index
        if driver.snapshotting.last_index < wanted:
            changes = self.feeds.snapshots.subscribe()
            driver.snapshotting.is_wanted = True
            glue.poke()
            try:
                async with asyncio.timeout(self.settings.request_timeout_s):
                    async for change in changes:
                        if change.kind == "failed":
                            raise SnapshotFailed("the node's log says why")
                        if change.index >= wanted:
                            break
            except TimeoutError:
                raise RequestTimeout("the snapshot is still being written; it goes on") from None
        meta = self.storage.snapshot_meta
        assert meta is not None
        return SnapshotAnswer(index=meta.id.index, term=meta.id.term, bytes=meta.size)

    async def discard_store(self, store_id: str) -> DiscardAnswer:
        return await self.discarding.ask(self.storage, store_id)

    async def bootstrap(self, request: BootstrapRequest) -> BootstrapAnswer:
        return await self.admission.bootstrap(request)

    def write_one(self, command: Any, encoded: bytes) -> WriteFuture:
        driver, glue = self._serving()
        token = WriteFuture(loop=glue.loop)
        driver.write_one(command, encoded, token)
        glue.poke()
        return token

    def write_blob(self, blob: Blob, commands: list[Any]) -> WriteFuture:
        driver, glue = self._serving()
        token = WriteFuture(loop=glue.loop)
        driver.write(Write(blob, commands, token, clock.now() + self.settings.request_timeout_s))
        glue.poke()
        return token

    async def read_barrier(self, min_index: int = 0) -> int:
        return await self._read(Driver.read, min_index)

    def check_state(self) -> None:
        if self.driver is not None and (wrong := self.driver.wrong_state()) is not None:
            raise wrong

    async def wait_applied(self, min_index: int) -> int:
        self.check_state()
        if self.state.applied_index >= min_index:
            return self.state.applied_index
        return await self._read(Driver.read_applied, min_index)

    async def _read(self, ask: Callable[[Driver, Any, float, int], None], min_index: int) -> int:
        driver, glue = self._serving()
        token: Future[int] = glue.loop.create_future()
        ask(driver, token, clock.now(), min_index)
        glue.poke()
        index = await token
        self.check_state()  # it may be known since the read was answered
        return index

    def holds_lease(self) -> bool:
        return self.driver is not None and self.driver.holds_lease(clock.now())

    def staleness_s(self) -> float:
        return float("inf") if self.driver is None else self.driver.staleness_s(clock.now())

    def status(self) -> NodeStatus:
        return node_status(
            identity=self.identity,
            phase=self.phase,
            why=self.why,
            uptime_s=clock.now() - self.started_at,
            driver=self.driver,
            refusals=self.transport.refusals() if self.driver is not None else {},
            revision=self.machine.revision if isinstance(self.machine, KvMachine) else 0,
        )

    def unready_reason(self) -> str | None:
        if self.driver is None or self.phase == "stopping":
            return self.why
        raft = self.driver.raft
        if raft.leader_id is None:
            return "no leader is known"
        if self.driver.is_restoring:
            return wrong_state(self.driver.checks) or "a snapshot is being restored"
        if self.state.applied_index < raft.commit_index - 10_000:
            return f"{raft.commit_index - self.state.applied_index} committed entries are not applied yet"
        return None
