"""Election timeouts that are not the same: what a node promised before it was set to a shorter one, and who is told."""

import json
import signal
import time
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from tests.cluster.nodes import Nodes, nodes_in
from tests.cluster.processes import until

LONG_MS, SHORT_MS = 5000, 300


def start(nodes: Nodes, name: str, election_timeout_ms: int) -> float:
    """When it was started."""
    nodes.start(name, "--election-timeout-ms", str(election_timeout_ms))
    return time.monotonic()


def promised(nodes: Nodes, name: str) -> int | None:
    line = (nodes.data(name) / "store.json").read_text().partition("\n")[0]
    found: int | None = json.loads(line).get("election_timeout_ms")
    return found


async def waits(nodes: Nodes, name: str, milliseconds: int) -> bool:
    said = await nodes.status(name)
    return said["state"] == "starting" and f"waits {milliseconds} ms" in (said.get("detail") or "")


@pytest.mark.slow
async def test_a_voter_set_to_a_shorter_election_timeout_first_keeps_the_longer_promise(tmp_path: Path) -> None:
    async with nodes_in(tmp_path) as nodes:
        start(nodes, "n1", LONG_MS)
        await nodes.bootstrap("n1")
        assert promised(nodes, "n1") == LONG_MS
        await nodes.stop("n1")
        for _ in range(2):  # whoever dies while it waits, waits again
            start(nodes, "n1", SHORT_MS)
            await until("it says that it waits", partial(waits, nodes, "n1", LONG_MS))
            await nodes.stop("n1")
            assert promised(nodes, "n1") == LONG_MS
        began = start(nodes, "n1", SHORT_MS)
        await nodes.until_ready("n1")
        assert time.monotonic() - began >= LONG_MS / 1000
        assert promised(nodes, "n1") == SHORT_MS
        await nodes.stop("n1")
        start(nodes, "n1", SHORT_MS)
        await nodes.until_ready("n1")
        assert nodes.log("n1").count(f"waits {LONG_MS} ms") == 3, "the promise is over"


@pytest.mark.slow
async def test_a_node_that_waits_for_its_promise_to_be_over_stops_when_it_is_told_to(tmp_path: Path) -> None:
    async with nodes_in(tmp_path) as nodes:
        start(nodes, "n1", 60_000)
        await nodes.bootstrap("n1")
        await nodes.stop("n1")
        start(nodes, "n1", SHORT_MS)
        await until("it says that it waits", partial(waits, nodes, "n1", 60_000))
        assert await nodes.stop("n1", signal.SIGTERM) == 0
        assert promised(nodes, "n1") == 60_000


async def lease_reads(nodes: Nodes, name: str) -> float:
    return metric(await metrics(nodes, name), "raftwright_reads_lease_total")


async def metrics(nodes: Nodes, name: str) -> str:
    text: bytes = (await nodes.ask(name, "GET", "/metrics"))[1]
    return text.decode()


def metric(text: str, name: str) -> float:
    return float(next(line.split()[1] for line in text.splitlines() if line.startswith(name + " ")))


@pytest.mark.slow
async def test_a_leader_says_whose_election_timeout_is_shorter_and_still_reads_by_lease(tmp_path: Path) -> None:
    async with nodes_in(tmp_path) as nodes:
        start(nodes, "n1", 1000)
        start(nodes, "n2", SHORT_MS)
        await nodes.bootstrap("n1", "n2")
        await nodes.until_ready("n1", "n2")

        async def n1_leads() -> bool:
            if await nodes.leader("n1") != "n1":
                await nodes.ask("n2", "POST", "/v1/leader/transfer", {"to": "n1"})
            return await nodes.leader("n1") == "n1"

        await until("n1 leads", n1_leads)

        async def known() -> dict[str, Any] | None:
            timeouts = {one["name"]: one.get("election_timeout_ms") for one in (await nodes.status("n1"))["members"]}
            return timeouts if timeouts["n2"] else None

        assert await until("n2's election timeout is known", known) == {"n1": 1000, "n2": SHORT_MS}
        warning = f"the election timeout of n2 is {SHORT_MS} ms, and that of this node 1000 ms"
        assert nodes.log("n1").count(warning) == 1
        assert metric(await metrics(nodes, "n1"), "raftwright_voters_with_shorter_election_timeout") == 1
        assert metric(await metrics(nodes, "n2"), "raftwright_voters_with_shorter_election_timeout") == 0

        async def reads_by_lease() -> bool:
            assert (await nodes.ask("n1", "GET", "/v1/kv/a?consistency=lease"))[0] == 404
            return await lease_reads(nodes, "n1") > 0

        await until("what both promise is enough for a lease", reads_by_lease)
