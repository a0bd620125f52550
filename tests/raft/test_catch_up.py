"""Intents in the membership: learners become voters when they have caught up, and whoever leads sees to it (§4.2.1)."""

from collections.abc import Mapping
from dataclasses import replace

import pytest

from raftwright.raft import intents
from raftwright.raft.catch_up import has_caught_up
from raftwright.raft.entries import EntryKind
from raftwright.raft.events import ProposeMembership, Receive
from raftwright.raft.membership import Membership
from raftwright.raft.messages import AppendReply
from tests.raft.cluster import Cluster, member, membership_of


def intend(
    cluster: Cluster, wanted: Mapping[int, Mapping[str, int | str]], *, learners: frozenset[int] = frozenset()
) -> None:
    """Put intents on members; those that are new enter as learners. Every intent is of the group of this change."""
    current = cluster.leader.raft.membership
    members = dict(current.members)
    for key, intent in wanted.items():
        members[key] = replace(members.get(key) or member(key), intent=intent)
    target = replace(
        current,
        members=dict(sorted(members.items())),
        learners=current.learners | learners,
        last_member_id=max(current.last_member_id, *learners, 0),
    )
    event = ProposeMembership(now=cluster.now, target=target, base_version=current.version, time_ms=0)
    cluster.step(cluster.leader.member_id, event)


def voters(cluster: Cluster) -> set[int]:
    membership = cluster.leader.raft.committed_membership
    assert not membership.is_joint
    return set(membership.voters)


def cluster_of(count: int = 3) -> Cluster:
    cluster = Cluster(count)
    cluster.elect(1)
    return cluster


def test_a_learner_is_promoted_by_the_leader_once_it_has_caught_up() -> None:
    cluster = cluster_of(1)
    intend(cluster, {2: {"promote": 2}}, learners=frozenset({2}))
    cluster.run(5.0)
    assert voters(cluster) == {1}, "the learner does not run yet"
    cluster.start(2)
    cluster.run(2.0)
    assert voters(cluster) == {1, 2}
    assert not cluster[2].raft.committed_membership.members[2].intent


def test_two_learners_of_a_group_become_voters_in_one_change_without_an_even_number() -> None:
    cluster = cluster_of(1)
    intend(cluster, {2: {"promote": 2}, 3: {"promote": 2}}, learners=frozenset({2, 3}))
    cluster.start(2)
    cluster.run(5.0)
    assert voters(cluster) == {1}, "the group waits for its slowest"
    cluster.start(3)
    cluster.run(2.0)
    assert voters(cluster) == {1, 2, 3}
    assert cluster.leader.raft.membership.version == 4, "learners, joint, final"


def test_a_dead_voter_is_swapped_for_a_new_one() -> None:
    cluster = cluster_of(3)
    cluster.crash(3)
    intend(cluster, {4: {"promote": 2, "replaces": 3}, 3: {"remove": 2}}, learners=frozenset({4}))
    cluster.start(4)
    cluster.run(3.0)
    assert voters(cluster) == {1, 2, 4}
    assert 3 not in cluster.leader.raft.membership.members


@pytest.mark.parametrize("forced", [False, True])
def test_a_forced_group_goes_on_without_a_quorum_that_can_be_reached(forced: bool) -> None:
    """Of the four voters that it leads to, two can be reached: the joint membership waits until a third is back."""
    cluster = cluster_of(5)
    for dead in (4, 5):
        cluster.crash(dead)
    cluster.run(1.0)
    raft = cluster.leader.raft
    force = {"force": 2} if forced else {}
    wanted = {6: {"promote": 2, **force}, 2: {"remove": 2}, 3: {"remove": 2}}
    intend(cluster, wanted, learners=frozenset({6}))
    cluster.start(6)
    cluster.run(3.0)
    assert raft.membership.is_joint is forced


def test_a_leader_that_is_to_be_removed_hands_over_first_and_the_next_one_removes_it() -> None:
    cluster = cluster_of(3)
    term = cluster.leader.raft.term
    intend(cluster, {1: {"remove": 2}})
    cluster.run(3.0)
    assert cluster.leader.member_id != 1
    assert cluster.leader.raft.term == term + 1, "one election, at once"
    assert voters(cluster) == {2, 3}
    log = cluster.leader.raft.log
    entries = log.entries(log.tail_first, log.last_index, 1 << 30) or ()
    changes = [entry for entry in entries if entry.kind == EntryKind.MEMBERSHIP]
    assert [entry.term - term for entry in changes] == [0, 1, 1], "the joint change is the next leader's"


def test_a_leader_that_nobody_can_follow_removes_itself() -> None:
    cluster = cluster_of(1)
    intend(cluster, {1: {"remove": 2}, 2: {"promote": 2}}, learners=frozenset({2}))
    cluster.start(2)
    cluster.run(3.0)
    assert cluster.leader.member_id == 2
    assert voters(cluster) == {2}


def test_the_next_leader_carries_the_intent_of_a_dead_one_on() -> None:
    cluster = cluster_of(3)
    intend(cluster, {4: {"promote": 2}}, learners=frozenset({4}))
    cluster.deliver_all()
    cluster.crash(1)
    cluster.run(3.0)
    cluster.start(4)
    cluster.run(3.0)
    assert voters(cluster) == {1, 2, 3, 4}


def test_an_intent_that_only_a_snapshot_holds_is_carried_on() -> None:
    cluster = cluster_of(3)
    intend(cluster, {4: {"promote": 2}}, learners=frozenset({4}))
    cluster.run(1.0)
    for number in (1, 2, 3):
        cluster[number].take_snapshot(keep=0)
        assert cluster[number].disk.entries == []
    for number in (1, 2, 3):
        cluster.crash(number)
    for number in (1, 2, 3):
        cluster.start(number)
    cluster.start(4)
    cluster.run(5.0)
    assert voters(cluster) == {1, 2, 3, 4}


