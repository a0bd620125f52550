"""§3.3 Raft basics (terms) and §3.4 Leader election."""

import pytest

from raftwright.raft.entries import EntryId, HardState
from raftwright.raft.events import Tick
from raftwright.raft.messages import (
    AppendEntries,
    AppendReply,
    PreVoteReply,
    RequestPreVote,
    RequestVote,
    VoteReply,
)
from raftwright.raft.roles import Candidate, Follower, Leader, PreCandidate
from tests.paper.server import START, Server, T, append, entry, request_vote


def test_3_3_a_server_that_sees_a_larger_term_takes_it() -> None:
    """Terms are a logical clock: whoever sees a larger one updates its own."""
    server = Server()
    server.receive(append(5))
    assert server.raft.term == 5
    assert server.take().hard_state == HardState(5, None)


@pytest.mark.parametrize("make", ["candidate", "leader"])
def test_3_3_a_candidate_or_leader_that_is_out_of_date_becomes_follower(make: str) -> None:
    """A candidate or leader whose term is stale steps down at once."""
    server = Server()
    server.campaign() if make == "candidate" else server.lead()
    term = server.raft.term + 3
    server.receive(AppendReply(from_id=2, to_id=1, term=term, round=0, success=False))
    assert isinstance(server.raft.role, Follower)
    assert (server.raft.term, server.raft.leader_id) == (term, None)


@pytest.mark.parametrize(
    "message",
    [append(2, entries=(entry(2, 2),)), request_vote(2)],
)
def test_3_3_a_request_with_a_stale_term_is_rejected(message: AppendEntries | RequestVote) -> None:
    """The refusal carries the newer term, from which the sender learns that its own is over."""
    server = Server(term=4)
    server.receive(message)
    (reply,) = server.said()
    assert isinstance(reply, AppendReply | VoteReply)
    assert reply.term == 4
    assert not (reply.success if isinstance(reply, AppendReply) else reply.granted)
    assert server.raft.log.last_id == START


def test_3_3_a_reply_of_an_older_term_is_ignored() -> None:
    """What a server was told in an older term says nothing about this one."""
    server = Server(term=4)
    server.campaign()
    server.receive(VoteReply(from_id=2, to_id=1, term=4, granted=True))
    assert isinstance(server.raft.role, Candidate)


def test_3_4_servers_start_as_followers() -> None:
    assert isinstance(Server().raft.role, Follower)


def test_3_4_a_server_remains_follower_as_long_as_it_hears_from_a_leader() -> None:
    """Heartbeats hold elections off."""
    server = Server()
    for _ in range(50):
        server.now += T * 0.9
        server.receive(append(1))
        server.step(Tick(now=server.now))
    assert isinstance(server.raft.role, Follower)
    assert server.raft.leader_id == 2


def test_3_4_a_follower_that_hears_nothing_for_an_election_timeout_begins_an_election() -> None:
    server = Server()
    server.receive(append(1))
    server.time_out()
    assert T <= server.now - T < 2 * T
    assert isinstance(server.raft.role, PreCandidate)


def test_3_4_a_candidate_increments_its_term_and_votes_for_itself() -> None:
    server = Server()
    server.campaign()
    assert isinstance(server.raft.role, Candidate)
    assert server.take().hard_state == HardState(2, 1)


def test_3_4_a_candidate_requests_votes_of_all_other_servers() -> None:
    server = Server(5)
    server.campaign()
    requests = [message for message in server.said() if isinstance(message, RequestVote)]
    assert [(message.to_id, message.term, message.last) for message in requests] == [
        (peer, 2, START) for peer in (2, 3, 4, 5)
    ]


@pytest.mark.parametrize(("voters", "needed"), [(1, 0), (2, 1), (3, 1), (4, 2), (5, 2), (7, 3)])
def test_3_4_a_candidate_wins_with_the_votes_of_a_majority(voters: int, needed: int) -> None:
    """Of the full cluster, for the same term, and including its own."""
    server = Server(voters)
    server.campaign()
    for voter in range(2, 2 + needed):
        assert isinstance(server.raft.role, Candidate)
        server.receive(VoteReply(from_id=voter, to_id=1, term=2, granted=True))
        server.receive(VoteReply(from_id=voter, to_id=1, term=2, granted=True))
    assert isinstance(server.raft.role, Leader)


def test_3_4_refusals_are_no_votes() -> None:
    server = Server()
    server.campaign()
    for voter in (2, 3):
        server.receive(VoteReply(from_id=voter, to_id=1, term=2, granted=False))
    assert isinstance(server.raft.role, Candidate)


