"""A service without a cluster, for tests of the HTTP API: the real machine and sessions, applied at once.

Also what those tests share: a running server, and HTTP spoken byte by byte.
"""

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, NamedTuple

import orjson

from raftwright.client.member_models import BootstrapAnswer, BootstrapRequest
from raftwright.client.models import DiscardAnswer, NodeStatus, SnapshotAnswer
from raftwright.kv.store import KvMachine
from raftwright.raft.entries import Entry, EntryId, EntryKind
from raftwright.server.blobs import PAYLOAD_VERSION, Blob, Origin, encode_payload
from raftwright.server.errors import (
    IdempotencyConflict,
    NotServing,
    RequestTimeout,
    ServiceError,
    SessionExpired,
    StateDiverged,
    StoreKept,
)
from raftwright.server.http import ClientServer
from raftwright.server.live_settings import changed
from raftwright.server.machine import Machine
from raftwright.server.membership_requests import Call
from raftwright.server.metrics import Metrics
from raftwright.server.service import WriteFuture
from raftwright.server.settings import NodeSettings
from raftwright.server.state import BlobOutcome, ReplicatedState, Status

TERM = 7
FOUNDED = EntryId(1, 1)
"""Where the log of a new cluster begins: nothing has been written."""


class LocalService:
    """`Service` of one node that is its own quorum. What is `refusing` is raised instead; `held` writes wait."""

    name = "n1"
    cluster_id = "c" * 32
    term = TERM

    def __init__(self, settings: NodeSettings, machine: Machine | None = None) -> None:
        self.machine: Any = KvMachine(settings.command_limits) if machine is None else machine
        self.state = ReplicatedState(self.machine, applied=FOUNDED)
        self.settings = settings
        self.refusing: ServiceError | None = None
        self.is_wrong = False
        """Its state is not the majority's."""
        self.unready: str | None = None
        self.holding = False
        self.held: list[asyncio.Future[Any]] = []
        self.barriers = 0
        self.waiting = 0
        """Reads that ever waited for an index."""
        self.patience = 20_000
        """Turns of the event loop after which an index that is waited for is late."""
        self.lease_checks = 0
        self.lease_for = 0
        """How often the lease is found to hold, before it is over."""
        self.staleness = float("inf")
        self.blobs = 0

    @property
    def applied_index(self) -> int:
        return self.state.applied_index

    def _apply(self, blob: Blob) -> BlobOutcome:
        payload = encode_payload([blob])
        entry = Entry(TERM, self.applied_index + 1, EntryKind.COMMANDS, PAYLOAD_VERSION, 1, payload, 0)
        return self.state.apply(entry)[0]

    def _settle(self, future: "asyncio.Future[Any]", value: Any) -> None:
        if self.holding:
            self.held.append(future)
        elif isinstance(value, ServiceError):
            future.set_exception(value)
        else:
            future.set_result(value)

    def write_one(self, command: Any, encoded: bytes) -> WriteFuture:
        if self.refusing is not None:
            raise self.refusing
        future = WriteFuture(loop=asyncio.get_running_loop())
        outcome = self._apply(Blob(Origin(), self.machine.join([encoded])))
        assert outcome.results is not None
        future.index = self.applied_index
        self._settle(future, outcome.results[0])
        return future

    def write_blob(self, blob: Blob, commands: list[Any]) -> WriteFuture:
        if self.refusing is not None:
            raise self.refusing
        self.blobs += 1
        future = WriteFuture(loop=asyncio.get_running_loop())
        outcome = self._apply(blob)
        future.index = self.applied_index
        value: bytes | ServiceError
        if outcome.status is Status.CONFLICT:
            value = IdempotencyConflict()
        elif outcome.status is Status.EXPIRED:
            value = SessionExpired()
        else:
            value = outcome.encoded(self.machine)
        asyncio.get_running_loop().call_soon(self._settle, future, value)
        return future

    async def read_barrier(self, min_index: int = 0) -> int:
        self.barriers += 1
        await asyncio.sleep(0)
        if self.refusing is not None:
            raise self.refusing
        self.check_state()
        return await self.wait_applied(min_index)

    def check_state(self) -> None:
        if self.is_wrong:
            raise StateDiverged(leader="127.0.0.1:7009")

    async def wait_applied(self, min_index: int) -> int:
        self.check_state()
        self.waiting += 1
        for _ in range(self.patience):
            if self.applied_index >= min_index:
                return self.applied_index
            await asyncio.sleep(0)
        raise RequestTimeout(f"index {min_index} was not applied here in time")

    def holds_lease(self) -> bool:
        self.lease_checks += 1
        return self.lease_checks <= self.lease_for

    def staleness_s(self) -> float:
        return self.staleness

    async def control(self, call: Call) -> tuple[int, Any]:
        raise NotServing("there is nobody to ask")

    async def bootstrap(self, request: BootstrapRequest) -> BootstrapAnswer:
        raise NotServing("there is nothing to found")

    def change_settings(self, changes: Mapping[str, Any]) -> NodeSettings:
        self.settings = changed(self.settings, changes, "the request")
        return self.settings

    async def take_snapshot(self) -> SnapshotAnswer:
        if self.refusing is not None:
            raise self.refusing
        return SnapshotAnswer(index=self.applied_index, term=TERM, bytes=1)

    async def discard_store(self, store_id: str) -> DiscardAnswer:
        raise StoreKept("the member was not removed")

    def status(self) -> NodeStatus:
        revision = getattr(self.machine, "revision", 0)
        return NodeStatus(name=self.name, state="serving", version="0", uptime_s=1.0, revision=revision)

    def unready_reason(self) -> str | None:
        return self.unready


