"""How long writes stop when the leader is killed: SIGKILL, again and again, at the default settings.

Called by `bench/__main__.py`. The time is from the signal to the first write that succeeds after it.
"""

import asyncio
import statistics
import time

from raftwright.cli.local import wait_until_ready
from raftwright.cli.localcluster import LocalCluster
from raftwright.client.client import Client

SETTLE_S = 0.5


async def measure(cluster: LocalCluster, kills: int) -> dict[str, float]:
    """Kill the leader of a running cluster `kills` times. Times in seconds."""
    times = []
    async with Client(cluster.endpoints, timeout_s=30.0) as client:
        for number in range(kills):
            await client.put("failover", b"before")
            status = await client.status()
            leader = next(member.name for member in status.members if member.leader)
            begun = time.monotonic()
            await cluster.kill(leader)
            await client.put("failover", str(number).encode())
            times.append(time.monotonic() - begun)
            cluster.start_node(leader)
            await wait_until_ready(cluster)
            await asyncio.sleep(SETTLE_S)
    return {"kills": kills, "median_s": round(statistics.median(times), 3), "max_s": round(max(times), 3)}