def test_3_4_each_server_votes_for_at_most_one_candidate_a_term_first_come_first_served() -> None:
    server = Server()
    server.receive(request_vote(2, of=2))
    server.receive(request_vote(2, of=3))
    server.receive(request_vote(2, of=2))
    assert [(reply.to_id, reply.granted) for reply in server.said() if isinstance(reply, VoteReply)] == [
        (2, True),
        (3, False),
        (2, True),
    ]
    assert server.raft.hard_state == HardState(2, 2)


def test_3_4_a_vote_outlasts_a_restart() -> None:
    """votedFor is persistent state (Figure 3.1)."""
    server = Server(term=2, voted_for=2)
    server.receive(request_vote(2, of=3))
    (reply,) = server.said()
    assert isinstance(reply, VoteReply) and not reply.granted


def test_3_4_a_vote_is_durable_before_it_leaves() -> None:
    """Persistent state is updated on stable storage before responding to RPCs (Figure 3.1)."""
    server = Server()
    server.receive(request_vote(2))
    ready = server.take(persist=False)
    assert ready.hard_state == HardState(2, 2)
    assert not ready.messages
    assert [type(message) for message in ready.messages_after] == [VoteReply]


def test_3_4_a_candidate_is_durable_before_it_asks() -> None:
    """Else it could ask, forget, and vote for another in the same term."""
    server = Server()
    server.campaign()
    ready = server.take(persist=False)
    assert ready.hard_state == HardState(2, 1)
    assert not any(isinstance(message, RequestVote) for message in ready.messages)
    assert len([message for message in ready.messages_after if isinstance(message, RequestVote)]) == 2


def test_3_4_nothing_of_a_term_leaves_before_that_term_is_durable() -> None:
    """Not even what promises nothing else: while the write runs, later messages wait as well."""
    server = Server()
    server.campaign()
    first = server.take(persist=False)
    server.receive(append(1, of=3))  # a leader of the older term
    second = server.take(persist=False)
    assert (len(second.messages), len(second.messages_after)) == (0, 1)
    server.persist(first)
    server.receive(append(1, of=3))
    assert len(server.take().messages) == 1


def test_3_4_a_new_leader_sends_heartbeats_to_all_at_once_and_then_periodically() -> None:
    server = Server()
    server.campaign()
    server.said()
    server.receive(VoteReply(from_id=2, to_id=1, term=2, granted=True))
    assert [message.to_id for message in server.said() if isinstance(message, AppendEntries)] == [2, 3]
    began = server.now
    server.time_out()
    assert server.now - began == pytest.approx(server.raft.settings.heartbeat_interval_s)
    assert [message.to_id for message in server.said() if isinstance(message, AppendEntries)] == [2, 3]


@pytest.mark.parametrize("term", [2, 3])
def test_3_4_a_candidate_that_hears_from_a_leader_of_its_term_or_later_follows_it(term: int) -> None:
    server = Server()
    server.campaign()
    server.receive(append(term, of=3))
    assert isinstance(server.raft.role, Follower)
    assert server.raft.leader_id == 3


def test_3_4_a_candidate_ignores_a_leader_of_an_older_term() -> None:
    server = Server()
    server.campaign()
    server.receive(append(1, of=3))
    assert isinstance(server.raft.role, Candidate)


def test_3_4_a_candidate_that_neither_wins_nor_loses_times_out_and_tries_again() -> None:
    """Here by a pre-vote first (§9.6)."""
    server = Server()
    server.campaign()
    server.campaign()
    assert isinstance(server.raft.role, Candidate)
    assert server.raft.hard_state == HardState(3, 1)


def test_3_4_election_timeouts_are_random_from_an_interval() -> None:
    """So that split votes are rare: from T to twice T, and anew for each election."""
    timeouts = {Server(seed=seed).raft.next_deadline for seed in range(200)}
    assert len(timeouts) > 190
    assert min(timeouts) < 1.05 * T and max(timeouts) > 1.95 * T
    assert all(T <= timeout < 2 * T for timeout in timeouts)
    server = Server()
    first = server.raft.next_deadline
    server.time_out()
    assert server.raft.next_deadline - server.now != first


def test_3_4_the_same_seed_gives_the_same_timeout() -> None:
    assert Server(seed=7).raft.next_deadline == Server(seed=7).raft.next_deadline


