"""Changes of the membership: joint consensus through crashes of the leader, learners, refusals, removed members."""

from dataclasses import replace

import pytest

from raftwright.raft.entries import EntryKind
from raftwright.raft.errors import InvalidMembership, MembershipChangePending, MembershipOutdated, NotLeader
from raftwright.raft.events import ProposeMembership
from raftwright.raft.membership import Membership
from raftwright.raft.membership_changes import check_target, final_membership, next_membership
from raftwright.raft.roles import Follower, Leader
from tests.raft.cluster import Cluster, member, membership_of


def cluster_of(voters: int = 3, learners: int = 0) -> Cluster:
    cluster = Cluster(voters, learners=learners)
    cluster.elect(1)
    return cluster


def memberships_in(cluster: Cluster, member_id: int) -> list[Membership]:
    log = cluster[member_id].raft.log
    entries = log.entries(log.tail_first, log.last_index, 1 << 30) or ()
    return [Membership.decode(entry.payload) for entry in entries if entry.kind == EntryKind.MEMBERSHIP]


def test_voters_change_through_a_joint_membership() -> None:
    cluster = cluster_of()
    cluster.start(4)
    cluster.change([2, 3, 4])
    cluster.run(1.0)
    joint, final = memberships_in(cluster, 2)
    assert [sorted(half) for half in (joint.voters, joint.outgoing_voters)] == [[2, 3, 4], [1, 2, 3]]
    assert [sorted(half) for half in (final.voters, final.outgoing_voters)] == [[2, 3, 4], []]
    assert sorted(final.members) == [2, 3, 4]
    assert (joint.version, final.version) == (2, 3)
    assert cluster[4].raft.committed_membership == final


def test_learners_change_by_a_single_entry() -> None:
    cluster = cluster_of()
    cluster.start(4)
    cluster.change([1, 2, 3], [4])
    cluster.deliver_all()
    assert [value.is_joint for value in memberships_in(cluster, 1)] == [False]
    assert cluster[4].digest == cluster[1].digest


def test_a_learner_is_not_counted() -> None:
    cluster = cluster_of(3, learners=2)
    cluster.crash(2)
    cluster.crash(3)
    index = cluster.propose(b"x")
    cluster.deliver_all()
    assert cluster[4].raft.log.last_index == index, "learners have it"
    assert cluster[1].raft.commit_index < index, "and it is not committed"


def test_a_learner_never_campaigns() -> None:
    cluster = cluster_of(1, learners=2)
    cluster.crash(1)
    cluster.run(60.0)
    assert all(isinstance(store.raft.role, Follower) for store in cluster.stores.values())
    assert cluster[2].raft.next_deadline == float("inf"), "and sleeps when there is no leader"
    assert cluster[2].raft.leader_id is None


