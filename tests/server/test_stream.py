"""A client's stream over a real WebSocket: pipelining, replay, refusals, bounds, and what breaks the protocol."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import aiohttp
import msgspec
import pytest
from aiohttp import WSCloseCode, WSMsgType

from raftwright.client.models import (
    Consistency,
    Hello,
    PreconditionFailed,
    ProblemReply,
    Read,
    ReadReply,
    ReplyFrame,
    RequestFrame,
    Welcome,
    WriteReply,
    Writes,
    decode_node_frame,
    decode_results,
    encode_frame,
)
from raftwright.kv.commands import Delete, Put, encode_blob, encode_command
from raftwright.server.errors import NoLeader
from tests.server.local_service import Running, hear, request_bytes, running

SESSION = b"s" * 16


class Peer:
    """The client's end, frame by frame."""

    def __init__(self, socket: aiohttp.ClientWebSocketResponse) -> None:
        self.socket = socket
        self.frames: list[ReplyFrame] = []
        self._waiting: list[WriteReply | ReadReply | ProblemReply] = []

    async def greet(self, hello: Hello | None = None) -> Welcome:
        await self.socket.send_bytes(encode_frame(hello or Hello(1, SESSION)))
        welcome = decode_node_frame(await self.socket.receive_bytes())
        assert isinstance(welcome, Welcome)
        return welcome

    async def send(self, *frames: RequestFrame) -> None:
        for frame in frames:
            await self.socket.send_bytes(encode_frame(frame))

    async def reply(self) -> WriteReply | ReadReply | ProblemReply:
        async with asyncio.timeout(10):
            if not self._waiting:
                frame = decode_node_frame(await self.socket.receive_bytes())
                assert isinstance(frame, ReplyFrame)
                self.frames.append(frame)
                self._waiting += frame.replies
        return self._waiting.pop(0)

    async def results(self) -> list[Any]:
        reply = await self.reply()
        assert isinstance(reply, WriteReply), reply
        return decode_results(reply.results)

    async def values(self) -> list[Any]:
        reply = await self.reply()
        assert isinstance(reply, ReadReply), reply
        return reply.values

    async def problem(self) -> tuple[str, Any]:
        reply = await self.reply()
        assert isinstance(reply, ProblemReply), reply
        return reply.part, reply.problem

    async def closed(self) -> tuple[int | None, str]:
        """Close code and reason."""
        async with asyncio.timeout(10):
            message = await self.socket.receive()
        assert message.type is WSMsgType.CLOSE, message
        return message.data, str(message.extra)


@asynccontextmanager
async def peer(server: Running, *, greeted: bool = True) -> AsyncIterator[Peer]:
    async with (
        aiohttp.ClientSession() as session,
        session.ws_connect(f"http://{server.host}:{server.port}/v1/stream", max_msg_size=0) as socket,
    ):
        client = Peer(socket)
        if greeted:
            await client.greet()
        yield client


def puts(first: int, *pairs: tuple[str, bytes], acked: int = 0) -> Writes:
    blob = encode_blob([encode_command(Put(key, value)) for key, value in pairs])
    return Writes(first, len(pairs), acked, True, blob)


@pytest.fixture
async def server() -> AsyncIterator[Running]:
    async with running(stream_frame_bytes_max=100_000, value_bytes_max=50_000, stream_commands_max=50) as started:
        yield started


async def test_the_welcome_says_what_the_node_takes(server: Running) -> None:
    async with peer(server, greeted=False) as client:
        welcome = await client.greet(Hello(1, SESSION, "test/1"))
        assert welcome == Welcome(1, "n1", "c" * 32, 100_000, 50, 1024, 50_000, 600.0)
        assert server.metrics.streams == 1
    await server.until(lambda: server.metrics.streams == 0)


async def test_writes_and_reads_of_a_frame_are_answered_apart(server: Running) -> None:
    async with peer(server) as client:
        await client.send(RequestFrame(1, puts(1, ("a", b"1"), ("b", b"2")), [Read("z")]))
        replies = {type(reply): reply for reply in (await client.reply(), await client.reply())}
        assert decode_results(replies[WriteReply].results) == [1, 2]  # type: ignore[union-attr]
        assert replies[ReadReply].values == [None]  # type: ignore[union-attr]
        assert {reply.id for reply in replies.values()} == {1}
        await client.send(RequestFrame(2, None, [Read("b"), Read("c"), Read("a", Consistency.STALE)]))
        assert await client.values() == [(2, b"2"), None, (1, b"1")]
        assert (client.frames[-1].term, client.frames[-1].index) == (7, server.service.applied_index)


