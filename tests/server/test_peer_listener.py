"""The members' listener has the same limits as the clients', and room of its own."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from aiohttp import web

from raftwright.server.metrics import Metrics
from raftwright.server.peer_listener import GuardedRunner, peer_limits_of
from tests.server.local_service import hear, request_bytes, settings_for_test


async def hello(request: web.Request) -> web.Response:
    return web.Response(text=str(await request.read()))


@asynccontextmanager
async def listening(**changes: Any) -> AsyncIterator[tuple[str, int]]:
    application = web.Application()
    application.router.add_put("/", hello)
    limits = peer_limits_of(settings_for_test(**changes))
    runner = GuardedRunner(application, limits=limits, metrics=Metrics(), shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    try:
        yield runner.addresses[0]
    finally:
        await runner.cleanup()


async def test_it_serves_an_application() -> None:
    async with listening() as address:
        reader, writer = await asyncio.open_connection(*address)
        for _ in range(3):
            writer.write(request_bytes("PUT", "/", b"body"))
            heard = await hear(reader)
            assert (heard.status, heard.body) == (200, b"b'body'")
        writer.close()


async def test_slow_heads_and_too_many_connections_are_refused() -> None:
    async with listening(peer_connections_max=2, request_head_timeout_s=0.2) as address:
        slow, writer = await asyncio.open_connection(*address)
        writer.write(b"PUT / HT")
        _, silent = await asyncio.open_connection(*address)
        refused, third = await asyncio.open_connection(*address)
        assert (await hear(refused)).kind == "too-many-connections"
        assert (await hear(slow)).kind == "head-too-slow"
        for opened in (writer, silent, third):
            opened.close()
