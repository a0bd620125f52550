"""The operator does all its work with the rights that the chart gives it, and no others, on a real API server."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import yaml

from raftwright_operator.kube import path_of
from tests.chart.helm import RELEASE, template
from tests.operator.apiserver import ApiServer, require_programs
from tests.operator.processes import OperatorProcess, operator_process
from tests.operator.world import World, world

pytestmark = [pytest.mark.slow, pytest.mark.timeout(240)]
RIGHTS = ("ServiceAccount", "ClusterRole", "ClusterRoleBinding", "Role", "RoleBinding")


@pytest.fixture
async def place(api_server: ApiServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[World]:
    require_programs("helm")
    async with world(api_server, tmp_path, monkeypatch) as made:
        yield made


async def kubeconfig_of_operator(api_server: ApiServer, place: World, namespaces: list[str]) -> str:
    """The text of one with the token of the ServiceAccount that the chart makes, which has the chart's rights."""
    documents = template({"watch.namespaces": namespaces}, place.namespace)
    done = api_server.kubectl("apply", "-f", "-", objects=[each for each in documents if each["kind"] in RIGHTS])
    assert done.returncode == 0, done.stderr
    account = path_of("ServiceAccount", place.namespace, f"{RELEASE}-operator")
    token = await place.kube.call("POST", f"{account}/token", body={"spec": {}})
    config = yaml.safe_load(api_server.kubeconfig.read_text())
    config["users"][0]["user"] = {"token": token["status"]["token"]}
    return str(yaml.safe_dump(config))


@pytest.mark.parametrize("scope", ["some namespaces", "all namespaces"])
async def test_it_may_do_what_it_must(
    api_server: ApiServer, place: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, scope: str
) -> None:
    """Founding, scaling both ways, rolling, and deletion with the data: each verb of its Role is used."""
    namespaces = [place.namespace] if scope == "some namespaces" else []
    mine = tmp_path / "kubeconfig"
    await asyncio.to_thread(mine.write_text, await kubeconfig_of_operator(api_server, place, namespaces))
    monkeypatch.setenv("KUBECONFIG", str(mine))
    retention = {"onScaleDown": "Delete", "onDeletion": "Delete"}
    await place.create(replicas=1, storage={"retention": retention})
    async with operator_process(place.namespace, tmp_path, NAMESPACES=",".join(namespaces)) as operator:
        await place.settled(1)
        await place.change(replicas=3, nonVoting={"replicas": 1})
        await place.settled(3, 1)
        before = await uids(place)
        await place.change(podTemplate={"annotations": {"example.com/rolled": "yes"}})

        async def is_rolled() -> bool:
            return not before & await uids(place)

        await place.eventually(is_rolled, "every pod is another", lambda: operator.log[-3000:])
        await place.settled(3, 1)
        await place.change(replicas=1, nonVoting={"replicas": 0})
        await place.settled(1)

        await volumes_are(place, operator, {"data-db-0"})
        events, _ = await place.kube.list("Event", place.namespace)
        assert [each for each in events if each["involvedObject"]["kind"] == "RaftCluster"]
        await place.delete()

        async def is_gone() -> bool:
            return await place.resource() is None

        await place.eventually(is_gone, "the resource goes", lambda: operator.log[-3000:])
        await volumes_are(place, operator, set())
    assert "orbidden" not in operator.log
    assert "Traceback" not in operator.log


async def volumes_are(place: World, operator: OperatorProcess, wanted: set[str]) -> None:
    async def are() -> bool:
        return await place.names("PersistentVolumeClaim") == wanted

    await place.eventually(are, f"the volumes are {wanted or 'none'}", lambda: operator.log[-3000:])


async def uids(place: World) -> set[str]:
    found, _ = await place.kube.list("Pod", place.namespace)
    return {each["metadata"]["uid"] for each in found}
