"""What the client says when something other than a node answers it."""

import pytest
from aiohttp import web

from raftwright import Client, Unavailable
from raftwright.client.http import QUOTED_BYTES_MAX

pytestmark = pytest.mark.asyncio


@pytest.mark.parametrize(
    ("body", "said"),
    [
        (b"404 page not found\n", r"'404 page not found\n'"),
        (b'{"code":404}', """'{"code":404}'"""),
        (b"<html>" + 100_000 * b"x", repr("<html>" + (QUOTED_BYTES_MAX - 6) * "x")),
        (b"\x1b[2J\xff", r"'\x1b[2J" + "\ufffd'"),
        (b"", "''"),
    ],
)
async def test_an_answer_that_is_no_nodes_is_quoted(body: bytes, said: str) -> None:
    async def answer(_: web.BaseRequest) -> web.Response:
        return web.Response(status=404, body=body)

    runner = web.ServerRunner(web.Server(answer))
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    endpoint = f"127.0.0.1:{runner.addresses[0][1]}"
    try:
        async with Client([endpoint], timeout_s=0.2) as client:
            for call in (client.list(), client.members.list(), client.query("anything"), client.status()):
                with pytest.raises(Unavailable) as failed:
                    await call
                message = f"{endpoint} does not answer as a Raftwright node does: status 404, {said}"
                assert str(failed.value) == message
    finally:
        await runner.cleanup()
