"""While a RaftCluster is paused nothing of it is touched, and its status goes on."""

from e2e.raft import Raft


def test_nothing_is_touched_until_it_goes_on(raft: Raft) -> None:
    raft.apply(replicas=1)
    raft.await_settled(1)
    version = raft.stateful_set()["metadata"]["generation"]

    raft.patch({"paused": True, "replicas": 3, "podTemplate": {"labels": {"changed": "yes"}}})
    raft.await_condition("Paused")
    raft.kubectl.run("--namespace", raft.namespace, "delete", "poddisruptionbudget", "db")
    uid = raft.pod_uids()["db-0"]
    raft.delete_pod("db-0")
    raft.await_replaced("db-0", uid)
    raft.await_member_ready("db-0", ready=True)
    assert raft.stateful_set()["metadata"]["generation"] == version
    assert raft.kubectl.get("poddisruptionbudgets", "db", raft.namespace) is None

    raft.patch({"paused": False})
    raft.await_condition("Paused", "False")
    raft.await_settled(3)
    assert raft.kubectl.get("poddisruptionbudgets", "db", raft.namespace) is not None