class Running(NamedTuple):
    service: LocalService
    server: ClientServer
    metrics: Metrics
    host: str
    port: int
    writers: list[asyncio.StreamWriter]
    """Of the connections that tests opened."""

    async def connect(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """A connection, closed at the end of the test at the latest."""
        reader, writer = await asyncio.open_connection(self.host, self.port)
        self.writers.append(writer)
        return reader, writer

    async def until(self, condition: Callable[[], object]) -> None:
        """Wait until the condition holds, for ten seconds at most."""
        async with asyncio.timeout(10):
            while not condition():  # noqa: ASYNC110  what is waited for knows nothing of the test
                await asyncio.sleep(0.002)

    async def ask(
        self, method: str, target: str, body: bytes | None = None, headers: dict[str, str] | None = None
    ) -> "Heard":
        """One request on a connection of its own. `target` goes out as it is."""
        reader, writer = await self.connect()
        try:
            writer.write(request_bytes(method, target, body, headers))
            return await hear(reader, method)
        finally:
            writer.close()


class Heard(NamedTuple):
    status: int
    headers: dict[str, str]
    """By name in lower case."""
    body: bytes

    @property
    def json(self) -> Any:
        return orjson.loads(self.body)

    @property
    def kind(self) -> str:
        """Of a problem."""
        assert self.headers["content-type"] == "application/problem+json", self
        assert self.json["status"] == self.status
        return str(self.json["type"]).removeprefix("https://raftwright.io/problems/")


def request_bytes(method: str, target: str, body: bytes | None = None, headers: dict[str, str] | None = None) -> bytes:
    lines = [
        f"{method} {target} HTTP/1.1",
        "Host: test",
        *(f"{name}: {text}" for name, text in (headers or {}).items()),
    ]
    if body is not None and "Content-Length" not in (headers or {}):
        lines.append(f"Content-Length: {len(body)}")
    return "\r\n".join([*lines, "", ""]).encode("utf-8", "surrogateescape") + (body or b"")


async def hear(reader: asyncio.StreamReader, method: str = "GET") -> Heard:
    """One reply."""
    async with asyncio.timeout(10):
        head = await reader.readuntil(b"\r\n\r\n")
        lines = head.decode().split("\r\n")
        headers = {name.lower(): text.strip() for name, _, text in (line.partition(":") for line in lines[1:-2])}
        body = b"" if method == "HEAD" else await reader.readexactly(int(headers["content-length"]))
    return Heard(int(lines[0].split(" ")[1]), headers, body)


def settings_for_test(**changes: Any) -> NodeSettings:
    defaults = {"client_listen": "127.0.0.1:0", "shutdown_timeout_s": 0.2}
    return NodeSettings(name="n1", data_dir=Path("unused"), **{**defaults, **changes})


@asynccontextmanager
async def running(machine: Machine | None = None, /, **changes: Any) -> AsyncIterator[Running]:
    """A server on a free port, with these settings changed."""
    settings = settings_for_test(**changes)
    service, metrics = LocalService(settings, machine), Metrics()
    server = ClientServer(service, settings, metrics)
    await server.start()
    writers: list[asyncio.StreamWriter] = []
    try:
        yield Running(service, server, metrics, *server.address, writers)
    finally:
        for writer in writers:
            writer.close()
        await server.stop()
