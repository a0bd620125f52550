"""The client: what users import. It finds the leader, tries again where that is safe, and says what became of a write.

Rule: every operation ends by its time-out with a result or a `RaftwrightError` whose `outcome` tells whether a write
may have happened.
"""

import asyncio
import secrets
from collections.abc import AsyncIterator, Callable, Coroutine, Mapping, Sequence
from types import TracebackType
from typing import Any, Literal, Self, TypeVar

import aiohttp

from raftwright.client import http as requests
from raftwright.client.errors import (
    ClientClosed,
    CommandFailed,
    InvalidRequest,
    RaftwrightError,
    Timeout,
    Unavailable,
)
from raftwright.client.groups import Operation
from raftwright.client.http import Page, Refused
from raftwright.client.machines import Sender, command_of, query_of
from raftwright.client.members import Members
from raftwright.client.models import Consistency, DiscardAnswer, NodeStatus
from raftwright.client.nodes import Backoff, Nodes, checked
from raftwright.client.results import Item, Value
from raftwright.client.stream import Stream
from raftwright.kv.commands import Batch, Command, Compare, Delete, Put, encode_command

TIMEOUT_S = 10.0
OUTSTANDING_MAX = 8192
OUTSTANDING_BYTES_MAX = 64 * 1024 * 1024
ATTEMPT_TIMEOUT_S = 5.0

T = TypeVar("T")
ConsistencyName = Literal["linearizable", "lease", "stale"]
_CONSISTENCIES = {choice.name.lower(): choice for choice in Consistency}


