"""Each action's preconditions on a real API server: what was planned from an old observation does nothing."""

import asyncio
import os
import uuid
from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Any

import pytest

from raftwright.client.errors import error_of
from raftwright_operator import actions
from raftwright_operator.actions import Action
from raftwright_operator.execute import Executor
from raftwright_operator.kube import Kube, Object
from raftwright_operator.names import FINALIZER, KIND, LABEL_VOTER
from raftwright_operator.nodes import DirectReach, Nodes
from raftwright_operator.observe import Observer, Sight
from raftwright_operator.observed import Hibernation, Intent
from raftwright_operator.outcome import Outcome
from tests.chart.crd import definition, raft_cluster
from tests.operator.apiserver import ApiServer

NAME, WHY = "db", "A test."
OTHER_UID = "00000000-0000-4000-8000-000000000000"


class Place:
    """A RaftCluster without pods, and the parts of an operator."""

    def __init__(self, kube: Kube, namespace: str) -> None:
        self.kube = kube
        self.namespace = namespace
        self.nodes = Nodes(DirectReach())
        self.nodes.open()
        self.executor = Executor(kube, self.nodes)
        self.observer = Observer(kube, self.nodes, default_image="raftwright/node:test")

    async def sight(self) -> Sight:
        found = await self.observer.look((self.namespace, NAME), fresh=True)
        assert found is not None
        return found

    async def do(self, action: Action, sight: Sight | None = None) -> Outcome:
        return await self.executor.execute(action, sight or await self.sight())

    async def get(self, kind: str, name: str = NAME) -> Object:
        found = await self.kube.get(kind, self.namespace, name)
        assert found is not None
        return found

    async def create_set(self, replicas: int = 1) -> Sight:
        outcome = await self.do(actions.CreateSet(kind="voters", replicas=replicas, why=WHY))
        assert outcome == Outcome.done()
        return await self.sight()

    async def create_pod(self, name: str = "db-0") -> Object:
        meta = {"name": name, "namespace": self.namespace, "labels": {"raftwright.io/cluster": NAME}}
        containers = [{"name": "node", "image": "none"}]
        return await self.kube.create(
            {"apiVersion": "v1", "kind": "Pod", "metadata": meta, "spec": {"containers": containers}}
        )


@pytest.fixture
async def place(api_server: ApiServer, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Place]:
    monkeypatch.setitem(os.environ, "KUBECONFIG", str(api_server.kubeconfig))
    await asyncio.to_thread(api_server.install_definition, definition())
    namespace = f"execute-{uuid.uuid4().hex[:8]}"
    await asyncio.to_thread(api_server.create_namespace, namespace)
    kube = await Kube.connect()
    made = Place(kube, namespace)
    await kube.create(raft_cluster(NAME, namespace, {"replicas": 3}))
    yield made
    await made.nodes.close()
    await kube.close()


async def test_objects_are_applied_and_then_have_not_drifted(place: Place) -> None:
    sight = await place.sight()
    assert len(sight.observed.drifted) >= 5
    done = await place.do(actions.ApplyObjects(objects=sight.observed.drifted, why=WHY))
    assert done == Outcome.done()
    assert (await place.sight()).observed.drifted == ()


async def test_a_set_is_created_once(place: Place) -> None:
    await place.create_set(3)
    late = await place.do(actions.CreateSet(kind="voters", replicas=1, why=WHY))
    assert late.what == "again"
    assert (await place.get("StatefulSet"))["spec"]["replicas"] == 3


async def test_applying_a_set_keeps_the_replicas_that_it_has_by_now(place: Place) -> None:
    """Though the observation is older than the growth."""
    old = await place.create_set(1)
    seen = old.observed.sets["voters"]
    grown = actions.GrowSet(kind="voters", uid=seen.uid, resource_version=seen.resource_version, replicas=3, why=WHY)
    assert await place.do(grown, old) == Outcome.done()
    changed = replace(old, spec=replace(old.spec, image="raftwright/node:newer"))
    assert await place.do(actions.ApplyObjects(objects=("StatefulSet/db",), why=WHY), changed) == Outcome.done()
    found = await place.get("StatefulSet")
    assert found["spec"]["replicas"] == 3
    assert found["spec"]["template"]["spec"]["containers"][0]["image"] == "raftwright/node:newer"


async def test_what_is_no_longer_wanted_in_a_set_goes_though_it_was_there_when_it_was_created(place: Place) -> None:
    sight = await place.sight()
    labelled = replace(sight, spec=replace(sight.spec, pod=replace(sight.spec.pod, node_selector={"disk": "fast"})))
    assert await place.do(actions.CreateSet(kind="voters", replicas=1, why=WHY), labelled) == Outcome.done()
    now = await place.sight()
    assert now.observed.drifted.count("StatefulSet/db") == 1
    assert await place.do(actions.ApplyObjects(objects=("StatefulSet/db",), why=WHY)) == Outcome.done()
    assert "nodeSelector" not in (await place.get("StatefulSet"))["spec"]["template"]["spec"]
    assert "StatefulSet/db" not in (await place.sight()).observed.drifted