async def test_frames_are_pipelined_and_replies_gathered(server: Running) -> None:
    async with peer(server) as client:
        frames = [RequestFrame(number, puts(number, (f"k{number}", b"v"))) for number in range(1, 301)]
        await client.send(*frames)
        replies = [await client.reply() for _ in frames]
        assert {reply.id for reply in replies} == set(range(1, 301))
        assert len(client.frames) < 200
        assert server.service.blobs == 300


async def test_reads_that_arrive_together_share_a_round(server: Running) -> None:
    async with peer(server) as client:
        await client.send(*(RequestFrame(number, None, [Read("a")]) for number in range(200)))
        for _ in range(200):
            assert await client.values() == [None]
        assert server.service.barriers < 150
        before = server.service.barriers
        await client.send(RequestFrame(1, None, [Read("a", Consistency.STALE)]))
        assert await client.values() == [None]
        assert server.service.barriers == before


async def test_a_replay_gives_the_first_results_and_changes_nothing(server: Running) -> None:
    writes = puts(1, ("a", b"1"), ("a", b"2"))
    async with peer(server) as client:
        await client.send(RequestFrame(1, writes))
        assert await client.results() == [1, 2]
    async with peer(server) as client:
        await client.send(RequestFrame(9, writes), RequestFrame(10, puts(3, ("b", b"3"))))
        assert await client.results() == [1, 2]
        assert await client.results() == [3]
        await client.send(RequestFrame(11, puts(1, ("a", b"other"), ("a", b"2"))))
        part, problem = await client.problem()
        assert (part, problem.status, problem.outcome) == ("writes", 422, "none")
    assert server.service.machine.revision == 3


async def test_a_failed_command_is_a_result(server: Running) -> None:
    blob = encode_blob(
        [encode_command(command) for command in (Put("a", b"1"), Put("a", b"2", None, True), Delete("a"))]
    )
    async with peer(server) as client:
        await client.send(RequestFrame(1, Writes(1, 3, 0, True, blob)))
        assert await client.results() == [1, PreconditionFailed(1), 2]


@pytest.mark.parametrize(
    ("writes", "kind", "field", "position"),
    [
        (puts(1, ("a", b""), ("", b"")), "invalid-request", "key", 1),
        (puts(1, ("a", b""), ("k" * 1025, b"")), "too-large", "key", 1),
        (puts(1, ("a", b"v" * 50_001)), "too-large", "value", 0),
        (puts(1, *((str(number), b"") for number in range(51))), "too-large", "commands", None),
        (Writes(1, 1, 0, True, b"junk"), "invalid-request", None, None),
        (Writes(1, 1, 0, True, b""), "invalid-request", None, None),
        (msgspec.structs.replace(puts(1, ("a", b"")), count=2), "invalid-request", "count", None),
        (puts(2**63 - 1, ("a", b""), ("b", b"")), "invalid-request", "first_seq", None),
        (puts(1, ("a", b""), acked=2), "invalid-request", "first_seq", None),
    ],
)
async def test_a_bad_command_refuses_the_writes_before_they_are_proposed(
    server: Running, writes: Writes, kind: str, field: str | None, position: int | None
) -> None:
    async with peer(server) as client:
        await client.send(RequestFrame(5, writes))
        part, problem = await client.problem()
        assert part == "writes"
        assert problem.type.endswith("/" + kind)
        assert (problem.field, problem.position, problem.outcome) == (field, position, "none")
        assert server.service.blobs == 0
        await client.send(RequestFrame(6, puts(1, ("a", b"good"))))
        assert await client.results() == [1]


async def test_a_refusal_of_the_service_is_a_problem(server: Running) -> None:
    async with peer(server) as client:
        server.service.refusing = NoLeader(leader="10.0.0.1:7001")
        await client.send(RequestFrame(1, puts(1, ("a", b"")), [Read("a")]))
        problems = dict([await client.problem(), await client.problem()])
        assert problems["writes"].outcome == "none"
        assert problems["reads"].outcome is None
        assert problems["writes"].leader == "10.0.0.1:7001"


