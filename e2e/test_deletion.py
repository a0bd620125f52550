"""A RaftCluster is deleted: its data stays or goes as `retention` says, and data that stayed is taken up again."""

from e2e.kubectl import until
from e2e.raft import Raft


def test_retained_data_is_adopted_by_a_new_resource_of_that_name(raft: Raft) -> None:
    raft.apply(replicas=3)
    raft.await_settled(3)
    raft.put("kept", b"through it all")
    before, cluster = raft.member_ids(), raft.status()["cluster"]["id"]

    raft.delete()
    until("no pod is left", lambda: not raft.pods(), within_s=90, last_seen=raft.describe)
    assert set(raft.claims()) == {"data-db-0", "data-db-1", "data-db-2"}

    raft.apply(replicas=3)
    raft.await_settled(3)
    assert raft.read("kept") == b"through it all"
    assert raft.status()["cluster"]["id"] == cluster
    assert raft.member_ids() == before


def test_data_goes_where_that_is_asked_for(raft: Raft) -> None:
    raft.apply(replicas=1, nonVoting={"replicas": 1}, storage={"size": "256Mi", "retention": {"onDeletion": "Delete"}})
    raft.await_settled(1, non_voting=1)
    raft.delete()
    assert raft.resource() is None
    until("no pod and no volume is left", lambda: not raft.pods() and not raft.claims(), within_s=90)
