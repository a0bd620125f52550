"""What a test needs of Kubernetes beside its API server: StatefulSets get pods and claims, and pods get real nodes.

Used by tests of the operator against a real kube-apiserver. Each pod gets a loopback address of its own (127.x.y.z, by
its name) with the usual ports, on which a real node runs in this process, its data in a directory of its claim's uid.
Names of the headless Service resolve to those addresses. Rule: it does what the controllers of Kubernetes do, as simply
as possible, and nothing that only the operator may do.
"""

import asyncio
import hashlib
import json
import shutil
import socket
from collections.abc import AsyncIterator, Callable, Coroutine, Iterable, Mapping
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import pytest

from raftwright.client.http import is_ready, new_session
from raftwright.server.node import Node
from raftwright.server.settings_sources import settings_of
from raftwright_operator.kube import Kube, KubeError, Object, path_of
from raftwright_operator.names import CLIENT_PORT, LABEL_CLUSTER, LABEL_VOTER, PEER_PORT, claim_name

PERIOD_S = 0.1
NODE_SETTINGS: Mapping[str, Any] = {"shutdown_timeout_s": 0.3, "segment_bytes_max": 1 << 20}


class NodeProcess:
    """A node as `raftwright node` runs it, in this process: after a store was set aside, the next node begins."""

    def __init__(self, host: str, name: str, data_dir: Path) -> None:
        self.endpoint = f"{host}:{CLIENT_PORT}"
        listens = {"client_listen": self.endpoint, "peer_listen": f"{host}:{PEER_PORT}"}
        self._settings = settings_of({"name": name, "data_dir": data_dir, **listens, **NODE_SETTINGS})
        self._is_asked_to_stop = False
        self._node = self._new()
        self._task = asyncio.create_task(self._run(), name=f"node {name}")

    @property
    def is_stopped(self) -> bool:
        return self._task.done()

    async def stop(self) -> None:
        self._is_asked_to_stop = True
        self._node.stop()
        await asyncio.gather(self._task, return_exceptions=True)

    def _new(self) -> Node:
        node = Node(self._settings, None)
        node.discarding.is_possible = True
        return node

    async def _run(self) -> None:
        while True:
            await self._node.run()
            if self._is_asked_to_stop or not self._node.begins_anew:
                return
            self._settings = self._node.settings
            self._node = self._new()


