"""The chart is tested, upgraded, and uninstalled with a RaftCluster left: its pods and data stay and are taken up."""

from collections.abc import Iterator

import pytest

from e2e.raft import Raft
from e2e.release import Release


@pytest.fixture
def own_release(release: Release) -> Iterator[Release]:
    """The release, which is as it was when the test ends."""
    yield release
    release.install()


def test_helm_test(release: Release) -> None:
    assert "Succeeded" in release.test()


def test_upgrade_and_uninstall_leave_clusters_alone(raft: Raft, own_release: Release) -> None:
    raft.apply(replicas=1)
    raft.await_settled(1)
    raft.put("precious", b"data")
    pods, members = raft.pod_uids(), raft.member_ids()

    operators = {pod["metadata"]["uid"] for pod in own_release.pods()}
    own_release.install("podAnnotations.changed=yes")
    assert operators.isdisjoint(pod["metadata"]["uid"] for pod in own_release.pods())
    raft.await_settled(1)
    assert raft.pod_uids() == pods

    own_release.uninstall()
    own_release.await_gone()
    assert raft.resource() is not None
    assert raft.pod_uids() == pods
    assert set(raft.claims()) == {"data-db-0"}
    assert raft.read("precious") == b"data"

    own_release.install()
    raft.scale(3)
    raft.await_settled(3)
    assert raft.pod_uids()["db-0"] == pods["db-0"]
    assert raft.member_ids()["db-0"] == members["db-0"]
    assert raft.read("precious") == b"data"
