"""Two bootstraps with different bodies under one cluster id: two clusters, whose nodes must not take each other in."""

import asyncio
from pathlib import Path
from typing import Any

import pytest

from tests.cluster.nodes import Nodes, nodes_in
from tests.cluster.processes import until


async def put(nodes: Nodes, name: str, key: str) -> None:
    assert (await nodes.ask(name, "PUT", f"/v1/kv/{key}", name.encode()))[0] == 200


async def has(nodes: Nodes, name: str, key: str) -> bool:
    return await nodes.ask(name, "GET", f"/v1/kv/{key}?consistency=stale") == (200, name.encode())


async def bootstrap_alone(nodes: Nodes, specs: dict[str, dict[str, Any]], voter: str) -> None:
    """As a cluster of which `voter` is the one that votes; what it holds is written while the other is down."""
    members = [{**spec, "role": "voter" if name == voter else "learner"} for name, spec in specs.items()]
    body = {"cluster_id": "test-cluster", "members": members}
    nodes.start(voter)
    await nodes.until_state(voter, "waiting")
    assert (await nodes.ask(voter, "POST", "/v1/cluster/bootstrap", body))[0] == 200
    await nodes.until_ready(voter)
    await put(nodes, voter, "own")
    await nodes.stop(voter)


async def refusal(nodes: Nodes, name: str, of: str) -> str:
    """Why `of` refuses `name`, by the status of the latter."""

    async def found() -> str | None:
        members = (await nodes.status(name)).get("members", [])
        return next((member.get("refusal") for member in members if member["name"] == of), None)

    return str(await until(f"{of} refuses {name}", found))


@pytest.mark.slow
async def test_nodes_of_two_bootstraps_under_one_id_refuse_each_other_and_lose_nothing(tmp_path: Path) -> None:
    async with nodes_in(tmp_path) as nodes:
        specs = {}
        for name in ("n1", "n2"):
            nodes.start(name)
            specs[name] = await nodes.spec(name)
            await nodes.stop(name)
        for name in specs:
            await bootstrap_alone(nodes, specs, name)
        for attempt in ("first", "after a restart"):
            for name in specs:
                nodes.start(name)
            await nodes.until_ready(*specs)
            foundings = [(await nodes.status(name))["founding"] for name in specs]
            assert foundings[0] != foundings[1]
            for name, other in (("n1", "n2"), ("n2", "n1")):
                why = await refusal(nodes, name, other)
                assert why.startswith("founding: ")
                assert all(founding in why for founding in foundings)
                assert f"member {1 if other == 'n1' else 2} at {nodes.peer(other)} refuses this node" in nodes.log(name)
                await put(nodes, name, attempt.replace(" ", "-"))
                assert await has(nodes, name, "own")
            for name in specs:
                await nodes.stop(name)


@pytest.mark.slow
async def test_who_is_added_knows_what_its_cluster_was_founded_as_and_keeps_it(tmp_path: Path) -> None:
    async with nodes_in(tmp_path) as nodes:
        nodes.start("n1")
        await nodes.bootstrap("n1")
        founding = (await nodes.status("n1"))["founding"]
        nodes.start("n2", "--join", nodes.peer("n1"))
        await nodes.until_ready("n2")
        assert (await nodes.status("n2"))["founding"] == founding
        await nodes.stop("n2")
        nodes.start("n2")
        assert (await nodes.until_state("n2", "serving"))["founding"] == founding
        await asyncio.gather(nodes.stop("n1"), nodes.stop("n2"))
