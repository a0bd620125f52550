"""Real nodes that are bootstrapped, join, are replaced, removed and promoted, with disks and sockets as they are."""

import asyncio
import shutil
import signal
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from raftwright.client.client import Client
from raftwright.client.errors import MembershipRefused, RaftwrightError
from raftwright.server.parts import open_storage
from raftwright.server.settings import NodeSettings
from tests.cluster.nodes import Nodes, nodes_in
from tests.cluster.processes import until

pytestmark = pytest.mark.slow


def kind(answer: tuple[int, Any]) -> tuple[int, str]:
    """Status and kind of a problem."""
    return answer[0], str(answer[1]["type"]).rpartition("/")[2]


async def started(nodes: Nodes, *names: str) -> None:
    for name in names:
        nodes.start(name)
    for name in names:
        await nodes.until_state(name, "waiting")


async def until_roles(nodes: Nodes, asked: str, roles: dict[str, str]) -> None:
    async def found() -> bool:
        return await nodes.roles(asked) == roles

    await until(f"{roles}", found)


async def test_waiting_nodes_are_bootstrapped_once(tmp_path: Path) -> None:
    async with nodes_in(tmp_path) as nodes:
        await started(nodes, "n1", "n2", "n3")
        body = await nodes.bootstrap("n1", "n2", "n3")
        assert await nodes.roles("n2") == {"n1": "voter", "n2": "voter", "n3": "voter"}
        again = await nodes.ask("n1", "POST", "/v1/cluster/bootstrap", body)
        assert again == (200, {"cluster_id": "test-cluster", "id": 1})
        assert (await nodes.ask("n2", "POST", "/v1/cluster/bootstrap", body))[0] == 200
        for other in ({**body, "cluster_id": "another-one"}, {**body, "members": body["members"][:2]}):
            refused = await nodes.ask("n1", "POST", "/v1/cluster/bootstrap", other)
            assert kind(refused) == (409, "already-bootstrapped")
        assert (await nodes.ask("n3", "PUT", "/v1/kv/k", b"v"))[0] == 200
        await nodes.stop("n1")
        nodes.start("n1")
        await nodes.until_ready("n1")
        assert (await nodes.ask("n1", "POST", "/v1/cluster/bootstrap", body))[0] == 200, "after a restart too"


async def test_a_node_that_died_as_soon_as_it_was_added_goes_on_from_nothing(tmp_path: Path) -> None:
    async with nodes_in(tmp_path) as nodes:
        await started(nodes, "n1", "n2")
        await nodes.bootstrap("n1")
        assert (await nodes.ask("n1", "PUT", "/v1/kv/k", b"v"))[0] == 200
        spec = await nodes.spec("n2", role="learner")
        await nodes.stop("n2")
        assert (await nodes.ask("n1", "POST", "/v1/members", spec))[0] == 200
        # As it is on disk when the leader's stream was heard, and nothing of its log yet.
        storage, _ = open_storage(NodeSettings(name="n2", data_dir=nodes.data("n2")))
        storage.save_identity(cluster_id="test-cluster", member_id=2, name="n2")
        storage.close()
        nodes.start("n2")
        await nodes.until_ready("n2")
        assert await nodes.ask("n2", "GET", "/v1/kv/k") == (200, b"v")


class Load:
    """Writes without a pause, and the longest time between two that were acknowledged."""

    def __init__(self, client: Client) -> None:
        self.client = client
        self.failures: list[RaftwrightError] = []
        self.acknowledged: dict[str, bytes] = {}
        self.longest_s = 0.0
        self._last = float("inf")

    async def goes_on(self) -> None:
        """Wait for a hundred more writes."""
        goal = len(self.acknowledged) + 100

        async def found() -> bool:
            return len(self.acknowledged) >= goal or bool(self.failures)

        await until("writes go on", found)

    async def lane(self, number: int) -> None:
        count = 0
        while True:
            count += 1
            try:
                await self.client.put(f"{number}-{count}", b"%d" % count)
            except RaftwrightError as error:
                self.failures.append(error)
                return
            now = time.monotonic()
            self.longest_s, self._last = max(self.longest_s, now - self._last), now
            self.acknowledged[f"{number}-{count}"] = b"%d" % count


ROUNDS = 5


