"""Nodes that are not who they seem: each says so, and none votes as someone it is not."""

import asyncio
import shutil
from pathlib import Path

import pytest

from tests.cluster.processes import call, cluster_of, leader_of, status, until

pytestmark = pytest.mark.slow


async def test_a_disk_that_comes_back_empty_is_a_stranger_and_the_others_go_on(tmp_path: Path) -> None:
    async with cluster_of(tmp_path) as cluster:
        leader = await leader_of(cluster)
        lost = next(name for name in cluster.nodes if name != leader)
        await cluster.kill(lost)
        shutil.rmtree(cluster.data_directory(lost))
        cluster.start_node(lost)

        async def is_stranger() -> bool:
            said = await status(cluster, lost)
            return bool(said) and said["state"] == "stranger"  # type: ignore[index]

        await until("the empty node says that it is a stranger", is_stranger)
        said = await status(cluster, lost)
        assert said is not None
        assert said["id"] is None
        assert "forgot its vote" in said["detail"]
        assert await call(cluster, lost, "GET", "/livez") == (200, {"alive": True})
        ready = await call(cluster, lost, "GET", "/readyz")
        assert ready is not None
        assert ready[0] == 503
        assert await call(cluster, leader, "PUT", "/v1/kv/k", b"v") == (200, {"revision": 1})
        refused = await call(cluster, lost, "PUT", "/v1/kv/k", b"w")
        assert refused is not None
        assert (refused[0], refused[1]["outcome"]) == (503, "none")


async def test_a_changed_name_is_refused(tmp_path: Path) -> None:
    async with cluster_of(tmp_path, 1) as cluster:
        await cluster.stop()
        cluster.flags = ["--name", "other", "--members", ""]
        cluster.start_node("node1")
        assert await cluster.watch("node1") == 2
        assert "holds the data of node 'node1', not of 'other'" in cluster.log_tail("node1")


async def test_another_nodes_data_is_refused(tmp_path: Path) -> None:
    async with cluster_of(tmp_path, 3) as cluster:
        await cluster.stop()
        shutil.rmtree(cluster.data_directory("node1"))
        shutil.copytree(cluster.data_directory("node2"), cluster.data_directory("node1"))
        cluster.start_node("node1")
        assert await cluster.watch("node1") == 2
        assert "holds the data of node 'node2'" in cluster.log_tail("node1")


async def test_a_second_process_on_the_same_data_is_refused(tmp_path: Path) -> None:
    async with cluster_of(tmp_path, 1) as cluster:
        command = [*cluster.command("node1"), "--client-listen", "127.0.0.1:0", "--peer-listen", "127.0.0.1:0"]
        second = await asyncio.create_subprocess_exec(*command, stderr=asyncio.subprocess.PIPE)
        _, said = await second.communicate()
        assert second.returncode != 0
        assert b"another process uses this data directory" in said
        assert await call(cluster, "node1", "PUT", "/v1/kv/k", b"v") == (200, {"revision": 1})


async def test_a_damaged_log_stops_the_node_with_file_and_offset_and_changes_nothing(tmp_path: Path) -> None:
    async with cluster_of(tmp_path, 1) as cluster:
        for number in range(50):
            await call(cluster, "node1", "PUT", f"/v1/kv/{number}", b"v" * 100)
        await cluster.stop()
        (segment,) = (
            path for path in cluster.data_directory("node1").rglob("log/*") if b"v" * 100 in path.read_bytes()
        )
        data = bytearray(segment.read_bytes())
        data[data.index(b"v" * 100) + 5] ^= 1
        segment.write_bytes(data)
        cluster.start_node("node1")
        assert await cluster.watch("node1") == 1
        said = cluster.log_tail("node1")
        assert segment.name in said
        assert "offset" in said
        assert segment.read_bytes() == data


async def test_a_founding_node_waits_for_every_member_before_it_serves(tmp_path: Path) -> None:
    async with cluster_of(tmp_path, 3, start=False) as cluster:
        cluster.start_node("node1")
        cluster.start_node("node2")

        async def waits() -> bool:
            said = await status(cluster, "node1")
            return bool(said) and said["state"] == "waiting"  # type: ignore[index]

        await until("node1 waits", waits)
        await asyncio.sleep(2.0)  # longer than any election: two of three must not found a cluster
        assert await waits()
        cluster.start_node("node3")
        await leader_of(cluster)