class Kubelet:
    """Of one namespace. `running` is what runs now, by pod name."""

    def __init__(self, kube: Kube, namespace: str, directory: Path) -> None:
        self._kube = kube
        self._namespace = namespace
        self._directory = directory
        self.running: dict[str, tuple[str, NodeProcess]] = {}
        """The pod's uid, and its node."""
        self._http = new_session()
        self.pods_created = 0
        self.broken: set[str] = set()
        """Names of pods that cannot start."""
        self.is_awake = True
        """Else nothing is done, and no call made; nodes that run go on."""

    async def run(self) -> None:
        try:
            while True:
                if self.is_awake:
                    with suppress(KubeError):
                        await self.turn()
                await asyncio.sleep(PERIOD_S)
        finally:
            await self._http.close()
            await asyncio.gather(*(node.stop() for _, node in self.running.values()), return_exceptions=True)

    async def turn(self) -> None:
        sets = await self._list("StatefulSet")
        pods = await self._list("Pod")
        await _all(self._control(found, [pod for pod in pods if _selects(found, pod)]) for found in sets)
        pods = await self._list("Pod")
        uids = {found["metadata"]["uid"] for found in sets}
        await _all(self._run_pod(pod, uids) for pod in pods)
        await self._bind_claims(pods)
        await self._collect({found["metadata"]["uid"] for found in await self._list("RaftCluster")})
        await self._count_budgets(pods)

    # The StatefulSets' controller

    async def _control(self, found: Object, its_own: Iterable[Object]) -> None:
        if "deletionTimestamp" in found["metadata"]:
            await self._orphan(found, its_own)
        else:
            await self._scale(found, its_own)

    async def _scale(self, found: Object, its_own: Iterable[Object]) -> None:
        meta, spec = found["metadata"], found["spec"]
        revision = hashlib.sha256(json.dumps(spec["template"], sort_keys=True).encode()).hexdigest()[:10]
        pods = {pod["metadata"]["name"]: pod for pod in its_own}
        wanted = [f"{meta['name']}-{ordinal}" for ordinal in range(spec["replicas"])]
        for name in wanted:
            if name not in pods:
                await self._create_pod(found, name, revision)
            elif not pods[name]["metadata"].get("ownerReferences"):
                owner = [_owner(found)]
                await self._kube.patch("Pod", self._namespace, name, {"metadata": {"ownerReferences": owner}})
        for name, pod in pods.items():
            is_owned = any(owner["uid"] == meta["uid"] for owner in pod["metadata"].get("ownerReferences") or ())
            if is_owned and name not in wanted and "deletionTimestamp" not in pod["metadata"]:
                await self._kube.delete("Pod", self._namespace, name, uid=pod["metadata"]["uid"])
        status = {
            "observedGeneration": meta["generation"],
            "replicas": len(pods),
            "updateRevision": revision,
        }
        if any((found.get("status") or {}).get(name) != value for name, value in status.items()):
            change = {"status": status}
            await self._kube.patch("StatefulSet", self._namespace, meta["name"], change, subresource="status")

    async def _create_pod(self, found: Object, name: str, revision: str) -> None:
        for template in found["spec"]["volumeClaimTemplates"]:
            labels = {**found["spec"]["selector"]["matchLabels"], **(template["metadata"].get("labels") or {})}
            await self._create(
                {
                    "apiVersion": "v1",
                    "kind": "PersistentVolumeClaim",
                    "metadata": {"name": claim_name(name), "namespace": self._namespace, "labels": labels},
                    "spec": template["spec"],
                }
            )
        template = found["spec"]["template"]
        labels = {**template["metadata"]["labels"], "controller-revision-hash": revision}
        volume = {"name": "data", "persistentVolumeClaim": {"claimName": claim_name(name)}}
        spec = {**template["spec"], "nodeName": "here", "volumes": [*template["spec"]["volumes"], volume]}
        meta = {"name": name, "namespace": self._namespace, "labels": labels, "ownerReferences": [_owner(found)]}
        self.pods_created += 1
        await self._create({"apiVersion": "v1", "kind": "Pod", "metadata": meta, "spec": spec})

    # The kubelet

    async def _run_pod(self, pod: Object, sets: set[str]) -> None:
        meta = pod["metadata"]
        name, uid = meta["name"], meta["uid"]
        owners = [owner["uid"] for owner in meta.get("ownerReferences") or ()]
        if owners and not sets.intersection(owners) and "deletionTimestamp" not in meta:
            await self._kube.delete("Pod", self._namespace, name, uid=uid)
            return
        if name in self.running and self.running[name][0] != uid:
            await self._stop(name)
        if "deletionTimestamp" in meta:
            await self._stop(name)
            options = {"gracePeriodSeconds": 0, "preconditions": {"uid": uid}}
            with suppress(KubeError):
                await self._kube.call("DELETE", path_of("Pod", self._namespace, name), body=options)
            return
        if name in self.broken:
            await self._stop(name)
            await self._say(pod, _waiting("ImagePullBackOff"))
        elif name not in self.running or self.running[name][1].is_stopped:
            self.running[name] = (uid, await self._start(name))
        if name in self.running:
            host = address_of(self._namespace, name)
            await self._say(pod, _running(host, ready=await is_ready(self._http, f"{host}:{CLIENT_PORT}")))

    async def _start(self, name: str) -> NodeProcess:
        claim = await self._kube.get("PersistentVolumeClaim", self._namespace, claim_name(name))
        assert claim is not None, f"the claim of {name} is not there"
        host = address_of(self._namespace, name)
        return NodeProcess(host, name, self._directory / claim["metadata"]["uid"])

    async def _stop(self, name: str) -> None:
        if name in self.running:
            await self.running.pop(name)[1].stop()

    async def _say(self, pod: Object, status: Mapping[str, Any]) -> None:
        before = pod.get("status") or {}
        if any(before.get(name) != value for name, value in status.items()):
            await self._kube.patch(
                "Pod", self._namespace, pod["metadata"]["name"], {"status": status}, subresource="status"
            )

    # Claims, garbage and budgets

    async def _bind_claims(self, pods: Iterable[Object]) -> None:
        used = {claim_name(pod["metadata"]["name"]) for pod in pods}
        claims = await self._list("PersistentVolumeClaim")
        await _all(self._bind(claim, is_used=claim["metadata"]["name"] in used) for claim in claims)

    async def _bind(self, claim: Object, *, is_used: bool) -> None:
        meta = claim["metadata"]
        wanted = claim["spec"]["resources"]["requests"]
        if "deletionTimestamp" in meta:
            if not is_used:
                change = {"metadata": {"finalizers": None}}
                await self._kube.patch("PersistentVolumeClaim", self._namespace, meta["name"], change)
                await asyncio.to_thread(shutil.rmtree, self._directory / meta["uid"], ignore_errors=True)
        elif (claim.get("status") or {}).get("capacity") != wanted:
            status = {"status": {"phase": "Bound", "capacity": wanted}}
            await self._kube.patch("PersistentVolumeClaim", self._namespace, meta["name"], status, subresource="status")

    async def _orphan(self, found: Object, its_own: Iterable[Object]) -> None:
        """A set is deleted without its pods: they lose their owner, and it may go."""
        if "orphan" not in (found["metadata"].get("finalizers") or ()):
            return
        for pod in its_own:
            change = {"metadata": {"ownerReferences": None}}
            await self._kube.patch("Pod", self._namespace, pod["metadata"]["name"], change)
        change = {"metadata": {"finalizers": None}}
        await self._kube.patch("StatefulSet", self._namespace, found["metadata"]["name"], change)

    async def _collect(self, owners: set[str]) -> None:
        """What belongs to a RaftCluster that is gone goes too."""
        for kind in ("StatefulSet", "Service", "ConfigMap", "PodDisruptionBudget", "ServiceAccount"):
            for found in await self._list(kind):
                meta = found["metadata"]
                belongs = [owner["uid"] for owner in meta.get("ownerReferences") or ()]
                if belongs and not owners.intersection(belongs) and "deletionTimestamp" not in meta:
                    await self._kube.delete(kind, self._namespace, meta["name"], uid=meta["uid"])

    async def _count_budgets(self, pods: list[Object]) -> None:
        await _all(self._count(found, pods) for found in await self._list("PodDisruptionBudget"))

    async def _count(self, found: Object, pods: list[Object]) -> None:
        name = found["metadata"]["name"]
        wanted = {LABEL_CLUSTER: name, LABEL_VOTER: "true"}
        voters = [pod for pod in pods if wanted.items() <= pod["metadata"]["labels"].items()]
        healthy = sum(_is_ready(pod) for pod in voters)
        least = found["spec"]["minAvailable"]
        status = {
            "observedGeneration": found["metadata"]["generation"],
            "currentHealthy": healthy,
            "desiredHealthy": least,
            "expectedPods": len(voters),
            "disruptionsAllowed": max(0, healthy - least),
        }
        if any((found.get("status") or {}).get(key) != value for key, value in status.items()):
            change = {"status": status}
            await self._kube.patch("PodDisruptionBudget", self._namespace, name, change, subresource="status")

    async def _list(self, kind: str) -> list[Object]:
        found, _ = await self._kube.list(kind, self._namespace)
        return found

    async def _create(self, manifest: Mapping[str, Any]) -> None:
        try:
            await self._kube.create(manifest)
        except KubeError as error:
            if not error.is_conflict:
                raise


