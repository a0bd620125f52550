"""Three real processes under load, killed with SIGKILL: every acknowledged write is there, and each happened once."""

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path

import aiohttp
import pytest

from raftwright.cli.local import wait_until_ready
from raftwright.cli.localcluster import LocalCluster
from raftwright.client.client import Client
from raftwright.client.errors import RaftwrightError
from tests.cluster.support import leader_of, running_cluster

pytestmark = [pytest.mark.slow, pytest.mark.timeout(180)]

WRITERS = 24


@dataclass
class Load:
    """Writers that each move a key of their own from revision to revision, on the condition that nobody else did.

    A write that happened twice, or was reported wrongly, breaks the chain: the next condition fails.
    """

    client: Client
    acknowledged: dict[str, tuple[int, int]] = field(default_factory=dict)
    """Key to number and revision of its newest acknowledged write."""
    failures: list[RaftwrightError] = field(default_factory=list)
    longest_s: float = 0.0
    total: int = 0

    async def write(self, key: str) -> None:
        number, revision = 0, None
        while True:
            number += 1
            begun = time.monotonic()
            try:
                revision = await self.client.put(
                    key, str(number).encode(), if_revision=revision, if_absent=revision is None
                )
            except RaftwrightError as error:
                self.failures.append(error)
                return
            self.longest_s = max(self.longest_s, time.monotonic() - begun)
            self.acknowledged[key] = number, revision
            self.total += 1


@contextlib.asynccontextmanager
async def loaded(cluster: LocalCluster) -> AsyncIterator[Load]:
    """A load that runs as long as the block."""
    async with Client(cluster.endpoints, timeout_s=20.0) as client:
        load = Load(client)
        writers = [asyncio.create_task(load.write(f"writer {number}")) for number in range(WRITERS)]
        try:
            yield load
        finally:
            for writer in writers:
                writer.cancel()
            await asyncio.gather(*writers, return_exceptions=True)


async def progress(load: Load, more: int = 200) -> None:
    """Wait until the load went on by so many writes."""
    goal = load.total + more
    async with asyncio.timeout(30):
        while load.total < goal and not load.failures:  # noqa: ASYNC110  # the load has nothing to wait on
            await asyncio.sleep(0.01)


async def assert_nothing_lost(cluster: LocalCluster, load: Load) -> None:
    """Every node has, for each key, the newest acknowledged write or the one that was on its way after it."""
    assert load.failures == []
    assert len(load.acknowledged) == WRITERS
    for endpoint in cluster.endpoints:
        async with Client([endpoint]) as client:
            found = {item.key: item async for item in client.scan()}
        for key, (number, revision) in load.acknowledged.items():
            item = found[key]
            if item.revision == revision:
                assert item.value == str(number).encode()
            else:
                assert item.revision > revision and item.value == str(number + 1).encode()


async def test_the_leader_is_killed_again_and_again(tmp_path: Path) -> None:
    async with running_cluster(tmp_path) as cluster, loaded(cluster) as load:
        for _ in range(4):
            await progress(load)
            killed = await leader_of(load.client)
            await cluster.kill(killed)
            await progress(load)
            cluster.start_node(killed)
            await wait_until_ready(cluster)
        await progress(load)
    # The cluster has stopped by now; it starts again from its disks.
    cluster.start()
    try:
        await wait_until_ready(cluster)
        await assert_nothing_lost(cluster, load)
    finally:
        await cluster.stop()


async def test_a_follower_takes_writes_again_as_soon_as_there_is_a_leader(tmp_path: Path) -> None:
    async with running_cluster(tmp_path) as cluster, aiohttp.ClientSession() as http:
        async with Client(cluster.endpoints) as client:
            await client.put("a", b"1")
            leader = await leader_of(client)
        follower = next(node.client for name, node in cluster.nodes.items() if name != leader)
        await cluster.kill(leader)
        begun = time.monotonic()
        async with http.put(f"http://{follower}/v1/kv/a", data=b"2") as answer:
            assert answer.status == 200, await answer.text()
        assert time.monotonic() - begun < 4.0


async def test_followers_are_killed_and_writes_hardly_notice(tmp_path: Path) -> None:
    async with running_cluster(tmp_path) as cluster:
        async with loaded(cluster) as load:
            await progress(load)
            leader = await leader_of(load.client)
            for name in [name for name in cluster.nodes if name != leader]:
                await cluster.kill(name)
                await progress(load, 500)
                cluster.start_node(name)
                await wait_until_ready(cluster)
            assert await leader_of(load.client) == leader
        await assert_nothing_lost(cluster, load)


async def test_every_node_is_killed_at_once(tmp_path: Path) -> None:
    async with running_cluster(tmp_path) as cluster:
        async with loaded(cluster) as load:
            for _ in range(2):
                await progress(load)
                await asyncio.gather(*(cluster.kill(name) for name in cluster.nodes))
                for name in cluster.nodes:
                    cluster.start_node(name)
                await wait_until_ready(cluster)
            await progress(load)
        await assert_nothing_lost(cluster, load)


async def test_without_a_majority_nothing_is_acknowledged_and_it_comes_back(tmp_path: Path) -> None:
    async with running_cluster(tmp_path) as cluster, Client(cluster.endpoints, timeout_s=20.0) as client:
        await client.put("a", b"1")
        leader = await leader_of(client)
        others = [name for name in cluster.nodes if name != leader]
        await asyncio.gather(*(cluster.kill(name) for name in others))
        with pytest.raises(RaftwrightError) as caught:
            await client.put("a", b"2", timeout_s=2.0)
        waiting = asyncio.create_task(client.put("b", b"3"))
        cluster.start_node(others[0])
        await waiting
        found = await client.get("a")
        assert found and found.value in ((b"1",) if caught.value.outcome == "none" else (b"1", b"2"))
