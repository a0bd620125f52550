"""What fifty settled RaftClusters cost: memory of the one operator process, and reads of the API server.

Everything is real: the API server with its own count of requests, the operator as a process, and fifty nodes.
"""

import asyncio
import re
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.operator.apiserver import PROGRAMS, ApiServer, require_programs
from tests.operator.processes import OperatorProcess, operator_process
from tests.operator.world import World, world

CLUSTERS = 50
RSS_BYTES_MAX = 200 * 1024 * 1024
RESYNC_S = 2
TOGETHER_S = 200.0
"""For all fifty to be founded, on a machine that does other things too."""
OURS = "raftclusters|statefulsets|pods|persistentvolumeclaims|poddisruptionbudgets|services|serviceaccounts|events"
READS = re.compile(rf'^apiserver_request_total{{.*resource="(?:{OURS})".*verb="(?:GET|LIST)".*}} (\S+)$', re.M)
STEPS = re.compile(r"^raftwright_operator_reconciles_total{.*} (\S+)$", re.M)


@pytest.fixture
async def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[World]:
    """A server of its own, since its requests are counted."""
    require_programs(*PROGRAMS)
    (tmp_path / "server").mkdir()
    with ApiServer(tmp_path / "server") as server:
        async with world(server, tmp_path / "volumes", monkeypatch) as made:
            yield made


async def reads_of(place: World) -> int:
    """GET and LIST requests of everyone so far, about what an operator reads."""
    text = await asyncio.to_thread(place.server.request, "GET", "/metrics")
    return round(sum(float(count) for count in READS.findall(text)))


async def steps_of(operator: OperatorProcess) -> int:
    _, text = await operator.get(operator.metrics, "/metrics")
    return round(sum(float(count) for count in STEPS.findall(text)))


@pytest.mark.slow
@pytest.mark.timeout(300)
async def test_fifty_clusters_of_one(place: World, tmp_path: Path) -> None:
    names = [f"db{number}" for number in range(CLUSTERS)]
    await asyncio.gather(*(place.create(name, replicas=1) for name in names))
    async with operator_process(place.namespace, tmp_path, RESYNC_S=str(RESYNC_S)) as operator:
        for name in names:
            # All at once, so that the first may take as long as the last.
            await place.settled(1, name=name, patience_s=TOGETHER_S)
        # Neither the double of Kubernetes' controllers nor this test reads anything from here on.
        place.nodes.is_awake = False
        await asyncio.sleep(RESYNC_S)
        reads, steps = await reads_of(place), await steps_of(operator)
        assert reads > CLUSTERS, "nothing is counted"
        while await steps_of(operator) < steps + 2 * CLUSTERS:  # noqa: ASYNC110  # another process is asked
            await asyncio.sleep(0.2)
        steps = await steps_of(operator) - steps
        reads = await reads_of(place) - reads
        rss = operator.rss_bytes
        assert await operator.stop() == 0
    print(f"{CLUSTERS} clusters: {rss / 2**20:.0f} MiB; {steps} resyncs cost {reads} reads")  # noqa: T201
    assert steps >= 2 * CLUSTERS
    assert reads <= steps
    assert rss < RSS_BYTES_MAX
    assert "Traceback" not in operator.log
