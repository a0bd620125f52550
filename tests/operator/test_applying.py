"""The objects against a real API server: it takes them, and what it makes of them has not drifted.

Server-side apply with the operator's field manager, as `execute` does it.
"""

import copy
import itertools
import json
from collections.abc import Callable
from dataclasses import replace
from typing import Any
from urllib.error import HTTPError

import pytest

from raftwright_operator import manifests
from raftwright_operator.manifests.metadata import key_of
from raftwright_operator.names import FIELD_MANAGER, SET_KINDS, set_name
from raftwright_operator.observed import Observed, SetSeen
from raftwright_operator.spec import Spec, parse
from tests.operator.apiserver import ApiServer

PLURALS = {
    "ConfigMap": "api/v1/namespaces/{}/configmaps",
    "Pod": "api/v1/namespaces/{}/pods",
    "PodDisruptionBudget": "apis/policy/v1/namespaces/{}/poddisruptionbudgets",
    "Service": "api/v1/namespaces/{}/services",
    "ServiceAccount": "api/v1/namespaces/{}/serviceaccounts",
    "StatefulSet": "apis/apps/v1/namespaces/{}/statefulsets",
}
RICH: dict[str, Any] = {
    "replicas": 5,
    "nonVoting": {"replicas": 1},
    "imagePullPolicy": "IfNotPresent",
    "storage": {"size": "1536Mi", "storageClassName": "fast"},
    "snapshots": {"policy": "every hour", "compression": "gzip"},
    "settings": {"log_level": "debug", "metadata": 'zone="é😀"'},
    "resources": {"requests": {"cpu": "0.5", "memory": "1024Mi"}, "limits": {"cpu": 2, "memory": "1.5e9"}},
    "podTemplate": {
        "labels": {"team": "a"},
        "annotations": {"note": "b", "empty": ""},
        "affinity": {
            "podAntiAffinity": {
                "preferredDuringSchedulingIgnoredDuringExecution": [
                    {
                        "weight": 1,
                        "podAffinityTerm": {"topologyKey": "zone", "labelSelector": {"matchLabels": {"a": "b"}}},
                    }
                ]
            },
            "podAffinity": {},
        },
        "nodeSelector": {"disk": "ssd"},
        "tolerations": [
            {"key": "x", "operator": "Equal", "value": ""},
            {"operator": "Exists", "effect": "NoExecute", "tolerationSeconds": 0},
        ],
        "topologySpreadConstraints": [
            {"topologyKey": "zone", "maxSkew": 1, "whenUnsatisfiable": "DoNotSchedule"},
            {"topologyKey": "kubernetes.io/hostname", "maxSkew": 2, "whenUnsatisfiable": "ScheduleAnyway"},
        ],
        "env": [
            {"name": "EMPTY", "value": ""},
            {"name": "HOST", "value": "$(RAFTWRIGHT_NAME)"},
            {"name": "CPU", "valueFrom": {"resourceFieldRef": {"resource": "limits.cpu", "divisor": "1000m"}}},
            {"name": "S", "valueFrom": {"secretKeyRef": {"name": "s", "key": "k", "optional": False}}},
        ],
        "volumes": [
            {"name": "v", "emptyDir": {"sizeLimit": "1024Ki"}},
            {"name": "w", "configMap": {"name": "c", "optional": True, "items": [{"key": "a", "path": "b"}]}},
            {"name": "p", "projected": {"sources": [{"secret": {"name": "s"}}, {"configMap": {"name": "c"}}]}},
            {
                "name": "e",
                "ephemeral": {
                    "volumeClaimTemplate": {
                        "spec": {
                            "accessModes": ["ReadWriteOnce"],
                            "resources": {"requests": {"storage": "1024Mi"}},
                        }
                    }
                },
            },
        ],
        "volumeMounts": [
            {"name": "v", "mountPath": "/v", "readOnly": False},
            {"name": "w", "mountPath": "/w", "readOnly": True, "subPath": ""},
        ],
        "imagePullSecrets": [{"name": "s"}],
        "terminationGracePeriodSeconds": 60,
    },
    "service": {"type": "LoadBalancer", "annotations": {"lb": "internal", "empty": ""}},
}
_numbers = itertools.count()


class Refused(Exception):
    """By the API server."""

    def __init__(self, code: int, message: str) -> None:
        super().__init__(f"{code}: {message}")
        self.code = code


