"""A resource's spec is read with the schema's defaults, and nothing that it does not say is guessed."""

from pathlib import Path
from types import MappingProxyType
from typing import Any

import pytest
import yaml

from raftwright_operator.spec import RESERVED_SETTINGS, Spec, Storage, image_of, parse

IMAGE = "raftwright/node:1.2"
SCHEMA = Path(__file__).parents[2] / "charts/raftwright/crd/raftclusters.yaml"


def parsed(**spec: Any) -> Spec:
    return parse({"spec": spec}, default_image=IMAGE)


def test_an_empty_resource_is_three_voters_that_lose_no_data() -> None:
    requests = {"requests": {"cpu": "100m", "memory": "256Mi"}}
    expected = Spec(storage=Storage(size_bytes=1024**3), image=IMAGE, resources=requests)
    assert parse({}, default_image=IMAGE) == expected
    assert parse({"spec": None}, default_image=IMAGE) == expected
    assert parsed() == expected
    assert (expected.replicas, expected.non_voting) == (3, 0)
    assert (expected.storage.on_scale_down, expected.storage.on_deletion) == ("Retain", "Retain")


def test_every_field_is_read() -> None:
    spec = parsed(
        replicas=5,
        nonVoting={"replicas": 2},
        imagePullPolicy="Always",
        storage={
            "size": "10Gi",
            "storageClassName": "fast",
            "retention": {"onScaleDown": "Delete", "onDeletion": "Delete"},
        },
        snapshots={"policy": "every hour", "compression": "gzip"},
        settings={"log_level": "debug"},
        resources={"limits": {"cpu": "1"}},
        podTemplate={
            "labels": {"a": "b"},
            "annotations": {"c": "d"},
            "affinity": {"nodeAffinity": {}},
            "nodeSelector": {"disk": "ssd"},
            "tolerations": [{"key": "x"}],
            "topologySpreadConstraints": [],
            "priorityClassName": "high",
            "serviceAccountName": "own",
            "env": [{"name": "A", "value": "1"}],
            "volumes": [{"name": "v", "emptyDir": {}}],
            "volumeMounts": [{"name": "v", "mountPath": "/v"}],
            "imagePullSecrets": [{"name": "s"}],
            "terminationGracePeriodSeconds": 60,
        },
        service={"type": "NodePort", "annotations": {"e": "f"}},
        paused=True,
        stateMachine="bank.machine:Bank",
    )
    assert (spec.replicas, spec.non_voting, spec.wanted("voters"), spec.wanted("non-voting")) == (5, 2, 5, 2)
    assert spec.storage == Storage(
        size_bytes=10 * 1024**3, storage_class="fast", on_scale_down="Delete", on_deletion="Delete"
    )
    assert (spec.snapshots.policy, spec.snapshots.compression) == ("every hour", "gzip")
    assert (spec.image, spec.image_pull_policy, spec.state_machine) == (IMAGE, "Always", "bank.machine:Bank")
    assert (spec.settings, spec.resources) == ({"log_level": "debug"}, {"limits": {"cpu": "1"}})
    assert (spec.service_type, spec.service_annotations, spec.paused) == ("NodePort", {"e": "f"}, True)
    pod = spec.pod
    assert (pod.labels, pod.annotations, pod.node_selector) == ({"a": "b"}, {"c": "d"}, {"disk": "ssd"})
    assert (pod.affinity, pod.tolerations, pod.topology_spread) == ({"nodeAffinity": {}}, ({"key": "x"},), ())
    assert (pod.priority_class, pod.service_account, pod.image_pull_secrets) == ("high", "own", ("s",))
    assert (pod.env, pod.termination_grace_period_s) == (({"name": "A", "value": "1"},), 60)
    assert pod.volumes == ({"name": "v", "emptyDir": {}},)
    assert pod.volume_mounts == ({"name": "v", "mountPath": "/v"},)