@pytest.mark.parametrize("victim", [1, 2, 3, 4])
@pytest.mark.parametrize("after", range(1, 13))
def test_a_change_ends_whichever_member_crashes_after_whichever_message(victim: int, after: int) -> None:
    """Every member crashes in turn, after each of the messages that make the joint change."""
    cluster = cluster_of(3)
    cluster.start(4)
    intend(cluster, {4: {"promote": 2}, 3: {"remove": 2}}, learners=frozenset({4}))
    cluster.run(0.05)
    delivered = 0
    while delivered < after:
        for number in sorted(cluster.stores):
            cluster.settle(number)
        if not cluster.network:
            cluster.tick(cluster.leader.member_id)
            continue
        cluster.deliver(cluster.network.pop(0))
        delivered += 1
    cluster.crash(victim)
    cluster.run(5.0)
    cluster.start(victim)
    cluster.run(5.0)
    assert voters(cluster) == {1, 2, 4}
    cluster.check_logs_match()


def test_a_learner_that_falls_behind_is_not_promoted() -> None:
    """Its last round was fast and long ago: what counts is the round under way."""
    cluster = cluster_of(3)
    cluster.start(4)
    cluster.change([1, 2, 3], [4])
    cluster.run(1.0)
    leader = cluster.leader.raft.leader_role
    assert leader is not None
    assert has_caught_up(cluster.leader.raft, leader.progress[4])
    cluster.cut_off(4)
    cluster.propose(b"x")
    cluster.run(1.0)
    assert not has_caught_up(cluster.leader.raft, leader.progress[4])
    intend(cluster, {4: {"promote": 3}})
    cluster.run(3.0)
    assert voters(cluster) == {1, 2, 3}
    cluster.heal()
    cluster.run(3.0)
    assert voters(cluster) == {1, 2, 3, 4}


def test_a_round_that_takes_an_election_timeout_does_not_count() -> None:
    """The learner answers at last, but the round took it too long."""
    cluster = cluster_of(3)
    cluster.start(4)
    cluster.change([1, 2, 3], [4])
    cluster.run(1.0)
    leader = cluster.leader.raft.leader_role
    assert leader is not None
    cluster.cuts.add((4, 1))
    cluster.propose(b"x")
    cluster.run(1.5 * cluster.settings.election_timeout_s)
    index = cluster.propose(b"y")
    reply = AppendReply(from_id=4, to_id=1, term=cluster[1].raft.term, round=0, success=True, match_index=index - 1)
    cluster.step(1, Receive(now=cluster.now, message=reply))
    assert not has_caught_up(cluster[1].raft, leader.progress[4]), "that round was slow"
    cluster.heal()
    cluster.run(0.3)
    assert has_caught_up(cluster[1].raft, leader.progress[4])


def test_no_quorum_of_the_new_voters_no_change() -> None:
    """A joint membership whose new half is away would stop every commit, so the leader waits for it."""
    cluster = cluster_of(3)
    cluster.crash(3)
    cluster.run(1.0)
    intend(cluster, {2: {"remove": 2}})
    cluster.run(3.0)
    assert voters(cluster) == {1, 2, 3}
    assert cluster.leader.raft.committed_membership.members[2].intent == {"remove": 2}
    cluster.start(3)
    cluster.run(3.0)
    assert voters(cluster) == {1, 3}


def test_nothing_is_carried_on_before_the_intents_are_committed() -> None:
    """They might be rolled back, and with two changes at once in the logs no quorums need to overlap (§4.1)."""
    cluster = cluster_of(3)
    cluster.start(4)
    cluster.change([1, 2, 3], [4])
    cluster.run(1.0)
    for voter in (2, 3):
        cluster.cut_off(voter)
    intend(cluster, {4: {"promote": 3}})
    cluster.run(0.5)
    assert cluster[4].raft.membership.members[4].intent, "the learner has it, and has caught up"
    assert not cluster[1].raft.membership.is_joint


def test_the_target_of_a_group_leaves_other_groups_alone() -> None:
    base = membership_of([1, 2, 3], [4, 5])
    members = dict(base.members)
    members[1] = intents.with_intent(members[1], demote=7)
    members[2] = intents.with_intent(members[2], remove=7)
    members[3] = intents.with_intent(members[3], remove=8)
    members[4] = intents.with_intent(members[4], promote=7, replaces=2)
    members[5] = intents.with_intent(members[5], promote=8)
    membership = replace(base, members=members)
    assert intents.groups(membership) == [7, 8]
    target = intents.target_of(membership, 7)
    assert (set(target.voters), set(target.learners)) == ({3, 4}, {1, 5})
    assert {key: dict(one.intent) for key, one in target.members.items()} == {
        1: {},
        3: {"remove": 8},
        4: {},
        5: {"promote": 8},
    }


def test_a_replacement_that_is_taken_out_does_not_take_the_old_member_along() -> None:
    base = membership_of([1, 2], [3, 4])
    members = dict(base.members)
    members[2] = intents.with_intent(members[2], remove=7)
    members[3] = intents.with_intent(members[3], promote=7, replaces=2)
    alone: Membership = replace(base, members=members)
    assert not intents.called_off(alone, frozenset({3}))[2].intent
    members[4] = intents.with_intent(members[4], promote=7)
    together = replace(base, members=members)
    assert intents.called_off(together, frozenset({3}))[2].intent == {"remove": 7}, "another of the group still comes"
    assert not intents.called_off(together, frozenset({3, 4}))[2].intent
