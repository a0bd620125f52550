"""Helm installs, upgrades and uninstalls the chart on a real API server, where nothing runs."""

import importlib.util
import itertools
import json
import re
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from types import ModuleType
from typing import Any
from urllib.error import HTTPError

import pytest
import yaml

from raftwright_operator.kube import path_of
from raftwright_operator.leadership import LEASE_NAME
from raftwright_operator.names import GROUP, KIND, PLURAL
from tests.chart.crd import CHART, raft_cluster
from tests.chart.helm import NAMESPACE, RELEASE, helm, of_kind, set_values, template
from tests.chart.test_templates import MATRIX
from tests.operator.apiserver import PROGRAMS, ApiServer, require_programs

pytestmark = pytest.mark.slow
CRD_PATH = f"/apis/apiextensions.k8s.io/v1/customresourcedefinitions/{PLURAL}.{GROUP}"
ACCOUNT = f"system:serviceaccount:{NAMESPACE}:{RELEASE}-operator"
PATIENCE_S = 30.0
_numbers = itertools.count(1)

Install = Callable[[Mapping[str, Any]], str]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ApiServer]:
    """One of its own, since Helm wants to make the definition of RaftCluster itself."""
    require_programs(*PROGRAMS, "helm")
    with ApiServer(tmp_path_factory.mktemp("apiserver")) as started:
        labels = {f"pod-security.kubernetes.io/{mode}": "restricted" for mode in ("enforce", "warn")}
        body = {"metadata": {"name": NAMESPACE, "labels": labels}}
        started.request("POST", "/api/v1/namespaces", body)
        for name in ("one", "two"):
            started.create_namespace(name)
        yield started


@pytest.fixture
def install(server: ApiServer) -> Iterator[Install]:
    """Installs or upgrades the release with these values, and returns its notes; afterwards all of it is gone."""

    def run(values: Mapping[str, Any]) -> str:
        arguments = ("upgrade", "--install", RELEASE, str(CHART), f"--namespace={NAMESPACE}", *set_values(values))
        return helm(*arguments, kubeconfig=server.kubeconfig)

    yield run
    uninstall(server)
    delete_definition(server)


def uninstall(server: ApiServer) -> None:
    helm("uninstall", RELEASE, f"--namespace={NAMESPACE}", "--ignore-not-found", kubeconfig=server.kubeconfig)


def delete_definition(server: ApiServer) -> None:
    done = server.kubectl("delete", "crd", f"{PLURAL}.{GROUP}", "--ignore-not-found", "--wait", "--timeout=30s")
    assert done.returncode == 0, done.stderr


def exists(server: ApiServer, path: str) -> bool:
    try:
        server.request("GET", path)
    except HTTPError as error:
        assert error.code == 404
        return False
    return True


def wait_until_served(server: ApiServer) -> None:
    done = server.kubectl("wait", "--for=condition=Established", "--timeout=30s", f"crd/{PLURAL}.{GROUP}")
    assert done.returncode == 0, done.stderr


def make_cluster(server: ApiServer, spec: dict[str, Any] | None = None, namespace: str = "one") -> str:
    name = f"c{next(_numbers)}"
    wait_until_served(server)
    server.request("POST", path_of(KIND, namespace), raft_cluster(name, namespace, spec))
    return path_of(KIND, namespace, name)


@pytest.mark.parametrize("name", MATRIX)
def test_the_api_server_takes_it_all(server: ApiServer, install: Install, name: str) -> None:
    # Nobody has defined a ServiceMonitor here.
    install({path: value for path, value in MATRIX[name].items() if not path.startswith("metrics.")})
    objects = [each for each in template(MATRIX[name]) if each["kind"] not in ("ServiceMonitor", "Pod")]
    done = server.kubectl("get", "-f", "-", "-o", "name", objects=objects)
    assert done.returncode == 0, done.stderr
    assert len(done.stdout.split()) == len(objects)


