"""What a controller relies on, with real nodes: they wait to be told, and a volume that comes back is not trusted."""

import asyncio
import shutil
import signal
from pathlib import Path

import pytest

from raftwright.client.client import Client
from raftwright.client.errors import RaftwrightError, StoreKept, Unavailable
from tests.cluster.nodes import Nodes, nodes_in
from tests.cluster.processes import until

pytestmark = pytest.mark.slow


async def started(nodes: Nodes, *names: str) -> None:
    for name in names:
        nodes.start(name)
    for name in names:
        await nodes.until_state(name, "waiting")


async def bootstrapped(nodes: Nodes, *names: str) -> tuple[str, list[str]]:
    """The leader, and the others."""
    await started(nodes, *names)
    await nodes.bootstrap(*names)
    leader = await nodes.leader(names[0])
    return leader, [name for name in names if name != leader]


async def change(nodes: Nodes, asked: str, **parts: object) -> dict[str, str]:
    status, answer = await nodes.ask(asked, "POST", "/v1/members:change", parts)
    assert status == 200, answer
    return {member["name"]: member["role"] for member in answer["members"]}


async def test_a_removed_store_is_discarded_and_the_node_comes_back_as_somebody_new(tmp_path: Path) -> None:
    async with nodes_in(tmp_path) as nodes:
        leader, (gone, other) = await bootstrapped(nodes, "n1", "n2", "n3")
        assert (await nodes.ask(leader, "PUT", "/v1/kv/k", b"v"))[0] == 200
        before = await nodes.status(gone)
        async with Client([nodes.client(gone)], discover=False) as client:
            with pytest.raises(StoreKept, match="not removed"):
                await client.discard_store(before["store_id"])
            with pytest.raises(StoreKept, match=before["store_id"]):
                await client.discard_store("0" * 32)
            assert await change(nodes, leader, remove=[gone]) == {leader: "voter", other: "voter"}
            await nodes.until_state(gone, "removed")
            with pytest.raises(StoreKept):
                await client.discard_store("0" * 32)
            answers = await asyncio.gather(*(client.discard_store(before["store_id"]) for _ in range(3)))
            assert len(set(answers)) == 1, "one new store, whoever asks"
            (answer,) = set(answers)
            said = await nodes.until_state(gone, "waiting")
            assert (said["store_id"], said["id"], said["cluster_id"]) == (answer.store_id, None, None)
            assert answer.discarded == before["store_id"] != answer.store_id
            assert await client.discard_store(before["store_id"]) == answer, "again, later"
        assert (await nodes.ask(gone, "GET", "/readyz"))[0] == 503
        assert (nodes.data(gone) / "set-aside" / "log").is_dir()
        roles = await change(nodes, leader, add=[await nodes.spec(gone)])
        assert roles == {leader: "voter", other: "voter", gone: "voter"}
        await nodes.until_ready(gone)
        assert (await nodes.status(gone))["id"] == 4
        assert await nodes.ask(gone, "GET", "/v1/kv/k") == (200, b"v")
        assert await nodes.stop(gone, signal.SIGTERM) == 0
        nodes.start(gone)
        await nodes.until_ready(gone)
        again = await nodes.ask(gone, "POST", "/v1/store/discard", {"store_id": before["store_id"]})
        assert again[0] == 200 and (await nodes.status(gone))["id"] == 4, "after a restart, and nothing happens"


async def test_a_discarded_store_founds_a_cluster_without_the_old_data(tmp_path: Path) -> None:
    """The state machine of before must not be in the founding snapshot."""
    async with nodes_in(tmp_path) as nodes:
        leader, (gone, _) = await bootstrapped(nodes, "n1", "n2", "n3")
        assert (await nodes.ask(leader, "PUT", "/v1/kv/k", b"v"))[0] == 200
        assert await nodes.ask(gone, "GET", "/v1/kv/k") == (200, b"v")
        store_id = await nodes.store_id(gone)
        await change(nodes, leader, remove=[gone])
        await nodes.until_state(gone, "removed")
        assert (await nodes.ask(gone, "POST", "/v1/store/discard", {"store_id": store_id}))[0] == 200
        await nodes.until_state(gone, "waiting")
        await nodes.bootstrap(gone, cluster_id="another-cluster")
        assert (await nodes.ask(gone, "GET", "/v1/kv/k"))[0] == 404


