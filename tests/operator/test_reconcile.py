"""The operator on a real API server with real nodes: founding, scaling, deletion, and what a killed one leaves."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import suppress
from pathlib import Path

import pytest

from raftwright_operator.actions import Action
from raftwright_operator.kube import Object
from raftwright_operator.names import FINALIZER, LABEL_LEADER, LABEL_VOTER
from tests.operator.apiserver import ApiServer
from tests.operator.world import NAME, Killed, World, world


@pytest.fixture
async def place(api_server: ApiServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[World]:
    async with world(api_server, tmp_path, monkeypatch) as made:
        yield made


async def test_a_cluster_of_one_is_founded_and_serves(place: World) -> None:
    made = await place.create(replicas=1)
    async with place.operator():
        status = await place.settled(1)
        async with await place.client_of("db-0") as client:
            await client.put("greeting", b"hello")
    assert status["leader"] == "db-0"
    assert [member["name"] for member in status["members"]] == ["db-0"]
    assert status["cluster"]["id"] == made["metadata"]["uid"]
    assert place.actions.count("Bootstrap") == 1
    found = await place.resource()
    assert found is not None
    assert found["metadata"]["finalizers"] == [FINALIZER]
    assert "kopf" not in str(found["metadata"].get("annotations"))


@pytest.mark.slow
async def test_one_to_three_to_one(place: World) -> None:
    """Data stays, pods and labels follow, and what the volumes hold is kept, as retention says by default."""
    await place.create(replicas=1)
    async with place.operator():
        await place.settled(1)
        async with await place.client_of("db-0") as client:
            await client.put("greeting", b"hello")
            await place.change(replicas=3)
            status = await place.settled(3)
            assert [member["role"] for member in status["members"]] == ["voter"] * 3
            assert await voters_labelled(place) == {"db-0", "db-1", "db-2"}
            await place.change(replicas=1)
            await place.settled(1)
            await client.put("greeting", b"again")
            found = await client.get("greeting")
    assert found is not None
    assert found.value == b"again"

    async def are_gone() -> bool:
        return await place.names("Pod") == {"db-0"}

    await place.eventually(are_gone, "the pods go")
    assert await place.names("PersistentVolumeClaim") == {"data-db-0", "data-db-1", "data-db-2"}
    assert await voters_labelled(place) == {"db-0"}


@pytest.mark.slow
async def test_a_retained_volume_is_mounted_again_as_a_new_member(place: World) -> None:
    await place.create(replicas=1)
    async with place.operator():
        await place.settled(1)
        await place.change(replicas=3)
        before = {member["name"]: member for member in (await place.settled(3))["members"]}
        await place.change(replicas=1)
        await place.settled(1)
        await place.change(replicas=3)
        after = {member["name"]: member for member in (await place.settled(3))["members"]}
    assert after["db-0"]["id"] == before["db-0"]["id"]
    for name in ("db-1", "db-2"):
        assert after[name]["id"] > before[name]["id"]
        assert after[name]["storeId"] != before[name]["storeId"]
    assert "DiscardStore" in place.actions


@pytest.mark.slow
async def test_members_without_a_vote_come_and_go(place: World) -> None:
    await place.create(replicas=1, nonVoting={"replicas": 1}, storage={"retention": {"onScaleDown": "Delete"}})
    async with place.operator():
        status = await place.settled(1, 1)
        assert [(member["name"], member["role"]) for member in status["members"]] == [
            ("db-0", "voter"),
            ("db-nonvoting-0", "nonVoting"),
        ]
        await place.change(nonVoting={"replicas": 0})
        await place.settled(1)

        async def is_deleted() -> bool:
            return await place.names("PersistentVolumeClaim") == {"data-db-0"}

        await place.eventually(is_deleted, "the volume goes")


@pytest.mark.slow
async def test_three_are_founded_by_one_who_is_killed_after_each_action(place: World) -> None:
    """Exactly once, from whatever was left: the same cluster id and stores, and nobody bootstrapped twice."""
    kills = 0

    def die(action: Action) -> None:
        nonlocal kills
        kills += 1
        raise Killed

    await place.create(replicas=3, nonVoting={"replicas": 1})
    place.after_action = die
    for _ in range(60):
        async with place.operator() as task:
            with suppress(TimeoutError, Killed):
                await asyncio.wait_for(asyncio.shield(task), 6)
                continue
            if not task.done() and await is_whole(place, 3, 1):
                break
    assert kills >= 8, f"{kills} kills only: {place.actions}"
    status = await place.settled(3, 1)
    assert len({member["id"] for member in status["members"]}) == 4
    assert place.actions.count("Bootstrap") == 1
    assert status["cluster"]["bootstrapped"]
    assert {member["storeId"] for member in status["members"] if member["role"] == "voter"} == set(
        status["cluster"]["stores"].values()
    )


@pytest.mark.slow
async def test_two_operators_at_once_come_to_the_same_end(place: World) -> None:
    await place.create(replicas=3)
    async with place.operator(), place.operator():
        first = await place.settled(3)
        await place.change(replicas=1)
        await place.settled(1)

        async def is_one_pod() -> bool:
            return await place.names("Pod") == {"db-0"}

        # A pod that the set had not let go yet would stay, and not be made anew.
        await place.eventually(is_one_pod, "the pods of the removed members go")
        await place.change(replicas=3)
        status = await place.settled(3)
    assert status["cluster"] == first["cluster"]
    names = [member["name"] for member in status["members"]]
    assert names == ["db-0", "db-1", "db-2"]
    assert place.nodes.pods_created == 5


@pytest.mark.slow
async def test_pods_roll_one_by_one(place: World) -> None:
    await place.create(replicas=3)
    async with place.operator():
        before = await place.settled(3)
        old = await uids(place)
        await place.change(snapshots={"policy": "commands 5000"})
        await place.settled(3)

        async def are_new() -> bool:
            return not set(old.values()) & set((await uids(place)).values())

        await place.eventually(are_new, "all pods are restarted", lambda: place.actions)
        after = await place.settled(3)
    assert place.actions.count("RestartPod") == 3
    assert "TransferLeadership" in place.actions
    assert [member["id"] for member in after["members"]] == [member["id"] for member in before["members"]]


async def test_deletion_keeps_the_volumes(place: World) -> None:
    await place.create(replicas=1)
    async with place.operator() as task:
        await place.settled(1)
        await place.delete()
        await asyncio.wait_for(task, 30)
    assert await place.resource() is None
    await place.eventually(lambda: has_no_pods(place), "the pods go")
    assert await place.names("PersistentVolumeClaim") == {"data-db-0"}


@pytest.mark.slow
async def test_deletion_takes_the_volumes_along_though_the_operator_is_killed_meanwhile(place: World) -> None:
    await place.create(replicas=1, storage={"retention": {"onDeletion": "Delete"}})
    async with place.operator():
        await place.settled(1)
    await place.delete()

    def die(action: Action) -> None:
        raise Killed

    place.after_action = die
    for _ in range(30):
        if await place.resource() is None:
            break
        async with place.operator() as task:
            with suppress(Killed, TimeoutError):
                await asyncio.wait_for(task, 20)
    assert await place.resource() is None

    async def is_all_gone() -> bool:
        return not await place.names("PersistentVolumeClaim") and await has_no_pods(place)

    await place.eventually(is_all_gone, "the volume, which was deleted, goes")


@pytest.mark.slow
async def test_a_resource_of_the_same_name_is_another_cluster(place: World) -> None:
    """The volumes of the first are adopted: they hold a cluster, and it goes on."""
    first = await place.create(replicas=1)
    async with place.operator() as task:
        await place.settled(1)
        async with await place.client_of("db-0") as client:
            await client.put("greeting", b"hello")
        await place.delete()
        await asyncio.wait_for(task, 30)
    await place.eventually(lambda: has_no_pods(place), "the pods go")
    second = await place.create(replicas=1)
    assert second["metadata"]["uid"] != first["metadata"]["uid"]
    async with place.operator():
        status = await place.settled(1)
        async with await place.client_of("db-0") as client:
            found = await client.get("greeting")
    assert found is not None
    assert found.value == b"hello"
    assert status["cluster"]["id"] == first["metadata"]["uid"]
    assert place.actions.count("Bootstrap") == 1


@pytest.mark.slow
async def test_a_settled_cluster_costs_no_read_and_no_write(place: World) -> None:
    await place.create(replicas=1)
    async with place.runtime() as runtime:
        found = await place.resource()
        assert found is not None
        worker = runtime.worker((place.namespace, NAME), found["metadata"]["uid"])
        task = asyncio.create_task(worker.run())
        try:
            before = await place.settled(1)
            await asyncio.sleep(1)
            reads, actions, version = runtime.reads, list(place.actions), await version_of(place)
            await asyncio.sleep(7)
            assert runtime.reads == reads
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
    assert place.actions == actions
    assert await version_of(place) == version
    assert before["leader"] == "db-0"


@pytest.mark.slow
async def test_what_others_change_or_delete_is_put_right(place: World) -> None:
    await place.create(replicas=1)
    async with place.operator():
        await place.settled(1)
        service = await place.kube.get("Service", place.namespace, "db-peers")
        assert service is not None
        await place.kube.delete("Service", place.namespace, "db-peers", uid=service["metadata"]["uid"])
        await place.kube.patch("ConfigMap", place.namespace, NAME, {"data": {"config.toml": "# mine\n"}})

        async def is_right() -> bool:
            config = await place.kube.get("ConfigMap", place.namespace, NAME)
            assert config is not None
            return "db-peers" in await place.names("Service") and "data_dir" in config["data"]["config.toml"]

        await place.eventually(is_right, "both are as they should be")
        await place.settled(1)


@pytest.mark.slow
async def test_events_tell_what_happened_once(place: World) -> None:
    await place.create(replicas=1)
    async with place.operator():
        await place.settled(1)
    async with place.operator():
        await asyncio.sleep(1)
    events, _ = await place.kube.list("Event", place.namespace)
    reasons = [event["reason"] for event in events]
    assert "Bootstrapped" in reasons
    assert reasons.count("Bootstrapped") == 1
    assert all(event["involvedObject"]["name"] == NAME for event in events)


async def test_status_says_why_a_pod_does_not_start(place: World) -> None:
    place.nodes.broken.add("db-0")
    await place.create(replicas=1)
    async with place.operator():

        async def is_said() -> bool:
            return "ImagePullBackOff" in str((await place.condition("Progressing")).get("message"))

        await place.eventually(is_said, "the status has the reason", lambda: place.actions)
        place.nodes.broken.clear()
        await place.settled(1)


@pytest.mark.slow
async def test_paused_nothing_is_touched(place: World) -> None:
    await place.create(replicas=1)
    async with place.operator():
        await place.settled(1)
        await place.change(paused=True, replicas=3)

        async def is_paused() -> bool:
            return (await place.condition("Paused")).get("status") == "True"

        await place.eventually(is_paused, "the status says so")
        done = list(place.actions)
        await asyncio.sleep(1)
        assert place.actions == done
        assert await place.names("Pod") == {"db-0"}


async def voters_labelled(place: World) -> set[str]:
    found, _ = await place.kube.list("Pod", place.namespace, selector=f"{LABEL_VOTER}=true")
    leaders, _ = await place.kube.list("Pod", place.namespace, selector=f"{LABEL_LEADER}=true")
    assert len(leaders) == 1
    return {pod["metadata"]["name"] for pod in found}


async def uids(place: World) -> dict[str, str]:
    found, _ = await place.kube.list("Pod", place.namespace)
    return {pod["metadata"]["name"]: pod["metadata"]["uid"] for pod in found}


async def has_no_pods(place: World) -> bool:
    return not await place.names("Pod")


async def version_of(place: World) -> str:
    found: Object | None = await place.resource()
    assert found is not None
    return str(found["metadata"]["resourceVersion"])


async def is_whole(place: World, voters: int, non_voting: int) -> bool:
    found = await place.resource()
    assert found is not None
    status = found.get("status") or {}
    return bool(
        status.get("voters") == f"{voters}/{voters}" and status.get("nonVoting") == f"{non_voting}/{non_voting}"
    )
