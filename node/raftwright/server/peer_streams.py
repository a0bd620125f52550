"""One outgoing stream between members: it connects, introduces itself, and sends what is queued as one frame a turn.

`peers.py` has one to each peer and channel. Rule: what cannot be sent is dropped, since Raft sends again.
"""

import asyncio
import logging
import random
from collections.abc import Callable, Sequence
from typing import Protocol

import aiohttp
import msgspec

from raftwright.server.wire import Forward, PeerHello, PeerMessage, encode_frame

_log = logging.getLogger(__name__)

STREAM_PATH = "/peer/v1/stream"
HELLO_HEADER = "X-Raftwright-Hello"
REFUSAL_HEADER = "X-Raftwright-Refusal"
NOT_FOUNDED = "not-founded"
"""A refusal that passes by itself."""
REMOVED = "removed"
"""A refusal for good: the sender is no member any more."""
CONTROL, BULK = "control", "bulk"
CONNECT_TIMEOUT_S = 2.0
HEARTBEAT_S = 5.0
"""WebSocket pings: they find a connection that died without a word."""
CLOSE_TIMEOUT_S = 0.5
BACKOFF_S = (0.05, 1.0)
QUEUED_MESSAGES_MAX = 4096


def new_connector() -> aiohttp.TCPConnector:
    """For all that is asked of other members: each try looks the name up, and makes a connection of its own.

    A member that was moved has another address, and the old one may be another member's by now. A connection there that
    was kept after the refusal would take the next try to the same one, and each try would keep it further."""
    return aiohttp.TCPConnector(limit=0, use_dns_cache=False, force_close=True)


class Transport(Protocol):
    """What a stream needs of the node's transport."""

    session: aiohttp.ClientSession | None
    connects: int
    on_lost: Callable[[int], None]
    on_unsent: Callable[[int, list[int]], None]
    on_removed: Callable[[], None]

    def hello_to(self, peer: int, store_id: str, channel: str) -> PeerHello: ...


class PeerStream:
    """One outgoing stream: connects, introduces itself, and sends what is queued as one frame a turn."""

    def __init__(self, transport: Transport, peer: int, store_id: str, address: str, channel: str) -> None:
        self.transport = transport
        self.peer = peer
        self.store_id = store_id
        self.address = address
        self.channel = channel
        self.connected = False
        self.is_leaving = False
        """The member is not in the membership any more."""
        self.refusal = ""
        self._queue: list[PeerMessage] = []
        self._wake = asyncio.Event()
        self._closed = False

    def send(self, messages: Sequence[PeerMessage]) -> None:
        if not self.connected and self.channel == CONTROL:
            # Nothing is kept for a peer that is away: it would be stale when it is back.
            tell_unsent(self.transport, self.peer, messages)
            return
        if len(self._queue) + len(messages) > QUEUED_MESSAGES_MAX:
            _log.warning("the stream to member %d is behind; %d messages are dropped", self.peer, len(self._queue))
            self._drop_queue()
        self._queue.extend(messages)
        self._wake.set()

    def _drop_queue(self) -> None:
        dropped, self._queue = self._queue, []
        tell_unsent(self.transport, self.peer, dropped)

    async def run(self) -> None:
        delay = BACKOFF_S[0]
        while True:
            if self.channel == BULK:
                await self._wake.wait()
            try:
                await self._connect()
                delay = BACKOFF_S[0]
            except aiohttp.WSServerHandshakeError as error:
                self._refused(error)
                delay = BACKOFF_S[1] if self.refusal else delay
            except (aiohttp.ClientError, OSError, TimeoutError) as error:
                _log.debug("no stream to member %d at %s: %s", self.peer, self.address, error)
            self._drop_queue()
            self._wake.clear()
            task = asyncio.current_task()
            if task is not None and task.cancelling():
                # A task group whose child fails in that moment forgets that it was cancelled, before Python 3.13.
                raise asyncio.CancelledError
            await asyncio.sleep(delay * random.uniform(0.5, 1.0))
            delay = min(2 * delay, BACKOFF_S[1])

    def _refused(self, error: aiohttp.WSServerHandshakeError) -> None:
        why = error.headers.get(REFUSAL_HEADER, "") if error.headers else ""
        why = why or f"HTTP {error.status}"
        if why.startswith(NOT_FOUNDED):
            return
        if why.startswith(REMOVED):
            self.transport.on_removed()
        if why != self.refusal:
            _log.warning("member %d at %s refuses this node: %s", self.peer, self.address, why)
        self.refusal = why

    async def _connect(self) -> None:
        session = self.transport.session
        assert session is not None
        hello = msgspec.json.encode(self.transport.hello_to(self.peer, self.store_id, self.channel)).decode()
        timeout = aiohttp.ClientWSTimeout(ws_close=CLOSE_TIMEOUT_S)
        async with asyncio.timeout(CONNECT_TIMEOUT_S):
            socket = await session.ws_connect(
                f"http://{self.address}{STREAM_PATH}",
                headers={HELLO_HEADER: hello},
                heartbeat=HEARTBEAT_S,
                compress=0,
                max_msg_size=1024,
                timeout=timeout,
            )
        self.connected, self._closed, self.refusal = True, False, ""
        self.transport.connects += 1
        _log.debug("stream to member %d is up (%s)", self.peer, self.channel)
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(self._watch(socket))
                await self._pump(socket)
        except* (aiohttp.ClientError, OSError) as errors:
            _log.debug("stream to member %d broke: %s", self.peer, errors.exceptions[0])
        finally:
            self.connected = False
            await socket.close()
            self._drop_queue()
            if self.channel == CONTROL:
                self.transport.on_lost(self.peer)

    async def _watch(self, socket: aiohttp.ClientWebSocketResponse) -> None:
        """The other side never sends on this stream: whatever comes is its end."""
        await socket.receive()
        self._closed = True
        self._wake.set()

    async def _pump(self, socket: aiohttp.ClientWebSocketResponse) -> None:
        while True:
            await self._wake.wait()
            self._wake.clear()
            if self._closed:
                return
            if self._queue:
                batch, self._queue = self._queue, []
                await socket.send_bytes(encode_frame(batch))


def tell_unsent(transport: Transport, peer: int, messages: Sequence[PeerMessage]) -> None:
    """Of what is dropped here, a forwarded write certainly did not happen, and its caller must not wait for it."""
    forwards = [message.id for message in messages if isinstance(message, Forward)]
    if forwards:
        transport.on_unsent(peer, forwards)
