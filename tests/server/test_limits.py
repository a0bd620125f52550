"""Slow, half-open, too many and junk: each gets a clear answer, a bounded amount of memory, and the node goes on."""

import asyncio
import os
import random
import socket
import struct

import pytest
import uvloop
from hypothesis import given
from hypothesis import strategies as st

from raftwright.server.limits import Admission, Doorman, Limits
from tests.server.local_service import Running, hear, request_bytes, running

QUICK = {"request_head_timeout_s": 0.2}


async def closed(reader: asyncio.StreamReader) -> bytes:
    """What arrives until the server closes."""
    async with asyncio.timeout(10):
        try:
            return await reader.read()
        except ConnectionResetError:
            return b""


# Deadlines


async def test_a_head_that_trickles_is_cut_off() -> None:
    async with running(**QUICK) as server:
        reader, writer = await server.connect()
        heard = asyncio.create_task(hear(reader))
        for byte in request_bytes("GET", "/livez", None, {"X-Slow": "x" * 1000}):
            if heard.done():
                break
            writer.write(bytes((byte,)))
            await asyncio.sleep(0.01)
        slow = await heard
        assert (slow.status, slow.kind, slow.json["outcome"]) == (408, "head-too-slow", "none")
        assert await closed(reader) == b""
        assert server.metrics.heads_too_slow == 1


async def test_the_deadline_of_a_head_holds_for_every_request_of_a_connection() -> None:
    async with running(**QUICK) as server:
        reader, writer = await server.connect()
        writer.write(request_bytes("PUT", "/v1/kv/a", b"v"))
        assert (await hear(reader)).status == 200
        await asyncio.sleep(0.4)  # idle, which is no half of a head
        writer.write(request_bytes("GET", "/livez"))
        assert (await hear(reader)).status == 200
        writer.write(b"GET /livez HTT")
        assert (await hear(reader)).kind == "head-too-slow"


async def test_an_idle_connection_after_a_body_in_two_parts_is_not_taken_for_a_slow_head() -> None:
    async with running(**QUICK) as server:
        reader, writer = await server.connect()
        writer.write(request_bytes("PUT", "/v1/kv/a", b"ab", {"Content-Length": "4"}))
        await server.until(lambda: server.metrics.bodies_pending_bytes == 2)
        writer.write(b"cd")
        assert (await hear(reader)).status == 200
        await asyncio.sleep(0.5)
        writer.write(request_bytes("GET", "/livez"))
        assert (await hear(reader)).status == 200


async def test_a_connection_that_never_says_anything_is_closed() -> None:
    async with running(**QUICK) as server:
        reader, _ = await server.connect()
        assert await closed(reader) == b""
        assert server.metrics.connections == 0


async def test_an_idle_connection_is_closed_in_the_end() -> None:
    async with running(keep_alive_timeout_s=0.2) as server:
        reader, writer = await server.connect()
        writer.write(request_bytes("GET", "/livez"))
        assert (await hear(reader)).status == 200
        assert await closed(reader) == b""


async def test_a_body_that_trickles_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("raftwright.server.limits.RATE_WINDOW_S", 0.2)
    async with running(body_rate_bytes_per_s_min=1000) as server:
        reader, writer = await server.connect()
        writer.write(request_bytes("PUT", "/v1/kv/a", b"", {"Content-Length": "1000"}))
        heard = asyncio.create_task(hear(reader))
        while not heard.done():
            writer.write(b"x")
            await asyncio.sleep(0.01)
        slow = await heard
        assert (slow.status, slow.kind, slow.json["outcome"]) == (408, "body-too-slow", "none")
        assert await closed(reader) == b""
        assert (server.metrics.bodies_too_slow, server.metrics.bodies_pending_bytes) == (1, 0)
        assert server.service.applied_index == 1


