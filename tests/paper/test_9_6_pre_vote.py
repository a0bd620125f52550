"""§9.6 Preventing disruptions when a server rejoins: the voter's side of the pre-vote."""

import pytest

from raftwright.raft.entries import EntryId, HardState
from raftwright.raft.messages import PreVoteReply
from tests.paper.server import Server, T, append, request_pre_vote, request_vote


def answer(server: Server) -> PreVoteReply:
    (reply,) = server.said()
    assert isinstance(reply, PreVoteReply)
    return reply


@pytest.mark.parametrize(("last", "granted"), [(EntryId(1, 2), True), (EntryId(2, 2), True), (EntryId(1, 1), False)])
def test_9_6_it_is_granted_only_to_a_log_that_could_win(last: EntryId, granted: bool) -> None:
    server = Server(terms=(1,))
    server.receive(request_pre_vote(2, last))
    assert answer(server).granted == granted


def test_9_6_it_is_refused_while_a_leader_is_heard() -> None:
    server = Server()
    server.receive(append(1, of=3))
    server.said()
    server.now += 0.99 * T
    server.receive(request_pre_vote(2))
    assert not answer(server).granted
    server.now += 0.02 * T
    server.receive(request_pre_vote(2))
    assert answer(server).granted


def test_9_6_it_is_refused_by_the_leader() -> None:
    server = Server()
    server.lead()
    server.receive(request_pre_vote(9))
    assert not answer(server).granted


def test_9_6_it_is_refused_by_a_server_that_has_just_started() -> None:
    server = Server(rested=False)
    server.receive(request_pre_vote(2))
    assert not answer(server).granted


def test_9_6_granting_changes_nothing_and_may_be_done_for_several() -> None:
    server = Server()
    for candidate in (2, 3):
        server.receive(request_pre_vote(2, of=candidate))
        reply = answer(server)
        assert (reply.to_id, reply.term, reply.granted) == (candidate, 2, True)
    assert server.raft.hard_state == HardState(1, None)
    assert not server.raft.has_ready


def test_9_6_a_stale_term_is_refused_with_the_own_one() -> None:
    server = Server(term=5)
    server.receive(request_pre_vote(5))
    server.receive(request_pre_vote(3))
    granted, refused = server.said()
    assert isinstance(granted, PreVoteReply) and granted.granted  # its vote in term 5 is still free
    assert isinstance(refused, PreVoteReply)
    assert (refused.term, refused.granted) == (5, False)


def test_9_6_a_vote_already_given_in_that_term_is_not_promised_again() -> None:
    server = Server()
    server.receive(request_vote(2, of=3))
    server.said()
    server.receive(request_pre_vote(2, of=2))
    assert not answer(server).granted
    server.receive(request_pre_vote(2, of=3))
    assert answer(server).granted