async def test_a_set_that_was_changed_meanwhile_is_neither_grown_nor_shrunk(place: Place) -> None:
    seen = (await place.create_set(2)).observed.sets["voters"]
    known: dict[str, Any] = {"kind": "voters", "uid": seen.uid, "resource_version": seen.resource_version, "why": WHY}
    await place.kube.patch("StatefulSet", place.namespace, NAME, {"metadata": {"annotations": {"touched": "yes"}}})
    assert (await place.do(actions.ShrinkSet(replicas=1, **known))).what == "again"
    assert (await place.do(actions.GrowSet(replicas=3, **known))).what == "again"
    assert (await place.get("StatefulSet"))["spec"]["replicas"] == 2


@pytest.mark.parametrize("action", [actions.DeleteSet, actions.OrphanSet])
async def test_another_set_of_the_same_name_is_not_deleted(
    place: Place, action: type[actions.DeleteSet] | type[actions.OrphanSet]
) -> None:
    uid = (await place.create_set()).observed.sets["voters"].uid
    assert (await place.do(action(kind="voters", uid=OTHER_UID, why=WHY))).what == "again"
    await place.get("StatefulSet")
    assert await place.do(action(kind="voters", uid=uid, why=WHY)) == Outcome.done()


# The API server tries an eviction again for ten seconds.
@pytest.mark.parametrize("evict", [pytest.param(True, marks=pytest.mark.slow), False])
async def test_another_pod_of_the_same_name_is_not_restarted(place: Place, *, evict: bool) -> None:
    await place.create_pod()
    outcome = await place.do(actions.RestartPod(pod="db-0", uid=OTHER_UID, evict=evict, why=WHY))
    assert outcome.what == "again"
    await place.get("Pod", "db-0")


async def test_a_budget_keeps_a_pod_from_being_evicted(place: Place) -> None:
    pod = await place.create_pod()
    uid = pod["metadata"]["uid"]
    labels = actions.PodLabels(pod="db-0", uid=uid, voter=True, leader=False)
    assert await place.do(actions.LabelPods(pods=(labels,), why=WHY)) == Outcome.done()
    assert (await place.get("Pod", "db-0"))["metadata"]["labels"][LABEL_VOTER] == "true"
    # A pod that does not run yet may always be evicted.
    await place.kube.patch("Pod", place.namespace, "db-0", {"status": {"phase": "Running"}}, subresource="status")
    assert await place.do(actions.ApplyBudget(min_available=1, why=WHY)) == Outcome.done()
    assert (await place.sight()).observed.budget == 1
    outcome = await place.do(actions.RestartPod(pod="db-0", uid=uid, evict=True, why=WHY))
    assert (outcome.what, outcome.reason) == ("refused", "EvictionBlocked")
    assert "deletionTimestamp" not in (await place.get("Pod", "db-0"))["metadata"]


async def test_a_budget_that_was_planned_before_another_came_changes_nothing(place: Place) -> None:
    """Two operators, or one that was slow: what the later one allows must not be allowed by the earlier one again."""
    assert await place.do(actions.ApplyBudget(min_available=2, why=WHY)) == Outcome.done()
    old = await place.sight()
    version = old.observed.budget_version
    assert version is not None
    newer = actions.ApplyBudget(min_available=4, resource_version=version, why=WHY)
    assert await place.do(newer, old) == Outcome.done()
    late = actions.ApplyBudget(min_available=1, resource_version=version, why=WHY)
    assert (await place.do(late, old)).what == "again"
    assert (await place.get("PodDisruptionBudget"))["spec"]["minAvailable"] == 4


async def test_a_budget_that_was_planned_before_there_was_one_changes_nothing(place: Place) -> None:
    none = await place.sight()
    assert none.observed.budget_version is None
    assert await place.do(actions.ApplyBudget(min_available=4, why=WHY)) == Outcome.done()
    assert (await place.do(actions.ApplyBudget(min_available=1, why=WHY), none)).what == "again"
    assert (await place.get("PodDisruptionBudget"))["spec"]["minAvailable"] == 4


async def test_another_pod_of_the_same_name_is_not_labelled(place: Place) -> None:
    await place.create_pod()
    labels = actions.PodLabels(pod="db-0", uid=OTHER_UID, voter=True, leader=True)
    assert (await place.do(actions.LabelPods(pods=(labels,), why=WHY))).what == "again"
    assert LABEL_VOTER not in (await place.get("Pod", "db-0"))["metadata"]["labels"]


