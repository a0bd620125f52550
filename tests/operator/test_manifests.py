"""The objects of one cluster: what matters of each, field by field, and that they depend on nothing but their input."""

import tomllib
from typing import Any

import pytest

from raftwright.server.settings_sources import load_settings
from raftwright_operator import manifests
from raftwright_operator.manifests.config import NO_CAP
from raftwright_operator.manifests.metadata import key_of
from raftwright_operator.names import SET_KINDS, SetKind, peer_address
from raftwright_operator.observed import Observed, SetSeen
from raftwright_operator.spec import Spec, parse

SEEN = Observed(fresh=True, name="db", namespace="prod", uid="uid-1", resource_version="7", generation=2)
APPLIED = "raftwright.io/applied"


def spec_of(**fields: Any) -> Spec:
    return parse({"spec": fields}, default_image="raftwright/node:1")


def pod_of(kind: SetKind = "voters", **fields: Any) -> dict[str, Any]:
    template: dict[str, Any] = manifests.stateful_set(spec_of(**fields), SEEN, kind, 3)["spec"]["template"]
    return template


def container_of(**fields: Any) -> dict[str, Any]:
    container: dict[str, Any] = pod_of(**fields)["spec"]["containers"][0]
    return container


def config_of(**fields: Any) -> dict[str, Any]:
    return tomllib.loads(manifests.build(spec_of(**fields), SEEN)["ConfigMap/db"]["data"]["config.toml"])


def everything(spec: Spec) -> list[dict[str, Any]]:
    sets = [manifests.stateful_set(spec, SEEN, kind, 3) for kind in SET_KINDS]
    return [*manifests.build(spec, SEEN).values(), *sets, manifests.budget(SEEN, 2)]


def test_the_objects_are_named_as_agreed() -> None:
    assert list(manifests.build(spec_of(), SEEN)) == [
        "ConfigMap/db",
        "Service/db-peers",
        "Service/db",
        "Service/db-leader",
        "ServiceAccount/db",
    ]
    assert [key_of(one) for one in everything(spec_of())[5:]] == [
        "StatefulSet/db",
        "StatefulSet/db-nonvoting",
        "PodDisruptionBudget/db",
    ]


def test_every_object_is_owned_and_labelled() -> None:
    for one in everything(spec_of()):
        metadata = one["metadata"]
        assert metadata["namespace"] == "prod"
        assert metadata["ownerReferences"] == [
            {
                "apiVersion": "raftwright.io/v1alpha1",
                "kind": "RaftCluster",
                "name": "db",
                "uid": "uid-1",
                "controller": True,
                "blockOwnerDeletion": True,
            }
        ]
        assert metadata["labels"]["raftwright.io/cluster"] == "db"
        assert metadata["labels"]["app.kubernetes.io/managed-by"] == "raftwright-operator"
        assert metadata["labels"]["app.kubernetes.io/instance"] == "db"
        assert len(metadata["annotations"][APPLIED]) == 16


def test_services_publish_whom_each_is_for() -> None:
    built = manifests.build(spec_of(service={"type": "NodePort", "annotations": {"lb": "internal"}}), SEEN)
    peers, clients, leader = (built[f"Service/{name}"] for name in ("db-peers", "db", "db-leader"))
    assert (peers["spec"]["clusterIP"], peers["spec"]["publishNotReadyAddresses"]) == ("None", True)
    assert [(port["name"], port["port"]) for port in peers["spec"]["ports"]] == [("client", 7001), ("peer", 8001)]
    assert peers["spec"]["selector"] == clients["spec"]["selector"] == {"raftwright.io/cluster": "db"}
    assert clients["spec"]["type"] == "NodePort"
    assert clients["metadata"]["annotations"]["lb"] == "internal"
    assert leader["spec"]["selector"] == {"raftwright.io/cluster": "db", "raftwright.io/leader": "true"}
    for one in (clients, leader):
        assert "publishNotReadyAddresses" not in one["spec"]
        assert [(port["name"], port["port"]) for port in one["spec"]["ports"]] == [("client", 7001)]


