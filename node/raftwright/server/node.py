"""A node: storage, core, driver, glue, peers and the HTTP API put together, from start to stop.

`raftwright node` runs it; the HTTP routes see it as a `Service`. Rules: the data directory alone says who this node
is; it takes no part in anything before its identity and its first membership are durable.
"""

import asyncio
import logging
import random
import secrets
from asyncio import Future
from functools import partial
from typing import Any

from aiohttp import web

from raftwright.client.models import NodeStatus
from raftwright.kv.store import KvMachine
from raftwright.raft.entries import EntryId, HardState, Recovered, SnapshotMeta
from raftwright.raft.errors import Refusal
from raftwright.raft.membership import Membership
from raftwright.raft.raft import Raft, RaftSettings
from raftwright.server import clock
from raftwright.server.addresses import FirstMember, parse_address
from raftwright.server.blobs import Blob
from raftwright.server.driver import Driver, DriverSettings
from raftwright.server.errors import NotServing, ShuttingDown
from raftwright.server.feeds import Feeds
from raftwright.server.founding import Founding, Stranger, found
from raftwright.server.glue import Glue
from raftwright.server.http import ClientServer
from raftwright.server.machine import Machine
from raftwright.server.metrics import Metrics
from raftwright.server.peer_listener import GuardedRunner, peer_limits_of
from raftwright.server.peers import LocalIdentity, PeerTransport
from raftwright.server.settings import NodeSettings
from raftwright.server.state import ReplicatedState
from raftwright.server.status import node_status
from raftwright.server.telemetry import refresh
from raftwright.server.writes import Write
from raftwright.storage.files import OsFiles
from raftwright.storage.storage import Storage, StorageSettings

_log = logging.getLogger(__name__)

FOUNDING_ID = EntryId(1, 1)
"""A cluster starts from a snapshot at this id with the first membership, so that who joins later always gets one."""


class WrongIdentity(Exception):
    """The data directory belongs to somebody else than the settings say."""


