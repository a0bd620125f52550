"""Any permitted size of segments works with any permitted size of values, and may be changed at a restart."""

import os
from pathlib import Path

import pytest

from raftwright.cli.localcluster import LocalCluster
from tests.cluster.processes import call, cluster_of, leader_of, until

pytestmark = pytest.mark.slow

KIB = 1 << 10
LARGEST = 1 << 20
"""`value_bytes_max` by default."""


async def until_reads(cluster: LocalCluster, name: str) -> None:
    async def reads() -> bool:
        return (await call(cluster, name, "GET", "/readyz") or (0,))[0] == 200

    await until(f"{name} serves reads", reads)


@pytest.mark.parametrize("segment_bytes", [64 * KIB, 100_001, 1024 * KIB, 2048 * KIB])
async def test_segments_may_be_smaller_than_entries(tmp_path: Path, segment_bytes: int) -> None:
    written: dict[str, bytes] = {}
    async with cluster_of(tmp_path, 3, flags=["--segment-bytes-max", str(segment_bytes)]) as cluster:
        leader = await leader_of(cluster)
        behind = next(name for name in cluster.nodes if name != leader)

        async def write(*sizes: int) -> None:
            for size in sizes:
                key, value = f"k{len(written)}", os.urandom(size)
                answer = await call(cluster, leader, "PUT", f"/v1/kv/{key}", value)
                assert answer == (200, {"revision": len(written) + 1}), cluster.log_tail(leader)
                written[key] = value

        edges = [segment_bytes + more for more in (-400, -200, -100, 0) if segment_bytes + more <= LARGEST]
        await write(10, LARGEST, 10, *edges, LARGEST, 10)
        await cluster.kill(behind)
        await write(*([200_000] * 8), LARGEST)
        for size in (segment_bytes, 8 * segment_bytes, segment_bytes):
            # Another size of segments at each start, with what the last one prepared.
            cluster.flags = [*cluster.flags, "--segment-bytes-max", str(size)]
            for name in cluster.nodes:
                if cluster.is_alive(name):
                    await cluster.kill(name)
            for name in cluster.nodes:
                cluster.start_node(name)
            leader = await leader_of(cluster)
            await write(10, LARGEST, 10)
        for name in cluster.nodes:
            await until_reads(cluster, name)
            for key, value in written.items():
                assert await call(cluster, name, "GET", f"/v1/kv/{key}") == (200, value)


async def test_a_follower_takes_what_is_larger_than_its_own_segments(tmp_path: Path) -> None:
    """Settings of members may differ: what a leader sends at once may be more than one of them ever has ready."""
    async with cluster_of(tmp_path, 3) as cluster:
        leader = await leader_of(cluster)
        small = next(name for name in cluster.nodes if name != leader)
        await cluster.kill(small)
        cluster.flags = [*cluster.flags, "--segment-bytes-max", str(64 * KIB)]
        for number in range(30):
            assert (await call(cluster, leader, "PUT", f"/v1/kv/{number}", bytes(300_000)) or (0,))[0] == 200
        cluster.start_node(small)
        await until_reads(cluster, small)
        assert await call(cluster, small, "GET", "/v1/kv/29") == (200, bytes(300_000))
