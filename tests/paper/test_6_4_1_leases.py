"""§6.4.1 Using clocks to reduce messaging for read-only queries."""

from dataclasses import replace

import pytest

from raftwright.raft.entries import EntryId
from raftwright.raft.events import ProposeMembership, TransferLeadership
from raftwright.raft.messages import AppendEntries, AppendReply, TimeoutNow
from raftwright.raft.raft import RaftSettings
from tests.paper.server import Server, T, append, request_vote
from tests.raft.cluster import membership_of

NEVER = float("-inf")
LEASE = T * 0.9
"""What the default bound on clocks leaves of an election timeout."""


def leader_of(voters: int = 3, learners: int = 0, *, server: Server | None = None) -> Server:
    ids = range(1, voters + 1)
    server = server or Server(membership=membership_of(ids, range(voters + 1, voters + learners + 1)))
    server.lead()
    for peer in sorted(server.raft.membership.all_voters - {1}):
        server.matched(peer, 2)
    server.take()
    assert server.raft.commit_index == 2
    return server


def round_of(server: Server) -> int:
    """Begin a round of heartbeats."""
    server.time_out()
    (number,) = {message.round for message in server.said() if isinstance(message, AppendEntries)}
    return number


def answer(server: Server, peer: int, number: int, withholds_s: float = T) -> None:
    receive_reply(server, peer, number, match_index=2, withholds_s=withholds_s)


def receive_reply(server: Server, peer: int, number: int, *, match_index: int, withholds_s: float = T) -> None:
    server.receive(
        AppendReply(
            from_id=peer,
            to_id=1,
            term=server.raft.term,
            round=number,
            success=True,
            match_index=match_index,
            withholds_s=withholds_s,
        )
    )


def test_6_4_1_the_lease_runs_from_the_sending_of_the_round_not_from_its_answer() -> None:
    server = leader_of()
    number = round_of(server)
    sent_at = server.now
    server.now += 0.05
    answer(server, 2, number)
    assert server.raft.lease_until == pytest.approx(sent_at + LEASE)


def test_6_4_1_an_answer_to_an_earlier_round_extends_the_lease_only_from_that_round() -> None:
    server = leader_of()
    earlier = round_of(server)
    sent_at = server.now
    round_of(server)
    answer(server, 2, earlier)
    assert server.raft.lease_until == pytest.approx(sent_at + LEASE)


@pytest.mark.parametrize(("voters", "needed"), [(2, 1), (3, 1), (4, 2), (5, 2)])
def test_6_4_1_only_a_majority_extends_the_lease(voters: int, needed: int) -> None:
    server = leader_of(voters)
    number = round_of(server)
    before = server.raft.lease_until
    for peer in range(2, 2 + needed):
        assert server.raft.lease_until == before
        answer(server, peer, number)
    assert server.raft.lease_until == pytest.approx(server.now + LEASE)


def test_6_4_1_a_learner_never_counts_in_a_lease() -> None:
    server = leader_of(voters=3, learners=4)
    number = round_of(server)
    before = server.raft.lease_until
    for learner in (4, 5, 6, 7):
        answer(server, learner, number)
    assert server.raft.lease_until == before


@pytest.mark.parametrize("only", [(2, 3), (4, 5)])
def test_6_4_1_during_a_joint_membership_both_halves_must_answer(only: tuple[int, ...]) -> None:
    server = leader_of(voters=3, learners=3)
    current = server.raft.membership
    members = {number: current.members[number] for number in (4, 5, 6)}
    target = replace(current, members=members, voters=frozenset(members), learners=frozenset())
    server.step(ProposeMembership(now=server.now, target=target, base_version=current.version, time_ms=0))
    server.said()
    assert server.raft.membership.is_joint
    number = round_of(server)
    before = server.raft.lease_until
    for peer in only:
        answer(server, peer, number)
    assert server.raft.lease_until == before
    for peer in (2, 4, 5):
        answer(server, peer, number)
    assert server.raft.lease_until == pytest.approx(server.now + LEASE)


def test_6_4_1_there_is_no_lease_before_the_leader_has_committed_in_its_term() -> None:
    """§6.4: it does not know yet what is committed."""
    server = Server()
    server.lead()
    number = round_of(server)
    receive_reply(server, 2, number, match_index=1)
    assert server.raft.lease_until == NEVER
    server.matched(2, 2)
    assert server.raft.lease_until == pytest.approx(server.now + LEASE)


def test_6_4_1_whoever_is_no_leader_has_no_lease() -> None:
    server = leader_of()
    answer(server, 2, round_of(server))
    assert server.raft.lease_until > server.now
    server.receive(append(5, of=2))
    assert server.raft.lease_until == NEVER


def test_6_4_1_a_leader_that_steps_down_by_itself_has_no_lease() -> None:
    server = leader_of()
    server.now += 3 * T
    server.time_out()
    assert server.raft.leader_role is None
    assert server.raft.lease_until == NEVER


def test_6_4_1_a_transfer_ends_the_lease_before_the_target_is_told() -> None:
    server = leader_of()
    answer(server, 2, round_of(server))
    server.step(TransferLeadership(now=server.now, target=3))
    assert server.raft.lease_until == NEVER
    assert any(isinstance(message, TimeoutNow) for message in server.said())


def give_up(server: Server) -> None:
    """Let a transfer's time run out, with member 2 answering every round."""
    end = server.now + 2 * T
    while server.now < end:
        server.time_out()
        for message in server.said():
            if isinstance(message, AppendEntries) and message.to_id == 2:
                answer(server, 2, message.round)
    assert server.raft.leader_role is not None
    assert server.raft.leader_role.transfer is None


