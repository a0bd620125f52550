"""Appends that are lost without anybody noticing, and a log that is cut before they are asked for again."""

from raftwright.raft.raft import RaftSettings
from tests.raft.cluster import Cluster


def test_a_full_window_of_lost_appends_behind_a_cut_log_is_made_good_by_a_snapshot() -> None:
    cluster = Cluster(3, settings=RaftSettings(inflight_appends_max=1))
    cluster.elect(1)
    cluster.run(0.2)
    cluster.cuts.add((1, 3))  # to it alone, so that it looks alive and no stream is lost
    cluster.propose(b"lost")
    cluster.deliver_all()
    for number in range(5):
        cluster.propose(b"%d" % number)
        cluster.deliver_all()
    cluster[1].take_snapshot(keep=0)
    cluster.heal()
    assert cluster[3].raft.log.last_index < cluster[1].raft.log.base.index
    cluster.run(2.0)
    assert cluster[1].raft.leader_role is not None, "nothing else than the leader's own sending may help"
    assert cluster[3].raft.commit_index == cluster[1].raft.commit_index
