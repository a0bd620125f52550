"""Real nodes of which one has a state machine that goes wrong: it is found, named, and repaired."""

from pathlib import Path
from typing import Any

import pytest

import raftwright
from tests.cluster.nodes import Nodes, nodes_in
from tests.cluster.processes import until
from tests.cluster.wrong_machine import UNLUCKY
from tests.machine.machines import Set

pytestmark = pytest.mark.slow

RIGHT, WRONG = "tests.machine.machines:Table", "tests.cluster.wrong_machine:WrongTable"
NAMES = ("n1", "n2", "n3")


async def held(nodes: Nodes, name: str) -> Any:
    """What a node's own state says."""
    body = {"request": "unlucky"}
    status, answer = await nodes.ask(name, "POST", "/v1/query", body, Content_Type="application/json")
    assert status == 200, answer
    return answer["result"]


async def test_a_node_whose_state_machine_went_wrong_is_repaired(tmp_path: Path) -> None:
    async with nodes_in(tmp_path) as nodes:
        members = ",".join(f"{name}={nodes.peer(name)}" for name in NAMES)
        for name in NAMES:
            nodes.start(name, "--members", members, "--state-machine", WRONG if name == "n2" else RIGHT)
        await nodes.until_ready(*NAMES)
        async with raftwright.Client([nodes.client(name) for name in NAMES]) as client:
            await client.propose(Set("unlucky", UNLUCKY))
            right = await held(nodes, "n1")
            assert await held(nodes, "n2") != right
            for number in range(300):  # an entry each
                await client.propose(Set(f"k{number % 20}", number + 100))

            async def repaired() -> bool:
                check = (await nodes.status("n2")).get("state_check") or {}
                return check.get("repairs") == 1 and not check["diverged"]

            await until("n2 is repaired", repaired)
            await nodes.until_ready(*NAMES)
            for number in range(600):
                await client.propose(Set(f"k{number % 20}", number + 100))
        assert [await held(nodes, name) for name in NAMES] == [right] * 3

        async def agreed() -> bool:
            found = [(await nodes.status(name))["state_check"] for name in NAMES]
            is_checked = len({check["passed_index"] for check in found}) == 1 and found[0]["passed_index"] > 512
            return is_checked and not any(check["minority"] or check["alarm"] for check in found)

        await until("all of them agree", agreed)
        failed = {name: (await nodes.status(name))["state_check"]["failed"] for name in NAMES}
        assert failed["n2"] >= 1
        assert failed["n1"] == failed["n3"] == 0
        assert b"raftwright_state_repairs_total 1.0" in (await nodes.ask("n2", "GET", "/metrics"))[1]
        assert "the state of this node is not that of the majority" in nodes.log("n2")
        assert any("the state of n2 is not that of the majority" in nodes.log(name) for name in NAMES), "it is named"
