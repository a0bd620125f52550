"""Streams between members: one outgoing WebSocket to each peer and channel, and the listener for theirs.

The glue calls `send`, `update` and gives `on_messages` and `on_lost`. Rules: a stream is refused before the upgrade
unless cluster id, member id and store id all fit, on both sides; snapshots have a channel of their own, so that
heartbeats never wait behind them.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field

import aiohttp
import msgspec
from aiohttp import web

from raftwright.raft.membership import Membership
from raftwright.server.peer_streams import (
    BULK,
    CLOSE_TIMEOUT_S,
    CONTROL,
    HEARTBEAT_S,
    HELLO_HEADER,
    NOT_FOUNDED,
    REFUSAL_HEADER,
    REMOVED,
    STREAM_PATH,
    PeerStream,
    new_connector,
    tell_unsent,
)
from raftwright.server.wire import BULK_MESSAGES, FRAME_BYTES_MAX, PROTOCOL, PeerHello, PeerMessage, decode_frame

_log = logging.getLogger(__name__)

IDENTITY_PATH = "/peer/v1/identity"
JOIN_PATH = "/peer/v1/join"
JOIN_BYTES_MAX = 64 << 10
LINGER_S = 2.0
"""How long a stream to a member that was removed stays, so that it hears so."""


@dataclass(slots=True, kw_only=True)
class LocalIdentity:
    """Who this node is; cluster and member id are None until it is founded or joined."""

    name: str
    store_id: str
    client: str = ""
    """Where clients reach this node."""
    peer: str = ""
    """Where members reach it."""
    cluster_id: str | None = None
    member_id: int | None = None
    founding: str | None = None
    """What the cluster was founded as; None: not known."""
    removed: bool = False
    """It was a member, and was removed for good."""
    metadata: dict[str, str] = field(default_factory=dict)
    """What others may know of it, for the membership that it enters."""


class PeerTransport:
    """All streams of this node. `on_messages(messages)` and `on_lost(peer)` run on the event loop."""

    def __init__(
        self,
        identity: LocalIdentity,
        *,
        on_messages: Callable[[list[PeerMessage]], None],
        on_lost: Callable[[int], None],
    ) -> None:
        self.identity = identity
        self.on_messages = on_messages
        self.on_lost = on_lost
        self.on_unsent: Callable[[int, list[int]], None] = lambda peer, forwards: None
        """Forwards to that peer, by their numbers, that were dropped before any of them left this node."""
        self.membership = Membership()
        self.is_removed: Callable[[int], bool] = lambda member_id: self.membership.was_removed(member_id)
        """Whether that member was removed for good, by what is committed."""
        self.is_settled: Callable[[int], bool] = lambda member_id: True
        """Whether that member is one by what is committed."""
        self.is_shut_out: Callable[[int], bool] = lambda member_id: False
        """Whether nothing that this member says counts any more."""
        self.on_removed: Callable[[], None] = lambda: None
        """A peer says that this node was removed."""
        self.admit: Callable[[PeerHello], Awaitable[None]] | None = None
        """Called on a stream to a node that is no member yet, which may become one by it."""
        self.learn_founding: Callable[[str], Awaitable[None]] | None = None
        """Called with what the cluster was founded as, by a member that knows it, where this node does not."""
        self.on_join: Callable[[bytes], Awaitable[tuple[int, bytes]]] | None = None
        """A node asks to be added: the body of its request, and status and body of the answer."""
        self._callers: dict[int, tuple[str, str]] = {}
        """Store id and address of members that called and that the own membership does not have yet."""
        self.session: aiohttp.ClientSession | None = None
        self._streams: dict[tuple[int, str], tuple[PeerStream, asyncio.Task[None]]] = {}
        self._group: asyncio.TaskGroup | None = None
        self.connects = 0
        """Streams that were set up, again or for the first time."""
        self._incoming: set[web.WebSocketResponse] = set()

    async def run(self) -> None:
        """Own every stream until cancelled."""
        session = aiohttp.ClientSession(connector=new_connector())
        async with session as self.session, asyncio.TaskGroup() as self._group:
            self.update(self.membership)
            await asyncio.Event().wait()

    def update(self, membership: Membership) -> None:
        """Connect to whom it names, and to nobody else."""
        self.membership = membership
        if self._group is None:
            return
        wanted: dict[tuple[int, str], tuple[str, str]] = {
            (number, channel): (member.store_id, member.addresses.peer)
            for number, member in sorted(membership.members.items())
            if number != self.identity.member_id
            for channel in (CONTROL, BULK)
        }
        for number, (store_id, address) in list(self._callers.items()):
            if number in membership.members or membership.was_removed(number):
                del self._callers[number]
            else:
                wanted[number, CONTROL] = store_id, address
        for key, (stream, task) in list(self._streams.items()):
            stream.is_leaving = key not in wanted
            if stream.is_leaving:
                # A member that was removed has to hear of it first.
                asyncio.get_running_loop().call_later(LINGER_S, self._drop, key, stream)
            elif wanted[key] != (stream.store_id, stream.address):
                task.cancel()
                del self._streams[key]
        for key, (store_id, address) in wanted.items():
            if key not in self._streams:
                stream = PeerStream(self, key[0], store_id, address, key[1])
                self._streams[key] = stream, self._group.create_task(stream.run(), name=f"stream {key}")

    def _drop(self, key: tuple[int, str], stream: PeerStream) -> None:
        found = self._streams.get(key)
        if found is not None and found[0] is stream and stream.is_leaving:
            found[1].cancel()
            del self._streams[key]

    def send(self, sends: Mapping[int, Sequence[PeerMessage]]) -> None:
        for peer, messages in sends.items():
            bulk = [message for message in messages if isinstance(message, BULK_MESSAGES)]
            control = [message for message in messages if not isinstance(message, BULK_MESSAGES)] if bulk else messages
            for channel, part in ((CONTROL, control), (BULK, bulk)):
                found = self._streams.get((peer, channel))
                if found is not None and part:
                    found[0].send(part)
                elif part:
                    tell_unsent(self, peer, part)

    def hello_to(self, peer: int, store_id: str, channel: str) -> PeerHello:
        return PeerHello(
            protocol_min=PROTOCOL,
            protocol_max=PROTOCOL,
            cluster_id=self.identity.cluster_id or "",
            member_id=self.identity.member_id or 0,
            store_id=self.identity.store_id,
            to_member_id=peer,
            to_store_id=store_id,
            channel=channel,
            address=self._own_address(),
            settled=self.is_settled(peer),
            founding=self.identity.founding or "",
        )

    def _own_address(self) -> str:
        own = self.membership.members.get(self.identity.member_id or 0)
        return self.identity.peer if own is None else own.addresses.peer

    def refusals(self) -> dict[int, str]:
        """Peers that refuse this node, and why."""
        return {peer: stream.refusal for (peer, _), (stream, _) in self._streams.items() if stream.refusal}

    def is_connected(self, peer: int) -> bool:
        found = self._streams.get((peer, CONTROL))
        return found is not None and found[0].connected

    # The listener's side

    def routes(self) -> list[web.AbstractRouteDef]:
        return [
            web.get(IDENTITY_PATH, self._on_identity),
            web.get(STREAM_PATH, self._on_stream),
            web.post(JOIN_PATH, self._on_join),
        ]

    async def _on_join(self, request: web.Request) -> web.Response:
        body = await request.read()
        if self.on_join is None or len(body) > JOIN_BYTES_MAX:
            return web.Response(status=400)
        status, answer = await self.on_join(body)
        return web.Response(status=status, body=answer, content_type="application/json")

    async def _on_identity(self, _: web.Request) -> web.Response:
        document = {
            "name": self.identity.name,
            "store_id": self.identity.store_id,
            "client": self.identity.client,
            "cluster_id": self.identity.cluster_id,
            "member_id": self.identity.member_id,
            "metadata": self.identity.metadata,
        }
        return web.Response(body=msgspec.json.encode(document), content_type="application/json")

    def why_refused(self, hello: PeerHello) -> str:
        """Empty where the stream is welcome, else why it is not."""
        mine = self.identity
        if not hello.protocol_min <= PROTOCOL <= hello.protocol_max:
            spoken = f"{hello.protocol_min} to {hello.protocol_max}"
            return f"version: this node speaks protocol {PROTOCOL}, the other {spoken}"
        if mine.removed:
            return f"gone: this node was member {mine.member_id}, and was removed"
        if mine.cluster_id is None:
            return f"{NOT_FOUNDED}: this node does not belong to a cluster yet"
        if hello.cluster_id != mine.cluster_id:
            return f"cluster: this node belongs to cluster {mine.cluster_id}, the other to {hello.cluster_id}"
        if hello.founding and mine.founding and hello.founding != mine.founding:
            return (
                f"founding: this node's cluster was founded as {mine.founding}, the other's as {hello.founding}: under"
                f" the one id {mine.cluster_id} there are two clusters, by two bootstraps; keep one of them, and let"
                " the other one's nodes begin anew, with empty data directories, and be added to it"
            )
        if hello.to_member_id != mine.member_id or hello.to_store_id != mine.store_id:
            return f"not-me: this is member {mine.member_id} with store {mine.store_id}"
        if self.is_removed(hello.member_id):
            return f"{REMOVED}: member {hello.member_id} was removed from the cluster"
        member = self.membership.members.get(hello.member_id)
        if member is not None and member.store_id != hello.store_id:
            return f"stranger: member {hello.member_id} has store {member.store_id}, not {hello.store_id}"
        return ""

    def _teaches(self, hello: PeerHello) -> bool:
        """Whether it comes from a member, and says what the cluster was founded as, which this node does not know."""
        member = self.membership.members.get(hello.member_id)
        is_member = member is not None and member.store_id == hello.store_id
        return is_member and bool(hello.founding) and self.identity.founding is None

    async def _on_stream(self, request: web.Request) -> web.StreamResponse:
        try:
            hello = msgspec.json.decode(request.headers.get(HELLO_HEADER, ""), type=PeerHello)
        except (msgspec.DecodeError, UnicodeError):
            return _refuse("version: no valid introduction came with this stream")
        if self.identity.cluster_id is None and self.admit is not None:
            await self.admit(hello)
        why = self.why_refused(hello)
        if not why and self._teaches(hello) and self.learn_founding is not None:
            await self.learn_founding(hello.founding)
            why = self.why_refused(hello)  # another one may have been first
        if why:
            if not why.startswith(NOT_FOUNDED):
                _log.info("refused a stream from member %d: %s", hello.member_id, why)
            return _refuse(why)
        socket = web.WebSocketResponse(
            heartbeat=HEARTBEAT_S, compress=False, max_msg_size=FRAME_BYTES_MAX, timeout=CLOSE_TIMEOUT_S
        )
        await socket.prepare(request)
        self._incoming.add(socket)
        if hello.channel == CONTROL and hello.address and hello.member_id not in self.membership.members:
            # A member that the own log does not have yet: without a way back it could not be answered, nor the log
            # be brought to where it has it.
            self._callers[hello.member_id] = hello.store_id, hello.address
            self.update(self.membership)
        try:
            await self._read_frames(hello, socket)
        finally:
            self._incoming.discard(socket)
            await socket.close()
        return socket

    async def _read_frames(self, hello: PeerHello, socket: web.WebSocketResponse) -> None:
        async for frame in socket:
            if frame.type is not aiohttp.WSMsgType.BINARY or self.is_shut_out(hello.member_id):
                break  # who was removed hears so when it connects again
            try:
                messages = decode_frame(frame.data)
            except ValueError as error:
                _log.warning("member %d sent what is no frame: %s", hello.member_id, error)
                break
            if any(m.from_id != hello.member_id or m.to_id != self.identity.member_id for m in messages):
                _log.warning("member %d sent a message in the name of another", hello.member_id)
                break
            self.on_messages(messages)

    async def hang_up(self) -> None:
        """Close what others opened, so that they notice at once."""
        await asyncio.gather(*(socket.close(code=aiohttp.WSCloseCode.GOING_AWAY) for socket in self._incoming))


def _refuse(why: str) -> web.Response:
    return web.Response(status=403, text=why + "\n", headers={REFUSAL_HEADER: why})
