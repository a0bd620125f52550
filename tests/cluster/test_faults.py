"""What the environment does to a running cluster: full disks, stopped processes, clean shutdowns."""

import asyncio
import os
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cluster.processes import call, cluster_of, leader_of, status, until

pytestmark = pytest.mark.slow

MIB = 1 << 20


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 48 MiB."""
    if os.geteuid() != 0:
        pytest.skip("mounting a small file system takes root")
    directory = tmp_path / "small"
    directory.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=48m", "tmpfs", str(directory)], check=False, capture_output=True
    )
    if mounted.returncode != 0:
        pytest.skip(f"cannot mount a small file system: {mounted.stderr.decode()}")
    try:
        yield directory
    finally:
        subprocess.run(["umount", "-l", str(directory)], check=True)


async def test_a_full_disk_refuses_writes_goes_on_reading_and_recovers_by_itself(small_disk: Path) -> None:
    flags = ["--segment-bytes-max", "4MiB", "--log-cache-bytes-max", "1MiB", "--snapshot-every-log-bytes", "1GiB"]
    async with cluster_of(small_disk / "data", 1, flags=flags) as cluster:
        await call(cluster, "node1", "PUT", "/v1/kv/first", b"kept")
        filler = small_disk / "filler"
        filler.write_bytes(bytes(20 * MIB))
        value = os.urandom(512 << 10)
        acknowledged = []
        refused = None
        for number in range(200):
            answer = await call(cluster, "node1", "PUT", f"/v1/kv/{number}", value)
            assert answer is not None, cluster.log_tail("node1")
            if answer[0] != 200:
                refused = answer
                break
            acknowledged.append(number)
        assert refused is not None, "a disk of 48 MiB took 100 MiB"
        assert (refused[0], refused[1]["outcome"]) == (507, "none")
        assert await call(cluster, "node1", "GET", "/v1/kv/first") == (200, b"kept")
        assert cluster.is_alive("node1")
        filler.unlink()

        async def writes_again() -> bool:
            answer = await call(cluster, "node1", "PUT", "/v1/kv/again", b"v")
            return answer is not None and answer[0] == 200

        await until("writes succeed once there is space", writes_again)
        await cluster.kill("node1")
        cluster.start_node("node1")
        await leader_of(cluster)
        for number in acknowledged:
            assert await call(cluster, "node1", "GET", f"/v1/kv/{number}") == (200, value)


async def test_a_disk_that_the_log_filled_is_freed_by_a_snapshot(small_disk: Path) -> None:
    flags = ["--segment-bytes-max", "8MiB", "--log-cache-bytes-max", "1MiB", "--snapshot-every-log-bytes", "1GiB"]
    async with cluster_of(small_disk / "data", 1, flags=flags) as cluster:
        value = os.urandom(512 << 10)
        refused = 0
        for number in range(300):  # three times the disk
            answer = await call(cluster, "node1", "PUT", "/v1/kv/same", value)
            assert answer is not None, cluster.log_tail("node1")
            if answer[0] != 200:
                assert (answer[0], answer[1]["outcome"]) == (507, "none")
                refused += 1

                async def writes_again() -> bool:
                    again = await call(cluster, "node1", "PUT", "/v1/kv/same", value)
                    return again is not None and again[0] == 200

                await until(f"writes go on after number {number}", writes_again)
        assert refused, "the disk never filled up: this test tests nothing"
        await cluster.kill("node1")
        cluster.start_node("node1")
        await leader_of(cluster)
        assert await call(cluster, "node1", "GET", "/v1/kv/same") == (200, value)


async def test_the_log_does_not_grow_without_end_under_steady_writes(tmp_path: Path) -> None:
    flags = ["--segment-bytes-max", "4MiB", "--log-cache-bytes-max", "1MiB", "--snapshot-every-log-bytes", "4MiB"]
    async with cluster_of(tmp_path, 3, flags=flags) as cluster:
        leader = await leader_of(cluster)
        value = os.urandom(256 << 10)
        for number in range(320):  # 80 MiB, of one key
            assert await call(cluster, leader, "PUT", "/v1/kv/same", value) == (200, {"revision": number + 1})
        sizes = {
            name: sum(path.stat().st_size for path in cluster.data_directory(name).rglob("*") if path.is_file())
            for name in cluster.nodes
        }
        # Two snapshots' worth of log, the segments ready ahead, and two snapshots.
        assert all(size < 32 * MIB for size in sizes.values()), sizes


async def test_a_leader_that_was_stopped_for_longer_than_its_lease_serves_no_stale_read(tmp_path: Path) -> None:
    async with cluster_of(tmp_path) as cluster:
        leader = await leader_of(cluster)
        assert await call(cluster, leader, "PUT", "/v1/kv/k", b"old") == (200, {"revision": 1})
        os.kill(cluster.nodes[leader].pid or 0, signal.SIGSTOP)
        try:
            running = [name for name in cluster.nodes if name != leader]
            asked = running[0]

            async def writes() -> bool:
                answer = await call(cluster, asked, "PUT", "/v1/kv/k", b"new", timeout_s=6.0)
                return answer is not None and answer[0] == 200

            await until("the others elect a leader and write", writes)
        finally:
            read = asyncio.create_task(call(cluster, leader, "GET", "/v1/kv/k"))
            await asyncio.sleep(0.1)
            os.kill(cluster.nodes[leader].pid or 0, signal.SIGCONT)
        assert await read == (200, b"new")


async def test_sigterm_hands_leadership_over_and_loses_no_write_on_its_way(tmp_path: Path) -> None:
    async with cluster_of(tmp_path) as cluster:
        leader = await leader_of(cluster)
        others = [name for name in cluster.nodes if name != leader]
        term = (await status(cluster, leader) or {})["term"]
        failed: list[object] = []
        acknowledged: list[str] = []
        done = asyncio.Event()

        async def write(lane: int) -> None:
            number = 0
            while not done.is_set():
                number += 1
                key = f"{lane}-{number}"
                answer = await call(cluster, others[lane % 2], "PUT", f"/v1/kv/{key}", b"v")
                if answer is None or answer[0] != 200:
                    failed.append(answer)
                else:
                    acknowledged.append(key)

        async with asyncio.TaskGroup() as group:
            for lane in range(8):
                group.create_task(write(lane))
            await asyncio.sleep(0.5)
            await asyncio.wait_for(cluster.kill(leader, signal.SIGTERM), 10)
            next_leader = await leader_of(cluster, other_than=leader)
            await asyncio.sleep(0.5)
            done.set()
        assert not failed
        said = await status(cluster, next_leader)
        assert said is not None
        assert said["term"] == term + 1, "one election, at once: leadership was handed over"
        assert len(acknowledged) > 50
        for key in acknowledged:
            assert await call(cluster, next_leader, "GET", f"/v1/kv/{key}") == (200, b"v")
