"""A follower's pod is deleted: Kubernetes makes it again, the member comes back, and nothing else is touched."""

from e2e.raft import Raft


def test_the_member_comes_back(raft: Raft) -> None:
    raft.apply(replicas=3)
    raft.await_settled(3)
    raft.put("before", b"1")
    members, pods = raft.member_ids(), raft.pod_uids()
    leader = raft.await_leader()
    follower = next(name for name in sorted(pods) if name != leader)

    raft.delete_pod(follower)
    raft.await_replaced(follower, pods[follower])
    raft.await_settled(3)

    assert raft.member_ids() == members
    assert raft.await_leader() == leader
    assert {name for name, uid in raft.pod_uids().items() if pods[name] != uid} == {follower}
    assert raft.read("before") == b"1"
