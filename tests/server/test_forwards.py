"""Writes at a node that does not lead: whom it asks, and what it answers when that one is gone."""

from typing import Any

from raftwright.server.driver import SWEEP_INTERVAL_S
from raftwright.server.errors import OutcomeUnknown
from raftwright.server.wire import Forward
from tests.server.drivers import Cluster

SESSION = b"0123456789abcdef"


def revisions_of(cluster: Cluster, *tokens: str) -> list[list[Any]]:
    """What the writes with these tokens came to: all of them were answered, and with no error."""
    answers = [cluster.answer_of(token) for token in tokens]
    assert [answer and answer.error for answer in answers] == [None] * len(tokens)
    assert None not in answers
    machine = cluster[1].state.machine
    return [machine.decode_results(answer.encoded or b"") for answer in answers if answer]


def test_a_follower_forwards_and_answers() -> None:
    cluster = Cluster(3)
    leader = cluster.elect()
    follower = next(number for number in cluster.drivers if number != leader)
    cluster.write(follower, "k", "write")
    cluster.settle()
    answer = cluster.answer_of("write")
    assert answer is not None
    assert cluster[follower].state.machine.decode_results(answer.encoded or b"") == [1]
    assert cluster[follower].writes.commands == cluster[leader].writes.commands == 0


def test_a_forward_whose_stream_broke_is_unknown_without_a_session_and_repeated_with_one() -> None:
    cluster = Cluster(3)
    leader = cluster.elect()
    follower = next(number for number in cluster.drivers if number != leader)
    cluster.write(follower, "a", "anonymous")
    cluster.write(follower, "s", "session", session=SESSION, first_seq=1)
    cluster.run(follower)
    cluster.deliver()  # the leader has them; its answers are lost with the stream
    cluster.settle_without_answers_to(follower)
    cluster[follower].stream_lost(leader, cluster.now)
    cluster.wait(0.2)
    anonymous, session = cluster.answer_of("anonymous"), cluster.answer_of("session")
    assert anonymous is not None
    assert isinstance(anonymous.error, OutcomeUnknown)
    assert session is not None
    assert session.error is None
    assert cluster[leader].state.machine.revision == 2  # type: ignore[attr-defined]  # the session's ran once


def test_a_forward_that_never_left_waits_for_the_stream_and_is_made_once() -> None:
    cluster = Cluster(3)
    leader = cluster.elect()
    follower = next(number for number in cluster.drivers if number != leader)
    for key in "abc":
        cluster.write(follower, key, key)
        cluster.run(follower)
    unsent = [message.id for _, message in cluster.network if isinstance(message, Forward)]
    cluster.network.clear()  # there is no stream to the leader, though the leader's to this node is up
    assert len(unsent) == 3
    cluster[follower].unsent(leader, unsent)
    cluster.run(follower)
    assert not [message for _, message in cluster.network if isinstance(message, Forward)], "nothing is tried in vain"
    cluster.wait(0.3)
    assert revisions_of(cluster, *"abc") == [[1], [2], [3]], "in the order in which they came"


def test_a_repeated_write_that_fails_in_the_end_does_not_say_that_it_never_happened() -> None:
    cluster = Cluster(3)
    leader = cluster.elect()
    follower = next(number for number in cluster.drivers if number != leader)
    cluster.write(follower, "s", "session", session=SESSION, first_seq=1)
    cluster.run(follower)
    cluster.cut = set(cluster.drivers)
    cluster.network.clear()
    cluster.wait(2.0, settle=False)
    assert cluster[follower].raft.leader_id is None
    cluster[follower].stream_lost(leader, cluster.now)
    cluster.wait(4.0, settle=False)
    answer = cluster.answer_of("session")
    assert answer is not None
    assert answer.error is not None
    assert answer.error.outcome == "unknown"


def test_writes_forwarded_while_leadership_moves_reach_the_next_leader() -> None:
    cluster = Cluster(3)
    leader = cluster.elect()
    target, asked = (number for number in cluster.drivers if number != leader)
    cluster[leader].transfer_leadership(target, cluster.now)
    cluster.write(asked, "k", "write")
    cluster.run(asked)
    forwards = [message for _, message in cluster.network if isinstance(message, Forward)]
    assert [forward.to_id for forward in forwards] == [leader]
    cluster.wait(1.0)
    assert cluster[target].is_leader
    answer = cluster.answer_of("write")
    assert answer is not None
    assert answer.error is None
    assert cluster[target].state.machine.revision == 1  # type: ignore[attr-defined]
    assert {message.from_id for message in cluster.sent if isinstance(message, Forward)} == {asked}


def test_a_forward_is_never_forwarded_again() -> None:
    cluster = Cluster(3)
    leader = cluster.elect()
    asked, other = (number for number in cluster.drivers if number != leader)
    cluster.write(asked, "k", "write")
    cluster.run(asked)
    forwards = [(to, message) for to, message in cluster.network if to == leader]
    cluster.network.clear()
    for _, message in forwards:
        cluster[other].receive([message], cluster.now)
    effects = cluster.run(other)
    assert set(effects.sends) == {asked}, "it is refused to who sent it, and goes no further"


def test_what_a_leader_that_vanished_was_asked_is_sent_to_the_next_one_at_once() -> None:
    cluster = Cluster(3, request_timeout_s=5.0)
    leader = cluster.elect()
    asked = next(number for number in cluster.drivers if number != leader)
    for seq in (1, 2):
        cluster.write(asked, f"s{seq}", f"session {seq}", session=SESSION, first_seq=seq)
        cluster.run(asked)
    cluster.write(asked, "a", "anonymous")
    cluster.cut = {leader}  # its streams do not break: nobody says that it is gone
    begin = cluster.now
    while cluster.answer_of("session 2") is None:
        cluster.wait(0.01)
        assert cluster.now < begin + 3.0, "they wait for the one that is gone"
    assert revisions_of(cluster, "session 1", "session 2") == [[1], [2]], "in the order in which they came"
    cluster.wait(2 * cluster[asked].settings.election_timeout_s + SWEEP_INTERVAL_S)
    anonymous = cluster.answer_of("anonymous")
    assert anonymous is not None, "no longer than the next leader takes to decide"
    assert anonymous.error is not None
    assert anonymous.error.outcome == "unknown"


def test_what_the_former_leader_proposed_and_was_sent_again_happens_once() -> None:
    cluster = Cluster(3)
    leader = cluster.elect()
    target, asked = (number for number in cluster.drivers if number != leader)
    cluster.write(asked, "s", "session", session=SESSION, first_seq=1)
    cluster.run(asked)
    cluster.deliver()  # it is in the leader's log, and on its way to the others
    cluster[leader].transfer_leadership(target, cluster.now)
    cluster.wait(1.0)
    assert cluster[target].is_leader
    answer = cluster.answer_of("session")
    assert answer is not None
    assert answer.error is None
    assert cluster[target].state.machine.revision == 1  # type: ignore[attr-defined]
