"""The client against a real node, directly and through a network that loses answers and cuts connections."""

import asyncio
import os
import random
import signal
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

import raftwright
from raftwright import (
    Client,
    ClientClosed,
    Compare,
    Delete,
    InvalidRequest,
    NotFound,
    OutcomeUnknown,
    PreconditionFailed,
    Put,
    Timeout,
    TooLarge,
    Unavailable,
    Value,
)
from raftwright.cli.localcluster import LocalCluster
from tests.client.proxy import proxy_to
from tests.cluster.support import free_port, running_cluster

WRONG_CLUSTER = r"this node is of the cluster \w+, and the request is for another"

pytestmark = [pytest.mark.asyncio(loop_scope="module"), pytest.mark.slow]


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def cluster(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[LocalCluster]:
    async with running_cluster(tmp_path_factory.mktemp("cluster"), count=1) as running:
        yield running


@pytest_asyncio.fixture(loop_scope="module")
async def client(cluster: LocalCluster) -> AsyncIterator[Client]:
    async with Client(cluster.endpoints) as opened:
        yield opened


async def test_reads_see_writes_and_conditions_hold(client: Client) -> None:
    first = await client.put("a/🦆", b"\x00\xff")
    assert await client.get("a/🦆") == Value(b"\x00\xff", first)
    assert await client.get("a/🦆", consistency="stale") == Value(b"\x00\xff", first)
    with pytest.raises(PreconditionFailed) as failed:
        await client.put("a/🦆", b"2", if_absent=True)
    assert failed.value.revision == first and failed.value.outcome == "none"
    second = await client.put("a/🦆", b"2", if_revision=first)
    assert second > first
    assert await client.delete("a/🦆", if_revision=second) > second
    assert await client.get("a/🦆") is None
    with pytest.raises(NotFound):
        await client.delete("a/🦆")


async def test_a_batch_is_all_or_nothing(client: Client) -> None:
    await client.put("b/1", b"1")
    with pytest.raises(PreconditionFailed) as failed:
        await client.batch([Put("b/2", b"2"), Compare("b/1", None)])
    assert failed.value.position == 1 and await client.get("b/2") is None
    revision = await client.batch([Put("b/2", b"2"), Delete("b/1"), Compare("b/3", None)])
    assert await client.get("b/2") == Value(b"2", revision) and await client.get("b/1") is None


async def test_pages_and_scans_are_in_order_and_whole(client: Client) -> None:
    keys = [f"c/{number:04}" for number in range(250)]
    await asyncio.gather(*(client.put(key, key.encode()) for key in random.sample(keys, len(keys))))
    page = await client.list("c/", start="c/0100", limit=20)
    assert [item.key for item in page.items] == keys[100:120] and page.next is not None
    scanned = [item async for item in client.scan("c/", page_size=33)]
    assert [item.key for item in scanned] == keys
    assert all(item.value == item.key.encode() for item in scanned)


async def test_what_is_wrong_is_refused_alone(client: Client) -> None:
    outcomes = await asyncio.gather(
        client.put("d/good", b"1"),
        client.put("k" * 1025, b"1"),
        client.put("d/large", bytes((1 << 20) + 1)),
        client.batch([]),
        client.put("", b"1"),
        client.put("\ud800", b"1"),
        client.get("\ud800"),
        client.put("d/fine", b"1"),
        return_exceptions=True,
    )
    assert isinstance(outcomes[0], int) and isinstance(outcomes[7], int)
    assert isinstance(outcomes[1], TooLarge) and isinstance(outcomes[2], TooLarge)
    for outcome in outcomes[1:7]:
        assert isinstance(outcome, InvalidRequest) and outcome.outcome == "none"


async def test_a_write_whose_answer_was_lost_happens_once(cluster: LocalCluster) -> None:
    async with proxy_to(cluster.endpoints[0]) as proxy, Client([proxy.endpoint], discover=False) as client:
        await client.put("e/first", b"1")
        proxy.answers.clear()
        kept = proxy.bytes_kept
        write = asyncio.create_task(client.put("e/once", b"1", if_absent=True))
        await proxy.kept(kept)  # the node has answered: it happened
        await proxy.cut()
        proxy.answers.set()
        revision = await write
        assert await client.get("e/once") == Value(b"1", revision)


async def test_no_chain_of_writes_breaks_however_often_the_connection_does(cluster: LocalCluster) -> None:
    async with proxy_to(cluster.endpoints[0]) as proxy, Client([proxy.endpoint], discover=False) as client:
        done = 0

        async def chain(key: str) -> None:
            nonlocal done
            revision = await client.put(key, b"0", if_absent=True)
            for number in range(60):
                revision = await client.put(key, str(number).encode(), if_revision=revision)
                done += 1

        async def disturb() -> None:
            while True:
                kept = proxy.bytes_kept
                proxy.answers.clear()
                await proxy.kept(kept)
                await proxy.cut()
                proxy.answers.set()
                seen = done
                while done < seen + 100:  # noqa: ASYNC110
                    await asyncio.sleep(0.001)

        disturbing = asyncio.create_task(disturb())
        await asyncio.gather(*(chain(f"f/{number}") for number in range(20)))
        disturbing.cancel()
        assert proxy.connections > 4


async def test_a_write_that_was_sent_and_never_answered_is_unknown_and_one_that_was_not_is_none(
    cluster: LocalCluster,
) -> None:
    async with (
        proxy_to(cluster.endpoints[0]) as proxy,
        Client([proxy.endpoint], discover=False, outstanding_max=1) as client,
    ):
        await client.put("g", b"0")
        proxy.answers.clear()
        sent = asyncio.create_task(client.put("g", b"1", timeout_s=0.6))
        await asyncio.sleep(0)
        with pytest.raises(Timeout) as waiting:
            await client.put("h", b"1", timeout_s=0.2)
        assert waiting.value.outcome == "none"
        with pytest.raises(Timeout) as unanswered:
            await sent
        assert unanswered.value.outcome == "unknown"
        proxy.answers.set()
        assert await client.put("g", b"2") > 0


async def test_a_node_that_hangs_is_given_up_and_found_again(cluster: LocalCluster) -> None:
    pid = cluster.nodes["node1"].pid
    assert pid is not None
    async with Client(cluster.endpoints, timeout_s=30.0) as client:
        await client.put("i", b"0")
        os.kill(pid, signal.SIGSTOP)
        try:
            with pytest.raises(Timeout):
                await client.put("i", b"1", timeout_s=0.3)
            write = asyncio.create_task(client.put("j", b"1"))
            await asyncio.sleep(3.5)  # longer than the heartbeat waits: the connection is given up
        finally:
            os.kill(pid, signal.SIGCONT)
        assert await client.get("j") is None or await write
        await write


async def test_a_node_of_another_cluster_is_not_written_to(cluster: LocalCluster, tmp_path: Path) -> None:
    """As when an address is given to a machine of another cluster."""
    async with running_cluster(tmp_path / "other", count=1) as other, proxy_to(other.endpoints[0]) as proxy:
        async with Client([proxy.endpoint], discover=False, timeout_s=20.0) as client:
            await client.put("mine", b"1")
            proxy.target = cluster.endpoints[0]
            await proxy.cut()
            with pytest.raises((Unavailable, Timeout), match=WRONG_CLUSTER):  # it was sent, or not
                await client.put("mine", b"2", timeout_s=3.0)
            with pytest.raises(Unavailable, match=WRONG_CLUSTER):
                await client.list("mine", timeout_s=2.0)
            with pytest.raises(Unavailable, match=WRONG_CLUSTER):
                await client.members.transfer_leadership(timeout_s=2.0)
            proxy.target = other.endpoints[0]
            await client.put("mine", b"3")
        async with Client(cluster.endpoints) as client:
            assert await client.get("mine") is None


async def test_nothing_outstanding_is_left_behind_by_who_gives_up(client: Client) -> None:
    for _ in range(20):
        writes = [asyncio.create_task(client.put(f"k/{number}", b"1")) for number in range(20)]
        await asyncio.sleep(0)
        for write in random.sample(writes, 10):
            write.cancel()
        await asyncio.gather(*writes, return_exceptions=True)
    await client.put("k/last", b"1")
    await asyncio.sleep(0.1)
    assert client._stream and client._stream._session.outstanding == 0


async def test_more_calls_than_may_be_outstanding_wait_their_turn(cluster: LocalCluster) -> None:
    async with Client(cluster.endpoints, outstanding_max=4, outstanding_bytes_max=100) as client:
        writes = [asyncio.create_task(client.put(f"l/{number}", bytes(60))) for number in range(200)]
        await asyncio.sleep(0)
        for write in writes[50:150]:
            write.cancel()
        done = await asyncio.gather(*writes, return_exceptions=True)
        assert sum(isinstance(one, int) for one in done) == 100


async def test_a_cluster_that_is_not_there() -> None:
    async with Client([f"127.0.0.1:{free_port(1)}"], timeout_s=0.5) as client:
        for call in (client.put("a", b"1"), client.get("a"), client.list(), client.status()):
            with pytest.raises(Unavailable) as error:
                await call
            assert error.value.outcome == "none"


async def test_a_client_closes_also_in_the_moment_in_which_its_connection_is_lost(cluster: LocalCluster) -> None:
    async with proxy_to(cluster.endpoints[0]) as proxy:
        for turns in range(40):  # of the event loop, until the loss meets the end
            async with asyncio.timeout(10):
                async with Client([proxy.endpoint], discover=False) as client:
                    await client.put("moment", b"1")
                    await proxy.cut()
                    for _ in range(turns):
                        await asyncio.sleep(0)


async def test_a_client_works_only_while_it_is_open(cluster: LocalCluster) -> None:
    client = Client(cluster.endpoints)
    for call in (client.put("a", b"1"), client.list()):
        with pytest.raises(ClientClosed):
            await call
    async with proxy_to(cluster.endpoints[0]) as proxy:
        async with Client([proxy.endpoint], discover=False) as client:
            await client.put("m", b"1")
            proxy.answers.clear()
            kept = proxy.bytes_kept
            pending = asyncio.create_task(client.put("m", b"2"))
            await proxy.kept(kept)
        with pytest.raises(OutcomeUnknown):
            await pending
    with pytest.raises(ClientClosed):
        await client.get("a")
    with pytest.raises(ValueError, match="not host:port"):
        Client(["nonsense"])


async def test_everything_that_is_exported_is_there() -> None:
    assert all(hasattr(raftwright, name) for name in raftwright.__all__)
    with pytest.raises(AttributeError):
        _ = raftwright.Nonsense