class Client:
    """An asynchronous client of a cluster.

        async with Client(["127.0.0.1:7001", "127.0.0.1:7002", "127.0.0.1:7003"]) as client:
            revision = await client.put("greeting", b"hello")
            found = await client.get("greeting")

    Any node will do as an endpoint, several are better. Operations that run at the same time share frames: for high
    rates call many at once. Safe to use from many tasks of one event loop. An operation that is cancelled may still
    happen.
    """

    def __init__(
        self,
        endpoints: Sequence[str],
        *,
        timeout_s: float = TIMEOUT_S,
        discover: bool = True,
        name: str = "raftwright-python",
        outstanding_max: int = OUTSTANDING_MAX,
        outstanding_bytes_max: int = OUTSTANDING_BYTES_MAX,
    ) -> None:
        """`endpoints` are `host:port`. `timeout_s` bounds every operation unless it has its own. Beyond
        `outstanding_max` unanswered operations, or `outstanding_bytes_max` bytes of their values, a further one waits.
        Without `discover` only the named endpoints are ever connected to: for where the addresses that nodes tell of
        each other do not lead to them. ValueError if an endpoint is none."""
        self._nodes = Nodes(endpoints, discover=discover)
        self.members = Members(self._ask)
        """Calls about members and the leader."""
        self._timeout_s = timeout_s
        self._stream_settings = {
            "name": name,
            "outstanding_max": outstanding_max,
            "outstanding_bytes_max": outstanding_bytes_max,
        }
        self._last_index = 0
        self._http: aiohttp.ClientSession | None = None
        self._stream: Stream | None = None
        self._tasks: asyncio.TaskGroup | None = None
        self._running: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        if self._tasks is not None:
            raise RuntimeError("a client is opened once")
        self._http = requests.new_session()
        self._stream = Stream(self._http, self._nodes, **self._stream_settings)  # type: ignore[arg-type]
        self._tasks = asyncio.TaskGroup()
        await self._tasks.__aenter__()
        self._running = self._tasks.create_task(self._stream.run(), name="raftwright client stream")
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._http and self._stream and self._tasks and self._running
        self._stream.close()
        self._running.cancel()
        try:
            await self._tasks.__aexit__(None, None, None)
        finally:
            await self._http.close()

    @property
    def last_index(self) -> int:
        """The newest log entry that an answer to this client came from: as `min_index` of a read, on any node, it
        makes that read see all that this client wrote and read before."""
        return max(self._last_index, self._stream.last_index if self._stream else 0)

    # Writes

    async def put(
        self,
        key: str,
        value: bytes,
        *,
        if_revision: int | None = None,
        if_absent: bool = False,
        timeout_s: float | None = None,
    ) -> int:
        """Set a key. Returns the revision of the change, once a majority has it on disk and it is applied.

        With `if_revision` or `if_absent` only if that holds, else PreconditionFailed."""
        if if_absent and if_revision is not None:
            raise InvalidRequest("if_revision and if_absent exclude each other")
        return await self._write(Put(key, bytes(value), if_revision, if_absent), key, len(value), timeout_s)

    async def delete(self, key: str, *, if_revision: int | None = None, timeout_s: float | None = None) -> int:
        """Remove a key. Returns the revision of the change. NotFound if it is not there; PreconditionFailed if it is
        not at `if_revision`."""
        return await self._write(Delete(key, if_revision), key, 0, timeout_s)

    async def batch(self, ops: Sequence[Put | Delete | Compare], *, timeout_s: float | None = None) -> int:
        """Several operations as one: all of them or none, under one revision, which is returned.

        PreconditionFailed, with the `position` of the operation, if a condition of any does not hold."""
        for op in ops:
            _check_key(op.key)
        size = sum(len(op.value) for op in ops if isinstance(op, Put))
        return await self._write(Batch(list(ops)), "", size, timeout_s)

    async def _write(self, command: Command, key: str, value_bytes: int, timeout_s: float | None) -> int:
        if not isinstance(command, Batch):
            _check_key(key)
        revision: int = await self._submit(key, encode_command(command), value_bytes, timeout_s)
        return revision

    # Reads

    async def get(
        self,
        key: str,
        *,
        consistency: ConsistencyName = "linearizable",
        max_staleness_s: float | None = None,
        min_index: int = 0,
        timeout_s: float | None = None,
    ) -> Value | None:
        """A key's value and revision; None if it is not there.

        `linearizable` sees every write that was acknowledged before; so does `lease`, which the leader answers without
        asking a majority while its lease lasts; `stale` is what the node at hand knows, or knew to be up to date no
        longer than `max_staleness_s` ago. With `min_index` the node has applied at least that log entry:
        `client.last_index` stands for all that this client has seen. Timeout if it has not in time."""
        _check_key(key)
        wish = (_consistency(consistency), _staleness(consistency, max_staleness_s), _index(min_index))
        found: Value | None = await self._submit(key, b"", 0, timeout_s, *wish)
        return found

    async def list(
        self,
        prefix: str = "",
        *,
        start: str = "",
        limit: int = 1000,
        consistency: ConsistencyName = "linearizable",
        max_staleness_s: float | None = None,
        min_index: int = 0,
        timeout_s: float | None = None,
    ) -> Page:
        """One page of the keys that begin with `prefix`, in order, from `start` on. It may hold fewer than `limit` (1
        to 1000): only `next` says whether there is more. What is read is chosen as in `get`."""
        _consistency(consistency)
        query = {"prefix": prefix, "start": start, "limit": str(limit), "consistency": consistency}
        if _staleness(consistency, max_staleness_s) is not None:
            query["max_staleness"] = f"{max_staleness_s:.6f}"
        if _index(min_index):
            query["min_index"] = str(min_index)
        query = {name: text for name, text in query.items() if text}
        for text in query.values():
            _check_text(text)
        page = await self._ask(
            lambda http, endpoint, left_s: requests.fetch_page(http, endpoint, query, left_s), timeout_s
        )
        self._last_index = max(self._last_index, page.index)
        return page

    async def scan(
        self,
        prefix: str = "",
        *,
        start: str = "",
        page_size: int = 1000,
        consistency: ConsistencyName = "linearizable",
        max_staleness_s: float | None = None,
        min_index: int = 0,
        timeout_s: float | None = None,
    ) -> AsyncIterator[Item]:
        """Every key that begins with `prefix`, in order, page by page of `page_size` (1 to 1000). Each page is read at
        a moment of its own; `timeout_s` bounds each of them."""
        following: str | None = start
        while following is not None:
            page = await self.list(
                prefix,
                start=following,
                limit=page_size,
                consistency=consistency,
                max_staleness_s=max_staleness_s,
                min_index=min_index,
                timeout_s=timeout_s,
            )
            for item in page.items:
                yield item
            following = page.next

    # A state machine of one's own

    async def propose(
        self,
        command: Any,
        fields: Mapping[str, Any] | None = None,
        *,
        key: str | None = None,
        timeout_s: float | None = None,
    ) -> Any:
        """Have the cluster's own state machine apply a command, and return its result.

        `command` is the name of one, with its `fields`; or an object of a class declared with `@raftwright.command`; or
        bytes, for a machine of plain bytes. It happens once, whatever is lost on the way; `key` does the same for
        calls of `propose` that are one to the caller. CommandFailed if the machine raised."""
        sender = Sender(command_of(command, fields), key or secrets.token_hex(16))
        try:
            result = await self._ask(sender, timeout_s)
            self._last_index = max(self._last_index, sender.index)
            return result
        except RaftwrightError as error:
            if sender.may_have_happened and not isinstance(error, CommandFailed):
                error.outcome = "unknown"
            raise

    async def query(
        self,
        request: Any,
        *,
        consistency: ConsistencyName = "linearizable",
        max_staleness_s: float | None = None,
        min_index: int = 0,
        timeout_s: float | None = None,
    ) -> Any:
        """Ask the cluster's own state machine: what its `query` returns for `request`, which is anything that JSON
        has, or bytes. What is asked is chosen as in `get`. QueryFailed if it raised."""
        _consistency(consistency)
        parameters: dict[str, str] = {"consistency": consistency}
        if _staleness(consistency, max_staleness_s) is not None:
            parameters["max_staleness"] = f"{max_staleness_s:.6f}"
        if _index(min_index):
            parameters["min_index"] = str(min_index)
        sender = Sender(query_of(request, parameters), None)
        answer = await self._ask(sender, timeout_s)
        self._last_index = max(self._last_index, sender.index)
        return answer

    async def status(self, endpoint: str | None = None, *, timeout_s: float | None = None) -> NodeStatus:
        """The status of the node at `endpoint`, or of any node that answers."""
        if endpoint is not None:
            return await requests.fetch_status(self._open_http(), checked(endpoint), timeout_s or self._timeout_s)
        return await self._ask(requests.fetch_status, timeout_s)

    async def discard_store(
        self, store_id: str, *, endpoint: str | None = None, timeout_s: float | None = None
    ) -> DiscardAnswer:
        """Have the node at `endpoint`, or at the only one that this client was given, set the store of its removed
        member aside and begin a new one, which waits to be added. Again, it changes nothing. StoreKept if that store
        is not the node's, or not a removed one."""
        if endpoint is None and len(self._nodes.named) != 1:
            raise InvalidRequest("say which node's store is meant: endpoint")
        where = checked(endpoint or self._nodes.named[0])
        return await requests.discard_store(self._open_http(), where, store_id, timeout_s or self._timeout_s)

    async def is_ready(self, endpoint: str, *, timeout_s: float = 1.0) -> bool:
        """Whether the node at `endpoint` can serve a linearizable read now."""
        return await requests.is_ready(self._open_http(), checked(endpoint), timeout_s)

    # How

    async def _submit(
        self,
        key: str,
        encoded: bytes,
        value_bytes: int,
        timeout_s: float | None,
        consistency: Consistency = Consistency.LINEARIZABLE,
        max_staleness_s: float | None = None,
        min_index: int = 0,
    ) -> Any:
        stream = self._stream
        if stream is None:
            raise ClientClosed("open the client first: async with Client(…) as client")
        loop = asyncio.get_running_loop()
        deadline = loop.time() + (self._timeout_s if timeout_s is None else timeout_s)
        if stream.is_full:
            await stream.room(deadline)
        future: asyncio.Future[Any] = loop.create_future()
        wish = (consistency, max_staleness_s, min_index)
        stream.submit(Operation(future, deadline, key, encoded, value_bytes, *wish))
        return await future

    def _open_http(self) -> aiohttp.ClientSession:
        if self._http is None or self._http.closed:
            raise ClientClosed("the client is not open: async with Client(…) as client")
        return self._http

    async def _ask(
        self,
        attempt: Callable[[aiohttp.ClientSession, str, float], Coroutine[Any, Any, T]],
        timeout_s: float | None,
    ) -> T:
        """Ask one node after the other until one answers or the time is up."""
        http = self._open_http()
        loop = asyncio.get_running_loop()
        deadline = loop.time() + (self._timeout_s if timeout_s is None else timeout_s)
        backoff = Backoff()
        trouble: RaftwrightError = Timeout("no node was asked in time", outcome="none")
        while True:
            for endpoint in self._nodes.candidates(loop.time()):
                left_s = deadline - loop.time()
                if left_s <= 0:
                    raise trouble
                try:
                    return await attempt(http, endpoint, min(left_s, ATTEMPT_TIMEOUT_S))
                except Refused as refused:
                    trouble = refused.error
                except Unavailable as error:
                    trouble = error
                    self._nodes.shun(endpoint, loop.time())
            await asyncio.sleep(min(backoff.next(), max(deadline - loop.time(), 0.0)))


def _consistency(name: str) -> Consistency:
    try:
        return _CONSISTENCIES[name]
    except KeyError:
        raise InvalidRequest(f"consistency is {name!r}; it may be 'linearizable', 'lease' or 'stale'") from None


def _staleness(consistency: str, max_staleness_s: float | None) -> float | None:
    if max_staleness_s is not None and (consistency != "stale" or not 0 <= max_staleness_s < 1e9):
        raise InvalidRequest("max_staleness_s is a number of seconds, and goes with consistency='stale' only")
    return max_staleness_s


def _index(min_index: int) -> int:
    if not 0 <= min_index < 2**63:
        raise InvalidRequest(f"min_index is {min_index}; it is the index of a log entry")
    return min_index


def _check_key(key: str) -> None:
    if not key:
        raise InvalidRequest("the key is empty")
    _check_text(key)


def _check_text(text: str) -> None:
    """A command that is not UTF-8 cannot be encoded; the others of its frame must not suffer for it."""
    if not text.isascii():
        try:
            text.encode()
        except UnicodeEncodeError:
            raise InvalidRequest(f"{text!r} is not text: it holds half of a surrogate pair") from None
