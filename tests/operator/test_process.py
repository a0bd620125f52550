"""The operator as a process, with kopf, its Lease and its endpoints, against a real API server with real nodes."""

import os
import signal
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from raftwright_operator.leadership import LEASE_NAME
from raftwright_operator.names import FINALIZER
from tests.operator.apiserver import ApiServer
from tests.operator.processes import operator_process
from tests.operator.world import NAME, World, world

pytestmark = pytest.mark.slow


@pytest.fixture
async def place(api_server: ApiServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[World]:
    async with world(api_server, tmp_path, monkeypatch) as made:
        yield made


async def holder(place: World) -> str:
    found = await place.kube.get("Lease", place.namespace, LEASE_NAME)
    return "" if found is None else str(found["spec"].get("holderIdentity") or "")


async def test_it_settles_a_cluster_and_ends_cleanly(place: World, tmp_path: Path) -> None:
    await place.create(replicas=1)
    async with operator_process(place.namespace, tmp_path) as operator:
        await place.settled(1)
        assert await operator.get(operator.health, "/healthz") == (200, "ok\n")
        assert (await operator.get(operator.health, "/readyz"))[0] == 200
        _, metrics = await operator.get(operator.metrics, "/metrics")
        assert await holder(place) == "operator"
        assert await operator.stop() == 0, operator.log
    labels = f'{{cluster="{NAME}",namespace="{place.namespace}"}}'
    assert f"raftwright_operator_cluster_quorum_available{labels} 1.0" in metrics
    assert "raftwright_operator_leading 1.0" in metrics
    assert await holder(place) == ""
    found = await place.resource()
    assert found is not None
    assert found["metadata"]["finalizers"] == [FINALIZER]
    assert not found["metadata"].get("annotations")
    assert "Traceback" not in operator.log
    assert "cancelled" not in operator.log


async def test_what_was_deleted_while_none_ran_is_finished_by_the_next(place: World, tmp_path: Path) -> None:
    """kopf starts no daemon for a resource that is being deleted already."""
    await place.create(replicas=1, storage={"retention": {"onDeletion": "Delete"}})
    async with operator_process(place.namespace, tmp_path, name="first") as operator:
        await place.settled(1)
        await operator.stop(signal.SIGKILL)
    await place.delete()
    assert await place.resource() is not None
    async with operator_process(place.namespace, tmp_path, name="first") as operator:

        async def is_gone() -> bool:
            return await place.resource() is None

        await place.eventually(is_gone, "the resource goes", lambda: operator.log[-3000:])

        async def has_no_claims() -> bool:
            return not await place.names("PersistentVolumeClaim")

        # It was deleted before the resource was let go, and is gone when nothing protects it any more.
        await place.eventually(has_no_claims, "the volume goes", lambda: operator.log[-3000:])

        async def is_forgotten() -> bool:
            _, metrics = await operator.get(operator.metrics, "/metrics")
            return "raftwright_operator_leading" in metrics and f'cluster="{NAME}"' not in metrics

        # By the step that follows the one which let the resource go.
        await place.eventually(is_forgotten, "its metrics go", lambda: operator.log[-3000:])
        assert await operator.stop() == 0
    assert "Traceback" not in operator.log


async def test_a_deletion_goes_on_to_its_end_in_a_running_operator(place: World, tmp_path: Path) -> None:
    async with operator_process(place.namespace, tmp_path, LEADER_ELECTION="false") as operator:
        for _ in range(2):
            await place.create(replicas=1, storage={"retention": {"onDeletion": "Delete"}})
            await place.settled(1)
            await place.delete()

            async def is_gone() -> bool:
                return await place.resource() is None

            await place.eventually(is_gone, "the resource goes", lambda: operator.log[-3000:])
        assert await operator.stop() == 0
    assert "Traceback" not in operator.log


async def test_the_second_stands_by_and_takes_over(place: World, tmp_path: Path) -> None:
    await place.create(replicas=1)
    async with operator_process(place.namespace, tmp_path, name="first") as first:
        await place.settled(1)
        async with operator_process(place.namespace, tmp_path, name="second") as second:

            async def stands_by() -> bool:
                return (await second.get(second.health, "/readyz"))[0] == 200

            await place.eventually(stands_by, "the second is ready")
            assert await holder(place) == "first"
            assert await first.stop() == 0
            await place.change(replicas=3)
            await place.settled(3)
            assert await holder(place) == "second"
            assert await second.stop() == 0


async def test_who_loses_the_lease_ends(place: World, tmp_path: Path) -> None:
    await place.create(replicas=1)
    async with operator_process(place.namespace, tmp_path) as operator:
        await place.settled(1)
        await place.kube.patch("Lease", place.namespace, LEASE_NAME, {"spec": {"holderIdentity": "another"}})
        assert await operator.process.wait() == 3
    assert await holder(place) == "another"
    assert "the Lease is held by another" in operator.log


async def test_kopf_runs_it_on_a_machine_outside(place: World, tmp_path: Path) -> None:
    command = (sys.executable, "-m", "kopf", "run", "-m", "raftwright_operator.handlers", "--standalone")
    await place.create(replicas=1)
    where = ("--namespace", place.namespace)
    async with operator_process(place.namespace, tmp_path, command=(*command, *where)) as operator:
        await place.settled(1)
        assert await operator.stop() == 0, operator.log
    assert "Traceback" not in operator.log


async def test_a_wrong_setting_is_said_and_nothing_starts(tmp_path: Path) -> None:
    os.environ.setdefault("KUBECONFIG", os.devnull)
    async with operator_process("default", tmp_path, NODE_ACCESS="telepathy") as operator:
        assert await operator.process.wait() == 2
    assert "auto, direct or proxy" in " ".join(operator.log.split())