@pytest.mark.parametrize("voters", [[1, 2], [1, 2, 3, 4], [1, 2, 3, 4, 5, 6]])
def test_even_sizes_need_more_than_half(voters: list[int]) -> None:
    cluster = cluster_of()
    for number in voters:
        if number not in cluster.stores:
            cluster.start(number)
    cluster.change(voters)
    cluster.run(1.0)
    assert cluster[1].raft.committed_membership.voters == set(voters)
    for number in voters[len(voters) // 2 :]:
        cluster.crash(number)
    index = cluster.propose(b"x")
    cluster.deliver_all()
    assert cluster[1].raft.commit_index < index
    cluster.start(voters[-1])
    cluster.run(0.5)
    assert cluster[1].raft.commit_index >= index


@pytest.mark.parametrize("reached", [[2], [2, 3], [2, 3, 4], []])
def test_a_change_survives_the_crash_of_the_leader_that_began_it(reached: list[int]) -> None:
    """Whoever got the joint entry: the change is either finished by the next leader or rolled back."""
    cluster = cluster_of()
    cluster.start(4)
    cluster.start(5)
    cluster.change([1, 4, 5])
    cluster.settle(1)
    cluster.network = [message for message in cluster.network if message.to_id in reached]
    for message in list(cluster.network):
        cluster.deliver(message)
    cluster.network.clear()
    cluster.crash(1)
    cluster.run(10.0)
    cluster.start(1)
    cluster.run(10.0)
    leader = cluster.leader.raft
    assert not leader.membership.is_joint
    assert leader.log.membership_index <= leader.commit_index
    assert leader.membership.voters in ({1, 2, 3}, {1, 4, 5})
    cluster.propose(b"x")
    cluster.run(1.0)
    assert cluster.leader.raft.commit_index == cluster.leader.raft.log.last_index


def test_a_joint_membership_needs_both_majorities() -> None:
    cluster = cluster_of()
    for number in (4, 5):
        cluster.start(number)
        cluster.cut_off(number)
    cluster.change([1, 4, 5])
    cluster.run(0.3)
    leader = cluster[1].raft
    assert leader.membership.is_joint
    assert leader.log.membership_index > leader.commit_index, "all of the old half have it, one of the new"
    cluster.heal()
    cluster.run(3.0)
    assert cluster.leader.raft.membership.voters == {1, 4, 5}
    assert not cluster.leader.raft.membership.is_joint


def test_a_removed_leader_leads_until_the_change_is_committed_and_then_steps_down() -> None:
    cluster = cluster_of()
    cluster.change([2, 3])
    cluster.deliver_all()
    assert isinstance(cluster[1].raft.role, Follower)
    assert cluster[1].raft.committed_membership.voters == {2, 3}
    assert cluster.leader.member_id in (2, 3), "its successor takes over without waiting"
    term = cluster.leader.raft.term
    cluster.run(30.0)
    assert cluster.leader.raft.term == term


def test_a_removed_leader_does_not_count_itself() -> None:
    cluster = cluster_of()
    cluster.change([2, 3])
    cluster.settle(1)
    cluster.cut_off(3)
    cluster.deliver_all()
    leader = cluster[1].raft
    assert leader.membership.is_joint, "the old half has two of three, the new half one of two"
    assert leader.log.membership_index > leader.commit_index


def test_a_removed_follower_learns_of_it_and_disturbs_nobody() -> None:
    cluster = cluster_of()
    cluster.change([1, 2])
    cluster.deliver_all()
    assert cluster[3].raft.committed_membership.voters == {1, 2}
    assert 3 not in cluster[1].raft.role.progress  # type: ignore[union-attr]
    cluster.run(30.0)
    assert cluster[3].raft.term == cluster[1].raft.term


def test_a_removed_follower_that_missed_it_cannot_disturb_the_leader() -> None:
    cluster = cluster_of()
    cluster.cut_off(3)
    cluster.change([1, 2])
    cluster.run(1.0)
    cluster.heal()
    term = cluster[1].raft.term
    cluster.run(30.0)
    assert cluster[3].raft.membership.voters == {1, 2, 3}, "it does not know"
    assert cluster.leader.member_id == 1
    assert cluster[1].raft.term == term


def test_a_voter_becomes_a_learner_only_when_the_change_ends() -> None:
    cluster = cluster_of()
    cluster.change([1, 2], [3])
    cluster.deliver_all()
    joint, final = memberships_in(cluster, 1)
    assert [sorted(ids) for ids in (joint.outgoing_voters, joint.learners, joint.next_learners)] == [[1, 2, 3], [], [3]]
    assert [sorted(ids) for ids in (final.learners, final.next_learners)] == [[3], []]
    index = cluster.propose(b"x")
    cluster.deliver_all()
    assert cluster[3].raft.commit_index == index


def test_one_change_at_a_time() -> None:
    cluster = cluster_of()
    cluster.change([1, 2], [3])
    with pytest.raises(MembershipChangePending):
        cluster.change([1, 2])
    cluster.deliver_all()
    cluster.change([1, 2, 3])


def test_no_change_before_the_leader_committed_in_its_term() -> None:
    cluster = Cluster(3)
    cluster.elect(1)
    cluster.now += 2 * cluster.settings.election_timeout_s
    cluster.tick(2)
    while not isinstance(cluster[2].raft.role, Leader):
        for number in (1, 2, 3):
            cluster.settle(number)
        waiting, cluster.network = cluster.network, []
        for message in waiting:
            cluster.deliver(message)
    with pytest.raises(MembershipChangePending):
        cluster.change([1, 2], at=2)


def test_a_change_is_based_on_the_newest_membership() -> None:
    cluster = cluster_of()
    target = replace(cluster[1].raft.membership, voters=frozenset({1, 2}), learners=frozenset({3}))
    with pytest.raises(MembershipOutdated):
        cluster.step(1, ProposeMembership(now=cluster.now, target=target, base_version=7, time_ms=0))
    with pytest.raises(NotLeader):
        cluster.step(2, ProposeMembership(now=cluster.now, target=target, base_version=1, time_ms=0))


CURRENT = replace(membership_of([1, 2, 3]), last_member_id=5)  # 4 and 5 were removed


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"voters": frozenset[int]()}, "at least one voter"),
        ({"voters": frozenset({1, 2, 3, 6})}, "voter or a learner"),
        ({"voters": frozenset({1, 2})}, "voter or a learner"),
        ({"learners": frozenset({3})}, "both voters and learners"),
        ({"outgoing_voters": frozenset({1})}, "joint"),
        ({"next_learners": frozenset({1})}, "joint"),
        ({"last_member_id": 4}, "goes back"),
        ({"members": {**CURRENT.members, 6: member(6)}, "learners": frozenset({6})}, "below an id"),
        ({"members": {**CURRENT.members, 4: member(4)}, "learners": frozenset({4})}, "never used again"),
    ],
)
def test_what_cannot_be_is_refused(change: dict[str, object], why: str) -> None:
    with pytest.raises(InvalidMembership, match=why):
        check_target(CURRENT, replace(CURRENT, **change))  # type: ignore[arg-type]


def test_a_target_is_reached_by_its_steps_with_what_it_says_about_members() -> None:
    moved = replace(member(2), software_version="2.0")
    target = replace(
        CURRENT,
        members={1: member(1), 2: moved, 6: member(6)},
        voters=frozenset({2, 6}),
        learners=frozenset({1}),
        last_member_id=6,
    )
    check_target(CURRENT, target)
    joint = next_membership(CURRENT, target)
    assert joint.is_joint
    assert sorted(joint.members) == [1, 2, 3, 6]
    assert final_membership(joint) == replace(target, version=3)


def test_a_membership_survives_its_encoding() -> None:
    joint = next_membership(CURRENT, replace(CURRENT, voters=frozenset({1, 2}), learners=frozenset({3})))
    assert Membership.decode(joint.encode()) == joint
    assert Membership.decode(joint.encode()).encode() == joint.encode()
    with pytest.raises(ValueError, match="not an encoded membership"):
        Membership.decode(b'{"version": 1}')
