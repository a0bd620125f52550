"""Actions on Kubernetes' objects. Called by `execute` only.

Rule: every write that could harm names the uid or the resourceVersion that it was planned from.
"""

import asyncio
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from raftwright_operator import manifests
from raftwright_operator.actions import (
    ApplyBudget,
    ApplyObjects,
    CreateSet,
    DeleteVolume,
    ExpandVolume,
    GrowSet,
    LabelPods,
    PodLabels,
    RecordHibernation,
    RecordIntent,
    RestartPod,
    ShrinkSet,
)
from raftwright_operator.cache import Cache
from raftwright_operator.kube import Kube, KubeError, Object, merge_patch, path_of
from raftwright_operator.names import (
    FIELD_MANAGER,
    FINALIZER,
    KIND,
    LABEL_LEADER,
    LABEL_VOTER,
    SET_KINDS,
    SetKind,
    set_name,
)
from raftwright_operator.observe import Sight
from raftwright_operator.outcome import Outcome
from raftwright_operator.quantities import written
from raftwright_operator.seeing import sets_of

EVICTION_BLOCKED = 429
EVICTION_TIMEOUT_S = 25.0
"""The API server tries an eviction that meets a conflict, as of another pod of the name, for ten seconds by itself."""


class Objects:
    """For one action on what `sight` shows."""

    def __init__(self, kube: Kube, cache: Cache | None, sight: Sight) -> None:
        self._kube = kube
        self._cache = cache
        self._sight = sight
        self._observed = sight.observed
        self._namespace = sight.observed.namespace

    # Applied objects

    async def apply(self, action: ApplyObjects) -> Outcome:
        built = manifests.build(self._sight.spec, self._observed)
        sets = {f"StatefulSet/{set_name(self._observed.name, kind)}": kind for kind in SET_KINDS}
        for key in action.objects:
            kind, name = key.split("/")
            found = await self._kube.get(kind, self._namespace, name)
            if found is not None and not manifests.is_ours(self._observed.name, found):
                return Outcome.again("NameTaken", f"{key} is there, and not ours")
            if key in built and found is None:
                self._keep(await self._kube.create(built[key]))
            elif key in built and found is not None:
                await self._apply(built[key], found)
            elif key in sets and found is not None:
                await self._apply(self._set_over(found, sets[key]), found)
        return Outcome.done()

    def _set_over(self, found: Object, kind: SetKind) -> Object:
        """As it is now but for the template: by what was just read, since its replicas are in what is applied."""
        seen = sets_of(self._observed.name, [found])
        observed = replace(self._observed, sets={**self._observed.sets, **seen})
        return manifests.stateful_set(self._sight.spec, observed, kind, seen[kind].replicas)

    async def _apply(self, manifest: Object, found: Object) -> None:
        """Over what was just read and is ours; a conflict if it has changed, or is another, since then."""
        if (adopted := _adopted(found)) is not None:
            found = await self._kube.call(
                "PATCH",
                path_of(manifest["kind"], self._namespace, found["metadata"]["name"]),
                query={"fieldManager": FIELD_MANAGER},
                body=adopted,
                content_type="application/json-patch+json",
            )
        version = {name: found["metadata"][name] for name in ("uid", "resourceVersion")}
        self._keep(await self._kube.apply({**manifest, "metadata": {**manifest["metadata"], **version}}))

    async def apply_budget(self, action: ApplyBudget) -> Outcome:
        manifest = manifests.budget(self._observed, action.min_available, action.ready_for)
        found = await self._kube.get(manifest["kind"], self._namespace, self._observed.name)
        version = None if found is None else found["metadata"]["resourceVersion"]
        if version != action.resource_version:
            return Outcome.again("BudgetChanged", "the budget is another than the one that was seen")
        if found is None:
            self._keep(await self._kube.create(manifest))
        elif not manifests.is_ours(self._observed.name, found):
            return Outcome.again("NameTaken", "the budget is there, and not ours")
        else:
            await self._apply(manifest, found)
        return Outcome.done()

    # StatefulSets

    async def create_set(self, action: CreateSet) -> Outcome:
        """By POST: an apply that comes late could set another number of replicas on a set made meanwhile."""
        sets = {kind: seen for kind, seen in self._observed.sets.items() if kind != action.kind}
        observed = replace(self._observed, sets=sets)
        manifest = manifests.stateful_set(self._sight.spec, observed, action.kind, action.replicas)
        self._keep(await self._kube.create(manifest))
        return Outcome.done()

    async def resize_set(self, action: GrowSet | ShrinkSet) -> Outcome:
        meta = {"uid": action.uid, "resourceVersion": action.resource_version}
        change = {"metadata": meta, "spec": {"replicas": action.replicas}}
        name = set_name(self._observed.name, action.kind)
        self._keep(await self._kube.patch("StatefulSet", self._namespace, name, change))
        return Outcome.done()

    async def delete_set(self, kind: SetKind, uid: str, propagation: str) -> Outcome:
        name = set_name(self._observed.name, kind)
        await self._kube.delete("StatefulSet", self._namespace, name, uid=uid, propagation=propagation)
        return Outcome.done()

    # Pods and volumes

    async def label_pods(self, action: LabelPods) -> Outcome:
        answers = await asyncio.gather(*(self._label(pod) for pod in action.pods), return_exceptions=True)
        for answer in answers:
            if isinstance(answer, BaseException):
                raise answer
        return Outcome.done()

    async def _label(self, pod: PodLabels) -> None:
        labels = {LABEL_VOTER: "true" if pod.voter else None, LABEL_LEADER: "true" if pod.leader else None}
        change = {"metadata": {"uid": pod.uid, "labels": labels}}
        self._keep(await self._kube.patch("Pod", self._namespace, pod.pod, change))

    async def restart_pod(self, action: RestartPod) -> Outcome:
        if not action.evict:
            await self._kube.delete("Pod", self._namespace, action.pod, uid=action.uid)
            return Outcome.done()
        eviction = {
            "apiVersion": "policy/v1",
            "kind": "Eviction",
            "metadata": {"name": action.pod, "namespace": self._namespace},
            "deleteOptions": {"preconditions": {"uid": action.uid}},
        }
        path = path_of("Pod", self._namespace, action.pod) + "/eviction"
        try:
            await self._kube.call("POST", path, body=eviction, timeout_s=EVICTION_TIMEOUT_S)
        except KubeError as error:
            if error.status == EVICTION_BLOCKED:
                return Outcome.refused("EvictionBlocked", f"Pod {action.pod} may not be evicted now: {error}")
            raise
        return Outcome.done()

    async def expand_volume(self, action: ExpandVolume) -> Outcome:
        requests = {"storage": written(action.size_bytes)}
        change = {"metadata": {"uid": action.uid}, "spec": {"resources": {"requests": requests}}}
        self._keep(await self._kube.patch("PersistentVolumeClaim", self._namespace, action.claim, change))
        return Outcome.done()

    async def delete_volume(self, action: DeleteVolume) -> Outcome:
        await self._kube.delete("PersistentVolumeClaim", self._namespace, action.claim, uid=action.uid)
        return Outcome.done()

    # The resource itself

    async def record_intent(self, action: RecordIntent) -> Outcome:
        intent = action.intent
        cluster = {"id": intent.cluster_id, "stores": dict(intent.stores), "bootstrapped": intent.bootstrapped}
        return await self._record("cluster", cluster, action.resource_version)

    async def record_hibernation(self, action: RecordHibernation) -> Outcome:
        found = action.hibernation
        value = None if found is None else {"voters": found.voters, "nonVoting": found.non_voting}
        return await self._record("hibernation", value, action.resource_version)

    async def _record(self, field: str, value: Mapping[str, Any] | None, resource_version: str) -> Outcome:
        before = {field: self._sight.status[field]} if field in self._sight.status else {}
        change = {
            "metadata": {"uid": self._observed.uid, "resourceVersion": resource_version},
            "status": merge_patch(before, {} if value is None else {field: value}),
        }
        name = self._observed.name
        self._keep(await self._kube.patch(KIND, self._namespace, name, change, subresource="status"))
        return Outcome.done()

    async def release(self) -> Outcome:
        """Under the version that was read: nobody else's finalizer is touched."""
        meta = self._sight.resource["metadata"]
        if "deletionTimestamp" not in meta:
            return Outcome.again("NotDeleted", "the resource is not being deleted")
        rest = [each for each in meta.get("finalizers") or () if each != FINALIZER]
        change = {
            "metadata": {"uid": meta["uid"], "resourceVersion": meta["resourceVersion"], "finalizers": rest or None}
        }
        await self._kube.patch(KIND, self._namespace, self._observed.name, change)
        return Outcome.done()

    def _keep(self, found: Object) -> None:
        if self._cache is not None:
            self._cache.put(found)


def _adopted(found: Object) -> list[dict[str, Any]] | None:
    """A JSON patch after which the fields that we created count as applied; None if they do already.

    A later apply would else never remove a field that is no longer wanted: its creation would still own it."""
    entries = found["metadata"].get("managedFields") or []
    ours = [entry for entry in entries if entry.get("manager") == FIELD_MANAGER and not entry.get("subresource")]
    if not ours or any(entry["operation"] == "Apply" for entry in ours):
        return None
    applied = [{**entry, "operation": "Apply"} if entry is ours[0] else entry for entry in entries]
    return [
        {"op": "test", "path": "/metadata/resourceVersion", "value": found["metadata"]["resourceVersion"]},
        {"op": "replace", "path": "/metadata/managedFields", "value": applied},
    ]
