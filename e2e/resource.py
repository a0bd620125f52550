"""One RaftCluster: what a person would do with it, and what there is of it.

The base of `raft.py`, which waits. Its one rule: all that it knows is read from Kubernetes or from the nodes, each time
anew.
"""

import asyncio
import json
from collections.abc import Mapping
from typing import Any

from e2e.kubectl import Kubectl, Object
from raftwright.client.client import Client

CALL_S = 60.0


class Resource:
    """The RaftCluster `name` in a namespace."""

    def __init__(self, kubectl: Kubectl, namespace: str, node_address: str, name: str = "db") -> None:
        self.kubectl, self.namespace, self.name = kubectl, namespace, name
        self._node_address = node_address

    # What a person does

    def manifest(self, **spec: Any) -> Object:
        """Small, and reachable from outside, unless `spec` says otherwise."""
        settled: Object = {"storage": {"size": "256Mi"}, "service": {"type": "NodePort"}, **spec}
        return {
            "apiVersion": "raftwright.io/v1alpha1",
            "kind": "RaftCluster",
            "metadata": {"name": self.name, "namespace": self.namespace},
            "spec": settled,
        }

    def apply(self, **spec: Any) -> str:
        return self.kubectl.apply(self.manifest(**spec))

    def patch(self, spec: Mapping[str, Any]) -> str:
        merge = json.dumps({"spec": spec})
        return self._run("patch", "raftcluster", self.name, "--type=merge", f"--patch={merge}")

    def scale(self, replicas: int) -> str:
        return self._run("scale", "raftcluster", self.name, f"--replicas={replicas}")

    def delete(self, *, wait: bool = True) -> str:
        return self._run("delete", "raftcluster", self.name, f"--wait={str(wait).lower()}")

    def delete_pod(self, pod: str, *, now: bool = False) -> str:
        """`now`: killed, without a word to its node."""
        return self._run("delete", "pod", pod, "--wait=false", *(("--grace-period=0", "--force") if now else ()))

    def _run(self, *arguments: str) -> str:
        return self.kubectl.run("--namespace", self.namespace, *arguments)

    def lose_volume(self, pod: str) -> None:
        """Its claim and with it the data; the StatefulSet makes another pod with another claim."""
        self._run("delete", "persistentvolumeclaim", f"data-{pod}", "--wait=false")
        self.delete_pod(pod, now=True)

    def put(self, key: str, value: bytes) -> None:
        async def write() -> None:
            async with Client([self.endpoint()], discover=False, timeout_s=CALL_S) as client:
                await client.put(key, value)

        asyncio.run(write())

    def read(self, key: str) -> bytes | None:
        """Linearizable. None if the key is not there."""

        async def read() -> bytes | None:
            async with Client([self.endpoint()], discover=False, timeout_s=CALL_S) as client:
                found = await client.get(key)
                return found.value if found else None

        return asyncio.run(read())

    # What is there

    def resource(self) -> Object | None:
        return self.kubectl.get("raftclusters", self.name, self.namespace)

    def status(self) -> Object:
        status: Object = (self.resource() or {}).get("status") or {}
        return status

    def condition(self, kind: str) -> Object:
        """Empty if there is none of that kind, or it is of an older generation."""
        resource = self.resource() or {}
        for condition in resource.get("status", {}).get("conditions", ()):
            if condition["type"] == kind and condition["observedGeneration"] == resource["metadata"]["generation"]:
                found: Object = condition
                return found
        return {}

    def members(self) -> dict[str, Object]:
        """By name, as the status lists them; a pod that is no member, or not yet one, is listed there without an id."""
        return {member["name"]: member for member in self.status().get("members", ()) if "id" in member}

    def member_ids(self) -> dict[str, int]:
        return {name: member["id"] for name, member in self.members().items()}

    def stateful_set(self) -> Object:
        """Of the voters."""
        found = self.kubectl.get("statefulsets", self.name, self.namespace)
        assert found is not None, "there is no StatefulSet of voters"
        return found

    def pods(self) -> dict[str, Object]:
        found = self.kubectl.items("pods", self.namespace, f"raftwright.io/cluster={self.name}")
        return {pod["metadata"]["name"]: pod for pod in found}

    def pod_uids(self) -> dict[str, str]:
        return {name: pod["metadata"]["uid"] for name, pod in self.pods().items()}

    def claims(self) -> dict[str, Object]:
        """Of its pods, by name; those on their way out count."""
        found = self.kubectl.items("persistentvolumeclaims", self.namespace)
        names = {claim["metadata"]["name"]: claim for claim in found}
        return {name: claim for name, claim in names.items() if name.startswith(f"data-{self.name}-")}

    def node_status(self, pod: str) -> Object:
        """What a pod's node says of itself, by way of the API server."""
        path = f"/api/v1/namespaces/{self.namespace}/pods/{pod}:7001/proxy/v1/status"
        found: Object = json.loads(self.kubectl.run("get", "--raw", path))
        return found

    def endpoint(self) -> str:
        """`host:port` of the client Service, from outside."""
        service = self.kubectl.get("services", self.name, self.namespace)
        assert service is not None
        (port,) = (port["nodePort"] for port in service["spec"]["ports"] if port["name"] == "client")
        return f"{self._node_address}:{port}"

    def describe(self) -> str:
        """In a few words, for messages of failures."""
        status = self.status()
        conditions = [
            f"{condition['type']}={condition['status']} ({condition.get('reason')}: {condition.get('message')})"
            for condition in status.get("conditions", ())
        ]
        pods = {name: _phase(pod) for name, pod in self.pods().items()}
        members = {member["name"]: member.get("role") for member in status.get("members", ())}
        return f"{'; '.join(conditions) or 'no status'}; members {members}; pods {pods}"


def is_ready(pod: Object) -> bool:
    conditions = pod["status"].get("conditions", ())
    ready = any(condition["type"] == "Ready" and condition["status"] == "True" for condition in conditions)
    return ready and "deletionTimestamp" not in pod["metadata"]


def _phase(pod: Object) -> str:
    if "deletionTimestamp" in pod["metadata"]:
        return "Terminating"
    for container in pod["status"].get("containerStatuses", ()):
        if waiting := container.get("state", {}).get("waiting"):
            reason: str = waiting["reason"]
            return reason
    return "Ready" if is_ready(pod) else str(pod["status"].get("phase"))