@pytest.mark.parametrize("name", MATRIX)
def test_pod_security_lets_its_pods_run(server: ApiServer, name: str) -> None:
    documents = template(MATRIX[name])
    [deployment], [test] = of_kind(documents, "Deployment"), of_kind(documents, "Pod")
    template_ = deployment["spec"]["template"]
    operator = {"apiVersion": "v1", "kind": "Pod", **template_, "metadata": {**template_["metadata"], "name": "pod"}}
    operator["metadata"]["namespace"] = NAMESPACE
    # Whether a priority class exists is not the question.
    for pod in (operator, test):
        pod["spec"].pop("priorityClassName", None)
    done = server.kubectl("create", "--dry-run=server", "-f", "-", objects=[operator, test])
    assert done.returncode == 0, done.stderr
    assert "Warning" not in done.stderr
    del operator["spec"]["securityContext"]["seccompProfile"]
    done = server.kubectl("create", "--dry-run=server", "-f", "-", objects=[operator])
    assert "violates PodSecurity" in done.stderr, "this namespace enforces nothing"


def test_uninstalling_keeps_raft_clusters(server: ApiServer, install: Install) -> None:
    install({})
    cluster = make_cluster(server)
    uninstall(server)
    assert "deletionTimestamp" not in server.request("GET", CRD_PATH)["metadata"], "it will be gone"
    assert exists(server, cluster)
    assert not exists(server, f"/apis/apps/v1/namespaces/{NAMESPACE}/deployments/{RELEASE}-operator")
    install({})
    assert exists(server, cluster)


def test_another_release_takes_them_up(server: ApiServer, install: Install) -> None:
    install({})
    cluster = make_cluster(server)
    uninstall(server)
    other = ("other", f"--namespace={NAMESPACE}")
    helm("install", *other, str(CHART), "--set=crds.create=false", kubeconfig=server.kubeconfig)
    helm("uninstall", *other, kubeconfig=server.kubeconfig)
    assert exists(server, cluster)


def test_without_keep_the_definition_goes(server: ApiServer, install: Install) -> None:
    install({"crds.keep": False})
    assert exists(server, CRD_PATH)
    uninstall(server)
    deadline = time.monotonic() + PATIENCE_S
    while exists(server, CRD_PATH):
        assert time.monotonic() < deadline
        time.sleep(0.1)


def test_an_upgrade_changes_the_operator_and_keeps_the_rest(server: ApiServer, install: Install) -> None:
    install({})
    cluster = make_cluster(server)
    before = server.request("GET", cluster)
    install({"replicas": 2, "image.tag": "next"})
    deployment = server.request("GET", f"/apis/apps/v1/namespaces/{NAMESPACE}/deployments/{RELEASE}-operator")
    assert deployment["spec"]["replicas"] == 2
    assert deployment["spec"]["template"]["spec"]["containers"][0]["image"] == "raftwright/operator:next"
    assert server.request("GET", cluster) == before


def test_the_notes_have_a_first_resource_that_is_taken(server: ApiServer, install: Install) -> None:
    notes = install({})
    found = re.search(r"<<END\n(.*?)\n *END\n", notes, re.DOTALL)
    assert found, notes
    wait_until_served(server)
    done = server.kubectl("apply", "--namespace=default", "-f", "-", objects=[yaml.safe_load(found[1])])
    assert done.returncode == 0, done.stderr
    assert "RaftClusters in all namespaces" in notes
    notes = install({"watch.namespaces": ["one", "two"]})
    assert "RaftClusters in one, two" in notes
    assert "kubectl apply --namespace one" in notes


# Rights