class World:
    """One cluster in a namespace of its own, and the calls that the operator would make."""

    def __init__(self, server: ApiServer) -> None:
        self.server = server
        self.namespace = f"applying-{next(_numbers)}"
        restricted = {"pod-security.kubernetes.io/enforce": "restricted"}
        server.request("POST", "/api/v1/namespaces", {"metadata": {"name": self.namespace, "labels": restricted}})
        self.observed = Observed(
            fresh=True, name="db", namespace=self.namespace, uid="0-1-2", resource_version="1", generation=1
        )

    def call(self, method: str, path: str, body: Any = None, content_type: str = "application/json") -> Any:
        try:
            return self.server.request(method, path, body, content_type)
        except HTTPError as error:
            with error:
                raise Refused(error.code, json.loads(error.read())["message"]) from None

    def path(self, kind: str, name: str = "") -> str:
        return "/" + PLURALS[kind].format(self.namespace) + (f"/{name}" if name else "")

    def get(self, key: str) -> dict[str, Any]:
        found: dict[str, Any] = self.call("GET", self.path(*key.split("/")))
        return found

    def apply(self, manifest: dict[str, Any], manager: str = FIELD_MANAGER) -> dict[str, Any]:
        path = self.path(manifest["kind"], manifest["metadata"]["name"])
        done: dict[str, Any] = self.call(
            "PATCH", f"{path}?fieldManager={manager}&force=true", manifest, "application/apply-patch+yaml"
        )
        return done

    def patch(self, key: str, patch: dict[str, Any]) -> None:
        """As a person with `kubectl patch` would."""
        path = self.path(*key.split("/"))
        self.call("PATCH", f"{path}?fieldManager=person", patch, "application/merge-patch+json")

    def look(self) -> dict[str, dict[str, Any]]:
        """All that exists; the sets go into the observation."""
        live = {}
        for kind in PLURALS:
            for one in self.call("GET", self.path(kind))["items"]:
                live[f"{kind}/{one['metadata']['name']}"] = one
        sets = {
            kind: self._seen(live[f"StatefulSet/{set_name('db', kind)}"])
            for kind in SET_KINDS
            if f"StatefulSet/{set_name('db', kind)}" in live
        }
        self.observed = replace(self.observed, sets=sets)
        return live

    @staticmethod
    def _seen(live: dict[str, Any]) -> SetSeen:
        return SetSeen(
            uid=live["metadata"]["uid"],
            resource_version=live["metadata"]["resourceVersion"],
            replicas=live["spec"]["replicas"],
            update_revision="",
            is_observed=False,
            volume_bytes=1536 * 1024**2,
        )

    def objects(self, spec: Spec) -> list[dict[str, Any]]:
        sets = [manifests.stateful_set(spec, self.observed, kind, spec.wanted(kind)) for kind in SET_KINDS]
        return [*manifests.build(spec, self.observed).values(), *sets, manifests.budget(self.observed, 3)]

    def apply_all(self, spec: Spec) -> dict[str, str]:
        """Their resourceVersions."""
        self.look()
        return {key_of(one): self.apply(one)["metadata"]["resourceVersion"] for one in self.objects(spec)}

    def drifted(self, spec: Spec) -> tuple[str, ...]:
        live = self.look()
        return manifests.drifted(manifests.drift(spec, self.observed, live))


@pytest.fixture
def world(api_server: ApiServer) -> World:
    return World(api_server)


def spec_of(**fields: Any) -> Spec:
    return parse({"spec": fields}, default_image="raftwright/node:1")


PLAIN = {"storage": {"size": "1536Mi"}}


@pytest.mark.parametrize("fields", [PLAIN, RICH], ids=["plain", "rich"])
def test_what_was_applied_has_not_drifted_and_applying_it_again_changes_nothing(
    world: World, fields: dict[str, Any]
) -> None:
    spec = spec_of(**fields)
    first = world.apply_all(spec)
    assert world.drifted(spec) == ()
    assert world.apply_all(spec) == first
    budget = world.get("PodDisruptionBudget/db")
    assert manifests.budget_seen(world.observed, budget) == 3


def test_what_is_no_longer_wanted_drifts_goes_and_has_not_drifted_then(world: World) -> None:
    world.apply_all(spec_of(**RICH))
    plain = spec_of(storage=RICH["storage"])
    assert set(world.drifted(plain)) == {"ConfigMap/db", "Service/db", "StatefulSet/db", "StatefulSet/db-nonvoting"}
    world.apply_all(plain)
    assert world.drifted(plain) == ()
    pod = world.get("StatefulSet/db")["spec"]["template"]["spec"]
    assert not {"affinity", "nodeSelector", "tolerations", "imagePullSecrets"} & pod.keys()
    assert {one["name"] for one in pod["volumes"]} == {"config", "tmp"}
    assert [one["topologyKey"] for one in pod["topologySpreadConstraints"]] == ["kubernetes.io/hostname"]
    assert "lb" not in world.get("Service/db")["metadata"]["annotations"]
    assert world.get("Service/db")["spec"]["type"] == "ClusterIP"


