"""What a cluster costs beside its work: CPU when idle, memory with data, p99 beside a snapshot and beside junk."""

import asyncio
import json
import os
import sys
from pathlib import Path
from typing import Any

import aiohttp

from raftwright import Client
from raftwright.cli.localcluster import LocalCluster

IDLE_S = 20.0
MEMORY_KEYS = 100_000
SNAPSHOT_KEYS = 1_000_000
JUNK_CLIENTS = 20


def cpu_seconds(pid: int) -> float:
    """User and system time of a process."""
    parts = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(parts[11]) + int(parts[12])) / os.sysconf("SC_CLK_TCK")


def resident_mib(pid: int) -> float:
    line = next(line for line in Path(f"/proc/{pid}/status").read_text().splitlines() if line.startswith("VmRSS"))
    return int(line.split()[1]) / 1024


def pids(cluster: LocalCluster) -> list[int]:
    return [node.pid for node in cluster.nodes.values() if node.pid is not None]


async def measure_idle(cluster: LocalCluster) -> dict[str, Any]:
    """Percent of one core that all nodes use together when nobody asks anything."""
    await asyncio.sleep(3.0)
    before = sum(map(cpu_seconds, pids(cluster)))
    await asyncio.sleep(IDLE_S)
    used = sum(map(cpu_seconds, pids(cluster))) - before
    return {"figure": "idle, three nodes together", "value": f"{100 * used / IDLE_S:.1f} % of one core"}


async def put_keys(leader: str, count: int, size: int) -> None:
    async with Client([leader], timeout_s=120.0, outstanding_max=4096) as client:
        for start in range(0, count, 5000):
            await asyncio.gather(
                *(client.put(f"key-{number:08}", bytes(size)) for number in range(start, min(count, start + 5000)))
            )


async def measure_memory(cluster: LocalCluster, leader: str) -> dict[str, Any]:
    await put_keys(leader, MEMORY_KEYS, 100)
    sizes = sorted(map(resident_mib, pids(cluster)))
    what = f"memory with {MEMORY_KEYS:,} keys of 100 bytes"
    return {"figure": what, "value": f"{sizes[-1]:.0f} MiB (the largest of three)"}


async def measure_junk(leader: str, seconds: float) -> list[dict[str, Any]]:
    """An honest client's latencies without and with 1,000 trickling and 5,000 idle connections, in turn."""
    rows = []
    for verb in ("GET", "PUT"):
        quiet = await _load(leader, verb, seconds)
        junk = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "bench.junk", "--endpoint", leader),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
        )
        assert junk.stdin is not None
        assert junk.stdout is not None
        await junk.stdout.readline()
        loud = await _load(leader, verb, seconds)
        junk.stdin.close()
        await junk.wait()
        value = f"p99 {quiet['p99_ms']:.1f} ms without, {loud['p99_ms']:.1f} ms with ({_ratio(loud, quiet)})"
        rows.append({"figure": f"{JUNK_CLIENTS} clients, {verb}, beside 6,000 junk connections", "value": value})
    return rows


async def measure_snapshot(cluster: LocalCluster, leader: str, seconds: float) -> dict[str, Any]:
    """Writes while the leader and its followers snapshot a million keys, beside writes just before."""
    await put_keys(leader, SNAPSHOT_KEYS, 32)
    await asyncio.sleep(5.0)
    before = await _load(leader, "PUT", seconds)
    taken = ask_for_snapshots(cluster)
    during = await _load(leader, "PUT", seconds)
    await taken
    value = f"p99 {before['p99_ms']:.1f} ms before, {during['p99_ms']:.1f} ms during ({_ratio(during, before)})"
    return {"figure": f"{JUNK_CLIENTS} clients writing, beside a snapshot of {SNAPSHOT_KEYS:,} keys", "value": value}


def ask_for_snapshots(cluster: LocalCluster) -> "asyncio.Task[None]":
    """Ask every node for a snapshot."""

    async def ask() -> None:
        async with aiohttp.ClientSession() as session:
            for node in cluster.nodes.values():
                async with session.post(f"http://{node.client}/v1/snapshot") as answer:
                    await answer.read()

    return asyncio.create_task(ask())


async def _load(leader: str, verb: str, seconds: float) -> dict[str, float]:
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "bench.http_load", "--endpoint", leader, "--clients", str(JUNK_CLIENTS)),
        *("--seconds", str(seconds), "--verb", verb),
        stdout=asyncio.subprocess.PIPE,
    )
    output, _ = await process.communicate()
    found: dict[str, float] = json.loads(output)
    return found


def _ratio(after: dict[str, float], before: dict[str, float]) -> str:
    return f"{after['p99_ms'] / max(before['p99_ms'], 1e-9):.1f} times"