@pytest.mark.timeout(300)
async def test_growing_to_five_and_back_under_writes_fails_none(tmp_path: Path) -> None:
    names = ["n1", "n2", "n3", "n4", "n5"]
    async with nodes_in(tmp_path) as nodes:
        await started(nodes, *names)
        await nodes.bootstrap("n1")
        async with Client([nodes.client(name) for name in names], timeout_s=20.0) as client:
            load = Load(client)
            lanes = [asyncio.create_task(load.lane(number)) for number in range(4)]
            last = "n1"
            try:
                await load.goes_on()
                for _ in range(ROUNDS):
                    last = await _grow_and_shrink(nodes, load, names, last)
            finally:
                for lane in lanes:
                    lane.cancel()
                await asyncio.gather(*lanes, return_exceptions=True)
            assert load.failures == []
            assert load.longest_s < 1.5
            assert await nodes.roles(last) == {last: "voter"}
            found = {item.key: item.value async for item in client.scan()}
            assert load.acknowledged.items() <= found.items(), "nothing is lost"


async def _grow_and_shrink(nodes: Nodes, load: Load, names: list[str], first: str) -> str:
    """From one voter to three, five, three and one; the one that is left. The leader is among the first to go."""
    others = [name for name in names if name != first]
    for pair in (others[:2], others[2:]):
        body = {"add": [await nodes.spec(name) for name in pair]}
        status, answer = await nodes.ask(first, "POST", "/v1/members:change", body)
        while status == 202:
            status, answer = await nodes.ask(first, "POST", "/v1/members:change", body)
        assert (status, answer["joint"]) == (200, False), answer
        assert [member["role"] for member in answer["members"]] == ["voter"] * len(answer["members"])
        await load.goes_on()
    leader = await nodes.leader(first)
    last = next(name for name in names if name != leader)
    gone = [leader, *(name for name in names if name not in (leader, last))]
    for pair in (gone[:2], gone[2:]):
        status, answer = await nodes.ask(last, "POST", "/v1/members:change", {"remove": pair})
        assert status == 200, answer
        await load.goes_on()
    for name in gone:
        await nodes.until_state(name, "removed")
        await nodes.stop(name)
        shutil.rmtree(nodes.data(name))
    await started(nodes, *gone)
    return last


async def test_an_empty_disk_under_an_old_name_is_a_stranger_until_it_replaces_its_predecessor(tmp_path: Path) -> None:
    async with nodes_in(tmp_path) as nodes:
        members = ",".join(f"{name}={nodes.peer(name)}" for name in ("n1", "n2", "n3"))
        for name in ("n1", "n2", "n3"):
            nodes.start(name, "--members", members)
        await nodes.until_ready("n1", "n2", "n3")
        leader = await nodes.leader("n1")
        lost, other = (name for name in ("n1", "n2", "n3") if name != leader)
        before = (await nodes.status(lost))["id"]
        await nodes.stop(lost)
        shutil.rmtree(nodes.data(lost))
        nodes.start(lost, "--members", members)
        said = await nodes.until_state(lost, "stranger")
        assert "--rejoin" in said["detail"] and said["id"] is None
        body = {"old": lost, "new": await nodes.spec(lost)}
        status, answer = await nodes.ask(other, "POST", "/v1/members:replace", body)
        assert status == 200, answer
        assert {member["id"] for member in answer["members"]} == {1, 2, 3, 4} - {before}
        await nodes.until_ready(lost)
        assert (await nodes.status(lost))["id"] == 4
        # The same again, by the node itself.
        await nodes.stop(lost)
        shutil.rmtree(nodes.data(lost))
        nodes.start(lost, "--members", members, "--rejoin")
        await nodes.until_ready(lost)
        assert (await nodes.status(lost))["id"] == 5
        await until_roles(nodes, leader, {name: "voter" for name in ("n1", "n2", "n3")})


