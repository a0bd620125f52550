"""`raftwright local`: what it starts, writes down, restarts and stops; and the demo, whole."""

import asyncio
import contextlib
import os
import signal
import socket
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import orjson
import pytest

from raftwright.client.client import Client
from tests.cli.support import raftwright, start
from tests.cluster.support import free_port

pytestmark = [pytest.mark.slow, pytest.mark.timeout(180)]

FAST_STOP = ("--set", "shutdown_timeout_s=0.5")


def nodes_of(directory: Path) -> list[dict[str, Any]]:
    nodes: list[dict[str, Any]] = orjson.loads((directory / "local.json").read_bytes())["nodes"]
    return nodes


def is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


@contextlib.asynccontextmanager
async def local(directory: Path, *arguments: str) -> AsyncIterator[asyncio.subprocess.Process]:
    """`raftwright local`, ready; made sure to be gone at the end."""
    process = await start("local", "--data-dir", str(directory), *FAST_STOP, *arguments)
    try:
        assert process.stdout
        async with asyncio.timeout(60):
            while not (line := await process.stdout.readline()).startswith(b"Ready"):
                assert line, (await process.communicate())[1]
        yield process
    finally:
        if process.returncode is None:
            process.terminate()
        await process.communicate()


async def test_a_cluster_starts_stops_and_goes_on_with_its_data(tmp_path: Path) -> None:
    port = free_port(3)
    directory = tmp_path / "cluster"
    async with local(directory, "--nodes", "3", "--port", str(port)) as process:
        nodes = nodes_of(directory)
        assert [node["client"] for node in nodes] == [f"127.0.0.1:{port + number}" for number in range(3)]
        assert [node["peer"] for node in nodes] == [f"127.0.0.1:{port + 1000 + number}" for number in range(3)]
        assert all(is_alive(node["pid"]) for node in nodes)
        assert (await raftwright("put", "a", "1", "--data-dir", str(directory))).status == 0
        second = await raftwright("local", "--data-dir", str(directory))
        assert second.status == 2 and "is running already" in second.err and "--stop" in second.err
        process.send_signal(signal.SIGINT)
        assert await process.wait() == 0, await process.communicate()
    assert not any(is_alive(node["pid"]) for node in nodes)
    assert [node["pid"] for node in nodes_of(directory)] == [None, None, None]
    other = await raftwright("local", "--data-dir", str(directory), "--nodes", "5")
    assert other.status == 2 and "holds a cluster of 3 nodes" in other.err
    async with local(directory) as process:
        assert (await raftwright("get", "a", "--data-dir", str(directory))).out == b"1"
        process.terminate()
        assert await process.wait() == 0


async def test_a_dead_node_is_restarted_if_wanted_and_written_down(tmp_path: Path) -> None:
    async with local(tmp_path, "--port", str(free_port(3)), "--restart"):
        before = nodes_of(tmp_path)
        os.kill(before[0]["pid"], signal.SIGKILL)
        async with asyncio.timeout(30):
            while nodes_of(tmp_path)[0]["pid"] in (None, before[0]["pid"]):  # noqa: ASYNC110  # another process does it
                await asyncio.sleep(0.02)
        after = nodes_of(tmp_path)
        assert is_alive(after[0]["pid"]) and after[1:] == before[1:]
        async with Client([after[0]["client"]]) as client, asyncio.timeout(30):
            while not await client.is_ready(after[0]["client"]):  # noqa: ASYNC110
                await asyncio.sleep(0.05)


async def test_a_dead_node_stays_down_otherwise_and_a_cluster_without_nodes_ends(tmp_path: Path) -> None:
    async with local(tmp_path, "--port", str(free_port(3))) as process:
        before = nodes_of(tmp_path)
        os.kill(before[0]["pid"], signal.SIGKILL)
        async with asyncio.timeout(30):
            while nodes_of(tmp_path)[0]["pid"] is not None:  # noqa: ASYNC110
                await asyncio.sleep(0.02)
        assert (await raftwright("put", "a", "1", "--data-dir", str(tmp_path))).status == 0
        for node in before[1:]:
            os.kill(node["pid"], signal.SIGKILL)
        assert process.stderr
        assert await process.wait() == 3
        assert b"every node has ended" in await process.stderr.read()


async def test_nodes_that_outlive_their_starter_can_be_stopped(tmp_path: Path) -> None:
    async with local(tmp_path, "--port", str(free_port(3))) as process:
        process.kill()
        await process.wait()
        nodes = nodes_of(tmp_path)
        assert all(is_alive(node["pid"]) for node in nodes)
        stopped = await raftwright("local", "--stop", "--data-dir", str(tmp_path))
        assert stopped.status == 0 and "Stopped node1, node2, node3." in stopped.text
        assert [node["pid"] for node in nodes_of(tmp_path)] == [None, None, None]


async def test_a_taken_port_is_named(tmp_path: Path) -> None:
    port = free_port(3)
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", port + 1001))
        taken.listen()
        refused = await raftwright("local", "--data-dir", str(tmp_path / "new"), "--port", str(port))
    assert refused.status == 2
    assert f"Port {port + 1001}, wanted for node2's peers, is taken" in refused.err
    assert not (tmp_path / "new" / "local.json").exists()


async def test_the_demo_loses_nothing(tmp_path: Path) -> None:
    directory = tmp_path / "demo"
    shown = await raftwright("demo", "--once", "--data-dir", str(directory), "--port", str(free_port(3)))
    assert shown.status == 0, shown.err
    numbers = {
        line.split()[0]: int(line.split()[-1].replace(",", "")) for line in shown.text.splitlines() if "  " in line
    }
    assert numbers["lost"] == 0
    assert numbers["written"] == numbers["acknowledged"] == numbers["read"] > 130_000
    assert "writes stopped for" in shown.text
    assert all(node["pid"] is None for node in nodes_of(directory))


async def test_the_demo_leaves_a_cluster_and_removes_nothing_that_is_not_its_own(tmp_path: Path) -> None:
    (tmp_path / "mine.txt").write_text("dear")
    refused = await raftwright("demo", "--once", "--data-dir", str(tmp_path))
    assert refused.status == 2 and (tmp_path / "mine.txt").exists()
    directory, port = tmp_path / "demo", str(free_port(3))
    shown = await raftwright("demo", "--limit", "2000", "--data-dir", str(directory), "--port", port)
    try:
        assert shown.status == 0, shown.err
        assert (await raftwright("get", "DIGIT ONE", "--data-dir", str(directory))).out == b"U+0031 Nd"
        again = await raftwright("demo", "--once", "--limit", "500", "--data-dir", str(directory), "--port", port)
        assert again.status == 0 and "Stopping the cluster of the last demo." in again.text
    finally:
        await raftwright("local", "--stop", "--data-dir", str(directory))