def test_a_set_never_deletes_volumes_or_restarts_pods_by_itself() -> None:
    for kind, name in (("voters", "db"), ("non-voting", "db-nonvoting")):
        one = manifests.stateful_set(spec_of(), SEEN, kind, 5)  # type: ignore[arg-type]
        spec = one["spec"]
        assert (one["metadata"]["name"], spec["replicas"], spec["serviceName"]) == (name, 5, "db-peers")
        assert spec["podManagementPolicy"] == "Parallel"
        assert spec["updateStrategy"] == {"type": "OnDelete"}
        assert spec["persistentVolumeClaimRetentionPolicy"] == {"whenDeleted": "Retain", "whenScaled": "Retain"}
        assert spec["selector"]["matchLabels"] == {"raftwright.io/cluster": "db", "raftwright.io/set": kind}
        assert spec["selector"]["matchLabels"].items() <= spec["template"]["metadata"]["labels"].items()


def test_claims_have_the_size_class_and_labels_and_no_owner() -> None:
    spec = spec_of(storage={"size": "1536Mi", "storageClassName": "fast"})
    (claim,) = manifests.stateful_set(spec, SEEN, "voters", 3)["spec"]["volumeClaimTemplates"]
    assert claim["spec"] == {
        "accessModes": ["ReadWriteOnce"],
        "resources": {"requests": {"storage": "1536Mi"}},
        "storageClassName": "fast",
    }
    assert claim["metadata"]["name"] == "data"
    assert claim["metadata"]["labels"]["raftwright.io/cluster"] == "db"
    assert "ownerReferences" not in claim["metadata"]
    (claim,) = manifests.stateful_set(spec_of(), SEEN, "voters", 3)["spec"]["volumeClaimTemplates"]
    assert "storageClassName" not in claim["spec"]


def set_seen(**fields: Any) -> SetSeen:
    known = {"uid": "s-1", "resource_version": "44", "replicas": 3, "update_revision": "r", "is_observed": True}
    return SetSeen(**{"volume_bytes": 1024**3, **known, **fields})


def test_a_set_that_exists_is_built_over_what_was_seen_and_keeps_its_claim_template() -> None:
    seen = Observed(
        fresh=True,
        name="db",
        namespace="prod",
        uid="uid-1",
        resource_version="7",
        generation=2,
        sets={"voters": set_seen()},
    )
    spec = spec_of(storage={"size": "5Gi"})
    exists = manifests.stateful_set(spec, seen, "voters", 3)
    assert (exists["metadata"]["resourceVersion"], exists["metadata"]["uid"]) == ("44", "s-1")
    assert exists["spec"]["volumeClaimTemplates"][0]["spec"]["resources"]["requests"] == {"storage": "1Gi"}
    missing = manifests.stateful_set(spec, seen, "non-voting", 3)
    assert not {"resourceVersion", "uid"} & missing["metadata"].keys()
    assert missing["spec"]["volumeClaimTemplates"][0]["spec"]["resources"]["requests"] == {"storage": "5Gi"}


