"""What the API server has of our objects, kept up to date by watches: lists once, then follows.

kopf's own watches do not serve for this: they tell nothing of what was deleted while a stream was lost, nor whether a
stream still lives. Called by `observe`, which reads; by `handlers`, which runs it. Rule: an object never goes back to
an older resourceVersion, and a cache that has not heard from the server for a while says so (`is_current`).
"""

import asyncio
import contextlib
import logging
import random
import time
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from raftwright_operator.kube import WATCH_SILENCE_S, Kube, KubeError, Object
from raftwright_operator.names import KIND, LABEL_CLUSTER

CHILD_KINDS = (
    "StatefulSet",
    "Pod",
    "PersistentVolumeClaim",
    "Service",
    "ConfigMap",
    "PodDisruptionBudget",
    "ServiceAccount",
)
RETRY_S = 1.0
SLOW_RETRY_S = 15.0

Key = tuple[str, str]
"""(namespace, name of the RaftCluster)."""
log = logging.getLogger(__name__)


class Cache:
    """`run` it as a task. `on_change` is called with the key of each cluster of which something changed."""

    def __init__(
        self, kube: Kube, namespaces: Iterable[str] = (), on_change: Callable[[Key], None] = lambda key: None
    ) -> None:
        self._kube = kube
        self._on_change = on_change
        places = tuple(namespaces) or ("",)
        self._watches = [_Watch(kind, place) for kind in (KIND, *CHILD_KINDS) for place in places]
        self._objects: dict[str, dict[Key, dict[str, Object]]] = {kind: {} for kind in (KIND, *CHILD_KINDS)}
        self.synced = asyncio.Event()
        """Every kind has been listed once."""

    async def run(self) -> None:
        """Never ends by itself: what goes wrong is tried again."""
        async with asyncio.TaskGroup() as tasks:
            for watch in self._watches:
                tasks.create_task(self._follow(watch), name=f"watch {watch.kind} {watch.namespace or 'everywhere'}")

    @property
    def is_current(self) -> bool:
        """Every watch has been heard from, as recently as a living one must be."""
        now = time.monotonic()
        return all(watch.heard_at is not None and now - watch.heard_at < WATCH_SILENCE_S for watch in self._watches)

    def cluster(self, key: Key) -> Object | None:
        return self._objects[KIND].get(key, {}).get(key[1])

    def clusters(self) -> list[Key]:
        return list(self._objects[KIND])

    def children(self, kind: str, key: Key) -> list[Object]:
        return list(self._objects[kind].get(key, {}).values())

    def put(self, found: Mapping[str, Any]) -> None:
        """What a write of our own answered: so that the next look does not see the time before it."""
        kind = found.get("kind", "")
        if kind in self._objects:
            self._store(kind, dict(found))

    async def _follow(self, watch: "_Watch") -> None:
        delay_s = RETRY_S
        while True:
            try:
                await self._list(watch)
                delay_s = RETRY_S
                while True:
                    await self._watch(watch)
            except KubeError as error:
                # 410: what the watch would go on from is no longer kept, so all is listed anew; no cause for alarm.
                if error.status != 410:
                    log.warning("Watching %s failed, trying again: %s", watch.kind, error)
            except (KeyError, ValueError) as error:
                log.warning("Watching %s got what it cannot read, trying again: %r", watch.kind, error)
            await asyncio.sleep(delay_s * random.uniform(0.5, 1.0))
            delay_s = min(2 * delay_s, SLOW_RETRY_S)

    async def _list(self, watch: "_Watch") -> None:
        found, watch.resource_version = await self._kube.list(watch.kind, watch.namespace, selector=watch.selector)
        listed = {(item["metadata"]["namespace"], item["metadata"]["name"]) for item in found}
        for item in found:
            self._store(watch.kind, item)
        for objects in list(self._objects[watch.kind].values()):
            for item in list(objects.values()):
                meta = item["metadata"]
                is_ours = watch.namespace in ("", meta["namespace"])
                if is_ours and (meta["namespace"], meta["name"]) not in listed:
                    self._forget(watch.kind, item)
        watch.heard_at = time.monotonic()
        if all(each.heard_at is not None for each in self._watches):
            self.synced.set()

    async def _watch(self, watch: "_Watch") -> None:
        stream = self._kube.watch(watch.kind, watch.namespace, watch.resource_version, selector=watch.selector)
        async with contextlib.aclosing(stream) as events:
            async for event in events:
                if event.kind == "ERROR":
                    raise KubeError(int(event.object.get("code") or 0), "Watch", str(event.object.get("message")))
                watch.resource_version = event.object["metadata"]["resourceVersion"]
                watch.heard_at = time.monotonic()
                if event.kind == "DELETED":
                    self._forget(watch.kind, event.object)
                elif event.kind != "BOOKMARK":
                    self._store(watch.kind, event.object)
        watch.heard_at = time.monotonic()

    def _store(self, kind: str, found: Object) -> None:
        key = _key_of(kind, found)
        if key is None:
            return
        trimmed = trim(kind, found)
        name = trimmed["metadata"]["name"]
        objects = self._objects[kind].setdefault(key, {})
        before = objects.get(name)
        if before is not None and _is_older(trimmed, before):
            return
        objects[name] = trimmed
        if before is None or _matters(kind, before, trimmed):
            self._on_change(key)

    def _forget(self, kind: str, gone: Object) -> None:
        key = _key_of(kind, gone)
        name = gone["metadata"]["name"]
        objects = self._objects[kind].get(key, {}) if key else {}
        before = objects.get(name)
        # A successor of the same name may have been put in by our own write already.
        if key is None or before is None or before["metadata"]["uid"] != gone["metadata"]["uid"]:
            return
        del objects[name]
        if not objects:
            del self._objects[kind][key]
        self._on_change(key)


class _Watch:
    def __init__(self, kind: str, namespace: str) -> None:
        self.kind = kind
        self.namespace = namespace
        self.selector = "" if kind == KIND else LABEL_CLUSTER
        self.resource_version = ""
        self.heard_at: float | None = None


def trim(kind: str, found: Object) -> Object:
    """Without what nobody reads: of a pod, most of it."""
    meta = {name: value for name, value in found["metadata"].items() if name not in ("managedFields", "selfLink")}
    if kind != "Pod":
        return {**found, "kind": kind, "metadata": meta}
    spec, status = found.get("spec") or {}, found.get("status") or {}
    kept = ("phase", "reason", "message", "podIP", "conditions", "containerStatuses", "initContainerStatuses")
    return {
        "kind": kind,
        "metadata": meta,
        "spec": {"nodeName": spec.get("nodeName")},
        "status": {name: status[name] for name in kept if name in status},
    }


def _key_of(kind: str, found: Mapping[str, Any]) -> Key | None:
    meta = found["metadata"]
    name = meta["name"] if kind == KIND else (meta.get("labels") or {}).get(LABEL_CLUSTER)
    return (meta["namespace"], name) if name else None


def _is_older(one: Object, other: Object) -> bool:
    """Whether an object is an earlier state of the other: versions of one object may be compared as numbers."""
    try:
        return int(one["metadata"]["resourceVersion"]) < int(other["metadata"]["resourceVersion"])
    except ValueError:
        return False


def _matters(kind: str, before: Object, after: Object) -> bool:
    """Whether a change is one to wake up for: the status of a RaftCluster is ours to write."""
    if kind == KIND:
        names = ("uid", "generation", "deletionTimestamp", "finalizers")
        return any(before["metadata"].get(name) != after["metadata"].get(name) for name in names)
    return bool(before["metadata"]["resourceVersion"] != after["metadata"]["resourceVersion"])
