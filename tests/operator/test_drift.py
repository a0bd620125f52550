"""What has drifted is seen, and what only looks otherwise because the API server wrote it its own way is not."""

import copy
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from raftwright_operator import manifests
from raftwright_operator.manifests.metadata import key_of
from raftwright_operator.names import SET_KINDS
from raftwright_operator.observed import Observed, SetSeen
from raftwright_operator.spec import Spec, parse

SEEN = Observed(fresh=True, name="db", namespace="prod", uid="uid-1", resource_version="7", generation=2)
Live = dict[str, dict[str, Any]]


def spec_of(**fields: Any) -> Spec:
    return parse({"spec": fields}, default_image="raftwright/node:1")


RICH = spec_of(
    resources={"requests": {"cpu": "0.5", "memory": "1024Mi"}, "limits": {"cpu": 2}},
    settings={"log_level": "debug"},
    service={"type": "LoadBalancer", "annotations": {"lb": "internal"}},
    podTemplate={
        "labels": {"team": "a"},
        "env": [{"name": "EMPTY", "value": ""}, {"name": "A", "value": "1"}],
        "tolerations": [{"key": "x", "operator": "Exists", "value": ""}],
        "affinity": {"podAntiAffinity": {"preferredDuringSchedulingIgnoredDuringExecution": []}},
        "volumes": [{"name": "v", "emptyDir": {"sizeLimit": "1024Ki"}}, {"name": "c", "configMap": {"name": "c"}}],
        "volumeMounts": [
            {"name": "v", "mountPath": "/v", "readOnly": False},
            {"name": "v", "mountPath": "/w", "subPath": "w"},
        ],
        "imagePullSecrets": [{"name": "s"}],
    },
)


def objects(spec: Spec) -> list[dict[str, Any]]:
    """Copied, for tests change them: they share parts with the spec."""
    sets = (manifests.stateful_set(spec, SEEN, kind, 3) for kind in SET_KINDS)
    return [copy.deepcopy(one) for one in (*manifests.build(spec, SEEN).values(), *sets)]


def applied(spec: Spec) -> Live:
    """All objects as the API server would show them right after an apply, with its defaults and its way of writing."""
    live = {key_of(one): defaulted(one) for one in objects(spec)}
    for name in ("Service/db", "Service/db-leader"):
        live[name]["spec"] |= {"clusterIP": "10.0.0.1", "clusterIPs": ["10.0.0.1"], "ipFamilies": ["IPv4"]}
        live[name]["spec"]["ports"][0]["nodePort"] = 31234
    live["Service/db"]["metadata"]["annotations"]["cloud/assigned"] = "yes"
    return live


def defaulted(live: dict[str, Any]) -> dict[str, Any]:
    live["metadata"] |= {"uid": "x", "resourceVersion": "99", "creationTimestamp": "2026-01-01T00:00:00Z"}
    live["metadata"]["managedFields"] = [{"manager": "raftwright-operator"}]
    live["status"] = {}
    if live["kind"] != "StatefulSet":
        return live
    spec = live["spec"]
    spec["minReadySeconds"] = 0
    pod = spec["template"]["spec"]
    pod |= {"restartPolicy": "Always", "dnsPolicy": "ClusterFirst", "schedulerName": "default-scheduler"}
    pod["serviceAccount"] = pod["serviceAccountName"]
    pod["tolerations"] = [{k: v for k, v in one.items() if v} for one in pod.get("tolerations", [])]
    (container,) = pod["containers"]
    container |= {"imagePullPolicy": "IfNotPresent", "terminationMessagePath": "/dev/termination-log"}
    container["env"] = [{k: v for k, v in one.items() if v} for one in container["env"]]
    container["volumeMounts"] = [{k: v for k, v in one.items() if v is not False} for one in container["volumeMounts"]]
    if container.get("resources") == RICH.resources:
        container["resources"] = {"requests": {"cpu": "500m", "memory": "1Gi"}, "limits": {"cpu": "2"}}
    for name in ("startupProbe", "livenessProbe", "readinessProbe"):
        container[name]["successThreshold"] = 1
    for volume in pod["volumes"]:
        if "configMap" in volume:
            volume["configMap"]["defaultMode"] = 420
        if volume.get("emptyDir", {}).get("sizeLimit") == "1024Ki":
            volume["emptyDir"]["sizeLimit"] = "1Mi"
    (claim,) = spec["volumeClaimTemplates"]
    claim["spec"]["volumeMode"] = "Filesystem"
    claim["status"] = {"phase": "Pending"}
    return live


def drifted(spec: Spec, live: Live) -> tuple[str, ...]:
    return manifests.drifted(manifests.drift(spec, SEEN, live))


