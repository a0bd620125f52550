"""Scaling down would leave no quorum of live voters: nothing is removed, and the status says why and what to do."""

from collections.abc import Iterator

import pytest

from e2e.cluster import Cluster
from e2e.raft import Raft
from e2e.workload import Load


@pytest.fixture
def only_node(cluster: Cluster) -> Iterator[str]:
    """The name of the Kubernetes node, which takes pods again when the test ends."""
    (node,) = cluster.kubectl.items("nodes")
    name = node["metadata"]["name"]
    yield name
    cluster.kubectl.run("uncordon", name)


def test_three_to_two_while_the_first_is_down(raft: Raft, only_node: str) -> None:
    raft.apply(replicas=3)
    raft.await_settled(3)
    members = raft.member_ids()
    with Load(raft.endpoint()) as load:
        raft.kubectl.run("cordon", only_node)
        uid = raft.pod_uids()["db-0"]
        raft.delete_pod("db-0", now=True)
        raft.await_replaced("db-0", uid)
        raft.await_member_ready("db-0", ready=False)

        raft.scale(2)
        blocked = raft.await_condition("ScaleDownBlocked")
        assert "db-0" in blocked["message"], blocked
        assert raft.member_ids() == members
        assert set(raft.pods()) == {"db-0", "db-1", "db-2"}
        load.await_progress()

        raft.kubectl.run("uncordon", only_node)
        raft.await_settled(2)
        print(load.verdict())
    assert raft.condition("ScaleDownBlocked")["status"] == "False"