OPERATOR_MAY = [
    *((verb, GROUP, "raftclusters") for verb in ("get", "list", "watch", "patch")),
    ("patch", GROUP, "raftclusters/status"),
    ("update", GROUP, "raftclusters/finalizers"),
    *((verb, "apps", "statefulsets") for verb in ("get", "list", "watch", "create", "patch", "delete")),
    *(
        (verb, "", kind)
        for kind in ("services", "configmaps", "serviceaccounts")
        for verb in ("get", "list", "watch", "create", "patch")
    ),
    *((verb, "policy", "poddisruptionbudgets") for verb in ("get", "list", "watch", "create", "patch")),
    *(
        (verb, "", kind)
        for kind in ("pods", "persistentvolumeclaims")
        for verb in ("get", "list", "watch", "patch", "delete")
    ),
    ("create", "", "pods/eviction"),
    *((verb, "", "events") for verb in ("get", "create", "patch")),
]
OPERATOR_MAY_NOT = [
    *((verb, "", "secrets") for verb in ("get", "list", "watch", "create", "patch", "delete")),
    *((verb, GROUP, "raftclusters") for verb in ("create", "delete", "deletecollection")),
    *((verb, "", "pods") for verb in ("create", "deletecollection")),
    *(("create", "", f"pods/{part}") for part in ("exec", "attach", "portforward", "proxy", "ephemeralcontainers")),
    ("get", "", "pods/log"),
    ("create", "", "serviceaccounts/token"),
    ("deletecollection", "", "persistentvolumeclaims"),
    ("create", "", "persistentvolumeclaims"),
    ("delete", "", "namespaces"),
    ("list", "", "nodes"),
    ("create", "apps", "deployments"),
    ("create", "rbac.authorization.k8s.io", "rolebindings"),
    ("patch", "apiextensions.k8s.io", "customresourcedefinitions"),
]


def may(
    server: ApiServer, verb: str, group: str, resource: str, namespace: str, *, name: str = "", user: str = ACCOUNT
) -> bool:
    kind, _, part = resource.partition("/")
    asked = {"verb": verb, "group": group, "resource": kind, "subresource": part, "namespace": namespace, "name": name}
    review = {"spec": {"user": user, "resourceAttributes": asked}}
    answer = server.request("POST", "/apis/authorization.k8s.io/v1/subjectaccessreviews", review)
    return bool(answer["status"]["allowed"])


def test_what_the_operator_may_do_everywhere(server: ApiServer, install: Install) -> None:
    install({})
    assert [asked for asked in OPERATOR_MAY if not may(server, *asked, "one")] == []
    assert [asked for asked in OPERATOR_MAY if not may(server, *asked, "")] == []
    assert [asked for asked in OPERATOR_MAY_NOT if may(server, *asked, "one")] == []


def test_what_the_operator_may_do_in_some_namespaces(server: ApiServer, install: Install) -> None:
    install({"watch.namespaces": ["one", "two"]})
    for namespace in ("one", "two"):
        assert [asked for asked in OPERATOR_MAY if not may(server, *asked, namespace)] == []
        assert [asked for asked in OPERATOR_MAY_NOT if may(server, *asked, namespace)] == []
    for namespace in ("default", NAMESPACE, ""):
        assert [asked for asked in OPERATOR_MAY if may(server, *asked, namespace)] == []


def test_its_lease_and_no_other(server: ApiServer, install: Install) -> None:
    install({})
    lease = ("coordination.k8s.io", "leases", NAMESPACE)
    assert may(server, "create", *lease)
    for verb in ("get", "patch", "delete"):
        assert may(server, verb, *lease, name=LEASE_NAME)
        assert not may(server, verb, *lease, name="another")
        assert not may(server, verb, *lease[:2], "kube-system", name=LEASE_NAME)


def test_the_rights_of_people(server: ApiServer, install: Install) -> None:
    """Those that the default roles have; here no controller aggregates them, so the roles are asked themselves."""
    install({})
    for part in ("view", "edit"):
        name = f"{RELEASE}-{NAMESPACE}-{part}"
        role = server.request("GET", f"/apis/rbac.authorization.k8s.io/v1/clusterroles/{name}")
        assert role["metadata"]["labels"][f"rbac.authorization.k8s.io/aggregate-to-{part}"] == "true"
        binding = {
            "metadata": {"name": part},
            "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": name},
            "subjects": [{"kind": "User", "apiGroup": "rbac.authorization.k8s.io", "name": part}],
        }
        server.request("POST", "/apis/rbac.authorization.k8s.io/v1/namespaces/one/rolebindings", binding)
    deadline = time.monotonic() + PATIENCE_S
    while not may(server, "create", GROUP, "raftclusters", "one", user="edit"):
        assert time.monotonic() < deadline
    assert may(server, "patch", GROUP, "raftclusters/scale", "one", user="edit")
    assert not may(server, "patch", GROUP, "raftclusters/status", "one", user="edit")
    assert may(server, "list", GROUP, "raftclusters", "one", user="view")
    assert not may(server, "patch", GROUP, "raftclusters", "one", user="view")