async def test_volumes_grow_and_go_by_uid(place: Place) -> None:
    meta = {"name": "data-db-0", "namespace": place.namespace, "labels": {"raftwright.io/cluster": NAME}}
    spec = {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}, "storageClassName": "x"}
    claim = await place.kube.create(
        {"apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": meta, "spec": spec}
    )
    uid = claim["metadata"]["uid"]
    assert (await place.do(actions.DeleteVolume(claim="data-db-0", uid=OTHER_UID, why=WHY))).what == "again"
    grown = actions.ExpandVolume(claim="data-db-0", uid=OTHER_UID, size_bytes=2 << 30, why=WHY)
    assert (await place.do(grown)).what == "again"
    assert "deletionTimestamp" not in (await place.get("PersistentVolumeClaim", "data-db-0"))["metadata"]
    assert await place.do(actions.DeleteVolume(claim="data-db-0", uid=uid, why=WHY)) == Outcome.done()
    # Once more: as if it had been once.
    assert await place.do(actions.DeleteVolume(claim="data-db-0", uid=uid, why=WHY)) == Outcome.done()


async def test_the_intent_is_recorded_under_the_version_that_was_seen(place: Place) -> None:
    sight = await place.sight()
    version = sight.observed.resource_version
    first = Intent(cluster_id="cluster-one", stores=(("db-0", "a"), ("db-1", "b")))
    assert (
        await place.do(actions.RecordIntent(intent=first, resource_version=version, why=WHY), sight) == Outcome.done()
    )
    second = Intent(cluster_id="cluster-two", stores=(("db-0", "z"),))
    late = await place.do(actions.RecordIntent(intent=second, resource_version=version, why=WHY), sight)
    assert late.what == "again"
    now = await place.sight()
    assert now.observed.intent == first
    # And replaced as a whole: no store of the first is left in the second.
    recorded = actions.RecordIntent(intent=second, resource_version=now.observed.resource_version, why=WHY)
    assert await place.do(recorded, now) == Outcome.done()
    assert (await place.sight()).observed.intent == second


async def test_a_hibernation_is_recorded_and_cleared(place: Place) -> None:
    for wanted in (Hibernation(voters=3, non_voting=1), Hibernation(voters=1, non_voting=0), None):
        sight = await place.sight()
        version = sight.observed.resource_version
        recorded = actions.RecordHibernation(hibernation=wanted, resource_version=version, why=WHY)
        assert await place.do(recorded, sight) == Outcome.done()
        assert (await place.sight()).observed.hibernation == wanted


async def test_the_finalizer_is_released_only_of_what_is_being_deleted_and_no_other_is_touched(place: Place) -> None:
    finalizers = {"metadata": {"finalizers": ["example.com/other", FINALIZER]}}
    found = await place.kube.patch(KIND, place.namespace, NAME, finalizers)
    assert (await place.do(actions.ReleaseFinalizer(why=WHY))).what == "again"
    await place.kube.delete(KIND, place.namespace, NAME, uid=found["metadata"]["uid"])
    sight = await place.sight()
    await place.kube.patch(KIND, place.namespace, NAME, {"metadata": {"annotations": {"touched": "yes"}}})
    assert (await place.do(actions.ReleaseFinalizer(why=WHY), sight)).what == "again"
    assert await place.do(actions.ReleaseFinalizer(why=WHY)) == Outcome.done()
    assert (await place.get(KIND))["metadata"]["finalizers"] == ["example.com/other"]
    await place.kube.patch(KIND, place.namespace, NAME, {"metadata": {"finalizers": None}})


async def test_what_needs_a_fresh_look_is_never_done_from_a_cache(place: Place) -> None:
    sight = await place.sight()
    stale = replace(sight, observed=replace(sight.observed, fresh=False))
    with pytest.raises(AssertionError, match="from a cache"):
        await place.do(actions.DeleteVolume(claim="data-db-0", uid=OTHER_UID, why=WHY), stale)


async def test_a_node_that_is_not_there_is_no_failure_of_the_operator(place: Place) -> None:
    pod = await place.create_pod()
    intent = Intent(cluster_id="cluster-one", stores=(("db-0", "0" * 32),))
    uid = pod["metadata"]["uid"]
    outcome = await place.do(actions.Bootstrap(pod="db-0", pod_uid=uid, intent=intent, why=WHY))
    assert outcome.what == "again"
    outcome = await place.do(actions.RemoveMembers(ids=(1,), if_version=1, why=WHY))
    assert outcome.what == "again"


@pytest.mark.parametrize(
    ("kind", "what"),
    [
        ("not-committed-in-term", "again"),
        ("no-leader", "again"),
        ("proposal-dropped", "again"),
        ("transfer-failed", "again"),
        ("lagging", "again"),
        ("last-voter", "refused"),
        ("no-quorum-left", "refused"),
        ("disk-full", "refused"),
    ],
)
async def test_what_a_node_refuses_for_the_moment_is_no_trouble(place: Place, kind: str, what: str) -> None:
    class Refusing(Executor):
        async def _done(self, action: actions.Action, sight: Sight) -> Outcome:
            raise error_of(kind, "for the test")

    refusing = Refusing(place.kube, place.nodes)
    action = actions.TransferLeadership(to=2, why=WHY)
    outcome = await refusing.execute(action, await place.sight())
    assert outcome.what == what
    assert outcome.reason