async def _all(works: Iterable[Coroutine[Any, Any, None]]) -> None:
    """At once; all have ended when it returns, and the first error is raised."""
    for answer in await asyncio.gather(*works, return_exceptions=True):
        if isinstance(answer, BaseException):
            raise answer


def address_of(namespace: str, pod: str) -> str:
    """A loopback address that no other pod has, hardly."""
    first, second, third = hashlib.sha256(f"{namespace}/{pod}".encode()).digest()[:3]
    return f"127.{1 + first % 250}.{second}.{1 + third % 250}"


@asynccontextmanager
async def kubelet(kube: Kube, namespace: str, directory: Path) -> AsyncIterator[Kubelet]:
    """One that runs, until the block is left."""
    made = Kubelet(kube, namespace, directory)
    task = asyncio.create_task(made.run())
    try:
        yield made
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


def resolve_pods(monkeypatch: pytest.MonkeyPatch) -> None:
    """Names of the headless Services, `pod.db-peers.ns.svc`, resolve in this process as they do in a cluster."""
    real: Callable[..., Any] = socket.getaddrinfo

    def resolved(host: Any, *arguments: Any, **options: Any) -> Any:
        parts = host.split(".") if isinstance(host, str) else []
        if len(parts) == 4 and parts[3] == "svc":
            host = address_of(parts[2], parts[0])
        return real(host, *arguments, **options)

    monkeypatch.setattr(socket, "getaddrinfo", resolved)


def _owner(found: Object) -> dict[str, Any]:
    meta = found["metadata"]
    return {
        "apiVersion": "apps/v1",
        "kind": "StatefulSet",
        "name": meta["name"],
        "uid": meta["uid"],
        "controller": True,
    }


def _selects(found: Object, pod: Object) -> bool:
    wanted: dict[str, str] = found["spec"]["selector"]["matchLabels"]
    return wanted.items() <= (pod["metadata"].get("labels") or {}).items()


def _is_ready(pod: Object) -> bool:
    conditions = pod["status"].get("conditions") or ()
    return any(each["type"] == "Ready" and each["status"] == "True" for each in conditions)


def _running(host: str, *, ready: bool) -> dict[str, Any]:
    return {
        "phase": "Running",
        "podIP": host,
        "podIPs": [{"ip": host}],
        "conditions": [{"type": "Ready", "status": str(ready)}],
        "containerStatuses": None,
    }


def _waiting(reason: str) -> dict[str, Any]:
    waiting = {"name": "node", "state": {"waiting": {"reason": reason}}, "ready": False, "restartCount": 0}
    return {
        "phase": "Pending",
        "conditions": [{"type": "Ready", "status": "False"}],
        "containerStatuses": [{**waiting, "image": "none", "imageID": ""}],
    }