@pytest.mark.parametrize("spec", [spec_of(), RICH])
def test_nothing_has_drifted_right_after_an_apply(spec: Spec) -> None:
    assert drifted(spec, applied(spec)) == ()


def test_all_that_is_missing_has_drifted_but_sets() -> None:
    expected = ("ConfigMap/db", "Service/db-peers", "Service/db", "Service/db-leader", "ServiceAccount/db")
    assert drifted(RICH, {}) == expected


def test_replicas_claim_templates_and_the_budget_do_not_count() -> None:
    live = applied(RICH)
    live["StatefulSet/db"]["spec"]["replicas"] = 5
    live["StatefulSet/db"]["spec"]["volumeClaimTemplates"][0]["spec"]["resources"]["requests"]["storage"] = "9Gi"
    assert "PodDisruptionBudget/db" not in live
    assert drifted(RICH, live) == ()


def test_growing_the_storage_is_no_drift_of_the_set() -> None:
    seen = SetSeen(
        uid="s", resource_version="1", replicas=3, update_revision="r", is_observed=True, volume_bytes=1024**3
    )
    observed = Observed(
        fresh=True, name="db", namespace="prod", uid="uid-1", resource_version="7", generation=2, sets={"voters": seen}
    )
    drift = manifests.drift(spec_of(storage={"size": "5Gi"}), observed, applied(spec_of()))
    assert manifests.drifted(drift) == ()


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({"image": "raftwright/node:2"}, {"StatefulSet/db", "StatefulSet/db-nonvoting"}),
        ({"settings": {"log_level": "info"}}, {"ConfigMap/db", "StatefulSet/db", "StatefulSet/db-nonvoting"}),
        ({"service": {"type": "NodePort"}}, {"Service/db"}),
        ({"service": {"annotations": {"a": "b"}}}, {"Service/db"}),
        ({"replicas": 5, "nonVoting": {"replicas": 3}, "paused": True}, set()),
    ],
)
def test_a_change_of_the_resource_is_drift_of_what_it_concerns(fields: dict[str, Any], expected: set[str]) -> None:
    assert set(drifted(spec_of(**fields), applied(spec_of()))) == expected


def test_a_field_that_is_no_longer_wanted_is_drift() -> None:
    for field in ("tolerations", "env", "volumes", "affinity", "labels", "imagePullSecrets"):
        template = {field: getattr(RICH.pod, {"imagePullSecrets": "image_pull_secrets"}.get(field, field))}
        if field == "imagePullSecrets":
            template[field] = [{"name": "s"}]
        live = applied(spec_of(podTemplate=template))
        assert "StatefulSet/db" in drifted(spec_of(), live), field
    assert drifted(spec_of(), applied(spec_of(service={"annotations": {"lb": "internal"}}))) == ("Service/db",)


def container(live: Live) -> dict[str, Any]:
    found: dict[str, Any] = live["StatefulSet/db"]["spec"]["template"]["spec"]["containers"][0]
    return found


MEDDLING: dict[str, tuple[str, Callable[[Live], Any]]] = {
    "image": ("StatefulSet/db", lambda live: container(live).update(image="evil:1")),
    "env value": ("StatefulSet/db", lambda live: container(live)["env"][1].update(value="elsewhere:7001")),
    "env gone": ("StatefulSet/db", lambda live: container(live)["env"].pop(0)),
    "memory": ("StatefulSet/db", lambda live: container(live)["resources"]["requests"].update(memory="2Gi")),
    "memory gone": ("StatefulSet/db", lambda live: container(live)["resources"]["requests"].pop("memory")),
    "escalation": ("StatefulSet/db", lambda live: container(live)["securityContext"].pop("allowPrivilegeEscalation")),
    "capability": ("StatefulSet/db", lambda live: container(live)["securityContext"].pop("capabilities")),
    "probe": ("StatefulSet/db", lambda live: container(live)["livenessProbe"].update(failureThreshold=1)),
    "token": (
        "StatefulSet/db",
        lambda live: live["StatefulSet/db"]["spec"]["template"]["spec"].pop("automountServiceAccountToken"),
    ),
    "strategy": (
        "StatefulSet/db",
        lambda live: live["StatefulSet/db"]["spec"].update(updateStrategy={"type": "RollingUpdate"}),
    ),
    "retention": (
        "StatefulSet/db",
        lambda live: live["StatefulSet/db"]["spec"]["persistentVolumeClaimRetentionPolicy"].update(whenScaled="Delete"),
    ),
    "spread": (
        "StatefulSet/db",
        lambda live: live["StatefulSet/db"]["spec"]["template"]["spec"]["topologySpreadConstraints"].append({"a": "b"}),
    ),
    "settings": ("ConfigMap/db", lambda live: live["ConfigMap/db"]["data"].update({"config.toml": "x = 1"})),
    "settings gone": ("ConfigMap/db", lambda live: live["ConfigMap/db"].pop("data")),
    "selector": ("Service/db", lambda live: live["Service/db"]["spec"].update(selector={"app": "other"})),
    "not-ready": ("Service/db-peers", lambda live: live["Service/db-peers"]["spec"].pop("publishNotReadyAddresses")),
    "port": ("Service/db", lambda live: live["Service/db"]["spec"]["ports"][0].update(targetPort=9999)),
    "account": ("ServiceAccount/db", lambda live: live["ServiceAccount/db"].pop("automountServiceAccountToken")),
    "label": ("Service/db", lambda live: live["Service/db"]["metadata"]["labels"].pop("raftwright.io/cluster")),
    "labels gone": ("Service/db", lambda live: live["Service/db"]["metadata"].pop("labels")),
    "owner gone": ("ConfigMap/db", lambda live: live["ConfigMap/db"]["metadata"].pop("ownerReferences")),
    "annotations gone": ("ConfigMap/db", lambda live: live["ConfigMap/db"]["metadata"].pop("annotations")),
    "missing": ("ConfigMap/db", lambda live: live.pop("ConfigMap/db")),
}


