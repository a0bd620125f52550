"""The image changes under load: pods roll one by one, trouble stops the roll with a reason, nothing is lost."""

from e2e.cluster import Cluster
from e2e.kubectl import until
from e2e.raft import Raft
from e2e.workload import Load

BROKEN = "raftwright/node:does-not-exist"


def test_a_broken_image_stops_at_one_pod_and_a_good_one_goes_through(raft: Raft, cluster: Cluster) -> None:
    raft.apply(replicas=3)
    raft.await_settled(3)
    members, pods = raft.member_ids(), raft.pod_uids()
    with Load(raft.endpoint()) as load:
        leader = raft.await_leader()
        raft.patch({"image": BROKEN})

        def told() -> str | None:
            conditions = [raft.condition(kind) for kind in ("Progressing", "Degraded", "Ready")]
            told = [condition["message"] for condition in conditions if "Pull" in condition.get("message", "")]
            return told[0] if told else None

        message = until("a condition says what is wrong", told, within_s=120, last_seen=raft.describe)
        (broken,) = (name for name, uid in raft.pod_uids().items() if uid != pods[name])
        assert broken in message
        assert broken != leader, "the leader goes last"
        load.await_progress()

        raft.patch({"image": cluster.images.other_node})
        raft.await_image(cluster.images.other_node)
        raft.await_settled(3)
        print(load.verdict())
    assert raft.member_ids() == members
    assert not set(raft.pod_uids().values()) & set(pods.values())
