"""Sees one RaftCluster: its objects, from the cache or read anew, and what its nodes say, always asked anew.

Called by `reconcile`. Rule: a cache that is not current is never used, and a fresh read is a read of what is committed
in the API server's store (no resourceVersion is ever given).
"""

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from raftwright.client.errors import RaftwrightError
from raftwright_operator import manifests, seeing
from raftwright_operator.cache import CHILD_KINDS, Cache, Key
from raftwright_operator.kube import Kube, Object
from raftwright_operator.names import KIND, LABEL_CLUSTER
from raftwright_operator.nodes import MEMBERS_TIMEOUT_S, Nodes, Place
from raftwright_operator.observed import MembershipSeen, NodeSeen, Observed
from raftwright_operator.spec import Spec, parse


class SpecInvalid(ValueError):
    """The resource has a value that the schema should have refused."""

    def __init__(self, resource: Object, message: str) -> None:
        super().__init__(message)
        self.resource = resource


@dataclass(frozen=True, slots=True, kw_only=True)
class Sight:
    """An observation, with what `execute` and the status need beside it."""

    spec: Spec
    observed: Observed
    resource: Mapping[str, Any]
    places: Mapping[str, Place]
    """Where nodes are reached, by pod name."""
    drift: Mapping[str, str]
    """The first field of each object that is not as it should be, as `Kind/name`; empty where it is missing."""

    @property
    def status(self) -> Mapping[str, Any]:
        found: Mapping[str, Any] = self.resource.get("status") or {}
        return found


class Observer:
    """One for all clusters. Without a cache everything is read anew."""

    def __init__(self, kube: Kube, nodes: Nodes, *, default_image: str, cache: Cache | None = None) -> None:
        self._kube = kube
        self._nodes = nodes
        self._default_image = default_image
        self._cache = cache

    async def look(self, key: Key, *, fresh: bool) -> Sight | None:
        """None: there is no such resource. KubeError if the API server does not tell; SpecInvalid."""
        cache = self._cache if not fresh and self._cache is not None and self._cache.is_current else None
        if cache is not None:
            resource = cache.cluster(key)
            children = {kind: cache.children(kind, key) for kind in CHILD_KINDS}
        else:
            resource, children = await self._read(key)
        if resource is None:
            return None
        try:
            spec = parse(resource, default_image=self._default_image)
        except ValueError as error:
            raise SpecInvalid(resource, str(error)) from error
        children, foreign = await self._own(spec, key, children)
        observed = _objects_seen(resource, children, fresh=cache is None)
        live = {f"{kind}/{each['metadata']['name']}": each for kind, objects in children.items() for each in objects}
        drift = {name: field for name, field in manifests.drift(spec, observed, live).items() if name not in foreign}
        observed = replace(observed, drifted=manifests.drifted(drift), foreign=foreign)
        places = await self._places(children["Pod"])
        observed = await self._ask_nodes(observed, places)
        return Sight(spec=spec, observed=observed, resource=resource, places=places, drift=drift)

    async def _read(self, key: Key) -> tuple[Object | None, dict[str, list[Object]]]:
        namespace, name = key
        selector = f"{LABEL_CLUSTER}={name}"
        resource = self._kube.get(KIND, namespace, name)
        lists = asyncio.gather(*(self._kube.list(kind, namespace, selector=selector) for kind in CHILD_KINDS))
        found, children = await asyncio.gather(resource, lists)
        return found, {kind: objects for kind, (objects, _) in zip(CHILD_KINDS, children, strict=True)}

    async def _own(
        self, spec: Spec, key: Key, children: Mapping[str, list[Object]]
    ) -> tuple[dict[str, list[Object]], tuple[str, ...]]:
        """The children without what only has a name or label of ours; and what of that stands in our way.

        They were read by their label. So what is missing is looked for by its name: it may have lost the label, or
        be somebody else's, who never had it."""
        namespace, cluster = key
        wanted = manifests.keys(spec, cluster)
        seen = {f"{kind}/{each['metadata']['name']}": each for kind in children for each in children[kind]}
        missing = [name.split("/") for name in wanted if name not in seen]
        found = await asyncio.gather(*(self._kube.get(kind, namespace, name) for kind, name in missing))
        seen |= {f"{kind}/{name}": each for (kind, name), each in zip(missing, found, strict=True) if each is not None}
        foreign = tuple(name for name in wanted if name in seen and not manifests.is_ours(cluster, seen[name]))
        own: dict[str, list[Object]] = {kind: [] for kind in children}
        for name, each in seen.items():
            kind = name.partition("/")[0]
            if kind in ("Pod", "PersistentVolumeClaim") or manifests.is_ours(cluster, each):
                own[kind].append(each)
        return own, foreign

    async def _places(self, pods: list[Object]) -> dict[str, Place]:
        found = await asyncio.gather(*(self._nodes.place(pod) for pod in pods))
        return {place.pod: place for place in found if place is not None}

    async def _ask_nodes(self, observed: Observed, places: Mapping[str, Place]) -> Observed:
        asked = [places[name] for name in observed.pods if name in places]
        answers = await asyncio.gather(*(self._nodes.status(place) for place in asked))
        nodes: dict[str, NodeSeen] = {}
        for place, status in zip(asked, answers, strict=True):
            seen = seeing.node_of(place.uid, status) if status is not None else None
            if seen is not None:
                nodes[place.pod] = seen
        return replace(observed, nodes=nodes, membership=await self._membership(observed, nodes, places))

    async def _membership(
        self, observed: Observed, nodes: Mapping[str, NodeSeen], places: Mapping[str, Place]
    ) -> MembershipSeen | None:
        asked = cluster_places(observed, nodes, places)
        if not asked:
            return None
        try:
            members = self._nodes.members(asked, cluster_of(observed, nodes))
            answer = await members.list(linearizable=True, timeout_s=MEMBERS_TIMEOUT_S)
        except RaftwrightError:
            return None
        return seeing.membership_of(answer)


