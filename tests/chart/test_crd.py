"""A real API server takes good RaftClusters, fills in their defaults, and refuses bad ones with words that help."""

import itertools
import json
import re
from collections.abc import Iterator
from typing import Any
from urllib.error import HTTPError

import pytest

from raftwright.server.policies import parse_policy
from raftwright.server.settings import declarations
from raftwright_operator.names import CLUSTER_NAME_MAX, GROUP, KIND, NON_VOTING_SUFFIX, PLURAL, VERSION, set_name
from tests.chart.crd import definition, raft_cluster
from tests.operator.apiserver import ApiServer

NAMESPACE = "schema"
PATH = f"/apis/{GROUP}/{VERSION}/namespaces/{NAMESPACE}/{PLURAL}"
_numbers = itertools.count(1)

GOOD: list[dict[str, Any]] = [
    {},
    {"replicas": 0},
    {"replicas": 9, "nonVoting": {"replicas": 50}},
    {"image": "registry.example:5000/raft/node@sha256:" + "0" * 64, "imagePullPolicy": "Always"},
    {"version": "1.2.3-rc.1"},
    {"stateMachine": "shop.orders:Machine"},
    {"paused": True},
    {"storage": {"size": "1.5Gi", "storageClassName": "fast"}},
    {"storage": {"size": "1073741824"}},
    {"storage": {"retention": {"onScaleDown": "Delete", "onDeletion": "Delete"}}},
    {"snapshots": {"policy": "never", "compression": "zstd"}},
    {"snapshots": {"policy": "every hour"}},
    {"snapshots": {"policy": "after 900s 1, commands 100000, log 64MiB"}},
    {"settings": {"election_timeout_ms": "1000", "log_format": "json", "uvloop": "false"}},
    {"resources": {"requests": {"cpu": 1, "memory": "256Mi"}, "limits": {"cpu": "1500m"}}},
    {"service": {"type": "LoadBalancer", "annotations": {"example.com/internal": "true"}}},
    {"podTemplate": {"labels": {"team": "a"}, "annotations": {"example.com/scrape": "yes"}}},
    {"podTemplate": {"affinity": {"nodeAffinity": {}}, "nodeSelector": {"disk": "ssd"}}},
    {"podTemplate": {"tolerations": [{"key": "a", "operator": "Exists"}], "topologySpreadConstraints": []}},
    {"podTemplate": {"env": [{"name": "y", "valueFrom": {"fieldRef": {"fieldPath": "status.podIP"}}}]}},
    {"podTemplate": {"volumes": [{"name": "ca", "configMap": {"name": "ca"}}]}},
    {"podTemplate": {"volumeMounts": [{"name": "ca", "mountPath": "/etc/ca"}, {"name": "x", "mountPath": "/tmp"}]}},
    {"podTemplate": {"imagePullSecrets": [{"name": "pull"}], "priorityClassName": "high", "serviceAccountName": "own"}},
    {"podTemplate": {"terminationGracePeriodSeconds": 60}},
]

