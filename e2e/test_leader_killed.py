"""The leader's pod is killed without a word: another leads, writes go on, and the pod comes back as the same member."""

from e2e.raft import Raft
from e2e.workload import Load


def test_another_leads_and_nothing_is_lost(raft: Raft) -> None:
    raft.apply(replicas=3)
    raft.await_settled(3)
    members, pods = raft.member_ids(), raft.pod_uids()
    with Load(raft.endpoint()) as load:
        old = raft.await_leader()
        raft.delete_pod(old, now=True)
        raft.await_leader(other_than=old)
        print(f"writes again after {load.await_progress():.2f} s")
        raft.await_replaced(old, pods[old])
        raft.await_settled(3)
        print(load.verdict())
    assert raft.member_ids() == members
    survivors = {name: uid for name, uid in raft.pod_uids().items() if name != old}
    assert survivors == {name: uid for name, uid in pods.items() if name != old}, "another pod was touched"
