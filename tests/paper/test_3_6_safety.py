"""§3.6 Safety: commitment, and §10.2.1, the leader's disk beside its network."""

import pytest

from raftwright.raft.entries import EntryId
from raftwright.raft.messages import AppendEntries
from raftwright.raft.roles import Leader
from tests.paper.server import Server, append, entry


@pytest.mark.parametrize(("voters", "needed"), [(2, 1), (3, 1), (4, 2), (5, 2), (6, 3)])
def test_3_5_an_entry_is_committed_once_a_majority_stores_it(voters: int, needed: int) -> None:
    """Half of an even cluster is no majority."""
    server = Server(voters)
    server.lead()
    server.propose()
    server.take()
    for peer in range(2, 2 + needed):
        assert server.raft.commit_index == 1
        server.matched(peer, 3)
    assert server.raft.commit_index == 3


def test_3_6_2_entries_of_previous_terms_are_not_committed_by_counting() -> None:
    """A majority stores the entry of term 2, and a server of a later term could still overwrite it (Figure 3.7)."""
    server = Server(terms=(2,), term=3)
    server.lead()
    server.matched(2, 2)
    server.matched(3, 2)
    assert server.raft.commit_index == 1


def test_3_6_2_they_are_committed_indirectly_with_an_entry_of_the_current_term() -> None:
    server = Server(terms=(2,), term=3)
    server.lead()
    server.matched(2, 3)
    assert server.raft.commit_index == 3


def test_3_6_2_a_leader_does_not_commit_again_what_a_stale_confirmation_says() -> None:
    server = Server()
    server.lead()
    server.matched(2, 2)
    server.matched(2, 1)
    server.matched(3, 1)
    assert server.raft.commit_index == 2


def test_3_5_followers_learn_the_commit_index_from_the_next_message() -> None:
    server = Server()
    server.lead()
    server.matched(2, 2)
    sent = [message for message in server.said() if isinstance(message, AppendEntries)]
    assert {message.commit_index for message in sent} == {2}


def test_10_2_1_the_leader_may_send_before_its_own_disk_is_done() -> None:
    server = Server()
    server.lead()
    server.matched(2, 2)
    server.matched(3, 2)
    server.said()
    server.propose(b"x")
    ready = server.take(persist=False)
    assert [item.payload for item in ready.entries] == [b"x"]
    assert [type(message) for message in ready.messages] == [AppendEntries] * 2


def test_10_2_1_the_leader_counts_itself_only_when_its_write_is_durable() -> None:
    server = Server(5)
    server.lead()
    server.propose()
    ready = server.take(persist=False)
    server.matched(2, 3)
    server.matched(3, 3)
    assert server.raft.commit_index == 2, "two others of five have it, its own write is on the way"
    server.persist(ready)
    assert server.raft.commit_index == 3


def test_10_2_1_an_entry_may_be_committed_before_the_leader_has_it_on_disk() -> None:
    """If a majority of the others has it: the leader's disk is one of five, no more."""
    server = Server(5)
    server.lead()
    server.propose()
    server.take(persist=False)
    for peer in (2, 3, 4):
        server.matched(peer, 3)
    assert server.raft.commit_index == 3


def test_a_sole_voter_commits_only_what_is_durable() -> None:
    server = Server(1)
    server.time_out()
    assert isinstance(server.raft.role, Leader)
    ready = server.take(persist=False)
    assert server.raft.commit_index == 1
    server.persist(ready)
    assert server.raft.commit_index == 2


def test_a_write_that_ends_after_its_entries_were_replaced_confirms_nothing() -> None:
    """The disk says "done" of entries that are no longer those of the log."""
    server = Server(5)
    server.receive(append(2, entries=(entry(2, 2), entry(2, 3)), of=3))
    old = server.take(persist=False)
    server.receive(append(3, entries=(entry(3, 2),), of=4))
    new = server.take(persist=False)
    assert [item.id for item in new.entries] == [(3, 2)]
    server.persist(old)
    assert server.raft.durability.persisted_index == 1
    server.receive(append(3, EntryId(3, 2), of=4, number=2))
    (reply,) = server.take(persist=False).messages_after
    assert reply.match_index == 1  # type: ignore[union-attr]
    server.persist(new)
    assert server.raft.durability.persisted_index == 2


def test_a_heartbeat_is_answered_while_the_disk_is_busy() -> None:
    """It confirms the leadership (§6.4), and of the log only what is durable."""
    server = Server()
    server.receive(append(1, entries=(entry(1, 2),)))
    busy = server.take(persist=False)
    server.receive(append(1, EntryId(1, 2), number=2))
    (reply,) = server.take(persist=False).messages
    assert (reply.round, reply.match_index) == (2, 1)  # type: ignore[union-attr]
    server.persist(busy)
    server.receive(append(1, EntryId(1, 2), number=3))
    (reply,) = server.take(persist=False).messages
    assert (reply.round, reply.match_index) == (3, 2)  # type: ignore[union-attr]