BAD: dict[str, tuple[dict[str, Any], str]] = {
    "an unknown field": ({"replica": 3}, 'unknown field "spec.replica"'),
    "an unknown field further down": ({"storage": {"class": "fast"}}, 'unknown field "spec.storage.class"'),
    "too many voters": ({"replicas": 10}, "spec.replicas in body should be less than or equal to 9"),
    "fewer voters than none": ({"replicas": -1}, "spec.replicas in body should be greater than or equal to 0"),
    "voters as text": ({"replicas": "3"}, 'spec.replicas in body must be of type integer: "string"'),
    "too many non-voting": ({"nonVoting": {"replicas": 51}}, "spec.nonVoting.replicas in body should be less than"),
    "an image of two words": ({"image": "raftwright node"}, "spec.image in body should match"),
    "a version that is a reference": ({"version": "repository:tag"}, "spec.version in body should match"),
    "an unknown pull policy": ({"imagePullPolicy": "Sometimes"}, '"Always", "IfNotPresent", "Never"'),
    "a machine without a class": ({"stateMachine": "shop.orders"}, "spec.stateMachine in body should match"),
    "a size of nothing": ({"storage": {"size": "0"}}, "must be an amount of bytes greater than 0, such as 10Gi"),
    "a size less than nothing": ({"storage": {"size": "-1Gi"}}, "must be an amount of bytes greater than 0, such as"),
    "a size that is none": ({"storage": {"size": "10 GB"}}, "must be an amount of bytes greater than 0, such as 10Gi"),
    "an unknown retention": (
        {"storage": {"retention": {"onDeletion": "Keep"}}},
        'supported values: "Retain", "Delete"',
    ),
    "an unknown policy": ({"snapshots": {"policy": "every week"}}, "must be: never; every second, minute, hour or day"),
    "never and more": ({"snapshots": {"policy": "never, every day"}}, "or several of them with commas"),
    "a policy of no commands": ({"snapshots": {"policy": "commands 0"}}, "must be: never"),
    "an unknown compression": ({"snapshots": {"compression": "lz4"}}, 'supported values: "none", "gzip", "zstd"'),
    "a setting as a number": ({"settings": {"election_timeout_ms": 500}}, "must be of type string"),
    "a setting's flag": ({"settings": {"--log-level": "debug"}}, "the name of a setting has lower-case letters"),
    "resources of a bad amount": (
        {"resources": {"limits": {"memory": "1 GB"}}},
        "spec.resources.limits.memory in body",
    ),
    "an unknown Service": ({"service": {"type": "ExternalName"}}, '"ClusterIP", "NodePort", "LoadBalancer"'),
    "our label": ({"podTemplate": {"labels": {"raftwright.io/voter": "true"}}}, "are the operator's labels"),
    "our other label": ({"podTemplate": {"labels": {"app.kubernetes.io/name": "x"}}}, "are the operator's labels"),
    "our annotation": ({"podTemplate": {"annotations": {"raftwright.io/x": ""}}}, "are the operator's annotations"),
    "a node's variable": (
        {"podTemplate": {"env": [{"name": "RAFTWRIGHT_JOIN", "value": "db-0:8001"}]}},
        "RAFTWRIGHT_… are the node's settings; put them under spec.settings",
    ),
    "a variable twice": ({"podTemplate": {"env": [{"name": "A"}, {"name": "A"}]}}, "Duplicate value"),
    "a variable without a name": ({"podTemplate": {"env": [{"value": "a"}]}}, "spec.podTemplate.env[0].name: Required"),
    "our volume": (
        {"podTemplate": {"volumes": [{"name": "data"}]}},
        "data and raftwright-… are the operator's volumes",
    ),
    "our other volume": ({"podTemplate": {"volumes": [{"name": "raftwright-config"}]}}, "are the operator's volumes"),
    "a mount over the data": (
        {"podTemplate": {"volumeMounts": [{"name": "x", "mountPath": "/var/lib/raftwright/log"}]}},
        "mount elsewhere",
    ),
    "a mount over all": ({"podTemplate": {"volumeMounts": [{"name": "x", "mountPath": "/"}]}}, "mount elsewhere"),
    "no time to stop": ({"podTemplate": {"terminationGracePeriodSeconds": 1}}, "greater than or equal to 10"),
}
SET_BY_OPERATOR = (
    *("name", "data_dir", "members", "join", "non_voting", "rejoin"),
    *("client_listen", "peer_listen", "client_advertise", "peer_advertise"),
)
FIELDS_OF_THEIR_OWN = ("state_machine", "snapshot_policy", "snapshot_compression")
for _setting in SET_BY_OPERATOR:
    BAD[f"the setting {_setting}"] = ({"settings": {_setting: "some"}}, "are set by the operator")
