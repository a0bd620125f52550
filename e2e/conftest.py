"""Fixtures of the tests on kind: one cluster and one operator for all of them, one namespace for each.

Its one rule: without Docker, kind, kubectl or helm the tests skip and say so; with `E2E=required` they fail instead.
`--keep-cluster` leaves the cluster up, and the next run uses it again.
"""

import os
import re
import secrets
from collections.abc import Generator, Iterator

import pytest

from e2e import artefacts
from e2e.cluster import CLUSTER_NAME, Cluster, Tools
from e2e.kubectl import Kubectl
from e2e.raft import Raft
from e2e.release import Release

TEST_TIMEOUT_S = 600
FAILED = pytest.StashKey[bool]()


def pytest_configure(config: pytest.Config) -> None:
    """pytest-kind's own options, so that its fixture too uses the programs of this machine."""
    tools = Tools.found()
    if isinstance(tools, Tools):
        config.option.kind_bin = config.option.kind_bin or str(tools.kind)
        config.option.kind_kubectl_bin = config.option.kind_kubectl_bin or str(tools.kubectl)
    config.option.kind_image = config.option.kind_image or os.environ.get("KIND_NODE_IMAGE")
    if config.option.cluster_name == "pytest-kind":
        config.option.cluster_name = os.environ.get("E2E_CLUSTER", CLUSTER_NAME)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if item.path.parent.name == "e2e":
            item.add_marker(pytest.mark.timeout(TEST_TIMEOUT_S))


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    report = yield
    if report.failed:
        item.stash[FAILED] = True
    return report


@pytest.fixture(scope="session")
def cluster(request: pytest.FixtureRequest) -> Iterator[Cluster]:
    tools = Tools.found()
    if isinstance(tools, str):
        if os.environ.get("E2E") == "required":
            pytest.fail(tools)
        pytest.skip(tools)
    option = request.config.option
    made = Cluster.create(tools, option.cluster_name, node_image=option.kind_image)
    try:
        yield made
    finally:
        if request.session.testsfailed:
            print(f"\nkind's logs: {artefacts.keep_logs_of_kind(made)}")
        if option.keep_cluster:
            made.close()
        else:
            made.delete()


@pytest.fixture(scope="session")
def release(cluster: Cluster) -> Release:
    """The operator, installed with the chart's own values."""
    release = Release(cluster)
    release.install()
    return release


@pytest.fixture
def kubectl(cluster: Cluster) -> Kubectl:
    return cluster.kubectl


@pytest.fixture
def namespace(request: pytest.FixtureRequest, cluster: Cluster) -> Iterator[str]:
    """Of this test alone. What is in it is kept as files if the test fails."""
    name = re.sub(r"[^a-z0-9]+", "-", request.node.name.removeprefix("test_").lower()).strip("-")
    namespace = cluster.new_namespace(f"{name[:40].rstrip('-')}-{secrets.token_hex(2)}")
    yield namespace
    if request.node.stash.get(FAILED, False):
        print(f"\nwhat was there: {artefacts.keep(cluster, namespace)}")
    cluster.kubectl.run("delete", "raftclusters", "--all", f"--namespace={namespace}", "--wait=false")
    cluster.kubectl.run("delete", "namespace", namespace, "--wait=false")


@pytest.fixture
def raft(cluster: Cluster, release: Release, namespace: str) -> Raft:
    """A RaftCluster `db` that is not there yet."""
    return Raft(cluster.kubectl, namespace, cluster.node_address)
