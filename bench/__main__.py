"""`make bench`: three nodes on this machine, and how fast they are.

    python -m bench                              # everything, with and without uvloop
    python -m bench --only http --seconds 10     # a part of it
    python -m bench --json results.json          # also as JSON

The load generators are processes of their own, on the same cores as the nodes: the numbers are of the whole machine.
"""

import argparse
import asyncio
import json
import shutil
import sys
import tempfile
import urllib.request
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from bench import failover, footprint
from bench.http_load import KEYS, VALUE_BYTES, key_of
from raftwright.cli.local import wait_until_ready
from raftwright.cli.localcluster import LocalCluster
from raftwright.client.client import Client

PARTS = ("http", "stream", "failover", "footprint")
OUTSTANDING = (1, 64, 512)


async def generate(module: str, *arguments: object) -> dict[str, Any]:
    """Run a load generator to its end; returns what it measured."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", f"bench.{module}", *map(str, arguments)), stdout=asyncio.subprocess.PIPE
    )
    try:
        out, _ = await process.communicate()
    finally:
        if process.returncode is None:
            process.kill()
    if process.returncode != 0:
        raise SystemExit(f"the load generator {module} failed")
    measured: dict[str, Any] = json.loads(out)
    return measured


def counters(endpoint: str) -> dict[str, float]:
    """The numbers without labels of a node's /metrics."""
    with urllib.request.urlopen(f"http://{endpoint}/metrics", timeout=5) as answer:
        lines = answer.read().decode().splitlines()
    rows = (line.split() for line in lines if not line.startswith("#") and "{" not in line)
    return {name: float(value) for name, value in rows}


def per_sync(before: dict[str, float], after: dict[str, float]) -> float:
    """Writes that shared one sync of the leader's log, on average."""
    syncs = after["raftwright_fsyncs_total"] - before["raftwright_fsyncs_total"]
    commands = after["raftwright_fsynced_commands_total"] - before["raftwright_fsynced_commands_total"]
    return round(commands / syncs, 1) if syncs else 0.0


async def fill(leader: str) -> None:
    """Write every key once, so that every read finds one."""
    async with Client([leader], timeout_s=60.0) as client:
        await asyncio.gather(*(client.put(key_of(number), bytes(VALUE_BYTES)) for number in range(KEYS)))


async def measure_http(leader: str, arguments: argparse.Namespace) -> list[dict[str, Any]]:
    rows = []
    for verb, what in (("PUT", "writes"), ("GET", "linearizable reads")):
        before = counters(leader)
        load = ("--endpoint", leader, "--clients", arguments.clients, "--seconds", arguments.seconds, "--verb", verb)
        row = await generate("http_load", *load)
        row["load"] = f"HTTP, {arguments.clients} clients, {what}"
        if verb == "PUT":
            row["writes_per_sync"] = per_sync(before, counters(leader))
        rows.append(row)
    return rows


async def measure_stream(leader: str, arguments: argparse.Namespace) -> list[dict[str, Any]]:
    rows = []
    for by in ("client", "frames"):
        for outstanding in OUTSTANDING:
            before = counters(leader)
            load = ("--endpoint", leader, "--outstanding", outstanding, "--seconds", arguments.seconds, "--by", by)
            row = await generate("stream_load", *load)
            row["load"] = f"stream by {by}, {outstanding} outstanding"
            row["writes_per_sync"] = per_sync(before, counters(leader))
            rows.append(row)
    return rows


async def measure_footprint(cluster: LocalCluster, arguments: argparse.Namespace) -> list[dict[str, Any]]:
    rows = [await footprint.measure_idle(cluster)]
    leader = cluster.nodes[await wait_until_ready(cluster)].client
    rows.append(await footprint.measure_memory(cluster, leader))
    rows += await footprint.measure_junk(leader, arguments.seconds)
    rows.append(await footprint.measure_snapshot(cluster, leader, arguments.seconds))
    return rows


async def measure(with_uvloop: bool, arguments: argparse.Namespace) -> list[dict[str, Any]]:
    """Everything asked for, on one fresh cluster."""
    directory = Path(tempfile.mkdtemp(prefix="raftwright-bench-", dir=arguments.dir))
    cluster = LocalCluster.at(directory, count=3, port=arguments.port)
    cluster.flags = ["--uvloop", str(with_uvloop).lower(), "--log-level", "warning"]
    rows: list[dict[str, Any]] = []
    try:
        cluster.start()
        leader = cluster.nodes[await wait_until_ready(cluster)].client
        await fill(leader)
        if "http" in arguments.only:
            rows += await measure_http(leader, arguments)
        if "stream" in arguments.only:
            rows += await measure_stream(leader, arguments)
        if "failover" in arguments.only:
            rows += await failover.measure(cluster, arguments.kills)
        if "footprint" in arguments.only:
            rows += await measure_footprint(cluster, arguments)
    finally:
        await cluster.stop()
        shutil.rmtree(directory, ignore_errors=True)
    return [{"loop": "uvloop" if with_uvloop else "asyncio", **row} for row in rows]


def show(rows: list[dict[str, Any]]) -> None:
    table = Table(box=None, pad_edge=False)
    for title in ("loop", "load", "per s", "p50 ms", "p99 ms", "p99/p50", "writes/sync", "failed"):
        table.add_column(title, justify="left" if title in ("loop", "load") else "right", no_wrap=True)
    for row in rows:
        if "per_s" not in row:
            continue
        ratio = row["p99_ms"] / max(row["p50_ms"], 1e-9)
        cells = (f"{row['per_s']:,.0f}", f"{row['p50_ms']:.2f}", f"{row['p99_ms']:.2f}", f"{ratio:.1f}")
        table.add_row(row["loop"], row["load"], *cells, str(row.get("writes_per_sync", "")), str(row["failed"]))
    console = Console(width=None if sys.stdout.isatty() else 140)
    if table.row_count:
        console.print(table)
    for row in rows:
        if "figure" in row:
            print(f"{row['loop']}: {row['figure']}: {row['value']}")
        if "median_s" in row:
            stopped = f"{row['median_s']:.2f} s (median), {row['max_s']:.2f} s (longest)"
            print(f"{row['loop']}: {row['load']}, {row['times']} times: writes stopped for {stopped}")


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench", description="How fast three nodes on this machine are.")
    parser.add_argument("--only", choices=PARTS, action="append", help="a part; may be repeated (default: all)")
    parser.add_argument("--seconds", type=float, default=5.0, help="how long each load runs")
    parser.add_argument("--clients", type=int, default=200, help="connections of the HTTP load")
    parser.add_argument("--kills", type=int, default=20, help="how often the leader is killed, and frozen")
    parser.add_argument("--loop", choices=("both", "uvloop", "asyncio"), default="both", help="the nodes' event loop")
    parser.add_argument("--port", type=int, default=7401, help="first port for clients")
    parser.add_argument(
        "--dir", type=Path, default=None, help="where the nodes' data go (default: the temporary files)"
    )
    parser.add_argument("--json", type=Path, default=None, help="write the numbers here, too")
    arguments = parser.parse_args()
    arguments.only = arguments.only or list(PARTS)
    loops = {"both": (True, False), "uvloop": (True,), "asyncio": (False,)}[arguments.loop]
    rows = [row for with_uvloop in loops for row in asyncio.run(measure(with_uvloop, arguments))]
    show(rows)
    if arguments.json:
        arguments.json.write_text(json.dumps(rows, indent=2) + "\n")


if __name__ == "__main__":
    main()