async def test_a_node_joins_as_voter_and_one_without_a_vote(tmp_path: Path) -> None:
    async with nodes_in(tmp_path) as nodes:
        await started(nodes, "n1")
        await nodes.bootstrap("n1")
        for number in range(50):
            await nodes.ask("n1", "PUT", f"/v1/kv/{number}", b"v")
        nodes.start("n2", "--join", f"127.0.0.1:1,{nodes.peer('n1')}")
        nodes.start("n3", "--join", nodes.peer("n1"), "--non-voting")
        await until_roles(nodes, "n1", {"n1": "voter", "n2": "voter", "n3": "learner"})
        await nodes.until_ready("n3")
        assert await nodes.ask("n3", "GET", "/v1/kv/7") == (200, b"v"), "linearizable, by the leader's read index"
        assert (await nodes.ask("n3", "PUT", "/v1/kv/new", b"w"))[0] == 200, "forwarded"
        assert await nodes.ask("n3", "GET", "/v1/kv/new") == (200, b"w")
        assert (await nodes.status("n3"))["member_role"] == "learner"
        # It never counts: with n2 away nothing commits, though n1 and n3 are two of three.
        nodes.send_signal("n2", signal.SIGSTOP)
        refused = await nodes.ask("n3", "PUT", "/v1/kv/lost", b"x")
        assert refused[0] in (503, 504)
        nodes.send_signal("n2", signal.SIGCONT)

        async def writes() -> bool:
            return (await nodes.ask("n3", "PUT", "/v1/kv/again", b"y"))[0] == 200

        await until("it goes on", writes)


async def test_a_removed_node_says_so_and_does_not_come_back_with_its_disk(tmp_path: Path) -> None:
    async with nodes_in(tmp_path) as nodes:
        await started(nodes, "n1", "n2", "n3", "n4")
        await nodes.bootstrap("n1", "n2", "n3", "n4")
        leader = await nodes.leader("n1")
        gone, missed, other = (name for name in ("n1", "n2", "n3", "n4") if name != leader)
        term = (await nodes.status(leader))["term"]
        await nodes.stop(missed)
        for name in (gone, missed):
            status, answer = await nodes.ask(other, "DELETE", f"/v1/members/{name}")
            assert status == 200, answer
            assert (await nodes.ask(other, "DELETE", f"/v1/members/{name}"))[0] == 200, "again"
        await nodes.until_state(gone, "removed")
        assert (await nodes.ask(gone, "PUT", "/v1/kv/k", b"v"))[0] == 503
        nodes.start(missed)
        await nodes.until_state(missed, "removed")
        for name in (gone, missed):
            if name == gone:
                await nodes.stop(name)
            else:
                await nodes.stop(name, signal.SIGTERM)
            assert b'"removed": true' in (nodes.data(name) / "store.json").read_bytes(), "whoever it reaches later"
            nodes.start(name, "--join", nodes.peer(leader))
            await nodes.until_state(name, "removed")
        assert await nodes.roles(other) == {leader: "voter", other: "voter"}
        assert (await nodes.status(leader))["term"] == term, "it disturbed nobody"
        await nodes.stop(gone)
        shutil.rmtree(nodes.data(gone))
        nodes.start(gone, "--join", nodes.peer(leader))
        await until_roles(nodes, other, {leader: "voter", other: "voter", gone: "voter"})


async def test_of_two_controllers_with_the_same_view_one_acts(tmp_path: Path) -> None:
    async with nodes_in(tmp_path) as nodes:
        await started(nodes, "n1", "n2", "n3", "n4", "n5")
        await nodes.bootstrap("n1", "n2", "n3", "n4", "n5")
        version = await nodes.version("n2")
        leader = await nodes.leader("n1")
        one, two = [name for name in ("n1", "n2", "n3") if name != leader][:2]
        answers = await asyncio.gather(
            *(nodes.ask(name, "DELETE", f"/v1/members/{name}", If_Match=f'"{version}"') for name in (one, two))
        )
        assert sorted(status for status, _ in answers) == [200, 412]
        assert len(await nodes.roles("n5")) == 4


async def test_leadership_is_handed_over_by_call_and_a_plan_changes_nothing(tmp_path: Path) -> None:
    async with nodes_in(tmp_path) as nodes:
        await started(nodes, "n1", "n2", "n3")
        await nodes.bootstrap("n1", "n2", "n3")
        leader = await nodes.leader("n1")
        target = next(name for name in ("n1", "n2", "n3") if name != leader)
        status, answer = await nodes.ask(leader, "POST", "/v1/leader/transfer", {"to": target})
        assert (status, answer["name"]) == (200, target)
        assert await nodes.leader(target) == target
        status, plan = await nodes.ask(leader, "DELETE", f"/v1/members/{target}?dry_run=true")
        assert (status, len(plan["steps"])) == (200, 3)
        assert len(await nodes.roles("n1")) == 3
        status, answer = await nodes.ask("n1", "PATCH", f"/v1/members/{target}", {"metadata": {"zone": "b"}})
        assert status == 200
        assert next(member["metadata"] for member in answer["members"] if member["name"] == target) == {"zone": "b"}


