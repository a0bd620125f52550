"""§4 The known failures of membership changes, on whole clusters: none of them can happen here."""

import pytest

from raftwright.raft.errors import MembershipChangePending
from raftwright.raft.roles import Leader
from tests.raft.cluster import Cluster


def leads(cluster: Cluster, member_id: int) -> bool:
    return isinstance(cluster[member_id].raft.role, Leader)


def only_between(cluster: Cluster, *groups: set[int]) -> None:
    """Messages pass within each group, and nowhere else."""
    everyone = {*cluster.stores, *cluster.disks}
    together = [next((group for group in groups if one in group), {one}) for one in sorted(everyone)]
    cluster.cuts = {
        (one, other)
        for one, group in zip(sorted(everyone), together, strict=True)
        for other in everyone - {one}
        if other not in group
    }


def elect(cluster: Cluster, member_id: int) -> None:
    """Let this member campaign, within its partition; the timers of the others stand still."""
    cluster.now += 2 * cluster.settings.election_timeout_s
    for _ in range(3):
        cluster.tick(member_id)
        cluster.deliver_all()
        if leads(cluster, member_id):
            return


def test_4_1_two_leaders_of_different_terms_never_both_commit_a_change() -> None:
    """The bug of the single-server change found in 2015: 1 appends {1…5} and is cut off, 2 leads and would commit
    {2, 3, 4} with two votes of three, then 1 would win with {1, 4, 5} and commit as well, and entries are lost."""
    cluster = Cluster(4)
    cluster.start(5)
    elect(cluster, 1)
    only_between(cluster, {1}, {2, 3, 4, 5})
    cluster.change([1, 2, 3, 4, 5], at=1)
    cluster.deliver_all()
    elect(cluster, 2)
    assert leads(cluster, 2)

    only_between(cluster, {2, 3})
    cluster.change([2, 3, 4], at=2)
    cluster.run(0.3)
    assert cluster[2].raft.committed_membership.version == 1, "with two of four nothing commits, joint or not"

    only_between(cluster, {1, 4, 5}, {2, 3})
    cluster.run(5.0)
    assert not leads(cluster, 1), "4 holds an entry of term 2 that 1 does not"
    assert all(cluster[number].raft.committed_membership.version == 1 for number in (1, 2, 3, 4))

    cluster.heal()
    cluster.run(5.0)
    found = [cluster[number].raft.committed_membership for number in (2, 3, 4)]
    assert found[0].voters == {2, 3, 4}, "the change of 2 goes on"
    assert found[0] == found[1] == found[2]
    cluster.check_logs_match()


def test_4_1_a_leader_changes_nothing_before_it_committed_in_its_term() -> None:
    """The cure of 2015: an inherited change may still come back until then."""
    cluster = Cluster(4)
    elect(cluster, 1)
    cluster.now += 2 * cluster.settings.election_timeout_s
    cluster.tick(2)
    while not leads(cluster, 2):
        for number in sorted(cluster.stores):
            if not leads(cluster, 2):
                cluster.settle(number)
        message = cluster.network.pop(0)
        cluster.deliver(message)
    with pytest.raises(MembershipChangePending, match="in its term"):
        cluster.change([2, 3, 4], at=2)
    cluster.deliver_all()
    cluster.change([2, 3, 4], at=2)


def test_4_2_3_a_removed_server_that_campaigns_disturbs_nobody() -> None:
    """It never heard that it was removed, and believes itself a voter without a leader."""
    cluster = Cluster(4)
    elect(cluster, 1)
    cluster.cut_off(4)
    cluster.change([1, 2, 3])
    cluster.run(1.0)
    term = cluster.leader.raft.term
    cluster.heal()
    for _ in range(20):
        cluster.run(0.5)
        assert (cluster.leader.member_id, cluster.leader.raft.term) == (1, term)
    assert cluster[4].raft.term == term, "its pre-votes are refused, so its term does not rise either"


def test_4_2_1_a_learner_counts_in_no_quorum_however_many_there_are() -> None:
    cluster = Cluster(3, learners=4)
    elect(cluster, 1)
    only_between(cluster, {1, 4, 5, 6, 7})
    index = cluster.propose(b"x", at=1)
    cluster.deliver_all()
    assert all(cluster[learner].raft.log.last_index == index for learner in (4, 5, 6, 7))
    assert cluster[1].raft.commit_index < index
    cluster.run(2.0)
    assert not leads(cluster, 1), "nor do they keep a leader in office"


def test_4_2_1_learners_that_are_away_slow_no_commit() -> None:
    cluster = Cluster(3, learners=4)
    elect(cluster, 1)
    for learner in (4, 5, 6, 7):
        cluster.crash(learner)
    index = cluster.propose(b"x")
    before = cluster.now
    cluster.deliver_all()
    assert cluster[1].raft.commit_index == index
    assert cluster.now == before


def test_4_a_membership_that_only_a_snapshot_holds_is_in_force() -> None:
    cluster = Cluster(3)
    elect(cluster, 1)
    cluster.start(4)
    cluster.change([1, 2, 3, 4])
    cluster.run(1.0)
    for number in (1, 2, 3, 4):
        cluster[number].take_snapshot(keep=0)
        cluster.crash(number)
    for number in (1, 2, 4):
        assert not cluster.disks[number].entries
        cluster.start(number)
    cluster.run(3.0)
    assert cluster.leader.raft.membership.voters == {1, 2, 3, 4}
    cluster.crash(cluster.leader.member_id)
    cluster.run(3.0)
    assert not any(leads(cluster, number) for number in cluster.stores), "two of four are no quorum"
