"""Objects of others under names that a cluster needs, on a real API server: they are never taken over, and said."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from raftwright_operator.kube import Object
from raftwright_operator.names import KIND, LABEL_CLUSTER
from tests.operator.apiserver import ApiServer
from tests.operator.world import NAME, World, world

pytestmark = pytest.mark.slow

SELECTED: dict[str, Any] = {"selector": {"matchLabels": {"app": "theirs"}}}
POD: dict[str, Any] = {"metadata": {"labels": {"app": "theirs"}}, "spec": {"containers": [{"name": "a", "image": "b"}]}}
PORTS: dict[str, Any] = {"spec": {"ports": [{"name": "theirs", "port": 5432}], "selector": {"app": "theirs"}}}
THEIRS: dict[str, tuple[str, dict[str, Any]]] = {
    "ConfigMap/db": ("v1", {"data": {"config.toml": "theirs"}}),
    "Service/db-peers": ("v1", PORTS),
    "Service/db": ("v1", PORTS),
    "Service/db-leader": ("v1", PORTS),
    "ServiceAccount/db": ("v1", {"automountServiceAccountToken": True}),
    "StatefulSet/db": ("apps/v1", {"spec": {**SELECTED, "replicas": 0, "serviceName": "theirs", "template": POD}}),
    "PodDisruptionBudget/db": ("policy/v1", {"spec": {**SELECTED, "minAvailable": 0}}),
}
HANDED_OVER = {LABEL_CLUSTER: NAME, "app.kubernetes.io/managed-by": "raftwright-operator"}
NOT_NEEDED = ("Service/db", "Service/db-leader", "PodDisruptionBudget/db")
"""Without these the members work, though others find them less well."""


@pytest.fixture
async def place(api_server: ApiServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[World]:
    async with world(api_server, tmp_path, monkeypatch) as made:
        yield made


async def make(place: World, key: str, **meta: Any) -> Object:
    api_version, body = THEIRS[key]
    kind, name = key.split("/")
    head = {"name": name, "namespace": place.namespace, **meta}
    return await place.kube.create({"apiVersion": api_version, "kind": kind, "metadata": head, **body})


async def is_untouched(place: World, key: str, made: Object) -> bool:
    kind, name = key.split("/")
    found = await place.kube.get(kind, place.namespace, name)
    assert found is not None
    parts = [
        {part: each.get(part) for part in ("data", "spec", "automountServiceAccountToken")} for each in (found, made)
    ]
    known = ("uid", "labels", "annotations", "ownerReferences")
    heads = [{part: each["metadata"].get(part) for part in known} for each in (found, made)]
    return parts[0] == parts[1] and heads[0] == heads[1]


async def is_degraded(place: World, reason: str, said: str) -> bool:
    found = await place.condition("Degraded")
    return found.get("status") == "True" and found["reason"] == reason and said in found["message"]


@pytest.mark.parametrize("labelled", [False, True], ids=["plain", "with-our-label"])
@pytest.mark.parametrize("key", THEIRS)
async def test_it_is_left_alone_and_named_and_the_rest_goes_on(place: World, key: str, *, labelled: bool) -> None:
    made = await make(place, key, labels={LABEL_CLUSTER: NAME} if labelled else {})
    await place.create(replicas=1)
    async with place.operator():
        await place.eventually(lambda: is_degraded(place, "NameTaken", key), "it is said", lambda: place.actions)
        if key in NOT_NEEDED:
            await place.settled(1)
        else:

            async def waits_for_a_person() -> bool:
                found = await place.condition("Progressing")
                return (found["status"], found["reason"]) == ("False", "NameTaken")

            await place.eventually(waits_for_a_person, "it waits for a person", lambda: place.actions)
            services = {name.split("/")[1] for name in THEIRS if name.startswith("Service/")}
            assert await place.names("Service") == services
            assert "CreateSet" not in place.actions
            assert not await place.names("Pod")
        assert await is_untouched(place, key, made)
        events, _ = await place.kube.list("Event", place.namespace)
        assert [each["reason"] for each in events].count("NameTaken") == 1


async def test_when_it_is_gone_ours_takes_its_place(place: World) -> None:
    made = await make(place, "ConfigMap/db")
    await place.create(replicas=1)
    async with place.operator():
        await place.eventually(lambda: is_degraded(place, "NameTaken", "ConfigMap/db"), "it is said")
        await place.kube.delete("ConfigMap", place.namespace, "db", uid=made["metadata"]["uid"])
        await place.settled(1)
        assert (await place.condition("Degraded"))["status"] == "False"


async def test_it_can_be_handed_over_by_labels(place: World) -> None:
    made = await make(place, "Service/db-leader")
    resource = await place.create(replicas=1)
    async with place.operator():
        await place.eventually(lambda: is_degraded(place, "NameTaken", "Service/db-leader"), "it is said")
        change = {"metadata": {"labels": HANDED_OVER}}
        await place.kube.patch("Service", place.namespace, "db-leader", change)

        async def is_ours() -> bool:
            found = await place.kube.get("Service", place.namespace, "db-leader")
            assert found is not None
            assert found["metadata"]["uid"] == made["metadata"]["uid"]
            owners = found["metadata"].get("ownerReferences") or []
            return [each["uid"] for each in owners] == [resource["metadata"]["uid"]]

        await place.eventually(is_ours, "it is ours")
        await place.settled(1)


async def test_what_an_earlier_resource_of_the_name_left_is_taken_up(place: World) -> None:
    """By its owner reference, or by its labels where it was orphaned; one that lost its label is found by its name."""
    await place.create(replicas=1)
    async with place.operator():
        await place.settled(1)
    place.nodes.is_awake = False  # nothing collects garbage now
    for kind, change in (
        ("Service", {"ownerReferences": None}),
        ("ConfigMap", {"labels": {LABEL_CLUSTER: None}}),
        ("StatefulSet", {"labels": {LABEL_CLUSTER: None}}),
    ):
        await place.kube.patch(kind, place.namespace, NAME, {"metadata": change})
    before = await place.resource()
    assert before is not None
    await place.kube.patch(KIND, place.namespace, NAME, {"metadata": {"finalizers": None}})
    await place.kube.delete(KIND, place.namespace, NAME, uid=before["metadata"]["uid"])
    after = await place.create(replicas=1)
    place.actions.clear()
    async with place.operator():
        await place.settled(1)
    assert "CreateSet" not in place.actions
    for kind in ("Service", "ConfigMap", "StatefulSet", "ServiceAccount", "PodDisruptionBudget"):
        found = await place.kube.get(kind, place.namespace, NAME)
        assert found is not None
        assert [each["uid"] for each in found["metadata"]["ownerReferences"]] == [after["metadata"]["uid"]], kind
        assert found["metadata"]["labels"][LABEL_CLUSTER] == NAME