@pytest.mark.parametrize("count", [1, 3])
async def test_the_seeds_form_of_members(tmp_path: Path, count: int) -> None:
    """Addresses only, with `true` for a member without a vote: names come from the nodes themselves."""
    names = [f"n{number}" for number in range(1, count + 1)]
    async with nodes_in(tmp_path) as nodes:
        members = ";".join(nodes.peer(name) for name in names) + (f";{nodes.peer('n4')},true" if count > 1 else "")
        everyone = [*names, "n4"] if count > 1 else names
        for name in everyone:
            nodes.start(name, "--members", members)
        await nodes.until_ready(*everyone)
        expected = {name: "voter" for name in names} | ({"n4": "learner"} if count > 1 else {})
        assert await nodes.roles("n1") == expected


async def test_settings_that_contradict_the_disk_are_reported_and_the_disk_decides(tmp_path: Path) -> None:
    async with nodes_in(tmp_path) as nodes:
        await started(nodes, "n1")
        await nodes.bootstrap("n1")
        await nodes.stop("n1", signal.SIGTERM)
        nodes.start("n1", "--members", f"n1={nodes.peer('n1')},n2={nodes.peer('n2')}")
        await nodes.until_ready("n1")
        assert await nodes.roles("n1") == {"n1": "voter"}
        assert "the data directory decides" in nodes.log("n1")


async def test_the_command_and_the_client_do_all_of_it(tmp_path: Path) -> None:
    async with nodes_in(tmp_path) as nodes:
        await started(nodes, "n1", "n2", "n3", "n4")
        await nodes.bootstrap("n1")
        here = ("--endpoints", nodes.client("n1"))
        status, plan = await command("members", "add", nodes.client("n2"), "--dry-run", *here)
        assert status == 0 and "in one joint change: promote n2" in plan
        assert await nodes.roles("n1") == {"n1": "voter"}
        for name in ("n2", "n3"):
            status, shown = await command("members", "add", nodes.client(name), *here)
            assert status == 0 and name in shown
        assert (await command("members", "demote", "n3", *here))[0] == 0
        assert await nodes.roles("n1") == {"n1": "voter", "n2": "voter", "n3": "learner"}
        assert (await command("members", "promote", "n3", *here))[0] == 0
        assert (await command("members", "transfer", "n2", *here))[0] == 0
        assert await nodes.leader("n2") == "n2"
        status, shown = await command("members", "replace", "n3", nodes.client("n4"), *here)
        assert status == 0, shown
        status, shown = await command("members", "remove", "n4", *here)
        assert status == 0, shown
        status, shown = await command("members", "list", *here)
        assert status == 0 and "n2" in shown and "n4" not in shown
        assert (await command("members", "remove", "nobody", *here))[0] == 1
        status, shown = await command("members", "remove", "n1", "--if-version", "1", *here)
        assert status == 1 and "not 1" in shown
        async with Client([nodes.client("n1")]) as client:
            found = await client.members.list()
            assert [member.name for member in found.members] == ["n1", "n2"]
            with pytest.raises(MembershipRefused) as refused:
                await client.members.promote("nobody")
            assert refused.value.reason == "unknown-member"


async def command(*arguments: str) -> tuple[int, str]:
    """Exit status and output of `raftwright …`."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "raftwright", *arguments),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    output, _ = await process.communicate()
    return process.returncode or 0, output.decode()


async def test_the_address_of_the_leader_changes_while_it_leads(tmp_path: Path) -> None:
    async with nodes_in(tmp_path) as nodes:
        await started(nodes, "n1", "n2", "n3")
        await nodes.bootstrap("n1", "n2", "n3")
        leader = await nodes.leader("n1")
        other = next(name for name in ("n1", "n2", "n3") if name != leader)
        term = (await nodes.status(leader))["term"]
        addresses = {
            "peer": nodes.peer(leader).replace("127.0.0.1", "localhost"),
            "client": nodes.client(leader).replace("127.0.0.1", "localhost"),
        }
        status, _ = await nodes.ask(other, "PATCH", f"/v1/members/{leader}", {"addresses": addresses})
        assert status == 200
        for number in range(20):
            assert (await nodes.ask(other, "PUT", f"/v1/kv/{number}", b"v"))[0] == 200
        for name in ("n1", "n2", "n3"):
            said = await nodes.status(name)
            assert said["term"] == term, "nobody missed the leader"
            assert next(one["peer"] for one in said["members"] if one["leader"]) == addresses["peer"]
