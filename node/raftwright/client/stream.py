"""The pipelined stream: one WebSocket at a time to one node, over which a session's frames go out and answers come in.

`client.py` owns it and runs `run` as a task. Rule: losing a connection loses nothing: the session sends again what is
unanswered, and the cluster runs it once.
"""

import asyncio
import random
from collections import deque

import aiohttp

from raftwright.client import models
from raftwright.client.errors import ClientClosed, RaftwrightError, Timeout, Unavailable
from raftwright.client.groups import Operation
from raftwright.client.http import Refused, fetch_status, reason_of
from raftwright.client.nodes import Backoff, Nodes
from raftwright.client.session import Retry, Session

CONNECT_TIMEOUT_S = 2.0
STATUS_TIMEOUT_S = 1.0
HEARTBEAT_S = 2.0
"""A node that does not answer a ping for half of this is given up: it may be stopped, or cut off."""
LEADER_CHECK_S = 2.0
ELECTION_S = 3.0
"""After a connection broke, how long to look for the next leader before any other node will do. An election takes less,
and until it is over no node could do more than wait."""
DRAIN_S = 1.0
CLOSE_TIMEOUT_S = 0.2
FRAME_BYTES_MAX = 256 * 1024 * 1024


class _Lost(Exception):
    """The connection is of no more use; another one goes on."""


