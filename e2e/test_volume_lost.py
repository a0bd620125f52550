"""A voter's volume is lost: the empty node is not let back as its old self, but replaces it as a new member."""

from e2e.raft import Raft
from e2e.workload import Load


def test_the_member_is_replaced(raft: Raft) -> None:
    raft.apply(replicas=3)
    raft.await_settled(3)
    before = raft.member_ids()
    store = raft.node_status("db-1")["store_id"]
    with Load(raft.endpoint()) as load:
        uid = raft.pod_uids()["db-1"]
        raft.lose_volume("db-1")
        raft.await_replaced("db-1", uid)
        raft.await_member("db-1", other_than=before["db-1"])
        raft.await_settled(3)
        print(load.verdict())
    after = raft.member_ids()
    assert (after["db-0"], after["db-2"]) == (before["db-0"], before["db-2"])
    assert after["db-1"] > max(before.values()), "a member's id is never used twice"
    node = raft.node_status("db-1")
    assert node["id"] == after["db-1"]
    assert node["store_id"] != store
    assert "db-1" in raft.await_event("MemberReplaced")["message"]
