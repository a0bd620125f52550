"""Reads of a real cluster: a leader that is stopped within its lease, one's own writes at any node, shared rounds."""

import asyncio
import contextlib
import os
import re
import signal
from pathlib import Path

import aiohttp
import pytest

from raftwright.cli.localcluster import LocalCluster
from raftwright.client.client import Client
from raftwright.client.errors import Timeout
from tests.cluster.processes import call, cluster_of, leader_of, until

pytestmark = pytest.mark.slow


async def metric(cluster: LocalCluster, name: str, wanted: str) -> int:
    answer = await call(cluster, name, "GET", "/metrics")
    assert answer is not None
    found = re.search(rf"^raftwright_{wanted}(?:_total)? ([0-9.]+)$", answer[1].decode(), re.MULTILINE)
    assert found is not None, wanted
    return int(float(found[1]))


@pytest.mark.parametrize("how", ["http", "stream"])
async def test_a_leader_stopped_for_longer_than_its_lease_reads_nothing_stale_by_it(tmp_path: Path, how: str) -> None:
    async with cluster_of(tmp_path) as cluster:
        leader = await leader_of(cluster)
        assert await call(cluster, leader, "PUT", "/v1/kv/k", b"old") == (200, {"revision": 1})
        path = "/v1/kv/k?consistency=lease"
        assert await call(cluster, leader, "GET", path) == (200, b"old")
        assert await metric(cluster, leader, "reads_lease") >= 1, "there was a lease: else this tests nothing"
        async with contextlib.AsyncExitStack() as stack:
            client = await stack.enter_async_context(Client([cluster.nodes[leader].client]))
            await client.get("k", consistency="lease")  # the stream is open

            async def read() -> bytes | None:
                if how == "http":
                    answer = await call(cluster, leader, "GET", path)
                    return answer[1] if answer is not None else None
                found = await client.get("k", consistency="lease")
                return None if found is None else found.value

            os.kill(cluster.nodes[leader].pid or 0, signal.SIGSTOP)
            try:
                asked = next(name for name in cluster.nodes if name != leader)

                async def writes() -> bool:
                    answer = await call(cluster, asked, "PUT", "/v1/kv/k", b"new", timeout_s=6.0)
                    return answer is not None and answer[0] == 200

                reads = [asyncio.create_task(read()) for _ in range(20)]
                await until("the others elect a leader and write", writes)
                reads = [asyncio.create_task(read()) for _ in range(20)]
                await asyncio.sleep(0.1)
            finally:
                os.kill(cluster.nodes[leader].pid or 0, signal.SIGCONT)
            assert set(await asyncio.gather(*reads)) == {b"new"}


async def test_a_client_reads_its_own_writes_at_any_node(tmp_path: Path) -> None:
    async with cluster_of(tmp_path) as cluster:
        leader = await leader_of(cluster)
        others = [name for name in cluster.nodes if name != leader]
        async with aiohttp.ClientSession() as session:
            for number in range(100):
                value = str(number).encode()
                asked, other = others[number % 2], others[(number + 1) % 2]
                async with session.put(f"http://{cluster.nodes[asked].client}/v1/kv/k", data=value) as written:
                    assert written.status == 200
                    index = written.headers["X-Raft-Index"]
                for reader in (asked, other):
                    url = f"http://{cluster.nodes[reader].client}/v1/kv/k?consistency=stale&min_index={index}"
                    async with session.get(url) as read:
                        assert await read.read() == value
                        assert int(read.headers["X-Raft-Index"]) >= int(index)
        async with Client([cluster.nodes[name].client for name in cluster.nodes]) as client:
            await client.put("mine", b"1")
            seen = client.last_index
            assert seen > 100
            page = await client.list("mine", consistency="stale", min_index=seen)
            assert [item.value for item in page.items] == [b"1"]
            assert page.index >= seen
            with pytest.raises(Timeout):
                await client.get("mine", consistency="stale", min_index=seen + 1000, timeout_s=0.5)
            found = await client.get("mine", consistency="stale", max_staleness_s=0.5)
            assert found is not None


async def test_64_reads_at_once_cost_less_than_two_rounds(tmp_path: Path) -> None:
    async with cluster_of(tmp_path) as cluster:
        leader = await leader_of(cluster)
        async with Client([cluster.nodes[leader].client]) as client:
            await client.put("k", b"v")
            before = await metric(cluster, leader, "read_rounds")
            times = 20
            for _ in range(times):
                found = await asyncio.gather(*(client.get("k") for _ in range(64)))
                assert all(value is not None and value.value == b"v" for value in found)
            rounds = await metric(cluster, leader, "read_rounds") - before
        assert times <= rounds < 2 * times


async def test_64_reads_over_64_connections_cost_less_than_two_rounds(tmp_path: Path) -> None:
    """As one burst: all requests are there before the node has answered the first."""
    async with cluster_of(tmp_path) as cluster:
        leader = await leader_of(cluster)
        host, port = cluster.nodes[leader].client.split(":")
        connections = [await asyncio.open_connection(host, int(port)) for _ in range(64)]
        times, counts = 20, []
        for _ in range(times):
            before = await metric(cluster, leader, "read_rounds")
            os.kill(cluster.nodes[leader].pid or 0, signal.SIGSTOP)
            for _, writer in connections:
                writer.write(b"GET /v1/kv/k HTTP/1.1\r\nHost: test\r\n\r\n")
            await asyncio.gather(*(writer.drain() for _, writer in connections))
            os.kill(cluster.nodes[leader].pid or 0, signal.SIGCONT)
            for reader, _ in connections:
                head = await reader.readuntil(b"\r\n\r\n")
                assert head.startswith(b"HTTP/1.1 404 ")
                length = re.search(rb"Content-Length: ([0-9]+)", head)
                assert length is not None
                await reader.readexactly(int(length[1]))
            counts.append(await metric(cluster, leader, "read_rounds") - before)
        for _, writer in connections:
            writer.close()
        assert sum(counts) < 2 * times