MEDDLING: dict[str, dict[str, Any]] = {
    "ConfigMap/db": {"data": {"config.toml": ""}},
    "Service/db": {"spec": {"selector": {"raftwright.io/cluster": "other"}}},
    "Service/db-peers": {"spec": {"publishNotReadyAddresses": False}},
    "ServiceAccount/db": {"automountServiceAccountToken": True},
    "StatefulSet/db": {"spec": {"persistentVolumeClaimRetentionPolicy": {"whenScaled": "Delete"}}},
    "StatefulSet/db-nonvoting": {"spec": {"template": {"spec": {"automountServiceAccountToken": None}}}},
}


def test_what_a_person_changed_is_seen_and_put_right(world: World) -> None:
    spec = spec_of(**PLAIN)
    world.apply_all(spec)
    for key, patch in MEDDLING.items():
        world.patch(key, patch)
        assert world.drifted(spec) == (key,)
        world.apply_all(spec)
        assert world.drifted(spec) == ()


def test_a_change_that_keeps_its_value_needs_no_apply(world: World) -> None:
    spec = spec_of(**PLAIN)
    world.apply_all(spec)
    world.patch("StatefulSet/db", {"spec": {"replicas": 5}})
    world.patch("Service/db", {"metadata": {"annotations": {"theirs": "1"}}})
    assert world.drifted(spec) == ()


def test_a_set_is_not_applied_over_one_that_has_changed_since_it_was_seen(world: World) -> None:
    spec = spec_of(**PLAIN)
    world.apply_all(spec)
    world.look()
    stale = manifests.stateful_set(spec, world.observed, "voters", 3)
    world.patch("StatefulSet/db", {"spec": {"replicas": 5}})
    with pytest.raises(Refused) as refused:
        world.apply(stale)
    assert refused.value.code == 409
    assert world.get("StatefulSet/db")["spec"]["replicas"] == 5


def test_a_set_that_was_seen_is_not_made_anew_when_it_is_gone(world: World) -> None:
    spec = spec_of(**PLAIN)
    world.apply_all(spec)
    world.look()
    stale = manifests.stateful_set(spec, world.observed, "voters", 3)
    world.call("DELETE", world.path("StatefulSet", "db") + "?propagationPolicy=Background")
    with pytest.raises(Refused) as refused:
        world.apply(stale)
    assert refused.value.code == 409


def test_a_set_whose_storage_is_to_grow_can_still_be_applied(world: World) -> None:
    world.apply_all(spec_of(**PLAIN))
    grown = spec_of(storage={"size": "5Gi"}, image="raftwright/node:2")
    assert set(world.drifted(grown)) == {"StatefulSet/db", "StatefulSet/db-nonvoting"}
    world.apply_all(grown)
    assert world.drifted(grown) == ()
    (claim,) = world.get("StatefulSet/db")["spec"]["volumeClaimTemplates"]
    assert claim["spec"]["resources"]["requests"]["storage"] == "1536Mi"


def _pod(world: World, spec: Spec) -> dict[str, Any]:
    template = manifests.stateful_set(spec, world.observed, "voters", 3)["spec"]["template"]
    pod = {"apiVersion": "v1", "kind": "Pod", **copy.deepcopy(template)}
    pod["metadata"] |= {"name": "db-0", "namespace": world.namespace}
    # As the controller of StatefulSets adds it.
    pod["spec"]["volumes"].append({"name": "data", "persistentVolumeClaim": {"claimName": "data-db-0"}})
    return pod


@pytest.mark.parametrize("fields", [PLAIN, RICH], ids=["plain", "rich"])
def test_pods_are_accepted_where_pod_security_is_restricted(world: World, fields: dict[str, Any]) -> None:
    made = world.call("POST", world.path("Pod") + "?dryRun=All", _pod(world, spec_of(**fields)))
    assert made["spec"]["containers"][0]["name"] == "node"


LOOSENING: dict[str, Callable[[dict[str, Any]], Any]] = {
    "seccomp": lambda spec: spec["securityContext"].pop("seccompProfile"),
    "root": lambda spec: spec["securityContext"].update(runAsNonRoot=False),
    "escalation": lambda spec: spec["containers"][0]["securityContext"].pop("allowPrivilegeEscalation"),
    "capabilities": lambda spec: spec["containers"][0]["securityContext"].pop("capabilities"),
}


@pytest.mark.parametrize("name", LOOSENING)
def test_the_namespace_would_refuse_pods_without_any_of_it(world: World, name: str) -> None:
    pod = _pod(world, spec_of(**PLAIN))
    LOOSENING[name](pod["spec"])
    with pytest.raises(Refused) as refused:
        world.call("POST", world.path("Pod") + "?dryRun=All", pod)
    assert refused.value.code == 403
    assert "restricted" in str(refused.value)


def test_the_longest_name_fits_every_object(world: World) -> None:
    world.observed = replace(world.observed, name="a" * 42)
    for one in world.objects(spec_of(**PLAIN)):
        world.apply(one)