# An even number of voters


def test_an_even_number_of_voters_is_warned_of_and_taken(server: ApiServer, install: Install) -> None:
    install({})
    wait_until_served(server)
    # The server learns of a new policy after a moment.
    deadline = time.monotonic() + PATIENCE_S
    while True:
        name = f"c{next(_numbers)}"
        done = server.kubectl("apply", "-f", "-", objects=[raft_cluster(name, "one", {"replicas": 2})])
        assert done.returncode == 0, done.stderr
        if "Warning" in done.stderr:
            break
        assert time.monotonic() < deadline, "no warning"
    assert "2 voters tolerate no more failures than 1" in done.stderr
    assert "ask for 1 or 3" in done.stderr
    scale = ("scale", "--namespace=one", f"raft/{name}")
    done = server.kubectl(*scale, "--replicas=4")
    assert "4 voters tolerate no more failures than 3" in done.stderr
    for odd in ("5", "1", "0"):
        done = server.kubectl(*scale, f"--replicas={odd}")
        assert (done.returncode, done.stderr) == (0, "")
    assert server.kubectl(*scale, "--replicas=2").returncode == 0
    # Not at each other change, such as the operator's own.
    done = server.kubectl("annotate", "--namespace=one", f"raft/{name}", "a=b")
    assert (done.returncode, done.stderr) == (0, "")


# What `helm test` runs


@pytest.fixture
def check(monkeypatch: pytest.MonkeyPatch, server: ApiServer, tmp_path: Path) -> ModuleType:
    """files/check.py as a module, as if it ran in a pod with an administrator's token."""
    (tmp_path / "token").write_text(server.token + "\n")
    (tmp_path / "ca.crt").write_text(server.ca_file.read_text())
    monkeypatch.setenv("RAFTWRIGHT_CREDENTIALS", str(tmp_path))
    monkeypatch.setenv("KUBERNETES_SERVICE_HOST", "127.0.0.1")
    monkeypatch.setenv("KUBERNETES_SERVICE_PORT", server.url.rpartition(":")[2])
    spec = importlib.util.spec_from_file_location("check", CHART / "files" / "check.py")
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_check_reads_raft_clusters(server: ApiServer, install: Install, check: ModuleType) -> None:
    with pytest.raises(SystemExit, match="RaftClusters cannot be read: HTTP Error 404"):
        check.count_clusters("one")
    install({})
    make_cluster(server, namespace="one")
    make_cluster(server, namespace="two")
    assert check.count_clusters("") == 2
    assert check.count_clusters("one") == 1


@pytest.mark.parametrize(("status", "message"), [(200, None), (503, "is not ready: HTTP Error 503")])
def test_the_check_asks_the_operator(
    monkeypatch: pytest.MonkeyPatch, check: ModuleType, status: int, message: str | None
) -> None:
    class Answer(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(status if self.path == "/readyz" else 404)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    monkeypatch.setattr(check, "PATIENCE_S", 0.0)
    with HTTPServer(("127.0.0.1", 0), Answer) as operator:
        thread = threading.Thread(target=operator.serve_forever)
        thread.start()
        try:
            if message is None:
                check.wait_until_ready(f"127.0.0.1:{operator.server_port}")
            else:
                with pytest.raises(SystemExit, match=message):
                    check.wait_until_ready(f"127.0.0.1:{operator.server_port}")
        finally:
            operator.shutdown()
            thread.join()


def test_the_check_is_what_the_test_pod_runs() -> None:
    [pod] = of_kind(template({"watch.namespaces": ["one"]}), "Pod")
    [container] = pod["spec"]["containers"]
    script, address, namespace = container["args"]
    assert script.strip() == (CHART / "files" / "check.py").read_text().strip()
    assert (address, namespace) == (f"{RELEASE}-operator.{NAMESPACE}.svc:8080", "one")
    assert "helm.sh/hook" in json.dumps(pod["metadata"]["annotations"])
