"""§4 Cluster membership changes, as one server sees them. Whole clusters: tests/raft/test_membership_changes.py."""

import zlib
from collections.abc import Set
from dataclasses import replace

import pytest

from raftwright.raft.entries import Entry, EntryId, EntryKind, HardState
from raftwright.raft.errors import MembershipChangePending
from raftwright.raft.events import ProposeMembership
from raftwright.raft.membership import Membership
from raftwright.raft.messages import AppendEntries, PreVoteReply, VoteReply
from raftwright.raft.roles import Follower
from tests.paper.server import START, Server, append, entry, request_vote
from tests.raft.cluster import member, membership_of


def change(server: Server, voters: Set[int], learners: Set[int] = frozenset()) -> None:
    current = server.raft.membership
    target = replace(
        current,
        members={key: current.members.get(key) or member(key) for key in sorted(voters | learners)},
        voters=frozenset(voters),
        learners=frozenset(learners),
        last_member_id=max(current.last_member_id, *voters, *learners),
    )
    server.step(ProposeMembership(now=server.now, target=target, base_version=current.version, time_ms=0))


def ready_leader(voters: int = 3) -> Server:
    server = Server(voters)
    server.lead()
    for peer in range(2, voters + 1):
        server.matched(peer, 2)
    server.said()
    return server


def leads(server: Server) -> bool:
    return server.raft.leader_role is not None


def membership_entry(term: int, index: int, membership: Membership) -> Entry:
    payload = membership.encode()
    return Entry(term, index, EntryKind.MEMBERSHIP, 1, 0, payload, zlib.crc32(payload))


def test_4_1_a_server_uses_the_newest_membership_in_its_log_committed_or_not() -> None:
    server = Server()
    newer = replace(membership_of([1, 2, 3, 4]), version=2)
    server.receive(append(1, entries=(membership_entry(1, 2, newer),)))
    assert server.raft.membership == newer
    assert server.raft.committed_membership.version == 1


def test_4_1_a_server_falls_back_to_the_one_before_when_the_entry_is_truncated() -> None:
    server = Server()
    newer = replace(membership_of([1, 2, 3, 4]), version=2)
    server.receive(append(1, entries=(membership_entry(1, 2, newer),)))
    server.receive(append(2, entries=(entry(2, 2),), of=3))
    assert server.raft.membership.version == 1


def test_4_1_a_leader_begins_no_change_while_another_is_not_committed() -> None:
    server = ready_leader()
    change(server, {1, 2, 3}, {4})
    with pytest.raises(MembershipChangePending):
        change(server, {1, 2, 3}, {5})


def test_4_1_a_leader_begins_no_change_before_it_committed_an_entry_of_its_term() -> None:
    server = Server()
    server.lead()
    with pytest.raises(MembershipChangePending):
        change(server, {1, 2})
    server.matched(2, 2)
    change(server, {1, 2})


def test_4_1_servers_process_requests_of_servers_that_are_not_in_their_membership() -> None:
    """A new server must be able to get votes of, and replicate to, those that do not know it yet."""
    server = Server()
    server.receive(request_vote(2, of=9))
    assert server.raft.hard_state.voted_for == 9
    server.receive(append(2, of=9))
    assert server.raft.leader_id == 9


def test_4_2_1_new_servers_get_the_log_without_a_vote() -> None:
    server = ready_leader(1)
    change(server, {1}, {2})
    assert server.raft.membership.learners == {2}
    server.take()
    assert server.raft.commit_index == 3, "the learner is not waited for"


def test_4_2_2_a_leader_that_is_not_in_the_new_membership_manages_without_counting_itself() -> None:
    server = ready_leader()
    change(server, {2, 3})
    server.take()
    server.matched(2, 3)
    assert server.raft.commit_index == 2, "the new half has one of two"
    server.matched(3, 3)
    assert server.raft.commit_index == 3


def test_4_2_2_it_steps_down_once_the_new_membership_is_committed() -> None:
    server = ready_leader()
    change(server, {2, 3})
    server.take()
    for peer in (2, 3):
        server.matched(peer, 3)
    server.take()
    assert server.raft.leader_role is not None
    for peer in (2, 3):
        server.matched(peer, 4)
    assert server.raft.leader_role is None


