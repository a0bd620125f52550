"""Whole clusters on a kind network: elections, replication, repair, transfer, reads. The chaos is in test_chaos.py."""

import pytest

from raftwright.raft.errors import NotLeader, ProposalDropped, TransferImpossible
from raftwright.raft.events import StreamLost, TransferLeadership
from raftwright.raft.raft import RaftSettings
from raftwright.raft.ready import ReadAnswer
from raftwright.raft.roles import Follower, Leader
from tests.raft.cluster import Cluster


@pytest.mark.parametrize("voters", [1, 2, 3, 4, 5])
def test_a_cluster_elects_one_leader_and_commits(voters: int) -> None:
    cluster = Cluster(voters)
    cluster.run(3.0)
    index = cluster.propose(b"x")
    cluster.deliver_all()
    assert [store.raft.commit_index for store in cluster.stores.values()] == [index] * voters
    assert len({store.digest for store in cluster.stores.values()}) == 1
    term = cluster.leader.raft.term
    cluster.run(20.0)
    assert cluster.leader.raft.term == term, "a leader that is heard stays"


@pytest.mark.parametrize(("voters", "may_fail"), [(1, 0), (2, 0), (3, 1), (4, 1), (5, 2)])
def test_a_majority_commits_and_half_does_not(voters: int, may_fail: int) -> None:
    cluster = Cluster(voters)
    cluster.elect(1)
    for failed in range(voters, voters - may_fail, -1):
        cluster.crash(failed)
    index = cluster.propose(b"x")
    cluster.deliver_all()
    assert cluster.leader.raft.commit_index == index
    if voters - may_fail > 1:
        cluster.crash(voters - may_fail)
        cluster.propose(b"y")
        cluster.deliver_all()
        assert cluster.leader.raft.commit_index == index


def test_a_new_leader_takes_over_within_two_timeouts_and_keeps_what_was_committed() -> None:
    cluster = Cluster(3)
    cluster.elect(1)
    index = cluster.propose(b"kept")
    cluster.deliver_all()
    cluster.crash(1)
    cluster.run(3 * cluster.settings.election_timeout_s)
    assert cluster.leader.raft.log.last_index > index
    assert cluster.leader.raft.commit_index > index


def test_a_leader_repairs_a_log_that_diverged() -> None:
    cluster = Cluster(3)
    cluster.elect(1)
    cluster.cut_off(1)
    for _ in range(5):
        cluster.propose(b"lost", at=1)
    cluster.deliver_all()
    cluster.elect(2)
    cluster.propose(b"kept", at=2)
    cluster.deliver_all()
    assert cluster[1].raft.log.last_id.term < cluster[2].raft.log.last_id.term
    cluster.heal()
    cluster.run(1.0)
    assert cluster[1].raft.log.last_id == cluster[2].raft.log.last_id
    assert cluster[1].digest == cluster[2].digest
    cluster.check_logs_match()


def test_a_follower_behind_the_tail_is_fed_from_disk() -> None:
    settings = RaftSettings(tail_bytes_max=1000, append_bytes_max=500, inflight_appends_max=2)
    cluster = Cluster(3, settings=settings)
    cluster.elect(1)
    cluster.crash(3)
    for _ in range(100):
        cluster.propose(b"x" * 100)
        cluster.deliver_all()
    assert cluster[1].raft.log.tail_first > 50
    cluster.start(3)
    cluster.run(2.0)
    assert cluster[3].digest == cluster[1].digest
    assert cluster[3].raft.snapshot == cluster[2].raft.snapshot, "no snapshot was needed"


def test_a_follower_behind_the_log_gets_a_snapshot_in_chunks() -> None:
    cluster = Cluster(3, settings=RaftSettings(chunk_bytes=7))
    cluster.elect(1)
    cluster.crash(3)
    for _ in range(20):
        cluster.propose(b"x")
    cluster.deliver_all()
    cluster[1].take_snapshot(keep=3)
    cluster.propose(b"after")
    cluster.start(3)
    cluster.run(1.0)
    assert cluster[3].digest == cluster[1].digest
    assert cluster[3].disk.base == cluster[1].disk.snapshot.id  # type: ignore[union-attr]
    assert cluster[3].raft.log.last_id == cluster[1].raft.log.last_id


def test_a_stream_that_broke_is_probed_and_what_it_lost_is_sent_again() -> None:
    cluster = Cluster(3)
    cluster.elect(1)
    index = cluster.propose(b"x")
    cluster.settle(1)
    cluster.network.clear()
    for peer in (2, 3):
        cluster.step(1, StreamLost(now=cluster.now, peer=peer))
    cluster.deliver_all()
    assert cluster[1].raft.commit_index == index


def test_a_lost_append_heals_through_a_heartbeat() -> None:
    cluster = Cluster(3)
    cluster.elect(1)
    index = cluster.propose(b"x")
    cluster.settle(1)
    cluster.network.clear()
    cluster.tick(1)
    cluster.deliver_all()
    assert [store.raft.commit_index for store in cluster.stores.values()] == [index] * 3


def test_leadership_is_transferred_to_the_target() -> None:
    cluster = Cluster(3)
    cluster.elect(1)
    cluster.step(1, TransferLeadership(now=cluster.now, target=3))
    cluster.deliver_all()
    assert cluster.leader.member_id == 3
    assert isinstance(cluster[1].raft.role, Follower)
    cluster.propose(b"x")
    cluster.deliver_all()


