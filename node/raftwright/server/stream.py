"""One client's stream: frames in, replies out, in any order, over one WebSocket.

`routes/stream.py` runs it. Rules: the unit of work is the frame: decoded once, checked, proposed as one blob, answered
as one; never a task an operation. Answers that come in one turn of the event loop leave in one frame. While too much is
unanswered, nothing is read. Who breaks the protocol is told why, and closed.
"""

import asyncio
from collections import deque
from collections.abc import Callable, Coroutine
from functools import partial
from typing import Any

from aiohttp import WSCloseCode, WSMsgType, web

from raftwright.client.models import (
    STREAM_PROTOCOL,
    Consistency,
    Hello,
    ProblemReply,
    Read,
    ReadReply,
    ReplyFrame,
    RequestFrame,
    Welcome,
    WriteReply,
    Writes,
    decode_client_frame,
    encode_frame,
)
from raftwright.kv.commands import InvalidCommand
from raftwright.server.api import Api, Closable
from raftwright.server.authorize import Permission, Principal, authorize
from raftwright.server.blobs import Blob, Origin
from raftwright.server.errors import OutcomeUnknown, ServiceError
from raftwright.server.problems import FieldInvalid, FieldTooLarge, error_of_bug, error_of_command, problem_of
from raftwright.server.reading import Wish, count, must_have_state, read_as_asked, suffices, wish_of_all
from raftwright.server.service import WriteFuture
from raftwright.server.sessions import RETENTION_MS

_SEQUENCE_MAX = 2**63 - 1
_REASON_BYTES_MAX = 120
"""A close frame has room for 123."""
_FRAME_OVERHEAD = 256
"""What a frame without an answer is taken to cost beside its bytes."""

_Reply = WriteReply | ReadReply | ProblemReply


class _ProtocolError(Exception):
    """The client did what the protocol does not allow: `code` and reason go into the close frame."""

    def __init__(self, code: int, reason: str) -> None:
        super().__init__(reason)
        self.code = code
        self.reason = reason


