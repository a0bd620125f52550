"""What the chart makes, over a matrix of values: whole, labelled, restricted, and with no more rights than it needs."""

import json
from collections.abc import Iterator
from typing import Any

import pytest
import yaml

from raftwright import __version__
from raftwright_operator.settings import PREFIX, settings_of
from tests.chart.crd import CHART, definition
from tests.chart.helm import NAMESPACE, RELEASE, HelmError, helm, of_kind, template
from tests.chart.readme import README, readme, values

MATRIX: dict[str, dict[str, Any]] = {
    "defaults": {},
    "namespaces": {"watch.namespaces": ["one", "two"]},
    "everything": {
        "commonLabels": {"team": "storage"},
        "replicas": 3,
        "podDisruptionBudget.enabled": True,
        "networkPolicy.enabled": True,
        "networkPolicy.metricsFrom": [{"namespaceSelector": {"matchLabels": {"team": "metrics"}}}],
        "metrics.serviceMonitor.enabled": True,
        "metrics.serviceMonitor.labels": {"release": "prometheus"},
        "image.digest": "sha256:" + "a" * 64,
        "nodeImage.tag": "dev",
        "imagePullSecrets": [{"name": "pull"}],
        "serviceAccount.annotations": {"example.com/role": "a"},
        "extraEnv": [{"name": "TZ", "value": "UTC"}],
        "podLabels": {"color": "blue"},
        "podAnnotations": {"example.com/scrape": "yes"},
        "nodeSelector": {"kubernetes.io/os": "linux"},
        "tolerations": [{"key": "infra", "operator": "Exists"}],
        "affinity": {"nodeAffinity": {}},
        "priorityClassName": "system-cluster-critical",
        "topologySpreadConstraints": [
            {"maxSkew": 1, "topologyKey": "zone", "whenUnsatisfiable": "DoNotSchedule", "labelSelector": {}}
        ],
    },
    "nothing": {
        "crds.create": False,
        "rbac.create": False,
        "rbac.aggregateToDefaultRoles": False,
        "serviceAccount.create": False,
        "evenReplicasWarning.enabled": False,
        "resources": None,
    },
    "names": {"fullnameOverride": "x" * 53, "serviceAccount.name": "mine"},
}
CLUSTER_SCOPED = {
    "CustomResourceDefinition",
    "ClusterRole",
    "ClusterRoleBinding",
    "ValidatingAdmissionPolicy",
    "ValidatingAdmissionPolicyBinding",
}


@pytest.fixture(params=MATRIX)
def documents(request: pytest.FixtureRequest) -> list[dict[str, Any]]:
    return template(MATRIX[request.param])


