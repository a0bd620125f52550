"""§6.4 Processing read-only queries more efficiently."""

import pytest

from raftwright.raft.events import RequestRead
from raftwright.raft.messages import (
    AppendEntries,
    AppendReply,
    ReadIndexReply,
    ReadIndexRequest,
)
from raftwright.raft.ready import ReadAnswer
from tests.paper.server import Server, T, append


def leader_of(voters: int = 3, *, committed: bool = True) -> Server:
    server = Server(voters)
    server.lead()
    if committed:
        for peer in range(2, voters + 1):
            server.matched(peer, 2)
        server.take()
    return server


def rounds_sent(server: Server) -> list[int]:
    return [message.round for message in server.said() if isinstance(message, AppendEntries) and message.to_id == 2]


def confirm(server: Server, peer: int, number: int) -> None:
    server.receive(AppendReply(from_id=peer, to_id=1, term=server.raft.term, round=number, success=True, match_index=2))


def read(server: Server, context: int) -> None:
    server.step(RequestRead(now=server.now, context=context))


def answers(server: Server) -> list[tuple[int, int | None]]:
    return [(answer.context, answer.index) for answer in server.take().reads]


def test_6_4_a_read_waits_until_the_leader_has_committed_an_entry_of_its_term() -> None:
    """Before that it does not know which entries are committed."""
    server = leader_of(committed=False)
    read(server, 7)
    server.said()
    server.time_out()
    (number,) = rounds_sent(server)
    server.receive(AppendReply(from_id=2, to_id=1, term=2, round=number, success=True, match_index=1))
    assert answers(server) == []
    server.matched(2, 2)
    (number,) = {message.round for message in server.said() if isinstance(message, AppendEntries)}
    confirm(server, 2, number)
    assert answers(server) == [(7, 2)]


@pytest.mark.parametrize(("voters", "needed"), [(2, 1), (3, 1), (4, 2), (5, 2)])
def test_6_4_a_read_waits_for_a_round_of_heartbeats_answered_by_a_majority(voters: int, needed: int) -> None:
    """So it knows that no newer leader had been elected when the read came."""
    server = leader_of(voters)
    read(server, 7)
    (number,) = rounds_sent(server)
    for peer in range(2, 2 + needed):
        assert answers(server) == []
        confirm(server, peer, number)
    assert answers(server) == [(7, 2)]


def test_6_4_an_answer_to_an_earlier_round_confirms_nothing() -> None:
    server = leader_of()
    server.time_out()
    (earlier,) = rounds_sent(server)
    read(server, 7)
    (number,) = rounds_sent(server)
    assert number > earlier
    confirm(server, 2, earlier)
    confirm(server, 3, earlier)
    assert answers(server) == []


def test_6_4_a_refusal_of_the_same_term_confirms_leadership_as_well() -> None:
    server = leader_of()
    read(server, 7)
    (number,) = rounds_sent(server)
    server.receive(AppendReply(from_id=3, to_id=1, term=2, round=number, success=False, prev_index=2))
    assert answers(server) == [(7, 2)]


def test_6_4_all_reads_that_wait_share_one_round() -> None:
    server = leader_of()
    for context in range(10):
        read(server, context)
    server.receive(ReadIndexRequest(from_id=3, to_id=1, term=2, context=99))
    (number,) = rounds_sent(server)
    confirm(server, 2, number)
    ready = server.take()
    assert [answer.context for answer in ready.reads] == list(range(10))
    assert ready.messages == (ReadIndexReply(from_id=1, to_id=3, term=2, context=99, index=2),)


def test_6_4_a_read_that_comes_during_a_round_waits_for_the_next() -> None:
    server = leader_of()
    read(server, 1)
    (first,) = rounds_sent(server)
    read(server, 2)
    assert rounds_sent(server) == []
    confirm(server, 2, first)
    ready = server.take()
    assert [answer.context for answer in ready.reads] == [1]
    (second,) = {message.round for message in ready.messages if isinstance(message, AppendEntries)}
    confirm(server, 2, second)
    assert answers(server) == [(2, 2)]


def test_6_4_a_lost_round_is_made_up_for_by_the_next_heartbeat() -> None:
    server = leader_of()
    read(server, 1)
    rounds_sent(server)
    server.time_out()
    (number,) = rounds_sent(server)
    confirm(server, 3, number)
    assert answers(server) == [(1, 2)]


def test_6_4_a_sole_voter_answers_at_once() -> None:
    server = Server(1)
    server.time_out()
    server.take()
    read(server, 7)
    assert answers(server) == [(7, 2)]


def test_6_4_a_leader_that_steps_down_fails_its_reads() -> None:
    server = leader_of()
    read(server, 1)
    server.receive(ReadIndexRequest(from_id=3, to_id=1, term=2, context=99))
    server.said()
    read(server, 2)
    server.receive(append(5, of=2))
    ready = server.take()
    assert set(ready.reads) == {ReadAnswer(context=1, index=None), ReadAnswer(context=2, index=None)}
    assert ReadIndexReply(from_id=1, to_id=3, term=5, context=99, index=None) in ready.messages_after


def test_6_4_a_follower_asks_the_leader_once_for_all_its_reads() -> None:
    server = Server()
    server.receive(append(1, of=3))
    server.said()
    read(server, 1)
    read(server, 2)
    (request,) = server.said()
    assert isinstance(request, ReadIndexRequest)
    assert request.to_id == 3
    server.receive(ReadIndexReply(from_id=3, to_id=1, term=1, context=request.context, index=1))
    assert answers(server) == [(1, 1), (2, 1)]


def test_6_4_without_a_leader_a_read_fails_at_once() -> None:
    server = Server()
    read(server, 1)
    assert answers(server) == [(1, None)]
    server.receive(ReadIndexRequest(from_id=3, to_id=1, term=1, context=5))
    assert server.said() == [ReadIndexReply(from_id=1, to_id=3, term=1, context=5, index=None)]


def test_6_4_a_followers_reads_fail_when_the_leader_changes_or_does_not_answer() -> None:
    server = Server()
    server.receive(append(1, of=3))
    read(server, 1)
    server.take()
    server.receive(append(2, of=2))
    assert answers(server) == [(1, None)]
    read(server, 2)
    server.take()
    assert server.raft.next_deadline == server.now + T
    server.time_out()
    assert answers(server) == [(2, None)]


def test_6_4_an_answer_to_a_read_from_before_a_restart_fits_no_new_read() -> None:
    numbers = {Server(seed=seed).raft.read_request_number for seed in range(50)}
    assert len(numbers) == 50