async def test_a_kill_at_any_moment_of_a_discard_leaves_an_old_or_a_new_store(tmp_path: Path) -> None:
    async with nodes_in(tmp_path) as nodes:
        leader, (gone, _) = await bootstrapped(nodes, "n1", "n2", "n3")
        for number in range(8):
            store_id = await nodes.store_id(gone)
            await change(nodes, leader, remove=[gone])
            await nodes.until_state(gone, "removed")
            asking = asyncio.create_task(nodes.ask(gone, "POST", "/v1/store/discard", {"store_id": store_id}))
            await asyncio.sleep(0.003 * number)
            await nodes.stop(gone)
            answered, _ = await asking
            nodes.start(gone)

            async def settled() -> str | None:
                said = await nodes.status(gone)
                return said["state"] if said["state"] in ("removed", "waiting") else None

            state = await until("the node is back", settled)
            assert (state, await nodes.store_id(gone) == store_id) in (("removed", True), ("waiting", False))
            if answered == 200:
                assert state == "waiting", "what was answered is durable"
            assert (await nodes.ask(gone, "POST", "/v1/store/discard", {"store_id": store_id}))[0] == 200
            await nodes.until_state(gone, "waiting")
            await change(nodes, leader, add=[await nodes.spec(gone)])
            await nodes.until_ready(gone)


async def test_a_linearizable_membership_comes_from_a_confirmed_leader(tmp_path: Path) -> None:
    async with nodes_in(tmp_path) as nodes:
        leader, (one, two) = await bootstrapped(nodes, "n1", "n2", "n3")
        path = "/v1/members?consistency=linearizable"
        for name in (leader, one, two):
            status, answer = await nodes.ask(name, "GET", path)
            assert (status, answer["joint"], len(answer["members"])) == (200, False, 3)
            assert all(member["match_index"] is not None for member in answer["members"]), "the leader answered"
        assert (await nodes.ask(one, "GET", "/v1/members?consistency=stale"))[0] == 400
        # A leader that a pause has left behind does not speak for the membership that others made meanwhile.
        nodes.send_signal(leader, signal.SIGSTOP)
        following = str(await until("another leader", lambda: _other_leader(nodes, one, leader)))
        await change(nodes, following, remove=[leader])
        nodes.send_signal(leader, signal.SIGCONT)
        for _ in range(20):
            status, answer = await nodes.ask(leader, "GET", path)
            assert status != 200 or {member["name"] for member in answer["members"]} == {one, two}
        # Without a quorum nobody does, and what is merely known is answered.
        nodes.send_signal(two if following == one else one, signal.SIGSTOP)
        assert (await nodes.ask(following, "GET", "/v1/members"))[0] == 200
        async with Client([nodes.client(following)], discover=False) as client:
            with pytest.raises(RaftwrightError):
                await client.members.list(linearizable=True, timeout_s=3.0)
            assert len((await client.members.list()).members) == 2


async def _other_leader(nodes: Nodes, asked: str, than: str) -> str | None:
    said = await nodes.status(asked)
    found = next((member["name"] for member in said.get("members", []) if member["leader"]), None)
    return found if found != than else None


async def test_a_learner_that_is_not_to_be_promoted_stays_one_until_all_are(tmp_path: Path) -> None:
    async with nodes_in(tmp_path) as nodes:
        await started(nodes, "n1", "n2", "n3")
        await nodes.bootstrap("n1")
        new = [await nodes.spec(name, promote=False) for name in ("n2", "n3")]
        assert await change(nodes, "n1", add=new) == {"n1": "voter", "n2": "learner", "n3": "learner"}
        await nodes.until_ready("n2", "n3")
        version = await nodes.version("n1")
        for number in range(200):
            assert (await nodes.ask("n2", "PUT", f"/v1/kv/{number}", b"v"))[0] == 200
        assert await nodes.version("n1") == version, "caught up, and nothing follows from it"
        assert await change(nodes, "n1", promote=["n2", "n3"]) == {"n1": "voter", "n2": "voter", "n3": "voter"}
        assert await nodes.version("n1") == version + 2, "one joint change"