def test_no_replicas_are_not_the_default() -> None:
    assert parsed(replicas=0).replicas == 0


def test_no_resources_are_not_the_default() -> None:
    assert parsed(resources={}).resources == {}
    assert parsed(resources=None) == parsed()


@pytest.mark.parametrize(
    ("image", "version", "default", "expected"),
    [
        (None, None, "raftwright/node:1", "raftwright/node:1"),
        ("own/node:7", None, "raftwright/node:1", "own/node:7"),
        ("own/node:7", "2", "raftwright/node:1", "own/node:7"),
        (None, "2", "raftwright/node:1", "raftwright/node:2"),
        (None, "2", "raftwright/node", "raftwright/node:2"),
        (None, "2", "host.example:5000/raftwright/node", "host.example:5000/raftwright/node:2"),
        (None, "2", "host.example:5000/node:1@sha256:0123", "host.example:5000/node:2"),
        (None, "2", "raftwright/node@sha256:0123", "raftwright/node:2"),
        (None, "", "node:1", "node:1"),
    ],
)
def test_the_image_wins_over_the_version_and_that_over_the_default(
    image: str | None, version: str | None, default: str, expected: str
) -> None:
    assert image_of(image, version, default) == expected


@pytest.mark.parametrize("word", ["delete", "DELETE", "", None, "Remove"])
def test_only_the_very_word_deletes_data(word: str | None) -> None:
    spec = parsed(storage={"retention": {"onScaleDown": word, "onDeletion": word}})
    assert (spec.storage.on_scale_down, spec.storage.on_deletion) == ("Retain", "Retain")


def test_a_size_that_is_none_is_refused() -> None:
    with pytest.raises(ValueError, match="'lots' is not a quantity"):
        parsed(storage={"size": "lots"})


def test_a_spec_keeps_nothing_of_the_document_that_it_was_read_from() -> None:
    document: dict[str, Any] = {"resources": {"limits": {"cpu": "1"}}, "podTemplate": {"affinity": {"a": {}}}}
    spec = parse(MappingProxyType({"spec": MappingProxyType(document)}), default_image=IMAGE)
    document["resources"]["limits"]["cpu"] = "2"
    assert spec.resources == {"limits": {"cpu": "1"}}
    assert type(spec.resources) is dict


def test_reserved_settings_are_left_out_and_the_schema_refuses_each() -> None:
    assert parsed(settings={"name": "x", "data_dir": "/", "log_level": "debug"}).settings == {"log_level": "debug"}
    schema = yaml.safe_load(SCHEMA.read_text())["spec"]["versions"][0]["schema"]["openAPIV3Schema"]
    rules = schema["properties"]["spec"]["properties"]["settings"]["x-kubernetes-validations"]
    text = " ".join(rule["rule"] for rule in rules)
    assert {name for name in RESERVED_SETTINGS if f"'{name}'" not in text} == set()


def test_the_defaults_are_those_of_the_schema() -> None:
    schema = yaml.safe_load(SCHEMA.read_text())["spec"]["versions"][0]["schema"]["openAPIV3Schema"]
    fields = schema["properties"]["spec"]["properties"]
    spec, storage = parsed(), fields["storage"]["properties"]
    assert fields["replicas"]["default"] == spec.replicas
    assert fields["nonVoting"]["properties"]["replicas"]["default"] == spec.non_voting
    assert parsed(storage={"size": storage["size"]["default"]}).storage == spec.storage
    assert storage["retention"]["properties"]["onScaleDown"]["default"] == spec.storage.on_scale_down
    assert storage["retention"]["properties"]["onDeletion"]["default"] == spec.storage.on_deletion
    assert fields["resources"]["default"] == spec.resources
    assert fields["service"]["properties"]["type"]["default"] == spec.service_type
    template = fields["podTemplate"]["properties"]
    assert template["terminationGracePeriodSeconds"]["default"] == spec.pod.termination_grace_period_s
