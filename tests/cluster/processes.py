"""Clusters of real processes for the tests of this folder: real disks with fsync, real sockets, real signals."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Sequence
from pathlib import Path
from typing import Any

import aiohttp

from raftwright.cli.localcluster import LocalCluster, stopping
from tests.cluster.support import free_port

PATIENCE_S = 30.0
"""How long anything may take before a test fails; nothing waits for it when it works."""


@contextlib.asynccontextmanager
async def cluster_of(
    directory: Path, count: int = 3, *, flags: Sequence[str] = (), start: bool = True
) -> AsyncIterator[LocalCluster]:
    """A cluster that is stopped when the block ends."""
    cluster = LocalCluster.at(directory, count=count, port=free_port(count))
    cluster.flags = flags
    async with stopping(cluster):
        if start:
            cluster.start()
            await leader_of(cluster)
        yield cluster


async def status(cluster: LocalCluster, name: str) -> dict[str, Any] | None:
    """A node's own word, or None if it does not answer."""
    answer = await call(cluster, name, "GET", "/v1/status")
    return None if answer is None else answer[1]


async def call(
    cluster: LocalCluster, name: str, method: str, path: str, body: bytes | None = None, timeout_s: float = 10.0
) -> tuple[int, Any] | None:
    """HTTP status and decoded JSON (bytes of anything else) of one request; None without an answer."""
    url = f"http://{cluster.nodes[name].client}{path}"
    timeout = aiohttp.ClientTimeout(total=timeout_s)
    try:
        async with aiohttp.ClientSession(timeout=timeout) as session, session.request(method, url, data=body) as answer:
            is_json = "json" in answer.content_type
            return answer.status, (await answer.json(content_type=None)) if is_json else await answer.read()
    except (aiohttp.ClientError, TimeoutError, OSError):
        return None


async def until(what: str, found: Callable[[], Any], *, within_s: float = PATIENCE_S) -> Any:
    """Ask `found`, an async function, until it says something true; fails naming `what`."""
    try:
        async with asyncio.timeout(within_s):
            # Other processes: there is nothing to wait on but asking.
            while not (answer := await found()):  # noqa: ASYNC110
                await asyncio.sleep(0.05)
            return answer
    except TimeoutError:
        raise AssertionError(f"not within {within_s} s: {what}") from None


async def leader_of(cluster: LocalCluster, *, other_than: str | None = None) -> str:
    """The name of the node that says it leads, and that can serve."""

    async def find() -> str | None:
        for node in cluster.running():
            said = await status(cluster, node.name)
            if said and said["role"] == "leader" and node.name != other_than and said["applied_index"] > 1:
                return node.name
        return None

    name: str = await until("a leader", find)
    return name