async def test_values_that_do_not_fit_a_frame_are_refused(server: Running) -> None:
    async with peer(server) as client:
        for number in range(1, 4):
            await client.send(RequestFrame(number, puts(number, (str(number), b"v" * 40_000))))
            await client.results()
        await client.send(RequestFrame(4, None, [Read("1"), Read("2"), Read("3")]))
        part, problem = await client.problem()
        assert (part, problem.status) == ("reads", 413)
        await client.send(*(RequestFrame(number, None, [Read(str(number))]) for number in (1, 2, 3)))
        for _ in range(3):
            assert len((await client.values())[0][1]) == 40_000


async def test_while_too_much_is_unanswered_nothing_is_read() -> None:
    async with running(stream_pending_frames_max=10) as server, peer(server) as client:
        server.service.holding = True
        await client.send(*(RequestFrame(number, puts(number, ("a", b""))) for number in range(1, 101)))
        await server.until(lambda: len(server.service.held) == 10)
        await asyncio.sleep(0.05)
        assert server.service.blobs == 10
        server.service.holding = False
        for future in server.service.held:
            future.set_result(b"\x90")
        for _ in range(100):
            await client.reply()
        assert server.service.blobs == 100


async def test_a_client_that_does_not_read_its_replies_is_not_read_from() -> None:
    async with running(stream_pending_bytes_max=4096, stream_pending_frames_max=1000) as server, peer(server) as client:
        await client.send(RequestFrame(1, puts(1, ("a", b"v" * 100_000))))
        await client.results()
        before = server.metrics.stream_frames
        transport = client.socket.get_extra_info("socket")
        assert transport is not None
        client.socket._reader._protocol.pause_reading()
        await client.send(*(RequestFrame(number, None, [Read("a")]) for number in range(600)))
        await asyncio.sleep(0.2)
        assert server.metrics.stream_frames - before < 300
        client.socket._reader._protocol.resume_reading()
        for _ in range(600):
            assert len((await client.values())[0][1]) == 100_000


@pytest.mark.parametrize(
    ("frame", "reason"),
    [
        (b"", "this is no frame"),
        (b"junk", "this is no frame"),
        (b"\x93\x01\x01", "this is no frame"),
        (encode_frame(RequestFrame(1)), "the first frame must be Hello"),
        (encode_frame(Hello(2, SESSION)), "version 1 of the stream, not 2"),
        (encode_frame(Hello(1, b"short")), "this is no frame"),
        (encode_frame(Welcome(1, "", "", 1, 1, 1, 1, 1.0)), "this is no frame"),
    ],
)
async def test_a_bad_first_frame_closes_with_a_reason(server: Running, frame: bytes, reason: str) -> None:
    async with peer(server, greeted=False) as client:
        await client.socket.send_bytes(frame)
        code, said = await client.closed()
        assert code == WSCloseCode.PROTOCOL_ERROR
        assert reason in said
    await server.until(lambda: server.metrics.streams == 0)
    assert server.metrics.stream_errors == 1


@pytest.mark.parametrize(
    "frame",
    [
        b"\xc1",
        encode_frame(Hello(1, SESSION)),
        encode_frame(RequestFrame(-1)),
        encode_frame(RequestFrame(1, Writes(1, 0, 0, True, b""))),
        encode_frame(RequestFrame(1, Writes(1, 70_000, 0, True, b""))),
        encode_frame(RequestFrame(1, None, [Read("a", 7)])),  # type: ignore[arg-type]
        msgspec.msgpack.encode([3, 1, None, [[b"\xff"]]]),
        msgspec.msgpack.encode([3, 1, None, [["a", "stale"]]]),
        b"\x93\x03\x01\xdd\xff\xff\xff\xff",
    ],
)
async def test_a_bad_frame_closes_with_a_reason_and_the_node_goes_on(server: Running, frame: bytes) -> None:
    async with peer(server) as client:
        await client.socket.send_bytes(frame)
        code, said = await client.closed()
        assert code == WSCloseCode.PROTOCOL_ERROR
        assert said
    async with peer(server) as client:
        await client.send(RequestFrame(1, puts(1, ("a", b""))))
        assert await client.results() == [1]


async def test_a_frame_that_asks_for_nothing_is_told_so(server: Running) -> None:
    async with peer(server) as client:
        await client.send(RequestFrame(3))
        part, problem = await client.problem()
        assert (part, problem.status) == ("frame", 400)


async def test_text_and_frames_that_are_too_long(server: Running) -> None:
    async with peer(server) as client:
        await client.socket.send_str("hello")
        assert await client.closed() == (WSCloseCode.UNSUPPORTED_DATA, "frames of the stream are binary")
    async with peer(server) as client:
        await client.socket.send_bytes(b"x" * 100_001)
        code, _ = await client.closed()
        assert code == WSCloseCode.MESSAGE_TOO_BIG
    await server.until(lambda: server.metrics.streams == 0)