@pytest.mark.parametrize(
    ("own", "candidate", "granted"),
    [
        ((1,), EntryId(1, 2), True),  # the same
        ((1,), EntryId(1, 3), True),  # longer
        ((1, 1), EntryId(1, 2), False),  # shorter
        ((1, 1, 1), EntryId(2, 2), True),  # shorter, and of a later term
        ((2,), EntryId(1, 9), False),  # longer, and of an earlier term
    ],
)
def test_3_6_1_a_voter_denies_its_vote_if_its_own_log_is_more_up_to_date(
    own: tuple[int, ...], candidate: EntryId, granted: bool
) -> None:
    """The later last term wins; of equal ones the longer log."""
    server = Server(terms=own)
    server.receive(request_vote(5, candidate))
    (reply,) = server.said()
    assert isinstance(reply, VoteReply)
    assert (reply.term, reply.granted) == (5, granted)
    assert server.raft.hard_state == HardState(5, 2 if granted else None)


def test_4_2_3_a_server_that_hears_from_a_leader_neither_votes_nor_takes_the_term() -> None:
    """Within the minimum election timeout of hearing from it: a removed server must not disrupt the cluster."""
    server = Server()
    server.receive(append(1, of=3))
    server.said()
    server.now += 0.99 * T
    server.receive(request_vote(9))
    (reply,) = server.said()
    assert isinstance(reply, VoteReply) and not reply.granted
    assert server.raft.term == 1
    server.now += 0.02 * T
    server.receive(request_vote(9))
    assert server.raft.hard_state == HardState(9, 2)


def test_4_2_3_the_promise_to_a_leader_holds_over_a_change_of_term() -> None:
    """A leader's lease counts on it (§6.4.1): seeing a larger term by another way frees nobody to vote."""
    server = Server()
    server.receive(append(1, of=3))
    server.receive(AppendReply(from_id=2, to_id=1, term=4, round=0, success=False))
    assert server.raft.term == 4
    server.receive(request_vote(5))
    assert server.raft.hard_state == HardState(4, None)


def test_4_2_3_a_leader_neither_votes_nor_takes_the_term() -> None:
    server = Server()
    server.lead()
    server.receive(request_vote(9))
    assert isinstance(server.raft.role, Leader)
    assert server.raft.term == 2


def test_4_2_3_the_election_of_a_transfer_carries_a_flag_and_is_not_held_off() -> None:
    server = Server()
    server.receive(append(1, of=3))
    server.receive(request_vote(2, of=2, transfer=True))
    assert server.raft.hard_state == HardState(2, 2)


@pytest.mark.parametrize("transfer", [False, True])
def test_a_server_that_has_just_started_does_not_vote(transfer: bool) -> None:
    """It forgot whom it heard, so it keeps the promise it may have given for one election timeout."""
    server = Server(rested=False)
    server.receive(request_vote(2, transfer=transfer))
    assert server.raft.hard_state.voted_for is None
    server.now = T
    server.receive(request_vote(3, transfer=transfer))
    assert server.raft.hard_state == HardState(3, 2)


def test_a_sole_voter_campaigns_at_once() -> None:
    """There is nobody else whom it could have heard."""
    server = Server(1, rested=False)
    assert server.raft.next_deadline == 0.0
    server.time_out()
    assert isinstance(server.raft.role, Leader)


def test_9_6_a_pre_vote_changes_neither_term_nor_vote() -> None:
    server = Server()
    server.time_out()
    ready = server.take()
    assert ready.hard_state is None
    assert [(type(message), message.term) for message in ready.messages] == [(RequestPreVote, 2)] * 2


def test_9_6_a_candidate_increments_its_term_only_after_a_majority_would_vote_for_it() -> None:
    server = Server(5)
    server.time_out()
    server.receive(PreVoteReply(from_id=2, to_id=1, term=2, granted=True))
    server.receive(PreVoteReply(from_id=3, to_id=1, term=1, granted=False))
    assert (server.raft.term, type(server.raft.role)) == (1, PreCandidate)
    server.receive(PreVoteReply(from_id=4, to_id=1, term=2, granted=True))
    assert (server.raft.term, type(server.raft.role)) == (2, Candidate)


def test_9_6_a_pre_candidate_learns_of_a_newer_term_from_a_refusal() -> None:
    server = Server()
    server.time_out()
    server.receive(PreVoteReply(from_id=2, to_id=1, term=6, granted=False))
    assert (server.raft.term, type(server.raft.role)) == (6, Follower)