def test_a_transfer_waits_until_the_target_has_caught_up() -> None:
    cluster = Cluster(3)
    cluster.elect(1)
    cluster.cuts = {(1, 3)}
    index = cluster.propose(b"x")
    cluster.deliver_all()
    cluster.step(1, TransferLeadership(now=cluster.now, target=3))
    cluster.deliver_all()
    assert cluster.leader.member_id == 1
    with pytest.raises(ProposalDropped):
        cluster.propose(b"y", at=1)
    cluster.heal()
    cluster.tick(1)
    cluster.deliver_all()
    assert cluster.leader.member_id == 3
    assert cluster[3].raft.log.last_index == index + 1


def test_a_transfer_that_fails_is_given_up_and_proposals_go_on() -> None:
    cluster = Cluster(3)
    cluster.elect(1)
    cluster.crash(3)
    cluster.step(1, TransferLeadership(now=cluster.now, target=3))
    cluster.run(cluster.settings.election_timeout_s + 0.01)
    assert cluster.leader.member_id == 1
    cluster.propose(b"x")


@pytest.mark.parametrize("target", [1, 4, 9])
def test_only_another_voter_can_be_the_target(target: int) -> None:
    cluster = Cluster(3, learners=1)
    cluster.elect(1)
    with pytest.raises(TransferImpossible):
        cluster.step(1, TransferLeadership(now=cluster.now, target=target))


def test_without_a_target_the_most_up_to_date_voter_takes_over() -> None:
    cluster = Cluster(3)
    cluster.elect(1)
    cluster.cuts = {(1, 2)}
    cluster.propose(b"x")
    cluster.deliver_all()
    cluster.heal()
    cluster.step(1, TransferLeadership(now=cluster.now, target=None))
    cluster.deliver_all()
    assert cluster.leader.member_id == 3


def test_only_the_leader_takes_proposals_and_says_who_it_is() -> None:
    cluster = Cluster(3)
    cluster.elect(2)
    with pytest.raises(NotLeader) as caught:
        cluster.propose(b"x", at=1)
    assert caught.value.leader == 2


def test_proposals_beyond_the_bound_are_dropped_until_some_commit() -> None:
    cluster = Cluster(3, settings=RaftSettings(uncommitted_bytes_max=100))
    cluster.elect(1)
    cluster.propose(b"x" * 90)
    with pytest.raises(ProposalDropped):
        cluster.propose(b"x" * 90)
    cluster.deliver_all()
    cluster.propose(b"x" * 200)  # one alone may be larger than the bound


def test_log_time_never_goes_back() -> None:
    cluster = Cluster(3)
    cluster.elect(1)
    for time_ms in (1000, 500, 2000):
        cluster.propose(time_ms=time_ms)
    cluster.deliver_all()
    cluster.elect(2)
    entries = cluster[3].raft.log.entries(3, cluster[3].raft.log.last_index, 1 << 30)
    assert entries is not None
    assert [entry.time_ms for entry in entries] == [1000, 1000, 2000, 2000]


@pytest.mark.parametrize("asked", [1, 2, 4])
def test_a_read_is_answered_at_leader_follower_and_learner(asked: int) -> None:
    cluster = Cluster(3, learners=1)
    cluster.elect(1)
    index = cluster.propose(b"x")
    cluster.deliver_all()
    cluster.read(asked, 7)
    cluster.deliver_all()
    assert cluster[asked].reads == [ReadAnswer(context=7, index=index)]


def test_reads_that_wait_share_one_round() -> None:
    cluster = Cluster(3)
    cluster.elect(1)
    for context in range(50):
        cluster.read(1, context)
        cluster.read(2, context)
    cluster.settle(1)
    assert len(cluster.network) == 2, "one heartbeat a peer"
    cluster.deliver_all()
    assert len(cluster[1].reads) == len(cluster[2].reads) == 50


def test_one_append_carries_all_that_was_proposed_between_two_readys() -> None:
    cluster = Cluster(3)
    cluster.elect(1)
    for _ in range(50):
        cluster.propose(b"x")
    cluster.settle(1)
    assert [len(message.entries) for message in cluster.network] == [50, 50]  # type: ignore[union-attr]


def test_the_window_bounds_the_appends_in_flight() -> None:
    cluster = Cluster(3, settings=RaftSettings(inflight_appends_max=4, append_bytes_max=1))
    cluster.elect(1)
    for _ in range(10):
        cluster.propose(b"x")
    cluster.settle(1)
    assert len([message for message in cluster.network if message.to_id == 2]) == 4
    cluster.deliver_all()
    assert len({store.raft.commit_index for store in cluster.stores.values()}) == 1


def test_a_leader_that_reaches_no_quorum_steps_down_and_fails_its_reads() -> None:
    cluster = Cluster(3)
    cluster.elect(1)
    cluster.cut_off(1)
    cluster.read(1, 7)
    cluster.run(cluster.settings.election_timeout_s + 0.2)
    assert not isinstance(cluster[1].raft.role, Leader)
    assert cluster[1].reads == [ReadAnswer(context=7, index=None)]


def test_a_server_that_returns_from_a_partition_does_not_disturb_the_leader() -> None:
    cluster = Cluster(3)
    cluster.elect(1)
    term = cluster[1].raft.term
    cluster.cut_off(3)
    cluster.run(30.0)
    cluster.heal()
    cluster.run(5.0)
    assert cluster.leader.member_id == 1
    assert {store.raft.term for store in cluster.stores.values()} == {term}


def test_forwarded_reads_fail_when_the_leader_does_not_answer() -> None:
    cluster = Cluster(3)
    cluster.elect(1)
    cluster.cuts = {(1, 2)}
    cluster.read(2, 7)
    cluster.run(cluster.settings.election_timeout_s + 0.01)
    assert cluster[2].reads == [ReadAnswer(context=7, index=None)]
