"""Scaled to nothing and back: the same members come back with their data, whatever retention says."""

from e2e.kubectl import until
from e2e.raft import Raft

STORAGE = {"size": "256Mi", "retention": {"onScaleDown": "Delete", "onDeletion": "Retain"}}


def test_the_same_members_come_back_before_the_new_target(raft: Raft) -> None:
    raft.apply(replicas=3, storage=STORAGE)
    raft.await_settled(3)
    raft.put("asleep", b"and awake")
    members = raft.member_ids()

    raft.scale(0)
    until("no pod is left", lambda: not raft.pods(), within_s=90, last_seen=raft.describe)
    assert set(raft.claims()) == {"data-db-0", "data-db-1", "data-db-2"}
    until("the numbers are noted", lambda: raft.status().get("hibernation"), within_s=30, last_seen=raft.status)

    raft.scale(3)
    raft.await_settled(3)
    assert raft.member_ids() == members
    assert raft.read("asleep") == b"and awake"

    raft.scale(0)
    until("no pod is left", lambda: not raft.pods(), within_s=90, last_seen=raft.describe)
    raft.scale(1)
    raft.await_settled(1)
    assert raft.member_ids() == {"db-0": members["db-0"]}
    assert raft.read("asleep") == b"and awake"
    raft.await_claims({"data-db-0"})