class Node:
    """One running node. `run` does everything; the rest is what the routes ask."""

    def __init__(self, settings: NodeSettings, machine: Machine | None = None) -> None:
        """`machine` is the key-value store unless it is given."""
        self.settings = settings
        self.machine: Machine = KvMachine(settings.command_limits) if machine is None else machine
        self.state = ReplicatedState(self.machine)
        self.metrics = Metrics()
        self.phase = "starting"
        """`starting`, `waiting` (for its first membership), `serving`, `stranger`, `stopping`."""
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
        self._stop = asyncio.Event()

    # Life

    def stop(self) -> None:
        """Hand leadership over, finish what is under way, and end `run`."""
        self._stop.set()

    async def run(self) -> None:
        """Serve until `stop`. Raises StorageError, WrongIdentity, WrongMembers, or OSError where it cannot."""
        await asyncio.to_thread(self._open_storage)
        try:
            self.transport = PeerTransport(self.identity, on_messages=self._on_messages, on_lost=self._on_lost)
            peers = await self._listen_to_peers() if self.settings.peer_listen else None
            clients = ClientServer(self, self.settings, self.metrics) if self.settings.client_listen else None
            try:
                if clients is not None:
                    await clients.start()
                self.listening.set()
                await self._serve()
            finally:
                self.feeds.close()
                if clients is not None:
                    await clients.stop()
                if peers is not None:
                    await peers.cleanup()
        finally:
            await asyncio.to_thread(self.storage.close)

    def _open_storage(self) -> None:
        settings = self.settings
        self.storage = Storage.open(
            OsFiles(settings.data_dir),
            StorageSettings(segment_bytes=settings.segment_bytes_max, tail_bytes_max=settings.log_cache_bytes_max),
            new_store_id=secrets.token_hex(16),
        )
        mine = self.storage.identity
        if mine.name and mine.name != settings.name:
            raise WrongIdentity(
                f"{settings.data_dir} holds the data of node {mine.name!r}, not of {settings.name!r}: start it with"
                f" --name {mine.name}, or give {settings.name!r} a data directory of its own"
            )
        if not mine.name:
            self.storage.save_identity(cluster_id=None, member_id=None, name=settings.name)
        self.identity = LocalIdentity(
            name=settings.name,
            store_id=mine.store_id,
            client=settings.client_address,
            cluster_id=mine.cluster_id,
            member_id=mine.member_id,
        )

    async def _listen_to_peers(self) -> web.AppRunner:
        application = web.Application()
        application.add_routes(self.transport.routes())
        application.on_shutdown.append(lambda _: self.transport.hang_up())
        # Counters of its own: those of the node are about clients.
        limits = peer_limits_of(self.settings)
        runner = GuardedRunner(application, limits=limits, metrics=Metrics(), shutdown_timeout=1.0)
        await runner.setup()
        host, port = parse_address(self.settings.peer_listen, port_min=0)
        await web.TCPSite(runner, host, port).start()
        return runner

    async def _serve(self) -> None:
        founding = asyncio.create_task(self._found())
        stopping = asyncio.create_task(self._stop.wait())
        await asyncio.wait((founding, stopping), return_when=asyncio.FIRST_COMPLETED)
        if not founding.done():
            founding.cancel()
            return
        stopping.cancel()
        founding.result()
        if self.identity.cluster_id is None:
            await self._stop.wait()
            return
        await self._take_part()

    async def _found(self) -> None:
        """Be founded, if this store belongs to no cluster yet and was told the first members."""
        if self.identity.cluster_id is not None:
            return
        members = self.settings.members
        if not members and not self.settings.peer_listen:
            members = (FirstMember(self.settings.name, "", None, True),)  # nobody could ever reach it: it is alone
        if not members:
            self._wait("waiting", "this node waits for its first membership: it was started without --members")
            return
        self._wait("waiting", "this node waits to hear from every first member")
        try:
            founding = await found(self.identity, members)
        except Stranger as error:
            self._wait("stranger", str(error))
            return
        await asyncio.to_thread(self._make_durable, founding)
        self.identity.cluster_id = founding.cluster_id
        self.identity.member_id = founding.member_id

    def _wait(self, phase: str, why: str) -> None:
        self.phase, self.why = phase, why
        (_log.error if phase == "stranger" else _log.info)("%s (store %s)", why, self.identity.store_id)

    def _make_durable(self, founding: Founding) -> None:
        """The first membership, the first term, then the identity that says both are there."""
        writer = self.storage.new_snapshot(id=FOUNDING_ID, time_ms=0, membership=founding.membership)
        for name, version, required, chunks in ReplicatedState(self.machine, applied=FOUNDING_ID).sections():
            writer.section(name, version, required)
            for chunk in chunks:
                writer.write(chunk)
        writer.finish()
        self.storage.write(hard_state=HardState(term=FOUNDING_ID.term))
        self.storage.save_identity(
            cluster_id=founding.cluster_id, member_id=founding.member_id, name=self.identity.name
        )

    async def _take_part(self) -> None:
        recovered = self.storage.recovered
        await asyncio.to_thread(self._restore)
        self._report_contradictions(recovered.snapshot)
        self.driver = self._make_driver(recovered)
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
            await self._stop.wait()
            await self._leave(self.driver, self.glue)
            running.cancel()
            await asyncio.sleep(0)
            streams.cancel()

    def _restore(self) -> None:
        reader = self.storage.open_snapshot()
        self.state.restore(reader.sections())

    def _report_contradictions(self, snapshot: SnapshotMeta | None) -> None:
        """The data directory decides; settings that say otherwise are reported and never merged."""
        if snapshot is None or not self.settings.members:
            return
        names = {member.name for member in snapshot.membership.members.values()}
        told = {member.name for member in self.settings.members}
        if names != told:
            _log.warning(
                "--members names %s, but the data directory says %s; the data directory decides",
                ", ".join(sorted(told)),
                ", ".join(sorted(names)),
            )

    def _make_driver(self, recovered: Recovered) -> Driver:
        settings = self.settings
        raft = Raft(
            member_id=self.identity.member_id,
            settings=RaftSettings(
                election_timeout_s=settings.election_timeout_ms / 1000,
                heartbeat_interval_s=settings.heartbeat_interval_ms / 1000,
                tail_bytes_max=settings.log_cache_bytes_max,
            ),
            recovered=recovered,
            random=random.Random(),
            now=clock.now(),
        )
        return Driver(
            raft=raft,
            state=self.state,
            membership=recovered.snapshot.membership if recovered.snapshot else Membership(),
            settings=DriverSettings(
                request_timeout_s=settings.request_timeout_s,
                entry_bytes_max=settings.entry_bytes_max,
                pending_commands_max=settings.pending_commands_max,
                pending_bytes_max=settings.pending_bytes_max,
                election_timeout_s=settings.election_timeout_ms / 1000,
                snapshot_commands=settings.snapshot_every_commands,
                snapshot_log_bytes=settings.snapshot_every_log_bytes,
            ),
        )

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
                await glue.until(lambda: not driver.is_leader and driver.raft.leader_id is not None, deadline)
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
        if self.driver is None or self.glue is None:
            raise NotServing(self.why)
        return self.driver, self.glue

    def write_one(self, command: Any, encoded: bytes) -> "Future[Any]":
        driver, glue = self._serving()
        token: Future[Any] = glue.loop.create_future()
        driver.write_one(command, encoded, token)
        glue.poke()
        return token

    def write_blob(self, blob: Blob, commands: list[Any]) -> "Future[bytes]":
        driver, glue = self._serving()
        token: Future[bytes] = glue.loop.create_future()
        driver.write(Write(blob, commands, token, clock.now() + self.settings.request_timeout_s))
        glue.poke()
        return token

    async def read_barrier(self) -> int:
        driver, glue = self._serving()
        token: Future[int] = glue.loop.create_future()
        driver.read(token, clock.now())
        glue.poke()
        return await token

    def status(self) -> NodeStatus:
        return node_status(
            identity=self.identity,
            phase=self.phase,
            why=self.why,
            uptime_s=clock.now() - self.started_at,
            driver=self.driver,
            revision=self.machine.revision if isinstance(self.machine, KvMachine) else 0,
        )

    def unready_reason(self) -> str | None:
        if self.driver is None or self.phase == "stopping":
            return self.why
        raft = self.driver.raft
        if raft.leader_id is None:
            return "no leader is known"
        if self.driver.is_restoring:
            return "a snapshot is being restored"
        if self.state.applied_index < raft.commit_index - 10_000:
            return f"{raft.commit_index - self.state.applied_index} committed entries are not applied yet"
        return None