def pods(documents: list[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    for document in documents:
        if document["kind"] == "Deployment":
            yield document["spec"]["template"]["spec"]
        elif document["kind"] == "Pod":
            yield document["spec"]


def test_it_lints() -> None:
    assert "0 chart(s) failed" in helm("lint", "--strict", str(CHART))


def test_its_version_is_that_of_the_software() -> None:
    chart = yaml.safe_load((CHART / "Chart.yaml").read_text())
    assert chart["version"] == chart["appVersion"] == __version__


def test_every_object_is_whole_and_once(documents: list[dict[str, Any]]) -> None:
    seen = set()
    for document in documents:
        metadata = document["metadata"]
        assert document["apiVersion"]
        assert ("namespace" in metadata) == (document["kind"] not in CLUSTER_SCOPED), document["kind"]
        limit = 253 if document["kind"] in CLUSTER_SCOPED else 63
        assert 0 < len(metadata["name"]) <= limit
        key = (document["kind"], metadata.get("namespace"), metadata["name"])
        assert key not in seen
        seen.add(key)


def test_every_object_is_labelled(documents: list[dict[str, Any]]) -> None:
    for document in documents:
        labels = document["metadata"]["labels"]
        assert labels["app.kubernetes.io/name"] == "raftwright"
        assert labels["app.kubernetes.io/instance"] == RELEASE
        assert labels["app.kubernetes.io/managed-by"] == "Helm"
        component = "test" if document["kind"] == "Pod" else "operator"
        assert labels["app.kubernetes.io/component"] == component
        assert all(isinstance(value, str) for value in labels.values())


def test_pods_are_restricted(documents: list[dict[str, Any]]) -> None:
    found = list(pods(documents))
    assert len(found) == 2
    for pod in found:
        assert pod["securityContext"]["runAsNonRoot"] is True
        assert pod["securityContext"]["runAsUser"] == 65532
        assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
        for container in pod["containers"]:
            context = container["securityContext"]
            assert context["allowPrivilegeEscalation"] is False
            assert context["readOnlyRootFilesystem"] is True
            assert context["capabilities"] == {"drop": ["ALL"]}


def test_nobody_gets_a_wildcard_or_secrets(documents: list[dict[str, Any]]) -> None:
    for role in of_kind(documents, "Role") + of_kind(documents, "ClusterRole"):
        for rule in role["rules"]:
            for part in ("apiGroups", "resources", "verbs"):
                assert rule[part], "an empty list"
                assert not any("*" in item for item in rule[part])
            assert not {"secrets", "pods/exec", "nodes", "serviceaccounts/token"} & set(rule["resources"])
            assert not {"escalate", "bind", "impersonate"} & set(rule["verbs"])


def test_every_binding_is_of_a_role_that_is_there(documents: list[dict[str, Any]]) -> None:
    accounts = {pod["serviceAccountName"] for pod in pods(documents)}
    for binding in of_kind(documents, "RoleBinding") + of_kind(documents, "ClusterRoleBinding"):
        roles = of_kind(documents, binding["roleRef"]["kind"])
        places = {(role["metadata"]["name"], role["metadata"].get("namespace")) for role in roles}
        assert (binding["roleRef"]["name"], binding["metadata"].get("namespace")) in places
        assert [(each["name"], each["namespace"]) for each in binding["subjects"]] == [
            (accounts.copy().pop(), NAMESPACE)
        ]


def test_with_namespaces_its_rights_end_there() -> None:
    documents = template({"watch.namespaces": ["one", "two"]})
    bound = {binding["metadata"]["namespace"] for binding in of_kind(documents, "RoleBinding")}
    assert bound == {"one", "two", NAMESPACE}
    assert of_kind(documents, "ClusterRoleBinding") == []


def test_the_selector_selects_operators_only(documents: list[dict[str, Any]]) -> None:
    [deployment] = of_kind(documents, "Deployment")
    selector = deployment["spec"]["selector"]["matchLabels"].items()
    assert selector <= deployment["spec"]["template"]["metadata"]["labels"].items()
    for service in of_kind(documents, "Service"):
        assert service["spec"]["selector"].items() == selector
    for policy in of_kind(documents, "NetworkPolicy"):
        assert policy["spec"]["podSelector"]["matchLabels"].items() == selector
    [test] = of_kind(documents, "Pod")
    assert not selector <= test["metadata"]["labels"].items()


def test_the_operator_understands_its_variables() -> None:
    documents = template(
        {"watch.namespaces": ["one", "two"], "logLevel": "DEBUG", "resyncSeconds": 20, "nodeImage.tag": "dev"}
    )
    [deployment] = of_kind(documents, "Deployment")
    [container] = deployment["spec"]["template"]["spec"]["containers"]
    given = {variable["name"]: variable.get("value", "") for variable in container["env"]}
    settings = settings_of(given)
    assert settings.node_image == "raftwright/node:dev"
    assert settings.namespaces == ("one", "two")
    assert settings.leader_election is True
    assert (settings.log_level, settings.resync_s) == ("DEBUG", 20.0)
    ports = {port["name"]: port["containerPort"] for port in container["ports"]}
    assert ports == {"health": settings.health_port, "metrics": settings.metrics_port}
    assert {name for name in given if name.startswith(PREFIX)} == {
        PREFIX + name for name in ("NODE_IMAGE", "NAMESPACES", "LEADER_ELECTION", "LOG_LEVEL", "RESYNC_S")
    }


def test_every_optional_object() -> None:
    kinds = {document["kind"] for document in template(MATRIX["everything"])}
    assert {"ServiceMonitor", "NetworkPolicy", "PodDisruptionBudget"} <= kinds
    nothing = {document["kind"] for document in template(MATRIX["nothing"])}
    assert nothing == {"Deployment", "Service", "Pod"}


def test_the_definition_is_the_one_copy() -> None:
    [kept] = of_kind(template(), "CustomResourceDefinition")
    assert kept["spec"] == definition()["spec"]
    assert kept["metadata"]["annotations"] == {"helm.sh/resource-policy": "keep"}
    [gone] = of_kind(template({"crds.keep": False}), "CustomResourceDefinition")
    assert "annotations" not in gone["metadata"]


def closed_objects(schema: dict[str, Any], path: str = "") -> Iterator[str]:
    """Paths of the objects whose keys are known."""
    if schema.get("additionalProperties") is False:
        yield path
        for name, field in schema["properties"].items():
            yield from closed_objects(field, f"{path}{name}.")


SCHEMA: dict[str, Any] = json.loads((CHART / "values.schema.json").read_text())


@pytest.mark.parametrize("path", list(closed_objects(SCHEMA)))
def test_unknown_values_are_refused(path: str) -> None:
    with pytest.raises(HelmError, match="additional properties 'nonsense' not allowed"):
        template({f"{path}nonsense": 1})


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("replicas", "two"),
        ("image.pullPolicy", "Sometimes"),
        ("image.digest", "latest"),
        ("watch.namespaces", "default"),
        ("watch.namespaces", ["Default"]),
        ("logLevel", "LOUD"),
        ("resyncSeconds", 0),
        ("imagePullSecrets", ["pull"]),
        ("networkPolicy.apiServerPorts", [70000]),
        ("metrics.serviceMonitor.interval", "often"),
    ],
)
def test_bad_values_are_refused(path: str, value: Any) -> None:
    with pytest.raises(HelmError, match="values don't meet the specifications of the schema"):
        template({path: value})


def test_the_schema_knows_every_value() -> None:
    """And no others, beside Helm's own `global`."""

    def leaves(schema: dict[str, Any], path: str = "") -> Iterator[str]:
        for name, field in schema["properties"].items():
            if field.get("additionalProperties") is False and f"{path}{name}" not in described:
                yield from leaves(field, f"{path}{name}.")
            else:
                yield f"{path}{name}"

    described = {value.path for value in values()}
    assert set(leaves(SCHEMA)) == described | {"global"}


def test_the_readme_is_made_from_the_values() -> None:
    assert README.read_text() == readme(), "run: python -m tests.chart.readme"