async def test_a_slow_body_that_keeps_the_least_rate_arrives(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("raftwright.server.limits.RATE_WINDOW_S", 0.2)
    async with running(body_rate_bytes_per_s_min=100) as server:
        reader, writer = await server.connect()
        writer.write(request_bytes("PUT", "/v1/kv/a", b"", {"Content-Length": "2000"}))
        for _ in range(20):
            writer.write(b"x" * 100)
            await asyncio.sleep(0.03)
        assert (await hear(reader)).status == 200


async def test_a_response_that_nobody_reads_is_cut(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("raftwright.server.limits.RATE_WINDOW_S", 0.2)
    async with running(value_bytes_max=1 << 24, body_bytes_max=1 << 25) as server:
        assert (await server.ask("PUT", "/v1/kv/a", b"v" * (1 << 24))).status == 200
        reader, writer = await server.connect()
        writer.transport.pause_reading()  # type: ignore[attr-defined]
        writer.write(request_bytes("GET", "/v1/kv/a") * 3)
        await server.until(lambda: server.metrics.responses_too_slow == 1)
        await server.until(lambda: server.metrics.connections == 0)
        del reader


async def test_a_connection_that_is_reset_leaves_nothing_behind() -> None:
    async with running() as server:
        for sent in (b"", b"GET /li", request_bytes("PUT", "/v1/kv/a", b"x", {"Content-Length": "9"})):
            _, writer = await server.connect()
            writer.write(sent)
            await writer.drain()
            await asyncio.sleep(0.01)
            plain = writer.get_extra_info("socket")
            plain.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            writer.transport.abort()
        await server.until(lambda: server.metrics.connections == 0)
        assert server.metrics.bodies_pending_bytes == 0
        assert (await server.ask("GET", "/livez")).status == 200


def test_all_of_it_works_on_uvloop() -> None:
    async def check() -> None:
        async with running(connections_max=2, connections_reserved=0, **QUICK) as server:
            reader, writer = await server.connect()
            writer.write(request_bytes("PUT", "/v1/kv/a", b"v") * 3)
            assert [(await hear(reader)).status for _ in range(3)] == [200] * 3
            slow, slower = await server.connect()
            slower.write(b"GET /")
            await server.until(lambda: server.metrics.connections == 2)
            assert (await server.ask("GET", "/livez")).kind == "too-many-connections"
            assert (await hear(slow)).kind == "head-too-slow"
            assert (await server.ask("GET", "/v1/kv/a")).body == b"v"

    uvloop.run(check())


# Bounds


async def test_a_head_is_bounded_however_it_comes() -> None:
    async with running(request_head_bytes_max=4096) as server:
        for head in (
            request_bytes("GET", "/livez", None, {"X-Long": "x" * 4100}),
            request_bytes("GET", "/livez", None, {f"X-{number}": "x" * 100 for number in range(50)}),
            request_bytes("GET", "/livez?" + "x" * 4100),
        ):
            reader, writer = await server.connect()
            for start in range(0, len(head) - 10, 1000):  # the last bytes never come
                writer.write(head[start : start + 1000][: len(head) - 10 - start])
                await asyncio.sleep(0.002)
            heard = await hear(reader)
            assert (heard.status, heard.kind, heard.json["outcome"]) == (431, "head-too-large", "none")
            assert await closed(reader) == b""


async def test_headers_are_bounded_in_number() -> None:
    async with running() as server:
        heard = await server.ask("GET", "/livez", None, {f"X-{number}": "" for number in range(100)})
        assert heard.status in (400, 431)
        assert heard.kind in ("malformed-request", "head-too-large")


async def test_bodies_on_their_way_are_bounded_together() -> None:
    async with running(bodies_bytes_max=100_000) as server:
        kept = []
        for _ in range(3):
            reader, writer = await server.connect()
            writer.write(request_bytes("PUT", "/v1/kv/a", b"x" * 40_000, {"Content-Length": "50000"}))
            kept.append((reader, writer))
            await asyncio.sleep(0.05)
        heard = await hear(kept[2][0])
        assert (heard.status, heard.kind, heard.json["outcome"]) == (429, "too-many-requests", "none")
        assert server.metrics.bodies_refused == 1
        for reader, writer in kept[:2]:
            writer.write(b"x" * 10_000)
            assert (await hear(reader)).status == 200
        assert server.metrics.bodies_pending_bytes == 0


# Caps


async def open_many(server: Running, count: int) -> list[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    opened = [await server.connect() for _ in range(count)]
    for reader, writer in opened:
        writer.write(request_bytes("GET", "/livez"))
        assert (await hear(reader)).status == 200
    return opened


async def test_beyond_the_most_a_connection_may_ask_for_health_only() -> None:
    async with running(connections_max=5, connections_reserved=8) as server:
        opened = await open_many(server, 5)
        health = await server.ask("GET", "/readyz")
        assert (health.status, health.headers["connection"]) == (200, "close")
        write = await server.ask("PUT", "/v1/kv/a", b"v")
        assert (write.status, write.kind, write.json["outcome"]) == (503, "too-many-connections", "none")
        assert write.headers["connection"] == "close"
        assert server.service.applied_index == 1
        opened[0][1].close()
        await server.until(lambda: server.metrics.connections <= 4)
        assert (await server.ask("PUT", "/v1/kv/a", b"v")).status == 200


async def test_beyond_the_reserve_a_connection_is_refused_at_once() -> None:
    async with running(connections_max=3, connections_reserved=4) as server:
        await open_many(server, 3)
        held, _ = await server.connect()  # a quarter of the reserve: all that one address gets
        await server.until(lambda: server.metrics.connections == 4)
        refused, _ = await server.connect()
        heard = await hear(refused)
        assert (heard.status, heard.kind, heard.json["outcome"]) == (503, "too-many-connections", "none")
        assert await closed(refused) == b""
        assert server.metrics.connections_refused == 1
        assert await closed(held) == b""  # on probation, silence is not borne for long
        assert (await server.ask("GET", "/livez")).status == 200


async def test_one_address_has_a_cap_of_its_own() -> None:
    async with running(connections_per_address_max=2, connections_reserved=0) as server:
        await open_many(server, 2)
        assert (await server.ask("GET", "/livez")).kind == "too-many-connections"


async def test_no_cap_lets_one_address_have_all() -> None:
    async with running(connections_max=50, connections_per_address_max=0, connections_reserved=0) as server:
        await open_many(server, 50)
        assert (await server.ask("GET", "/livez")).kind == "too-many-connections", "the most of all still holds"


LIMITS = Limits(
    connections_max=20,
    connections_per_address_max=8,
    connections_reserved=8,
    head_timeout_s=5,
    head_bytes_max=4096,
    keep_alive_timeout_s=75,
    body_rate_min=1,
)


@given(seed=st.integers(0, 2**32), steps=st.integers(0, 300))
def test_the_doorman_counts_like_a_simple_list(seed: int, steps: int) -> None:
    chance = random.Random(seed)
    doorman, inside = Doorman(LIMITS), list[tuple[str, Admission]]()
    for _ in range(steps):
        if inside and chance.random() < 0.4:
            address, admission = inside.pop(chance.randrange(len(inside)))
            doorman.leave(address, admission)
            continue
        address = chance.choice("abcde")
        taken = [who for who, how in inside if how is Admission.TAKEN]
        reserve = [who for who, how in inside if how is Admission.PROBATION]
        expected = Admission.REFUSED
        if len(taken) < 20 and taken.count(address) < 8:
            expected = Admission.TAKEN
        elif len(reserve) < 8 and reserve.count(address) < 2:
            expected = Admission.PROBATION
        assert doorman.admit(address) is expected
        if expected is not Admission.REFUSED:
            inside.append((address, expected))
    for address, admission in inside:
        doorman.leave(address, admission)
    assert (doorman.taken, doorman.in_reserve) == (0, 0)
    assert not doorman.held


# Junk


def resident_bytes() -> int:
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")


async def test_junk_is_told_so_and_nothing_stays(caplog: pytest.LogCaptureFixture) -> None:
    chance = random.Random(7)
    junk = [
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + chance.randbytes(200),
        b"\r\n" * 100,
        b"GET / HTTP/9.9\r\n\r\n",
        b"GET /livez HTTP/1.1\r\nHost: a\r\nContent-Length: -1\r\n\r\n",
        b"PUT /v1/kv/a HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n",
        b"PUT /v1/kv/a HTTP/1.1\r\nHost: a\r\nContent-Length: 99999999999999999999999\r\n\r\n",
        b"GET /livez HTTP/1.1\r\n\r\n",
        b"GET /livez HTTP/1.1\r\nHost: a\r\nBad Header\r\n\r\n",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        *(chance.randbytes(300) for _ in range(40)),
    ]
    async with running(**QUICK) as server:
        for sent in junk:
            reader, writer = await server.connect()
            writer.write(sent)
            answer = await closed(reader)
            if answer:
                assert answer.startswith((b"HTTP/1.1 400 ", b"HTTP/1.1 404 ", b"HTTP/1.1 408 ")), (sent, answer)
                assert b"application/problem+json" in answer
            writer.close()
        await server.until(lambda: server.metrics.connections == 0)
        assert (await server.ask("GET", "/livez")).status == 200
        assert server.service.applied_index == 1
    assert not caplog.records


@pytest.mark.slow
async def test_a_flood_of_junk_connections_is_bounded_in_memory() -> None:
    async with running(connections_max=300, connections_reserved=8, request_head_timeout_s=0.5) as server:

        async def flood() -> None:
            for number in range(1500):
                try:
                    _, writer = await asyncio.open_connection(server.host, server.port)
                    writer.write(b"GET /" + b"x" * (number % 3000))
                    await writer.drain()
                    if number % 3 == 0:
                        writer.close()
                    else:
                        server.writers.append(writer)
                except ConnectionError:
                    pass

        await flood()
        before = resident_bytes()
        await asyncio.gather(flood(), flood(), flood(), flood())
        assert server.metrics.connections <= 308
        assert server.metrics.connections_refused > 0
        await server.until(lambda: server.metrics.connections == 0)
        assert resident_bytes() - before < 64 << 20
        assert (await server.ask("PUT", "/v1/kv/a", b"v")).status == 200


@pytest.mark.slow
async def test_idle_and_trickling_sockets_do_not_slow_down_the_honest() -> None:
    """The sweep of thousands of connections is spread out, and costs little: measured here, not guessed."""
    async with running() as server:
        opened = await asyncio.gather(*(server.connect() for _ in range(400)))
        for _, writer in opened[:200]:
            writer.write(b"GET /liv")
        await server.until(lambda: server.metrics.connections == 400)
        connections = list(server.server.guarded.connections)
        loop = asyncio.get_running_loop()
        started = loop.time()
        for connection in connections:
            connection.look(loop.time())  # type: ignore[attr-defined]
        assert (loop.time() - started) / len(connections) < 50e-6