def test_6_4_1_a_transfer_that_failed_before_the_target_was_told_gives_the_lease_back() -> None:
    server = leader_of()
    server.propose()
    answer(server, 2, round_of(server))
    assert server.raft.lease_until > server.now
    server.step(TransferLeadership(now=server.now, target=3))
    assert server.raft.lease_until == NEVER
    give_up(server)
    assert server.raft.lease_until == pytest.approx(server.now + LEASE)


def test_6_4_1_once_the_target_was_told_the_lease_is_gone_for_the_term() -> None:
    """What it was told may arrive at any later time, and voters do not hold off an election for a transfer."""
    server = leader_of()
    server.step(TransferLeadership(now=server.now, target=3))
    server.said()
    give_up(server)
    assert server.raft.lease_until == NEVER


def test_6_4_1_the_lease_is_shorter_than_an_election_timeout_by_the_bound_on_clocks() -> None:
    settings = RaftSettings(election_timeout_s=1.0, lease_clock_drift=0.25)
    server = leader_of(server=Server(settings=settings, rested=False))
    answer(server, 2, round_of(server), withholds_s=1.0)
    assert server.raft.lease_until == pytest.approx(server.now + 0.75)


def test_6_4_1_the_lease_is_no_longer_than_what_the_voters_that_answered_promise() -> None:
    """They need not have the same election timeout, and only they know theirs."""
    server = leader_of(5)
    number = round_of(server)
    for peer, withholds_s in ((2, T / 2), (3, T / 3)):
        answer(server, peer, number, withholds_s)
    assert server.raft.lease_until == pytest.approx(server.now + LEASE / 3)
    answer(server, 4, number, withholds_s=10 * T)
    assert server.raft.lease_until == pytest.approx(server.now + LEASE / 2), "2 and 4 are enough with the leader"
    answer(server, 5, number, withholds_s=10 * T)
    assert server.raft.lease_until == pytest.approx(server.now + LEASE), "never longer than by its own"


def test_6_4_1_whoever_promises_nothing_counts_in_no_lease() -> None:
    server = leader_of()
    number = round_of(server)
    for peer in (2, 3):
        answer(server, peer, number, withholds_s=0.0)
    assert server.raft.lease_until == NEVER
    answer(server, 3, number)
    assert server.raft.lease_until == pytest.approx(server.now + LEASE)


def test_6_4_1_a_promise_of_a_round_that_others_confirmed_long_ago_counts_from_that_round() -> None:
    server = leader_of()
    first = round_of(server)
    sent_at = server.now
    answer(server, 2, first, withholds_s=T / 10)
    answer(server, 2, round_of(server), withholds_s=T / 10)
    answer(server, 3, first)
    assert server.raft.lease_until == pytest.approx(sent_at + LEASE)


def test_6_4_1_a_shorter_promise_does_not_take_back_a_longer_one() -> None:
    """A voter that is set to a shorter election timeout waits until the longer one is over."""
    server = leader_of()
    first = round_of(server)
    sent_at = server.now
    answer(server, 2, first)
    answer(server, 2, round_of(server), withholds_s=T / 10)
    assert server.raft.lease_until == pytest.approx(sent_at + LEASE)


def test_6_4_1_during_a_joint_membership_the_half_with_the_shorter_promises_decides() -> None:
    server = leader_of(voters=3, learners=3)
    current = server.raft.membership
    members = {number: current.members[number] for number in (4, 5, 6)}
    target = replace(current, members=members, voters=frozenset(members), learners=frozenset())
    server.step(ProposeMembership(now=server.now, target=target, base_version=current.version, time_ms=0))
    server.said()
    number = round_of(server)
    for peer in (2, 3):
        answer(server, peer, number)
    for peer in (4, 5):
        answer(server, peer, number, withholds_s=T / 4)
    assert server.raft.lease_until == pytest.approx(server.now + LEASE / 4)


def test_6_4_1_every_answer_to_a_leader_says_for_how_long_no_vote_is_given() -> None:
    server = Server(settings=RaftSettings(election_timeout_s=0.25, heartbeat_interval_s=0.05))
    server.receive(append(1, of=3, number=1))
    server.receive(append(1, EntryId(1, 9), of=3, number=2))
    replies = [message for message in server.said() if isinstance(message, AppendReply)]
    assert [(reply.success, reply.withholds_s) for reply in replies] == [(True, 0.25), (False, 0.25)]


def test_6_4_1_a_sole_voter_has_a_lease_of_its_own() -> None:
    server = Server(1)
    server.time_out()
    server.take()
    server.time_out()
    assert server.raft.lease_until == pytest.approx(server.now + LEASE)


def test_6_4_1_a_voter_withholds_its_vote_for_an_election_timeout_after_it_heard_the_leader() -> None:
    server = Server()
    server.receive(append(1, of=3))
    server.said()
    server.now += T * 0.999
    server.receive(request_vote(2))
    assert server.raft.hard_state.voted_for is None
    server.now += T * 0.002
    server.receive(request_vote(2))
    assert server.raft.hard_state.voted_for == 2


def test_6_4_1_a_voter_that_restarts_within_a_lease_does_not_vote_before_it_ends() -> None:
    """It forgot whom it heard, perhaps a moment ago: it waits for as long as the lease can last."""
    server = Server(rested=False)
    server.now += T * 0.999
    server.receive(request_vote(2))
    server.receive(request_vote(2, transfer=True))
    assert server.raft.hard_state.voted_for is None
    server.now += T * 0.002
    server.receive(request_vote(3))
    assert server.raft.hard_state.voted_for == 2
