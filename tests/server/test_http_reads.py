"""Reads as they are asked for, over HTTP and the stream: consistency, staleness, and indexes (§6.4)."""

import asyncio

import pytest

from raftwright.client.models import Consistency, Read, ReadReply, RequestFrame, WriteReply
from raftwright.server.errors import NoLeader
from tests.server.local_service import Running, running
from tests.server.test_stream import peer, puts

LEASE, STALE = Consistency.LEASE, Consistency.STALE


async def ready(server: Running) -> None:
    assert (await server.ask("PUT", "/v1/kv/k", b"v")).status == 200
    server.service.barriers = 0


# -- lease ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("target", ["/v1/kv/k?consistency=lease", "/v1/kv?consistency=lease"])
async def test_a_lease_saves_the_round(target: str) -> None:
    async with running() as server:
        await ready(server)
        server.service.lease_for = 100
        assert (await server.ask("GET", target)).status == 200
        assert server.service.barriers == 0
        assert (server.metrics.reads_lease, server.metrics.reads_linearizable) == (1, 0)


@pytest.mark.parametrize("lease_for", [0, 1])
@pytest.mark.parametrize("target", ["/v1/kv/k?consistency=lease", "/v1/kv?consistency=lease"])
async def test_a_lease_that_is_over_when_the_answer_is_computed_saves_nothing(target: str, lease_for: int) -> None:
    """With 1 it held when the read began: the process may have been stopped since."""
    async with running() as server:
        await ready(server)
        server.service.lease_for = lease_for
        assert (await server.ask("GET", target)).status == 200
        assert server.service.barriers == 1
        assert (server.metrics.reads_lease, server.metrics.reads_linearizable) == (0, 1)


async def test_a_read_by_lease_without_a_lease_or_a_leader_is_refused() -> None:
    async with running() as server:
        await ready(server)
        server.service.refusing = NoLeader()
        heard = await server.ask("GET", "/v1/kv/k?consistency=lease")
        assert (heard.status, heard.kind) == (503, "no-leader")


# -- staleness --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("staleness", "barriers"), [(0.9, 0), (1.0, 0), (1.1, 1), (float("inf"), 1)])
async def test_a_stale_read_is_no_older_than_it_may_be(staleness: float, barriers: int) -> None:
    async with running() as server:
        await ready(server)
        server.service.staleness = staleness
        assert (await server.ask("GET", "/v1/kv/k?consistency=stale&max_staleness=1.0")).body == b"v"
        assert server.service.barriers == barriers
        assert server.metrics.reads_stale == 1 - barriers


async def test_a_stale_read_without_a_bound_asks_nobody() -> None:
    async with running() as server:
        await ready(server)
        server.service.refusing = NoLeader()
        assert (await server.ask("GET", "/v1/kv/k?consistency=stale")).body == b"v"
        assert server.service.barriers == 0


# -- indexes ----------------------------------------------------------------------------------------------------


async def test_an_answer_to_a_write_names_its_entry_and_a_read_what_it_reflects() -> None:
    async with running() as server:
        first = await server.ask("PUT", "/v1/kv/k", b"1")
        server.service.holding = True  # its answer comes when more is applied already
        writing = asyncio.create_task(server.ask("PUT", "/v1/kv/k", b"2"))
        await server.until(lambda: server.service.held)
        server.service.holding = False
        third = await server.ask("PUT", "/v1/kv/k", b"3")
        server.service.held[0].set_result(2)
        second = await writing
        indexes = [int(heard.headers["x-raft-index"]) for heard in (first, second, third)]
        assert indexes == [2, 3, 4]
        assert (await server.ask("GET", "/v1/kv/k")).headers["x-raft-index"] == "4"


async def test_a_result_that_is_a_failure_names_its_entry_too() -> None:
    async with running() as server:
        await ready(server)
        server.service.holding = True
        writing = asyncio.create_task(server.ask("DELETE", "/v1/kv/absent"))
        await server.until(lambda: server.service.held)
        index = server.service.applied_index
        server.service.holding = False
        await ready(server)
        (held,) = server.service.held
        result = server.service.state.machine.undecodable(1, "no")[0]
        held.set_result(result)
        heard = await writing
        assert (heard.status, heard.headers["x-raft-index"]) == (400, str(index))


@pytest.mark.parametrize("consistency", ["linearizable", "lease", "stale", "stale&max_staleness=5"])
async def test_a_read_waits_for_the_index_that_it_asks_for(consistency: str) -> None:
    async with running() as server:
        await ready(server)
        server.service.lease_for, server.service.staleness = 100, 0.0
        wanted = server.service.applied_index + 1
        reading = asyncio.create_task(server.ask("GET", f"/v1/kv/k?consistency={consistency}&min_index={wanted}"))
        await server.until(lambda: server.service.waiting)
        assert (await server.ask("PUT", "/v1/kv/k", b"new")).status == 200
        heard = await reading
        assert heard.body == b"new"
        assert int(heard.headers["x-raft-index"]) >= wanted


async def test_an_index_that_does_not_come_is_a_timeout() -> None:
    async with running() as server:
        heard = await server.ask("GET", "/v1/kv/k?consistency=stale&min_index=99")
        assert (heard.status, heard.kind) == (504, "timeout")