for _setting in FIELDS_OF_THEIR_OWN:
    BAD[f"the setting {_setting}"] = ({"settings": {_setting: "some"}}, f"{_setting} is spec.")

CHANGES: dict[str, tuple[dict[str, Any], dict[str, Any], str | None]] = {
    "voters": ({"replicas": 1}, {"replicas": 3}, None),
    "image": ({"image": "a"}, {"image": "b"}, None),
    "size grows": ({"storage": {"size": "1Gi"}}, {"storage": {"size": "1025Mi"}}, None),
    "size in another unit": ({"storage": {"size": "1Gi"}}, {"storage": {"size": "1024Mi"}}, None),
    "size shrinks": (
        {"storage": {"size": "2Gi"}},
        {"storage": {"size": "2047Mi"}},
        'spec.storage.size: Invalid value: "string": the size may not shrink (it is 2Gi), since volumes cannot',
    ),
    "size is forgotten": ({"storage": {"size": "2Gi"}}, {}, "the size may not shrink (it is 2Gi)"),
    "class stays": (
        {"storage": {"storageClassName": "a"}},
        {"storage": {"storageClassName": "a"}, "replicas": 1},
        None,
    ),
    "class changes": (
        {"storage": {"storageClassName": "a"}},
        {"storage": {"storageClassName": "b"}},
        "storageClassName may not be changed",
    ),
    "class comes": ({}, {"storage": {"storageClassName": "b"}}, "storageClassName may not be changed"),
    "class goes": ({"storage": {"storageClassName": "a"}}, {}, "storageClassName may not be changed"),
    "machine stays": ({"stateMachine": "a:A"}, {"stateMachine": "a:A", "replicas": 1}, None),
    "machine changes": ({"stateMachine": "a:A"}, {"stateMachine": "a:B"}, "stateMachine may not be changed"),
    "machine comes": ({}, {"stateMachine": "a:B"}, "stateMachine may not be changed"),
    "machine goes": ({"stateMachine": "a:A"}, {}, "stateMachine may not be changed"),
    "retention": ({}, {"storage": {"retention": {"onDeletion": "Delete"}}}, None),
}


@pytest.fixture(scope="module")
def server(api_server: ApiServer) -> Iterator[ApiServer]:
    api_server.install_definition(definition())
    api_server.create_namespace(NAMESPACE)
    yield api_server


def new_name() -> str:
    return f"c{next(_numbers)}"


def applied(server: ApiServer, name: str, spec: dict[str, Any] | None) -> str | None:
    """What the server says of a refusal, asked as `kubectl create` and `kubectl replace` do; None if there is none."""
    wanted = raft_cluster(name, NAMESPACE, spec)
    try:
        try:
            server.request("POST", f"{PATH}?fieldValidation=Strict", wanted)
        except HTTPError as error:
            if error.code != 409:
                raise
            kept = server.request("GET", f"{PATH}/{name}")
            changed = {**kept, "spec": spec or {}}
            server.request("PUT", f"{PATH}/{name}?fieldValidation=Strict", changed)
    except HTTPError as error:
        return str(json.loads(error.read())["message"])
    return None


@pytest.mark.parametrize("spec", GOOD, ids=str)
def test_what_is_good_is_taken_and_kept_whole(server: ApiServer, spec: dict[str, Any]) -> None:
    name = new_name()
    assert applied(server, name, spec) is None
    kept = server.request("GET", f"{PATH}/{name}")["spec"]
    assert_within(spec, kept)


def assert_within(wanted: Any, kept: Any) -> None:
    if isinstance(wanted, dict):
        for key, value in wanted.items():
            assert_within(value, kept[key])
    else:
        assert kept == wanted


