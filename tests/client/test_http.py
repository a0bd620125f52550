"""What the client says, and does, when something other than a node answers it."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from aiohttp import web

from raftwright import Client, Unavailable
from raftwright.client.http import QUOTED_BYTES_MAX

pytestmark = pytest.mark.asyncio


@asynccontextmanager
async def listening(server: web.Server) -> AsyncIterator[str]:
    """Where `server` does, as `host:port`."""
    runner = web.ServerRunner(server)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        host, port = runner.addresses[0]
        yield f"{host}:{port}"
    finally:
        await runner.cleanup()


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

    async with listening(web.Server(answer)) as endpoint, Client([endpoint], timeout_s=0.2) as client:
        for call in (client.list(), client.members.list(), client.query("anything"), client.status()):
            with pytest.raises(Unavailable) as failed:
                await call
            assert str(failed.value) == f"{endpoint} does not answer as a Raftwright node does: status 404, {said}"


async def test_a_retry_leaves_a_connection_that_leads_to_no_node() -> None:
    """As when a load balancer's rule outlives the node that it names: a new connection leads to one that is there."""
    astray: list[object] = []

    async def answer(request: web.BaseRequest) -> web.Response:
        if not astray:
            astray.append(request.transport)
        if request.transport is astray[0]:
            return web.Response(status=404)
        return web.json_response({"items": [], "next": None, "revision": 7})

    async with listening(web.Server(answer)) as endpoint, Client([endpoint]) as client:
        page = await client.list()
    assert page.revision == 7


async def test_a_change_of_members_waits_until_a_new_leader_has_committed() -> None:
    asked: list[str] = []
    problem = {"type": "urn:raftwright:not-committed-in-term", "status": 503, "outcome": "none"}

    async def answer(request: web.BaseRequest) -> web.Response:
        asked.append(request.path)
        if len(asked) < 3:
            return web.json_response(problem, status=503, content_type="application/problem+json")
        return web.json_response({"version": 7, "joint": False, "leader": 1, "members": []})

    async with listening(web.Server(answer)) as endpoint, Client([endpoint]) as client:
        assert (await client.members.remove("n2")).version == 7
    assert asked == ["/v1/members/n2"] * 3
