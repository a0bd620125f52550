"""Real nodes of which one has a state machine that goes wrong: it is found, named, and repaired."""

from pathlib import Path
from typing import Any

import pytest

import raftwright
from tests.cluster.nodes import Nodes, nodes_in
from tests.cluster.processes import until
from tests.cluster.wrong_machine import RELEASE, UNLUCKY
from tests.machine.machines import Set

pytestmark = pytest.mark.slow

RIGHT, WRONG = "tests.machine.machines:Table", "tests.cluster.wrong_machine:WrongTable"
HELD = "tests.cluster.wrong_machine:HeldTable"
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


async def asked(nodes: Nodes, name: str, how: str) -> tuple[int, str, str]:
    """Status, kind of the problem and its leader, of a query."""
    body = {"request": "unlucky"}
    status, answer = await nodes.ask(name, "POST", f"/v1/query{how}", body, Content_Type="application/json")
    return status, answer.get("type", "").rpartition("/")[2], answer.get("leader", "")


async def test_a_node_whose_state_is_wrong_answers_nothing_from_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The leader's snapshot does not end before it is let, so it is wrong for as long as is needed."""
    monkeypatch.setenv(RELEASE, str(tmp_path / "release"))
    async with nodes_in(tmp_path) as nodes:
        members = ",".join(f"{name}={nodes.peer(name)}" for name in NAMES)
        for name in NAMES:
            nodes.start(name, "--members", members, "--state-machine", WRONG if name == "n2" else HELD)
        await nodes.until_ready(*NAMES)
        async with raftwright.Client([nodes.client(name) for name in NAMES]) as client:
            await client.propose(Set("unlucky", UNLUCKY))
            for number in range(300):  # an entry each
                await client.propose(Set(f"k{number % 20}", number + 100))

            async def is_wrong() -> bool:
                check = (await nodes.status("n2")).get("state_check") or {}
                leader = await nodes.leader("n2")
                return bool(check.get("diverged")) and leader != "n2"

            await until("n2 is wrong", is_wrong)
            leader = nodes.client(await nodes.leader("n2"))
            for how in ("", "?consistency=lease", "?consistency=stale", "?consistency=stale&min_index=2"):
                assert await asked(nodes, "n2", how) == (503, "state-diverged", leader)
            assert (await nodes.ask("n2", "GET", "/readyz"))[0] == 503
            command = {"command": "set", "fields": {"key": "more", "value": 7}}
            answer = await nodes.ask("n2", "POST", "/v1/propose", command, Content_Type="application/json")
            assert answer[0] == 200, "the leader answers"
            assert (await nodes.ask("n2", "GET", "/v1/members"))[0] == 200
            (tmp_path / "release").touch()
            await nodes.until_ready("n2")
            assert await held(nodes, "n2") == [UNLUCKY]
