"""How long writes stop when the leader goes, again and again, at the default settings.

Called by `bench/__main__.py`. The time is from the signal to the first write that succeeds after it. A leader that is
killed closes its connections; one that is frozen (SIGSTOP) is what a machine without power looks like to the others.
"""

import asyncio
import os
import signal
import statistics
import time
from typing import Any

from raftwright.cli.local import wait_until_ready
from raftwright.cli.localcluster import LocalCluster
from raftwright.client.client import Client

SETTLE_S = 0.5


async def measure(cluster: LocalCluster, times: int) -> list[dict[str, Any]]:
    """Writes of a client of all nodes and of one at a follower, which forwards to whom it takes for the leader."""
    stops: dict[str, list[float]] = {"killed": [], "frozen": [], "frozen, writes at a follower": []}
    for number in range(times):
        for what, seconds in stops.items():
            seconds.append(await _stop(cluster, str(number), frozen=what != "killed", at_follower="follower" in what))
    return [
        {
            "load": f"the leader is {what}",
            "times": times,
            "median_s": round(statistics.median(seconds), 3),
            "max_s": round(max(seconds), 3),
        }
        for what, seconds in stops.items()
    ]


async def _stop(cluster: LocalCluster, text: str, *, frozen: bool, at_follower: bool) -> float:
    """Seconds until a write succeeds after the leader has gone; it is back when this returns."""
    leader = await wait_until_ready(cluster)
    others = [node.client for node in cluster.nodes.values() if node.name != leader]
    endpoints = others[:1] if at_follower else cluster.endpoints
    async with Client(endpoints, discover=not at_follower, timeout_s=30.0) as client:
        await client.put("failover", b"before")
        pid, begun = cluster.nodes[leader].pid, time.monotonic()
        assert pid is not None
        if frozen:
            os.kill(pid, signal.SIGSTOP)
        else:
            await cluster.kill(leader)
        await client.put("failover", text.encode())
        stopped_s = time.monotonic() - begun
        if frozen:
            os.kill(pid, signal.SIGCONT)
        else:
            cluster.start_node(leader)
    await asyncio.sleep(SETTLE_S)
    return stopped_s