class ClientStream(Closable):
    __slots__ = (
        "_api",
        "_group",
        "_on_whole_frame",
        "_open",
        "_pending_bytes",
        "_pending_parts",
        "_principal",
        "_reads",
        "_replies",
        "_room",
        "_rounds",
        "_session",
        "_socket",
        "_wake",
    )

    def __init__(
        self, api: Api, socket: web.WebSocketResponse, principal: Principal, on_frame: Callable[[int], None]
    ) -> None:
        """`on_frame` is told the bytes of each message that was taken."""
        self._on_whole_frame = on_frame
        self._api = api
        self._socket = socket
        self._principal = principal
        self._session = b""
        self._open = True
        self._pending_parts = 0
        self._pending_bytes = 0
        self._room = asyncio.Event()
        self._wake = asyncio.Event()
        self._replies: deque[tuple[_Reply, int, int]] = deque()
        """With what each costs to send, and what it gives back to the bound of pending bytes."""
        self._reads: list[tuple[int, list[Read], int]] = []
        """Frames' reads that the next round confirms, by id, with what each holds of the bound of pending bytes."""
        self._rounds: set[asyncio.Task[None]] = set()
        self._group: asyncio.TaskGroup

    async def run(self) -> None:
        """Serve the stream until it closes."""
        try:
            async with asyncio.TaskGroup() as self._group:
                writer = self._group.create_task(self._write())
                try:
                    await self._greet()
                    await self._read()
                finally:
                    self._open = False
                    writer.cancel()
                    self._cancel_rounds()
        except* _ProtocolError as errors:
            await self._complain(errors)
        except* (ConnectionError, TimeoutError):
            pass  # the client is gone

    async def close(self, code: int, reason: str) -> None:
        await self._socket.close(code=code, message=reason.encode()[:_REASON_BYTES_MAX])

    async def _complain(self, errors: BaseExceptionGroup[_ProtocolError]) -> None:
        error = errors.exceptions[0]
        assert isinstance(error, _ProtocolError)
        self._api.metrics.stream_errors += 1
        await self.close(error.code, error.reason)

    # Frames in

    async def _greet(self) -> None:
        settings = self._api.settings
        async with asyncio.timeout(settings.request_head_timeout_s):
            hello = await self._frame()
        if not isinstance(hello, Hello):
            raise _ProtocolError(WSCloseCode.PROTOCOL_ERROR, "the first frame must be Hello")
        if hello.protocol != STREAM_PROTOCOL:
            reason = f"this node speaks version {STREAM_PROTOCOL} of the stream, not {hello.protocol}"
            raise _ProtocolError(WSCloseCode.PROTOCOL_ERROR, reason)
        self._session = hello.session
        service = self._api.service
        welcome = Welcome(
            protocol=STREAM_PROTOCOL,
            node=service.name,
            cluster_id=service.cluster_id or "",
            frame_bytes_max=settings.stream_frame_bytes_max,
            blob_commands_max=settings.stream_commands_max,
            key_bytes_max=settings.key_bytes_max,
            value_bytes_max=settings.value_bytes_max,
            session_retention_s=RETENTION_MS / 1000,
        )
        await self._socket.send_bytes(encode_frame(welcome))

    async def _read(self) -> None:
        settings = self._api.settings
        while True:
            while (
                self._pending_parts >= settings.stream_pending_frames_max
                or self._pending_bytes >= settings.stream_pending_bytes_max
            ):
                self._room.clear()
                await self._room.wait()
            frame = await self._frame()
            if frame is None:
                return
            if isinstance(frame, Hello):
                raise _ProtocolError(WSCloseCode.PROTOCOL_ERROR, "only the first frame is Hello")
            self._on_frame(frame)

    async def _frame(self) -> Hello | RequestFrame | None:
        """The next frame; None when the stream is closed."""
        message = await self._socket.receive()
        if message.type is WSMsgType.BINARY:
            self._on_whole_frame(len(message.data))
            self._api.metrics.stream_frames += 1
            try:
                return decode_client_frame(message.data)
            except ValueError as error:
                reason = f"this is no frame of the stream: {str(error)[:80]}"
                raise _ProtocolError(WSCloseCode.PROTOCOL_ERROR, reason) from error
        if message.type is WSMsgType.TEXT:
            raise _ProtocolError(WSCloseCode.UNSUPPORTED_DATA, "frames of the stream are binary")
        if message.type is WSMsgType.ERROR:
            self._api.metrics.stream_errors += 1  # aiohttp has closed it with the right code: 1009 for one too long
        return None

    def _on_frame(self, frame: RequestFrame) -> None:
        if frame.writes is not None:
            self._on_writes(frame.id, frame.writes)
        if frame.reads:
            self._on_reads(frame.id, frame.reads)
        if frame.writes is None and not frame.reads:
            self._refuse(frame.id, "frame", FieldInvalid("the frame asks for nothing"))

    # Writes

    def _on_writes(self, number: int, writes: Writes) -> None:
        cost = self._take(len(writes.blob))
        try:
            authorize(self._principal, Permission.WRITE)
            commands = self._decoded(writes)
            origin = Origin(
                self._session, writes.first_seq, writes.count, writes.acked_below, writes.opens, self._principal.name
            )
            future = self._api.service.write_blob(Blob(origin, writes.blob), commands)
        except ServiceError as error:
            self._refuse(number, "writes", error, cost)
            return
        self._api.metrics.stream_commands += len(commands)
        future.add_done_callback(partial(self._on_written, number, cost))

    def _decoded(self, writes: Writes) -> list[Any]:
        """The commands of a blob, all of which a node may take."""
        machine = self._api.service.machine
        try:
            commands = machine.decode(writes.blob)
            if len(commands) != writes.count:
                detail = f"The blob holds {len(commands):,} commands, and the frame says {writes.count:,}"
                raise FieldInvalid(detail, field="count")
            machine.check(commands)
        except InvalidCommand as error:
            raise error_of_command(error, alone=False) from error
        if writes.first_seq + writes.count - 1 > _SEQUENCE_MAX or writes.acked_below > writes.first_seq:
            raise FieldInvalid("The sequence numbers are out of range, or were acknowledged", field="first_seq")
        return commands

    def _on_written(self, number: int, cost: int, future: WriteFuture) -> None:
        error = OutcomeUnknown("the node gave it up") if future.cancelled() else future.exception()
        if error is None:
            results = future.result()
            self._reply(WriteReply(number, results, future.index), len(results), cost)
        else:
            self._refuse(number, "writes", error if isinstance(error, ServiceError) else error_of_bug(error), cost)

    # Reads

    def _on_reads(self, number: int, reads: list[Read]) -> None:
        cost = self._take(sum(len(read.key) for read in reads))
        wish = wish_of_all(reads)
        try:
            authorize(self._principal, Permission.READ)
            if wish.consistency is Consistency.STALE:
                must_have_state(self._api)
            if suffices(self._api, wish):
                answer = self._read_all(number, reads)
                if suffices(self._api, wish):
                    count(self._api, wish.consistency, len(reads))
                    self._answer_reads(answer, number, cost)
                    return
        except ServiceError as error:
            self._refuse(number, "reads", error, cost)
            return
        if self._api.service.applied_index < wish.min_index:
            self._spawn(self._wait(number, reads, cost, wish))  # apart: it may take long
            return
        if not self._reads:
            asyncio.get_running_loop().call_soon(self._start_round)
        self._reads.append((number, reads, cost))

    def _start_round(self) -> None:
        """One round confirms all reads of this turn of the event loop."""
        waiting, self._reads = self._reads, []
        if waiting:
            self._spawn(self._confirm(waiting))

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        if not self._open:
            work.close()
            return
        task = self._group.create_task(work)
        self._rounds.add(task)
        task.add_done_callback(self._rounds.discard)

    async def _wait(self, number: int, reads: list[Read], cost: int, wish: Wish) -> None:
        try:
            answer = await read_as_asked(self._api, wish, lambda: self._read_all(number, reads))
        except ServiceError as error:
            self._refuse(number, "reads", error, cost)
        except Exception as bug:
            self._refuse(number, "reads", error_of_bug(bug), cost)
        else:
            self._answer_reads(answer, number, cost)

    async def _confirm(self, waiting: list[tuple[int, list[Read], int]]) -> None:
        error: ServiceError | None = None
        try:
            await self._api.service.read_barrier()
        except ServiceError as refused:
            error = refused
        except Exception as bug:
            error = error_of_bug(bug)
        for number, reads, cost in waiting:
            if error is not None:
                self._refuse(number, "reads", error, cost)
            else:
                count(self._api, Consistency.LINEARIZABLE, len(reads))
                self._answer_reads(self._read_all(number, reads), number, cost)

    def _cancel_rounds(self) -> None:
        for task in list(self._rounds):
            task.cancel()

    def _read_all(self, number: int, reads: list[Read]) -> tuple[ReadReply, int] | FieldTooLarge:
        """The answer to a frame's reads, and its size."""
        get = self._api.kv.get
        values: list[tuple[int, bytes] | None] = []
        size = 0
        bytes_max = self._api.settings.stream_frame_bytes_max
        for read in reads:
            item = get(read.key)
            value = item.value if item is not None else None
            values.append(None if item is None or value is None else (item.revision, value))
            size += 12 + len(value or b"")
            if size > bytes_max and len(reads) > 1:
                detail = f"The values are more than the {bytes_max:,} bytes of a frame: ask for fewer keys at once"
                return FieldTooLarge(detail, field="reads")
        return ReadReply(number, values, self._api.service.applied_index), size

    def _answer_reads(self, answer: tuple[ReadReply, int] | FieldTooLarge, number: int, cost: int) -> None:
        if isinstance(answer, FieldTooLarge):
            self._refuse(number, "reads", answer, cost)
        else:
            self._reply(*answer, cost)

    # Frames out

    def _take(self, size: int) -> int:
        cost = size + _FRAME_OVERHEAD
        self._pending_parts += 1
        self._pending_bytes += cost
        return cost

    def _refuse(self, number: int, part: Any, error: ServiceError, cost: int | None = None) -> None:
        problem = problem_of(error, is_write=part != "reads")
        self._reply(ProblemReply(number, part, problem), 512, self._take(0) if cost is None else cost)

    def _reply(self, reply: _Reply, size: int, cost: int) -> None:
        self._replies.append((reply, size, cost))
        self._wake.set()

    async def _write(self) -> None:
        """Send what has gathered. The bound of what is pending counts a reply until it is sent."""
        while True:
            await self._wake.wait()
            self._wake.clear()
            while self._replies:
                await self._send_some()

    async def _send_some(self) -> None:
        replies: list[_Reply] = []
        size = parts = given_back = 0
        bytes_max = self._api.settings.stream_frame_bytes_max
        while self._replies and (not replies or size + self._replies[0][1] <= bytes_max):
            reply, reply_size, cost = self._replies.popleft()
            replies.append(reply)
            size += reply_size
            given_back += cost
            parts += 1
        service = self._api.service
        await self._socket.send_bytes(encode_frame(ReplyFrame(replies, service.term, service.applied_index)))
        self._api.metrics.stream_replies += 1
        self._pending_parts -= parts
        self._pending_bytes -= given_back
        self._room.set()
