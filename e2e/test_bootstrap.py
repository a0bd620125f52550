"""A RaftCluster is created: its voters found one cluster, once."""

from e2e.raft import Raft
from e2e.release import Release


def test_three_voters_become_one_cluster(raft: Raft) -> None:
    raft.apply(replicas=3)
    raft.await_settled(3)

    status = raft.status()
    resource = raft.resource()
    assert resource is not None
    assert status["cluster"]["id"] == resource["metadata"]["uid"]
    assert status["cluster"]["bootstrapped"] is True
    nodes = {pod: raft.node_status(pod) for pod in raft.pods()}
    assert {node["cluster_id"] for node in nodes.values()} == {status["cluster"]["id"]}
    assert {pod: node["store_id"] for pod, node in nodes.items()} == status["cluster"]["stores"]
    raft.put("greeting", b"hello")
    assert raft.read("greeting") == b"hello"


def test_kubectl_shows_what_matters(raft: Raft) -> None:
    raft.apply(replicas=1)
    raft.await_settled(1)
    titles, values = raft.kubectl.run("get", "raft", "db", "--namespace", raft.namespace).strip().splitlines()
    assert titles.split() == ["NAME", "READY", "VOTERS", "NON-VOTING", "LEADER", "VERSION", "AGE"]
    assert values.split()[:5] == ["db", "True", "1/1", "0/0", "db-0"]
    assert {condition["type"] for condition in raft.status()["conditions"]} == {
        "Ready",
        "Progressing",
        "Degraded",
        "QuorumAvailable",
        "MembershipInSync",
        "ScaleDownBlocked",
        "Paused",
    }


def test_a_voter_that_lost_its_only_volume_is_never_bootstrapped_again(raft: Raft, release: Release) -> None:
    raft.apply(replicas=1)
    raft.await_settled(1)
    raft.put("precious", b"data")
    store = raft.node_status("db-0")["store_id"]

    raft.lose_volume("db-0")
    raft.await_condition("QuorumAvailable", "False")
    release.kill()
    release.await_ready()
    degraded = raft.await_condition("Degraded")
    assert degraded["message"]
    node = raft.await_node("db-0")
    assert (node["state"], node["cluster_id"]) == ("waiting", None)
    assert node["store_id"] != store