def cluster_of(observed: Observed, nodes: Mapping[str, NodeSeen]) -> str | None:
    """The id of this resource's cluster. Without an intent: of the nodes that serve, only if all are of one."""
    if observed.intent:
        return observed.intent.cluster_id
    ids = {node.cluster_id for node in nodes.values() if node.state == "serving" and node.cluster_id}
    return ids.pop() if len(ids) == 1 else None


def cluster_places(observed: Observed, nodes: Mapping[str, NodeSeen], places: Mapping[str, Place]) -> list[Place]:
    """Nodes that serve the cluster of this resource, the leader first."""
    wanted = cluster_of(observed, nodes)
    ours = [name for name, node in nodes.items() if node.state == "serving" and wanted and node.cluster_id == wanted]
    ours.sort(key=lambda name: (nodes[name].member_id != nodes[name].leader, name))
    return [places[name] for name in ours if name in places]


def _objects_seen(resource: Object, children: Mapping[str, list[Object]], *, fresh: bool) -> Observed:
    meta = resource["metadata"]
    name = meta["name"]
    budgets = {each["metadata"]["name"]: each for each in children["PodDisruptionBudget"]}
    seen = Observed(
        fresh=fresh,
        name=name,
        namespace=meta["namespace"],
        uid=meta["uid"],
        resource_version=meta["resourceVersion"],
        generation=meta.get("generation", 1),
        deleting="deletionTimestamp" in meta,
        intent=seeing.intent_of(resource),
        hibernation=seeing.hibernation_of(resource),
        recorded_members=seeing.recorded(resource),
        recorded_voters=seeing.recorded(resource, voters_only=True),
        sets=seeing.sets_of(name, children["StatefulSet"]),
        pods=seeing.pods_of(name, children["Pod"]),
        volumes=seeing.volumes_of(name, children["PersistentVolumeClaim"]),
    )
    live = budgets.get(name)
    version = None if live is None else live["metadata"]["resourceVersion"]
    minimum, ready_for = manifests.budget_seen(seen, live), manifests.budget_ready_for(live)
    return replace(seen, budget=minimum, budget_version=version, budget_ready_for=ready_for)
