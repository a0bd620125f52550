"""Runs `python -m raftwright_operator`, or another command with its settings, against a test's API server.

Called by the tests of the operator as a process. The nodes are in the test's own process, at loopback addresses.
"""

import asyncio
import os
import signal
import sys
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import aiohttp

from raftwright_operator.settings import PREFIX
from tests.cluster.support import free_port

COMMAND = (sys.executable, "-m", "raftwright_operator")


class OperatorProcess:
    """`health` and `metrics` are ports."""

    def __init__(self, process: asyncio.subprocess.Process, health: int, metrics: int, log: Path) -> None:
        self.process = process
        self.health = health
        self.metrics = metrics
        self._log = log

    @property
    def log(self) -> str:
        return self._log.read_text()

    async def get(self, port: int, path: str) -> tuple[int, str]:
        """Status and text; status 0: nobody answers."""
        try:
            async with aiohttp.ClientSession() as http, http.get(f"http://127.0.0.1:{port}{path}") as answer:
                return answer.status, await answer.text()
        except aiohttp.ClientError:
            return 0, ""

    async def stop(self, number: signal.Signals = signal.SIGTERM) -> int:
        """Its exit status."""
        if self.process.returncode is None:
            self.process.send_signal(number)
        return await asyncio.wait_for(self.process.wait(), 20)

    @property
    def rss_bytes(self) -> int:
        with open(f"/proc/{self.process.pid}/status") as status:
            line = next(line for line in status if line.startswith("VmRSS"))
        return int(line.split()[1]) * 1024


@asynccontextmanager
async def operator_process(
    namespace: str, directory: Path, *, name: str = "operator", command: Sequence[str] = COMMAND, **settings: str
) -> AsyncIterator[OperatorProcess]:
    """One that runs until the block is left. KUBECONFIG is as in this process; the Lease is in `namespace`."""
    health = free_port(2)
    given = {
        "NAMESPACES": namespace,
        "NODE_ACCESS": "direct",
        "NODE_IMAGE": "raftwright/node:test",
        "HEALTH_PORT": str(health),
        "METRICS_PORT": str(health + 1),
        "RESYNC_S": "2",
        **settings,
    }
    environment = {
        **os.environ,
        **{PREFIX + key: text for key, text in given.items()},
        "POD_NAME": name,
        "POD_NAMESPACE": namespace,
    }
    log = directory / f"{name}-{health}.log"
    with log.open("wb") as output:
        process = await asyncio.create_subprocess_exec(*command, env=environment, stdout=output, stderr=output)
    made = OperatorProcess(process, health, health + 1, log)
    try:
        yield made
    finally:
        await made.stop(signal.SIGKILL)