async def test_a_client_that_says_nothing_is_closed() -> None:
    async with running(request_head_timeout_s=0.1) as server, peer(server, greeted=False) as client:
        message = await client.socket.receive(10)
        assert message.type in (WSMsgType.CLOSE, WSMsgType.CLOSED)
        await server.until(lambda: server.metrics.streams == 0)


async def test_a_dead_client_is_found_by_the_heartbeat() -> None:
    async with running(stream_heartbeat_s=0.2) as server:
        reader, writer = await server.connect()
        key = {"Sec-WebSocket-Key": "A" * 22 + "==", "Sec-WebSocket-Version": "13"}
        writer.write(request_bytes("GET", "/v1/stream", None, {"Upgrade": "websocket", "Connection": "upgrade", **key}))
        assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 101 ")
        hello = encode_frame(Hello(1, SESSION))
        writer.write(bytes((0x82, 0x80 | len(hello), 0, 0, 0, 0)) + hello)  # and no pong to any ping
        await server.until(lambda: server.metrics.streams == 1)
        await server.until(lambda: server.metrics.streams == 0)


async def test_a_client_that_leaves_while_writes_are_pending(server: Running) -> None:
    async with peer(server) as client:
        server.service.holding = True
        await client.send(RequestFrame(1, puts(1, ("a", b""))))
        await server.until(lambda: server.service.held)
    await server.until(lambda: server.metrics.streams == 0)
    server.service.held[0].set_result(b"\x90")
    await asyncio.sleep(0)
    assert (await server.ask("GET", "/livez")).status == 200


async def test_streams_are_bounded_in_number() -> None:
    async with running(streams_max=1) as server, peer(server):
        key = {"Sec-WebSocket-Key": "A" * 22 + "==", "Sec-WebSocket-Version": "13"}
        headers = {"Upgrade": "websocket", "Connection": "upgrade", **key}
        heard = await server.ask("GET", "/v1/stream", None, headers)
        assert (heard.status, heard.kind) == (503, "too-many-connections")


async def test_what_is_no_websocket_is_told_so(server: Running) -> None:
    for headers in ({}, {"Upgrade": "websocket", "Connection": "upgrade", "Sec-WebSocket-Version": "5"}):
        reader, writer = await server.connect()
        writer.write(request_bytes("GET", "/v1/stream", None, headers))
        heard = await hear(reader)
        assert (heard.status, heard.kind) == (426, "upgrade-required")


async def test_a_node_that_stops_says_goodbye_to_its_streams() -> None:
    async with running() as server, peer(server) as client:
        stopping = asyncio.create_task(server.server.stop())
        code, reason = await client.closed()
        assert (code, reason) == (WSCloseCode.GOING_AWAY, "this node is shutting down")
        await stopping
        with pytest.raises(OSError):
            await server.connect()


async def test_no_compression_is_agreed(server: Running) -> None:
    async with (
        aiohttp.ClientSession() as session,
        session.ws_connect(f"http://{server.host}:{server.port}/v1/stream", compress=15) as socket,
    ):
        assert not socket.compress


async def test_frames_in_part_are_bounded_over_all_streams_and_the_largest_goes() -> None:
    """What many streams hold back must not fill the memory, and who sends little is not cut for it."""
    async with running(streams_bytes_max=128 * 1024) as started, peer(started) as honest:
        for _ in range(6):
            writer = await _raw_stream(started)
            # A masked frame that announces 1 MB, of which 30 KB come and no more.
            writer.write(bytes([0x82, 0xFF]) + (1_000_000).to_bytes(8, "big") + bytes(4) + bytes(30_000))
            await writer.drain()
        await started.until(lambda: started.metrics.streams_cut)
        blob = encode_blob([encode_command(Put("k", b"v" * 10_000))])
        await honest.send(RequestFrame(1, Writes(1, 1, 0, True, blob), None))
        assert isinstance(await honest.reply(), WriteReply)


async def _raw_stream(started: Running) -> asyncio.StreamWriter:
    """A stream of which the test writes the bytes."""
    reader, writer = await started.connect()
    writer.write(
        b"GET /v1/stream HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
        b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n"
    )
    await reader.readuntil(b"\r\n\r\n")
    hello = encode_frame(Hello(1, SESSION))
    writer.write(bytes([0x82, 0x80 | len(hello)]) + bytes(4) + hello)
    return writer