@pytest.mark.parametrize(
    ("query", "field"),
    [
        ("consistency=quorum", "consistency"),
        ("consistency=stale&max_staleness=soon", "max_staleness"),
        ("consistency=stale&max_staleness=-1", "max_staleness"),
        ("consistency=stale&max_staleness=nan", "max_staleness"),
        ("consistency=lease&max_staleness=1", "max_staleness"),
        ("max_staleness=1", "max_staleness"),
        ("min_index=-1", "min_index"),
        ("min_index=1.5", "min_index"),
        ("min_index=9223372036854775808", "min_index"),
    ],
)
@pytest.mark.parametrize("path", ["/v1/kv/k", "/v1/kv"])
async def test_a_wish_that_makes_no_sense_is_an_error(path: str, query: str, field: str) -> None:
    async with running() as server:
        heard = await server.ask("GET", f"{path}?{query}")
        assert (heard.status, heard.kind, heard.json["field"]) == (400, "invalid-request", field)


# -- the stream -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("lease_for", "barriers"), [(100, 0), (1, 1), (0, 1)])
async def test_a_lease_saves_the_round_of_a_frame(lease_for: int, barriers: int) -> None:
    async with running() as server, peer(server) as client:
        await ready(server)
        server.service.lease_for = lease_for
        await client.send(RequestFrame(1, None, [Read("k", LEASE), Read("k", STALE)]))
        assert await client.values() == [(1, b"v"), (1, b"v")]
        assert server.service.barriers == barriers


async def test_a_frame_is_answered_as_its_most_demanding_read_asks() -> None:
    async with running() as server, peer(server) as client:
        await ready(server)
        server.service.lease_for, server.service.staleness = 100, 3.0
        for reads, barriers in (
            ([Read("k", LEASE), Read("k")], 1),
            ([Read("k", STALE, 4.0), Read("k", STALE)], 1),
            ([Read("k", STALE, 2.0), Read("k", STALE, 4.0)], 2),
        ):
            await client.send(RequestFrame(1, None, reads))
            assert await client.values() == [(1, b"v")] * 2
            assert server.service.barriers == barriers


async def test_a_frame_that_waits_for_an_index_holds_up_no_other() -> None:
    async with running() as server, peer(server) as client:
        await ready(server)
        wanted = server.service.applied_index + 1
        await client.send(RequestFrame(1, None, [Read("k", STALE, None, wanted)]), RequestFrame(2, None, [Read("k")]))
        reply = await client.reply()
        assert isinstance(reply, ReadReply)
        assert (reply.id, reply.index) == (2, wanted - 1)
        await client.send(RequestFrame(3, puts(1, ("k", b"new"))))
        replies = {type(found): found for found in (await client.reply(), await client.reply())}
        written, read = replies[WriteReply], replies[ReadReply]
        assert isinstance(written, WriteReply)
        assert isinstance(read, ReadReply)
        assert (written.id, written.index) == (3, wanted)
        assert (read.id, read.values, read.index) == (1, [(2, b"new")], wanted)


async def test_a_frame_whose_index_does_not_come_is_a_timeout() -> None:
    async with running() as server, peer(server) as client:
        await client.send(RequestFrame(1, None, [Read("k", STALE, None, 99)]))
        part, problem = await client.problem()
        assert (part, problem.status) == ("reads", 504)


# -- a state that is wrong --------------------------------------------------------------------------------------

ASKED = [
    "",
    "?consistency=lease",
    "?consistency=stale",
    "?consistency=stale&min_index=2",
    "?consistency=stale&max_staleness=9",
]


@pytest.mark.parametrize("path", ["/v1/kv/k", "/v1/kv"])
@pytest.mark.parametrize("asked", ASKED)
async def test_a_node_in_the_minority_answers_no_read_of_any_kind_and_takes_writes(path: str, asked: str) -> None:
    async with running() as server:
        await ready(server)
        server.service.staleness = 0.0
        server.service.is_wrong = True
        heard = await server.ask("GET", path + asked)
        assert (heard.status, heard.kind, heard.json["leader"]) == (503, "state-diverged", "127.0.0.1:7009")
        assert heard.headers["retry-after"] == "1"
        assert (await server.ask("PUT", "/v1/kv/k", b"w")).status == 200
        server.service.is_wrong = False
        assert (await server.ask("GET", "/v1/kv/k" + asked)).body == b"w"


@pytest.mark.parametrize(
    "read",
    [
        Read("k"),
        Read("k", consistency=LEASE),
        Read("k", consistency=STALE),
        Read("k", consistency=STALE, min_index=2),
        Read("k", consistency=STALE, min_index=9),
        Read("k", consistency=STALE, max_staleness_s=9.0),
    ],
)
async def test_a_node_in_the_minority_answers_no_read_of_a_stream(read: Read) -> None:
    async with running() as server, peer(server) as stream:
        await ready(server)
        server.service.staleness = 0.0
        server.service.is_wrong = True
        await stream.send(RequestFrame(1, reads=[read]))
        part, problem = await stream.problem()
        assert part == "reads"
        assert (problem.type.rpartition("/")[2], problem.status) == ("state-diverged", 503)
        await stream.send(RequestFrame(2, writes=puts(1, ("k", b"w"))))
        assert isinstance(await stream.reply(), WriteReply)