@pytest.mark.parametrize("spec", [None, {}, {"storage": None, "nonVoting": {}, "service": {}}], ids=str)
def test_defaults_are_filled_in(server: ApiServer, spec: dict[str, Any] | None) -> None:
    name = new_name()
    server.request("POST", PATH, raft_cluster(name, NAMESPACE, spec))
    kept = server.request("GET", f"{PATH}/{name}")["spec"]
    assert kept == {
        "replicas": 3,
        "nonVoting": {"replicas": 0},
        "storage": {"size": "1Gi", "retention": {"onScaleDown": "Retain", "onDeletion": "Retain"}},
        "resources": {"requests": {"cpu": "100m", "memory": "256Mi"}},
        "service": {"type": "ClusterIP"},
        "paused": False,
    }


def test_resources_that_are_empty_stay_so(server: ApiServer) -> None:
    name = new_name()
    server.request("POST", PATH, raft_cluster(name, NAMESPACE, {"resources": {}}))
    assert server.request("GET", f"{PATH}/{name}")["spec"]["resources"] == {}


@pytest.mark.parametrize("bad", BAD)
def test_what_is_bad_is_refused_with_a_reason(server: ApiServer, bad: str) -> None:
    spec, message = BAD[bad]
    said = applied(server, new_name(), spec)
    assert said is not None, "it was taken"
    assert message in said


def test_kubectl_shows_the_reason(server: ApiServer) -> None:
    """Whichever way it applies, an unknown field is no warning but an error."""
    name = new_name()
    for way in ("--server-side=false", "--server-side"):
        done = server.kubectl("apply", way, "-f", "-", objects=[raft_cluster(name, NAMESPACE, {"replica": 3})])
        assert done.returncode != 0
        assert "spec.replica" in done.stderr
    done = server.kubectl("apply", "-f", "-", objects=[raft_cluster(name, NAMESPACE, {"settings": {"join": "a"}})])
    assert done.returncode != 0
    assert f'The RaftCluster "{name}" is invalid: spec.settings: ' in done.stderr
    assert "are set by the operator" in done.stderr


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("x" * CLUSTER_NAME_MAX, None),
        ("x" * (CLUSTER_NAME_MAX + 1), "at most 42 characters, since the name of the StatefulSet"),
        ("db-2", None),
        ("2db", "the name must begin with a lower-case letter"),
        ("db.example", "nothing but lower-case letters, digits and '-'"),
        ("db-nonvoting", "may not end with -nonvoting, -peers or -leader"),
        ("db-peers", "may not end with -nonvoting, -peers or -leader"),
        ("db-leader", "may not end with -nonvoting, -peers or -leader"),
    ],
)
def test_names_leave_room_for_what_is_named_after_them(server: ApiServer, name: str, message: str | None) -> None:
    said = applied(server, name, {})
    assert said is None if message is None else message in (said or "it was taken")


def test_the_longest_name_has_a_stateful_set() -> None:
    """52 characters is what a StatefulSet's pods leave it: their label with its revision may have 63."""
    assert len(set_name("x" * CLUSTER_NAME_MAX, "non-voting")) == 52
    assert str(CLUSTER_NAME_MAX) in str(definition()["spec"]["versions"][0]["schema"]["openAPIV3Schema"])


@pytest.mark.parametrize("change", CHANGES)
def test_changes(server: ApiServer, change: str) -> None:
    before, after, message = CHANGES[change]
    name = new_name()
    assert applied(server, name, before) is None
    said = applied(server, name, after)
    assert said is None if message is None else message in (said or "it was taken")


def test_scale_is_about_voters(server: ApiServer) -> None:
    name = new_name()
    assert applied(server, name, {"replicas": 3}) is None
    path = f"{PATH}/{name}"
    status = {"status": {"replicas": 3, "selector": "raftwright.io/set=voters"}}
    server.request("PATCH", f"{path}/status", status, "application/merge-patch+json")
    scaled = server.kubectl("scale", "raft", name, f"--namespace={NAMESPACE}", "--replicas=5")
    assert scaled.returncode == 0, scaled.stderr
    scale = server.request("GET", f"{path}/scale")
    assert scale["spec"] == {"replicas": 5}
    assert scale["status"] == {"replicas": 3, "selector": "raftwright.io/set=voters"}


