"""§3.10 Leadership transfer extension, and check-quorum (§6.2)."""

import pytest

from raftwright.raft.entries import EntryId, HardState
from raftwright.raft.errors import ProposalDropped
from raftwright.raft.events import TransferLeadership
from raftwright.raft.messages import AppendReply, RequestVote, TimeoutNow
from raftwright.raft.roles import Candidate, Follower, Leader
from tests.paper.server import Server, T, append
from tests.raft.cluster import membership_of


def begin(target: int = 2) -> Server:
    server = Server()
    server.lead()
    server.matched(2, 2)
    server.said()
    server.step(TransferLeadership(now=server.now, target=target))
    return server


def told(server: Server) -> list[int]:
    return [message.to_id for message in server.said() if isinstance(message, TimeoutNow)]


def test_3_10_the_prior_leader_stops_accepting_requests() -> None:
    server = begin()
    with pytest.raises(ProposalDropped):
        server.propose()


def test_3_10_a_target_that_is_up_to_date_is_told_at_once() -> None:
    assert told(begin()) == [2]


def test_3_10_a_target_that_is_behind_is_first_brought_up_to_date() -> None:
    server = begin(target=3)
    assert told(server) == []
    server.matched(3, 2)
    assert told(server) == [3]


def test_3_10_a_transfer_is_given_up_after_about_an_election_timeout() -> None:
    server = begin()
    end = server.now + T
    while server.now < end:
        server.matched(2, 2)
        server.time_out()
    server.propose()
    assert isinstance(server.raft.role, Leader)
    server.said()
    server.time_out()
    assert told(server) == []


def test_3_10_the_target_campaigns_at_once_without_pre_vote_and_says_why() -> None:
    server = Server()
    server.receive(append(1, of=3))
    server.said()
    server.receive(TimeoutNow(from_id=3, to_id=1, term=1))
    assert isinstance(server.raft.role, Candidate)
    assert [(message.term, message.transfer) for message in server.said() if isinstance(message, RequestVote)] == [
        (2, True)
    ] * 2


def test_3_10_only_the_leader_of_the_term_can_ask_for_it() -> None:
    server = Server(term=4)
    server.receive(append(4, of=3))
    server.receive(TimeoutNow(from_id=3, to_id=1, term=3))
    server.receive(TimeoutNow(from_id=2, to_id=1, term=4))
    assert server.raft.hard_state == HardState(4, None)


def test_3_10_a_server_without_a_vote_does_not_take_over() -> None:
    server = Server(membership=membership_of([2, 3], [1]))
    server.receive(TimeoutNow(from_id=3, to_id=1, term=1))
    assert isinstance(server.raft.role, Follower)


def test_6_2_a_leader_steps_down_if_an_election_timeout_passes_without_hearing_from_a_majority() -> None:
    server = Server(5)
    server.lead()
    began = server.now
    while isinstance(server.raft.role, Leader):
        server.receive(AppendReply(from_id=2, to_id=1, term=2, round=1, success=True, match_index=2))
        server.time_out()
    assert T < server.now - began < T + 2 * server.raft.settings.heartbeat_interval_s
    assert (server.raft.term, server.raft.leader_id) == (2, None)


def test_6_2_a_leader_that_hears_from_a_majority_stays() -> None:
    server = Server(5)
    server.lead()
    for _ in range(50):
        for peer in (3, 4):
            server.receive(AppendReply(from_id=peer, to_id=1, term=2, round=1, success=True, match_index=2))
        server.time_out()
    assert isinstance(server.raft.role, Leader)


def test_a_late_tick_counts_once() -> None:
    """After a pause the leader sends one heartbeat, not those it missed."""
    server = Server(1)
    server.lead()
    server.now += 1000.0
    server.time_out()
    assert server.raft.next_deadline == server.now + server.raft.settings.heartbeat_interval_s
    follower = Server()
    follower.now = 1000.0
    follower.time_out()
    assert follower.raft.next_deadline >= follower.now + T
    assert follower.raft.log.last_id == EntryId(1, 1)