def test_4_3_the_leader_appends_the_final_membership_once_the_joint_one_is_committed() -> None:
    server = ready_leader()
    change(server, {1, 4, 5})
    server.take()
    server.matched(2, 3)
    assert (server.raft.commit_index, server.raft.log.last_index) == (2, 3), "the old half alone has it"
    server.matched(4, 3)
    assert (server.raft.commit_index, server.raft.log.last_index) == (3, 4)
    assert sorted(server.raft.membership.voters) == [1, 4, 5]
    assert not server.raft.membership.is_joint


def test_4_3_the_final_membership_does_not_follow_before_the_joint_one_is_committed() -> None:
    """An entry before the joint one being committed is not enough."""
    server = ready_leader()
    server.propose()
    change(server, {1, 4, 5})
    server.take()
    server.matched(2, 3)
    server.matched(4, 3)
    assert (server.raft.commit_index, server.raft.log.last_index) == (3, 4)
    assert server.raft.membership.is_joint


def test_4_3_a_later_leader_carries_an_inherited_change_on() -> None:
    joint = replace(membership_of([1, 2, 3]), version=2, outgoing_voters=frozenset({1, 2, 3}), voters=frozenset({1, 2}))
    server = Server()
    server.receive(append(1, entries=(membership_entry(1, 2, joint),)))
    server.take()
    server.lead()
    assert server.raft.membership.is_joint
    server.matched(2, 3)
    assert server.raft.membership.voters == {1, 2}
    assert not server.raft.membership.outgoing_voters


def test_4_3_elections_need_both_majorities_while_joint() -> None:
    joint = replace(
        membership_of([1, 2, 3, 4, 5]),
        version=2,
        outgoing_voters=frozenset({1, 2, 3}),
        voters=frozenset({1, 4, 5}),
    )
    assert not joint.has_quorum({1, 2, 3})
    assert not joint.has_quorum({1, 4, 5} - {1})
    assert joint.has_quorum({1, 2, 4})


def test_4_3_both_halves_are_replicated_to() -> None:
    server = ready_leader()
    change(server, {1, 4, 5})
    sent = {message.to_id for message in server.said() if isinstance(message, AppendEntries)}
    assert sent == {2, 3, 4, 5}
    assert server.raft.log.last_id == EntryId(2, 3)


def test_4_2_2_a_server_that_is_being_removed_still_campaigns_without_counting_its_own_vote() -> None:
    """Until the new membership is known to be committed, it may be the only one whose log can win."""
    newer = replace(membership_of([2, 3]), version=2)
    newer = replace(newer, members={2: member(2), 3: member(3)}, voters=frozenset({2, 3}), last_member_id=3)
    server = Server()
    server.receive(append(1, entries=(membership_entry(1, 2, newer),)))
    server.time_out()
    server.receive(PreVoteReply(from_id=2, to_id=1, term=2, granted=True))
    assert server.raft.hard_state == HardState(1, None), "one of the two voters is no majority"
    server.receive(PreVoteReply(from_id=3, to_id=1, term=2, granted=True))
    assert server.raft.hard_state == HardState(2, 1)
    server.receive(VoteReply(from_id=2, to_id=1, term=2, granted=True))
    assert server.raft.leader_id is None
    server.receive(VoteReply(from_id=3, to_id=1, term=2, granted=True))
    assert leads(server)
    server.said()
    for voter in (2, 3):
        server.matched(voter, 3)
    assert not leads(server), "its work is done"
    server.now += 100.0
    assert server.raft.next_deadline == float("inf")


def test_4_2_3_a_server_that_is_not_a_voter_does_not_begin_elections() -> None:
    server = Server(membership=membership_of([2, 3], [1]))
    server.receive(append(1, START))
    server.time_out()
    assert isinstance(server.raft.role, Follower)
    assert (server.raft.term, server.raft.leader_id) == (1, None)