def test_the_status_is_shown_and_kept(server: ApiServer) -> None:
    name = new_name()
    assert applied(server, name, {}) is None
    condition = {"status": "True", "reason": "AllReady", "message": "", "lastTransitionTime": "2026-01-02T03:04:05Z"}
    member = {"name": f"{name}-0", "id": 7, "role": "voter", "storeId": "s", "pod": f"{name}-0", "node": "worker"}
    figures = {"matchIndex": 1 << 40, "lagCommands": 0, "lagSeconds": 0.5, "version": "1.0", "ready": True}
    status = {
        "observedGeneration": 1,
        "replicas": 3,
        "selector": "raftwright.io/set=voters",
        "voters": "3/3",
        "nonVoting": "0/0",
        "leader": f"{name}-1",
        "version": "1.0",
        "cluster": {"id": "c", "stores": {f"{name}-0": "s"}, "bootstrapped": True},
        "hibernation": {"voters": 3, "nonVoting": 0},
        "conditions": [{"type": "Ready", "observedGeneration": 1, **condition}],
        # Its predecessor on a lost volume may be there still, with the same name.
        "members": [{**member, **figures}, {"name": f"{name}-0", "id": 3, "role": "voter"}],
    }
    path = f"{PATH}/{name}/status"
    kept = server.request("PATCH", path, {"status": status}, "application/merge-patch+json")
    assert kept["status"] == status
    shown = server.kubectl("get", "raft", name, f"--namespace={NAMESPACE}").stdout.splitlines()
    assert shown[0].split() == ["NAME", "READY", "VOTERS", "NON-VOTING", "LEADER", "VERSION", "AGE"]
    assert shown[1].split()[:6] == [name, "True", "3/3", "0/0", f"{name}-1", "1.0"]


def test_a_spec_cannot_be_changed_through_the_status(server: ApiServer) -> None:
    name = new_name()
    assert applied(server, name, {"replicas": 3}) is None
    path = f"{PATH}/{name}/status"
    kept = server.request("PATCH", path, {"spec": {"replicas": 1}}, "application/merge-patch+json")
    assert kept["spec"]["replicas"] == 3


def test_its_names_are_those_of_the_operator() -> None:
    crd = definition()
    assert crd["metadata"]["name"] == f"{PLURAL}.{GROUP}"
    assert crd["spec"]["group"] == GROUP
    assert (crd["spec"]["names"]["kind"], crd["spec"]["names"]["plural"]) == (KIND, PLURAL)
    assert [version["name"] for version in crd["spec"]["versions"]] == [VERSION]
    assert NON_VOTING_SUFFIX in str(crd)


def test_every_field_is_described() -> None:
    schema = definition()["spec"]["versions"][0]["schema"]["openAPIV3Schema"]
    bare = [path for path, field in fields(schema) if not re.search(r"\w.*\.$", field.get("description", ""))]
    assert bare == [".metadata", ".metadata.name"]


def fields(schema: dict[str, Any], path: str = "") -> Iterator[tuple[str, dict[str, Any]]]:
    for name, field in schema.get("properties", {}).items():
        yield f"{path}.{name}", field
        yield from fields(field.get("items", field), f"{path}.{name}")


def test_refused_settings_are_settings() -> None:
    """So that one that is renamed in the node is not forgotten here."""
    assert {*SET_BY_OPERATOR, *FIELDS_OF_THEIR_OWN} <= set(declarations())


@pytest.mark.parametrize(
    "policy", ["never", "every second", "every day", "after 5m 10", "log 5", "log 1GiB, commands 1 , every hour"]
)
def test_snapshot_policies_are_those_of_the_node(server: ApiServer, policy: str) -> None:
    parse_policy(policy)
    assert applied(server, new_name(), {"snapshots": {"policy": policy}}) is None
