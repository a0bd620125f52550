"""Real clusters for tests: processes on free ports, in a directory of their own, stopped when the test ends."""

import contextlib
import random
import socket
from collections.abc import AsyncIterator, Sequence
from pathlib import Path

from raftwright.cli.local import wait_until_ready
from raftwright.cli.localcluster import HOST, PEER_PORT_OFFSET, LocalCluster, stopping
from raftwright.client.client import Client


def free_port(count: int) -> int:
    """The first of `count` free ports for clients, with as many free for peers."""
    while True:
        first = random.randrange(20_000, 31_000)
        if all(_is_free(first + number + offset) for number in range(count) for offset in (0, PEER_PORT_OFFSET)):
            return first


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        try:
            probe.bind((HOST, port))
        except OSError:
            return False
    return True


@contextlib.asynccontextmanager
async def running_cluster(directory: Path, count: int = 3, flags: Sequence[str] = ()) -> AsyncIterator[LocalCluster]:
    """A cluster that is ready, and stopped at the end."""
    cluster = LocalCluster.at(directory, count=count, port=free_port(count))
    cluster.flags = [*("--shutdown-timeout-s", "0.5"), *flags]
    async with stopping(cluster):
        cluster.start()
        await wait_until_ready(cluster)
        yield cluster


async def leader_of(client: Client) -> str:
    """The name of the leader."""
    while True:
        status = await client.status()
        for member in status.members:
            if member.leader:
                return member.name