class Stream:
    """The operations of one client, on their way. Give it operations with `submit` while `run` runs."""

    def __init__(
        self,
        http: aiohttp.ClientSession,
        nodes: Nodes,
        *,
        name: str,
        outstanding_max: int,
        outstanding_bytes_max: int,
    ) -> None:
        self._http = http
        self._nodes = nodes
        self._name = name
        self._outstanding_max = outstanding_max
        self._outstanding_bytes_max = outstanding_bytes_max
        self._loop = asyncio.get_running_loop()
        self._session = Session()
        self._wake = asyncio.Event()
        """There may be a frame to send."""
        self._landed = asyncio.Event()
        """Nothing is in flight any more; set while leaving a connection."""
        self._leaving = False
        """Nothing more is sent over the present connection."""
        self._waiters: deque[asyncio.Future[None]] = deque()
        self._timer: asyncio.TimerHandle | None = None
        self._left_at = float("-inf")
        """When a connection last broke."""
        self._closed = False
        self._trouble: RaftwrightError | None = None

    # Operations

    @property
    def is_full(self) -> bool:
        session = self._session
        return session.outstanding >= self._outstanding_max or session.outstanding_bytes >= self._outstanding_bytes_max

    async def room(self, deadline: float) -> None:
        """Wait until one more operation may be outstanding. Raises Timeout."""
        while self.is_full and not self._closed:
            waiter: asyncio.Future[None] = self._loop.create_future()
            self._waiters.append(waiter)
            woken = False
            try:
                async with asyncio.timeout_at(deadline):
                    await waiter
                    woken = True
            except TimeoutError:
                raise Timeout("too many operations are outstanding in this client", outcome="none") from None
            finally:
                if not woken:  # whoever gives up passes the room on
                    self._let_in()

    @property
    def last_index(self) -> int:
        """The newest log entry that an answer came from."""
        return self._session.last_index

    def submit(self, operation: Operation) -> None:
        """Queue an operation. All of one turn of the event loop leave in one frame."""
        if self._closed:
            raise ClientClosed("the client is closed")
        self._session.submit(operation)
        self._wake.set()
        if self._timer is None or operation.deadline < self._timer.when():
            self._arm(operation.deadline)

    def close(self) -> None:
        """Fail what is unanswered. `run` is cancelled by its owner."""
        self._closed = True
        if self._timer:
            self._timer.cancel()
        self._session.fail_all(ClientClosed("the client was closed"))
        self._let_in()

    def _let_in(self) -> None:
        """Wake as many of those who wait for room as there is room for."""
        free = self._outstanding_max - self._session.outstanding
        while self._waiters and (self._closed or (free > 0 and not self.is_full)):
            waiter = self._waiters.popleft()
            if not waiter.done():
                waiter.set_result(None)
                free -= 1

    def _arm(self, when: float) -> None:
        if self._timer:
            self._timer.cancel()
        self._timer = self._loop.call_at(when, self._on_timer)

    def _on_timer(self) -> None:
        self._timer = None
        following = self._session.expire(self._loop.time(), self._trouble)
        self._let_in()
        if following is not None:
            self._arm(following)

    # Connections

    async def run(self) -> None:
        """Keep a connection while there is work for one. Runs until it is closed and cancelled."""
        backoff = Backoff(first_s=0.02, max_s=0.5)
        # A task group whose child fails in that moment forgets that it was cancelled, before Python 3.13.
        while not self._closed:
            await self._wake.wait()
            if self._session.is_idle:
                self._wake.clear()
                continue
            connection = await self._connect()
            if connection is None:
                await asyncio.sleep(backoff.next())
                continue
            backoff.reset()
            self._trouble = None
            await self._serve(*connection)

    async def _connect(self) -> tuple[aiohttp.ClientWebSocketResponse, str] | None:
        """A connection to the leader, or to any other node that serves. None: there is none now."""
        for endpoint in self._nodes.candidates(self._loop.time()):
            for target in await self._leader_first(endpoint):
                try:
                    return await self._open(target), target
                except (RaftwrightError, aiohttp.ClientError, OSError, TimeoutError, ValueError) as error:
                    self._nodes.shun(target, self._loop.time(), silent=isinstance(error, TimeoutError))
                    self._trouble = _error_of_connection(target, error)
        return None

    async def _leader_first(self, endpoint: str) -> list[str]:
        """The leader, as far as `endpoint` knows it, and `endpoint`; nothing where that does not serve."""
        nodes, now = self._nodes, self._loop.time()
        if nodes.leader is None:
            try:
                self._learn(await fetch_status(self._http, endpoint, STATUS_TIMEOUT_S), endpoint)
                nodes.clear(endpoint)  # it is back, or, behind a load balancer, another one answers
            except (RaftwrightError, Refused) as error:
                nodes.shun(endpoint, self._loop.time())
                self._trouble = error if isinstance(error, RaftwrightError) else error.error
                return []
        if nodes.leader and not nodes.is_shunned(nodes.leader, now):
            return list(dict.fromkeys([nodes.leader, endpoint]))
        nodes.leader = None  # it is the one that went away, or there is none: ask again before the next attempt
        return [endpoint] if now - self._left_at >= ELECTION_S else []

    def _learn(self, status: models.NodeStatus, endpoint: str) -> bool:
        """Keep what a node says of its cluster. Returns whether it leads itself."""
        leads = status.id is not None and status.leader == status.id
        leader = endpoint if leads else next((member.client for member in status.members if member.leader), None)
        self._nodes.learn([member.client for member in status.members], leader, endpoint)
        return leads

    async def _open(self, endpoint: str) -> aiohttp.ClientWebSocketResponse:
        async with asyncio.timeout(CONNECT_TIMEOUT_S):
            socket = await self._http.ws_connect(
                f"http://{endpoint}/v1/stream",
                heartbeat=HEARTBEAT_S,
                max_msg_size=FRAME_BYTES_MAX,
                compress=0,
                timeout=aiohttp.ClientWSTimeout(ws_close=CLOSE_TIMEOUT_S),
            )
            try:
                self._session.on_connecting(self._loop.time())
                hello = models.Hello(models.STREAM_PROTOCOL, self._session.id, self._name)
                await socket.send_bytes(models.encode_frame(hello))
                welcome = models.decode_node_frame(await socket.receive_bytes())
                if not isinstance(welcome, models.Welcome):
                    raise ValueError("its first frame is no Welcome")
            except BaseException:
                await socket.close()
                raise
        self._nodes.clear(endpoint)
        self._session.limits = welcome
        if welcome.cluster_id:  # A node that waits to become a member has none yet.
            # From now on, whatever takes over one of the addresses is not taken for this cluster.
            self._http.headers[models.CLUSTER_HEADER] = welcome.cluster_id
        return socket

    async def _serve(self, socket: aiohttp.ClientWebSocketResponse, endpoint: str) -> None:
        """Use a connection until it is lost."""
        self._leaving = False
        self._wake.set()
        try:
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(self._receive(socket, endpoint))
                tasks.create_task(self._send(socket))
                tasks.create_task(self._follow_leader(endpoint))
        except* _Lost:
            pass
        finally:
            self._session.on_lost()
            self._wake.set()
            await socket.close()

    async def _send(self, socket: aiohttp.ClientWebSocketResponse) -> None:
        session, loop = self._session, self._loop
        while True:
            await self._wake.wait()
            self._wake.clear()
            if session.has_work and session.needs_renewal(loop.time()):
                raise _Lost
            while not self._leaving and (frame := session.next_frame(loop.time())):
                try:
                    await socket.send_bytes(frame)
                except (aiohttp.ClientError, ConnectionError) as error:
                    raise _Lost from error

    async def _receive(self, socket: aiohttp.ClientWebSocketResponse, endpoint: str) -> None:
        session = self._session
        session_id = session.id
        async for message in socket:
            if message.type is not aiohttp.WSMsgType.BINARY:
                break
            try:
                frame = models.decode_node_frame(message.data)
                if not isinstance(frame, models.ReplyFrame):
                    break
                retries = list(session.on_reply(frame))
            except ValueError:
                break
            for retry in retries:
                self._loop.call_later(retry.after_s * random.uniform(0.5, 1.0), self._again, retry)
            if self._waiters:
                self._let_in()
            if any(retry.elsewhere for retry in retries):
                break
            if session.id != session_id:
                self._leaving = True
                raise _Lost
            if session.has_work:
                self._wake.set()
            if self._leaving and not session.is_flying:
                self._landed.set()
        self._leave(endpoint)
        raise _Lost

    def _again(self, retry: Retry) -> None:
        self._session.retry(retry.group)
        self._wake.set()

    def _leave(self, endpoint: str) -> None:
        """The node at `endpoint` went away: ask another one first who leads now."""
        self._leaving = True
        self._left_at = self._loop.time()
        self._nodes.shun(endpoint, self._left_at)
        self._nodes.leader = None

    async def _follow_leader(self, endpoint: str) -> None:
        """Now and then, while there is work, see whether another node leads, and go there."""
        while True:
            await asyncio.sleep(LEADER_CHECK_S)
            if self._session.is_idle:
                continue
            try:
                status = await fetch_status(self._http, endpoint, STATUS_TIMEOUT_S)
            except (RaftwrightError, Refused):
                continue
            if self._learn(status, endpoint):
                continue
            leader = self._nodes.leader
            if leader and leader != endpoint and not self._nodes.is_shunned(leader, self._loop.time()):
                await self._land()
                raise _Lost

    async def _land(self) -> None:
        """Send no more, and wait a little for the answers on their way."""
        self._landed.clear()
        self._leaving = True
        if self._session.is_flying:
            try:
                async with asyncio.timeout(DRAIN_S):
                    await self._landed.wait()
            except TimeoutError:
                pass


def _error_of_connection(endpoint: str, error: Exception) -> RaftwrightError:
    return (
        error
        if isinstance(error, RaftwrightError)
        else Unavailable(f"{endpoint} cannot be reached: {reason_of(error)}")
    )