@pytest.mark.parametrize("name", MEDDLING)
def test_what_somebody_else_changed_is_drift_of_that_object_alone(name: str) -> None:
    key, meddle = MEDDLING[name]
    live = applied(RICH)
    meddle(live)
    assert drifted(RICH, live) == (key,)


def test_what_somebody_else_added_is_left_alone() -> None:
    live = applied(RICH)
    container(live)["env"].append({"name": "THEIRS", "value": "1"})
    live["StatefulSet/db"]["spec"]["template"]["spec"]["containers"].append({"name": "sidecar", "image": "s:1"})
    live["StatefulSet/db"]["metadata"]["annotations"]["theirs"] = "1"
    live["ConfigMap/db"]["metadata"]["labels"]["theirs"] = "1"
    assert drifted(RICH, live) == ()


def test_an_object_of_an_earlier_resource_of_the_same_name_has_drifted() -> None:
    live = applied(RICH)
    live["Service/db"]["metadata"]["ownerReferences"][0]["uid"] = "the one before"
    assert drifted(RICH, live) == ("Service/db",)


_TEXT = st.text('a"\\é😀\n\x7f =', max_size=8)
_NAME = st.text("abc", min_size=1, max_size=4)
_QUANTITY = st.sampled_from([("0.5", "500m"), ("1024Mi", "1Gi"), (2, "2"), ("1e3", "1e3"), ("1500m", "1500m")])
_ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers(0, 9) | _TEXT,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(_NAME, inner, max_size=3),
    max_leaves=8,
)


def without_empty(value: Any) -> Any:
    """As the API server may leave out what is empty, at any depth of a map."""
    if isinstance(value, dict):
        return {key: without_empty(item) for key, item in value.items() if item or item is True}
    return [without_empty(item) for item in value] if isinstance(value, list) else value


@settings(max_examples=50)
@given(
    affinity=st.dictionaries(_NAME, _ANYTHING, max_size=3),
    tolerations=st.lists(st.dictionaries(_NAME, _TEXT | st.integers(0, 9), max_size=3), max_size=3),
    env=st.dictionaries(_NAME, _TEXT, max_size=3),
    node_settings=st.dictionaries(_NAME, _TEXT, max_size=3),
    labels=st.dictionaries(_NAME, _NAME, max_size=3),
    quantity=_QUANTITY,
    grace_s=st.integers(10, 3600),
)
def test_nothing_drifts_by_itself_whatever_was_asked_for(
    affinity: dict[str, Any],
    tolerations: list[Any],
    env: dict[str, str],
    node_settings: dict[str, str],
    labels: dict[str, str],
    quantity: tuple[str | int, str],
    grace_s: int,
) -> None:
    template = {
        "affinity": affinity,
        "tolerations": tolerations,
        "env": [{"name": name, "value": value} for name, value in env.items()],
        "labels": labels,
        "terminationGracePeriodSeconds": grace_s,
    }
    spec = spec_of(podTemplate=template, settings=node_settings, resources={"requests": {"cpu": quantity[0]}})
    live = {key_of(one): one for one in objects(spec)}
    for one in live.values():
        if one["kind"] == "StatefulSet":
            pod = one["spec"]["template"]["spec"]
            pod["containers"][0]["resources"]["requests"]["cpu"] = quantity[1]
            pod["affinity"] = without_empty(pod.get("affinity", {}))
            pod["tolerations"] = without_empty(pod.get("tolerations", []))
    assert drifted(spec, live) == ()