async def test_an_empty_managed_node_replaces_the_member_of_its_name(tmp_path: Path) -> None:
    async with nodes_in(tmp_path) as nodes:
        leader, (lost, other) = await bootstrapped(nodes, "n1", "n2", "n3")
        await nodes.stop(lost)
        shutil.rmtree(nodes.data(lost))
        nodes.start(lost)
        said = await nodes.until_state(lost, "waiting")
        assert (await nodes.ask(lost, "GET", "/readyz"))[0] == 503
        assert await nodes.roles(leader) == {name: "voter" for name in (leader, lost, other)}, "it is not let in"
        spec = await nodes.spec(lost)
        for _ in range(2):
            status, answer = await nodes.ask(other, "POST", "/v1/members:replace", {"old": lost, "new": spec})
            assert status == 200, answer
        (member,) = (member for member in answer["members"] if member["name"] == lost)
        assert (member["store_id"], member["id"], len(answer["members"])) == (said["store_id"], 4, 3)
        await nodes.until_ready(lost)


async def test_a_node_that_is_no_member_lives_and_is_not_ready(tmp_path: Path) -> None:
    async with nodes_in(tmp_path) as nodes:
        await started(nodes, "n1")
        members = ",".join(f"{name}={nodes.peer(name)}" for name in ("n2", "n3"))
        for name in ("n2", "n3"):
            nodes.start(name, "--members", members)
        await nodes.until_ready("n2", "n3")
        gone = "n3" if await nodes.leader("n2") == "n2" else "n2"
        kept = "n2" if gone == "n3" else "n3"
        await change(nodes, kept, remove=[gone])
        await nodes.until_state(gone, "removed")
        nodes.start("n4", "--members", f"n4={nodes.peer('n4')},{kept}={nodes.peer(kept)}")
        await nodes.until_state("n4", "stranger")
        for name in ("n1", gone, "n4"):
            assert (await nodes.ask(name, "GET", "/livez"))[0] == 200
            status, problem = await nodes.ask(name, "GET", "/readyz")
            assert status == 503 and problem["detail"], name


async def test_a_leader_that_stops_under_load_hands_over_and_loses_nothing(tmp_path: Path) -> None:
    names = ["n1", "n2", "n3"]
    async with nodes_in(tmp_path) as nodes:
        leader, others = await bootstrapped(nodes, *names)
        term = (await nodes.status(leader))["term"]
        acknowledged: list[str] = []
        async with Client([nodes.client(name) for name in names], timeout_s=20.0) as client:

            async def lane(number: int) -> None:
                for count in range(1000):
                    await client.put(f"{number}-{count}", b"v")
                    acknowledged.append(f"{number}-{count}")

            async def writes() -> bool:
                return len(acknowledged) > 1000

            lanes = [asyncio.create_task(lane(number)) for number in range(16)]
            try:
                await until("writes go on", writes)
                async with asyncio.timeout(10):
                    assert await nodes.stop(leader, signal.SIGTERM) == 0
                acknowledged.clear()
                await until("and go on", writes)
            finally:
                for each in lanes:
                    each.cancel()
                results = await asyncio.gather(*lanes, return_exceptions=True)
            assert not [one for one in results if isinstance(one, RaftwrightError)]
            found = {item.key async for item in client.scan()}
            assert set(acknowledged) <= found
        said = await nodes.status(others[0])
        assert said["term"] == term + 1, "one election, by the transfer"
        assert "leadership" not in nodes.log(leader) or "not handed over" not in nodes.log(leader)


async def test_settings_of_a_managed_node_come_from_a_file_and_the_environment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As Kubernetes starts it: a mounted file for all of them, and variables for what differs."""
    async with nodes_in(tmp_path) as nodes:
        config = tmp_path / "config.toml"
        config.write_text('log_format = "json"\nconnections_per_address_max = 0\nelection_timeout_ms = 500\n')
        monkeypatch.setenv("RAFTWRIGHT_PEER_ADVERTISE", "n1.peers.default.svc:8001")
        monkeypatch.setenv("RAFTWRIGHT_CLIENT_ADVERTISE", "n1.peers.default.svc:7001")
        nodes.start("n1", "--config", str(config))
        await nodes.until_state("n1", "waiting")
        status, answer = await nodes.ask("n1", "GET", "/v1/settings")
        assert status == 200
        settings = answer["settings"]
        assert settings["peer_advertise"] == "n1.peers.default.svc:8001"
        assert (settings["election_timeout_ms"], settings["connections_per_address_max"]) == (500, 0)
        assert nodes.log("n1").startswith('{"time_ms":')
        async with Client([nodes.client("n1")], discover=False) as client:
            with pytest.raises(Unavailable):
                await client.put("k", b"v", timeout_s=0.5)