def test_pods_are_as_restricted_as_can_be() -> None:
    pod = pod_of()["spec"]
    assert pod["automountServiceAccountToken"] is False
    assert pod["enableServiceLinks"] is False
    assert pod["serviceAccountName"] == "db"
    assert pod["securityContext"] == {
        "runAsNonRoot": True,
        "runAsUser": 65532,
        "runAsGroup": 65532,
        "fsGroup": 65532,
        "fsGroupChangePolicy": "OnRootMismatch",
        "seccompProfile": {"type": "RuntimeDefault"},
    }
    (container,) = pod["containers"]
    assert container["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
    assert not {"hostNetwork", "hostPID", "hostIPC", "initContainers"} & pod.keys()


def test_a_pod_knows_its_name_and_address_from_the_headless_service() -> None:
    container = container_of()
    assert container["args"] == ["node", "--config", "/etc/raftwright/config.toml"]
    name, client, peer = container["env"]
    assert name["valueFrom"]["fieldRef"]["fieldPath"] == "metadata.name"
    assert name["name"] == "RAFTWRIGHT_NAME"
    assert client == {"name": "RAFTWRIGHT_CLIENT_ADVERTISE", "value": "$(RAFTWRIGHT_NAME).db-peers.prod.svc:7001"}
    expanded = peer["value"].replace("$(RAFTWRIGHT_NAME)", "db-0")
    assert (peer["name"], expanded) == ("RAFTWRIGHT_PEER_ADVERTISE", peer_address("db", "prod", "db-0"))


def test_probes_give_a_long_log_time_and_notice_a_lost_leader_soon() -> None:
    container = container_of()
    paths = {name: container[name]["httpGet"]["path"] for name in ("startupProbe", "livenessProbe", "readinessProbe")}
    assert paths == {"startupProbe": "/livez", "livenessProbe": "/livez", "readinessProbe": "/readyz"}

    def patience_s(probe: dict[str, Any]) -> int:
        return int(probe["periodSeconds"] * probe["failureThreshold"])

    assert patience_s(container["startupProbe"]) >= 600
    assert patience_s(container["livenessProbe"]) >= 60
    assert patience_s(container["readinessProbe"]) <= 5
    assert container["startupProbe"]["periodSeconds"] == 1


def test_a_pod_that_is_to_end_serves_until_services_have_let_go_of_it() -> None:
    pod = pod_of(podTemplate={"terminationGracePeriodSeconds": 10})["spec"]
    leaving_s = pod["containers"][0]["lifecycle"]["preStop"]["sleep"]["seconds"]
    # The node needs most of the rest: it hands leadership over and answers what is pending.
    assert 1 <= leaving_s <= pod["terminationGracePeriodSeconds"] // 4


def test_pods_are_spread_over_hosts_unless_told_otherwise() -> None:
    labels = {"matchLabels": {"raftwright.io/cluster": "db", "raftwright.io/set": "voters"}}
    assert pod_of()["spec"]["topologySpreadConstraints"] == [
        {
            "topologyKey": "kubernetes.io/hostname",
            "maxSkew": 1,
            "whenUnsatisfiable": "ScheduleAnyway",
            "labelSelector": labels,
        }
    ]
    assert "topologySpreadConstraints" not in pod_of(podTemplate={"topologySpreadConstraints": []})["spec"]
    zones = {"topologyKey": "zone", "maxSkew": 1, "whenUnsatisfiable": "DoNotSchedule"}
    (chosen,) = pod_of(podTemplate={"topologySpreadConstraints": [zones]})["spec"]["topologySpreadConstraints"]
    assert chosen == {**zones, "labelSelector": labels}


def test_additions_reach_the_pod() -> None:
    template: dict[str, Any] = {
        "labels": {"team": "a"},
        "annotations": {"note": "b"},
        "affinity": {"podAntiAffinity": {"x": []}},
        "nodeSelector": {"disk": "ssd"},
        "tolerations": [{"key": "x", "operator": "Exists"}],
        "priorityClassName": "high",
        "serviceAccountName": "own",
        "env": [{"name": "HOST", "value": "$(RAFTWRIGHT_NAME)"}],
        "volumes": [{"name": "v", "emptyDir": {}}],
        "volumeMounts": [{"name": "v", "mountPath": "/v"}],
        "imagePullSecrets": [{"name": "s"}],
        "terminationGracePeriodSeconds": 90,
    }
    fields: dict[str, Any] = {
        "podTemplate": template,
        "resources": {"limits": {"cpu": 2}},
        "imagePullPolicy": "Always",
        "image": "i:1",
    }
    pod = pod_of(**fields)
    assert pod["metadata"]["labels"]["team"] == "a"
    assert pod["metadata"]["annotations"]["note"] == "b"
    spec = pod["spec"]
    for name in ("affinity", "nodeSelector", "tolerations", "priorityClassName", "imagePullSecrets"):
        assert spec[name] == template[name]
    assert (spec["serviceAccountName"], spec["terminationGracePeriodSeconds"]) == ("own", 90)
    (container,) = spec["containers"]
    assert (container["image"], container["imagePullPolicy"]) == ("i:1", "Always")
    assert container["resources"] == {"limits": {"cpu": 2}}
    assert container["env"][-1] == template["env"][0]
    assert {"name": "v", "emptyDir": {}} in spec["volumes"]
    assert {"name": "v", "mountPath": "/v"} in container["volumeMounts"]
    assert "ServiceAccount/db" not in manifests.build(spec_of(**fields), SEEN)


def test_additions_never_take_the_place_of_what_the_node_needs() -> None:
    template = {
        "labels": {"raftwright.io/cluster": "other"},
        "annotations": {"raftwright.io/config": "fixed"},
        "env": [{"name": "RAFTWRIGHT_NAME", "value": "me"}, {"name": "RAFTWRIGHT_DATA_DIR", "value": "/"}],
        "volumes": [{"name": "config", "emptyDir": {}}],
        "volumeMounts": [{"name": "config", "mountPath": "/var/lib/raftwright"}],
    }
    pod = pod_of(podTemplate=template)
    assert pod["metadata"]["labels"] == pod_of()["metadata"]["labels"]
    assert pod["metadata"]["annotations"] == pod_of()["metadata"]["annotations"]
    assert pod["spec"]["containers"][0]["env"] == container_of()["env"]
    assert pod["spec"]["volumes"] == pod_of()["spec"]["volumes"]
    mounts = {mount["mountPath"]: mount["name"] for mount in pod["spec"]["containers"][0]["volumeMounts"]}
    assert mounts["/var/lib/raftwright"] == "data"


def test_the_file_of_settings_is_one_that_the_node_takes(tmp_path: Any) -> None:
    fields = {
        "settings": {"election_timeout_ms": "1000", "segment_bytes_max": "32MiB", "uvloop": "false"},
        "snapshots": {"policy": "every hour, log 64MiB", "compression": "gzip"},
    }
    file = tmp_path / "config.toml"
    file.write_text(manifests.build(spec_of(**fields), SEEN)["ConfigMap/db"]["data"]["config.toml"])
    environment = {
        "RAFTWRIGHT_NAME": "db-0",
        "RAFTWRIGHT_CLIENT_ADVERTISE": "db-0.db-peers.prod.svc:7001",
        "RAFTWRIGHT_PEER_ADVERTISE": "db-0.db-peers.prod.svc:8001",
    }
    settings = load_settings({}, environment, file)
    assert (settings.name, str(settings.data_dir)) == ("db-0", "/var/lib/raftwright")
    assert (settings.client_listen, settings.peer_listen) == ("[::]:7001", "[::]:8001")
    assert (settings.members, settings.join, settings.connections_per_address_max) == ((), (), NO_CAP)
    assert (settings.election_timeout_ms, settings.segment_bytes_max, settings.uvloop) == (1000, 32 << 20, False)
    assert (settings.snapshot_policy, settings.snapshot_compression) == ("every hour, log 64MiB", "gzip")


@pytest.mark.parametrize("value", ['"', "\\", "\n\t", "\x7f\x01", "é😀", "a = 1\n[b]", "'''", "\u2028"])
def test_no_value_of_a_setting_breaks_the_file(value: str) -> None:
    assert config_of(settings={"metadata": value})["metadata"] == value


def test_the_state_machine_is_a_setting() -> None:
    assert config_of(stateMachine="bank:Bank")["state_machine"] == "bank:Bank"
    assert "state_machine" not in config_of()


def test_another_file_of_settings_means_other_pods_and_nothing_else_does() -> None:
    before = pod_of()
    assert pod_of(settings={"log_level": "debug"}) != before
    assert pod_of(replicas=5, storage={"size": "9Gi"}, service={"type": "NodePort"}, paused=True) == before


def test_the_budget_covers_voters_and_spares_none_that_are_not_ready() -> None:
    budget = manifests.budget(SEEN, 2)
    assert budget["spec"] == {
        "minAvailable": 2,
        "selector": {"matchLabels": {"raftwright.io/cluster": "db", "raftwright.io/voter": "true"}},
        "unhealthyPodEvictionPolicy": "IfHealthyBudget",
    }


def test_the_budget_that_was_changed_is_as_good_as_none() -> None:
    live = manifests.budget(SEEN, 2)
    assert manifests.budget_seen(SEEN, live) == 2
    assert manifests.budget_seen(SEEN, None) is None
    live["spec"]["selector"]["matchLabels"] = {"app": "other"}
    assert manifests.budget_seen(SEEN, live) is None
    by_hand = manifests.budget(SEEN, 2)
    by_hand["spec"]["minAvailable"] = 1
    assert manifests.budget_seen(SEEN, by_hand) is None
    by_hand["spec"]["minAvailable"] = "50%"
    assert manifests.budget_seen(SEEN, by_hand) is None
