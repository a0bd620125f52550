"""§3.5 Log replication."""

from raftwright.raft.entries import EntryId, EntryKind
from raftwright.raft.messages import AppendEntries, AppendReply
from tests.paper.server import START, Server, append, entry, log_of


def reply_of(server: Server) -> AppendReply:
    (reply,) = server.said()
    assert isinstance(reply, AppendReply)
    return reply


def appends_of(server: Server, peer: int = 2) -> list[AppendEntries]:
    return [message for message in server.said() if isinstance(message, AppendEntries) and message.to_id == peer]


def test_3_5_the_leader_appends_a_command_and_sends_it_to_every_server_at_once() -> None:
    server = Server()
    server.lead()
    server.matched(2, 2)
    server.matched(3, 2)
    server.said()
    server.propose(b"x")
    sent = [message for message in server.said() if isinstance(message, AppendEntries)]
    assert [(message.to_id, message.prev, [item.payload for item in message.entries]) for message in sent] == [
        (2, EntryId(2, 2), [b"x"]),
        (3, EntryId(2, 2), [b"x"]),
    ]


def test_3_5_entries_are_sent_ahead_of_the_answers() -> None:
    """The leader pipelines: the next append follows on the one before without waiting."""
    server = Server()
    server.lead()
    server.matched(2, 2)
    for index in range(3, 8):
        server.propose()
        assert [message.prev.index for message in appends_of(server) if message.entries] == [index - 1]


def test_3_5_a_follower_stores_what_follows_on_an_entry_it_has_and_confirms() -> None:
    server = Server(terms=(1,), term=2)
    server.receive(append(2, EntryId(1, 2), (entry(2, 3), entry(2, 4))))
    ready = server.take(persist=False)
    assert [item.id for item in ready.entries] == [(2, 3), (2, 4)]
    (reply,) = ready.messages_after
    assert isinstance(reply, AppendReply)
    assert (reply.success, reply.match_index) == (True, 4)
    assert not ready.messages, "not before it is durable"


def test_3_5_a_follower_refuses_what_follows_on_an_entry_it_lacks() -> None:
    server = Server(terms=(1,))
    server.receive(append(2, EntryId(2, 9), (entry(2, 10),)))
    reply = reply_of(server)
    assert (reply.success, reply.prev_index, reply.hint) == (False, 9, EntryId(1, 2))
    assert server.raft.log.last_id == EntryId(1, 2)


def test_3_5_conflicting_entries_are_deleted_with_all_that_follow() -> None:
    server = Server(terms=(1, 2, 2, 2), term=3)
    server.receive(append(3, EntryId(1, 2), (entry(3, 3),)))
    assert server.raft.log.last_id == EntryId(3, 3)
    assert [item.id for item in server.take().entries] == [(3, 3)]


def test_3_5_an_old_append_that_arrives_late_deletes_nothing() -> None:
    """Only an entry that conflicts truncates; RPCs may be repeated and reordered (§3.7)."""
    server = Server()
    first, both = log_of(1), log_of(1, 1)
    server.receive(append(1, START, both))
    server.receive(append(1, START, first))
    assert server.raft.log.last_id == EntryId(1, 3)
    replies = server.said()
    assert [reply.match_index for reply in replies if isinstance(reply, AppendReply)] == [3, 2], "no more than it said"


def test_3_5_a_repeated_append_changes_nothing() -> None:
    server = Server()
    server.receive(append(1, START, log_of(1, 1)))
    server.said()
    server.receive(append(1, START, log_of(1, 1)))
    ready = server.take()
    assert (ready.entries, server.raft.log.last_id) == ((), EntryId(1, 3))


def test_3_5_committed_entries_are_never_deleted() -> None:
    """A message that arrives after its time cannot touch them."""
    server = Server(terms=(1, 1))
    server.receive(append(2, EntryId(1, 3), (), commit_index=3))
    server.receive(append(2, START, log_of(1)))
    assert server.raft.log.last_id == EntryId(1, 3)
    assert server.raft.commit_index == 3


def test_3_5_a_follower_commits_up_to_the_leaders_commit_index_but_only_what_was_verified() -> None:
    """Entries beyond what the message covers may still be contradicted."""
    server = Server(terms=(1, 1, 1), term=2)
    server.receive(append(2, EntryId(1, 2), (), commit_index=9))
    assert server.raft.commit_index == 2
    assert server.take().commit_index == 2
    server.receive(append(2, EntryId(1, 2), (entry(2, 3),), commit_index=9))
    assert (server.raft.commit_index, server.raft.log.last_id) == (3, EntryId(2, 3))


def test_3_5_a_heartbeat_confirms_only_what_it_verified() -> None:
    server = Server(terms=(1, 1, 1), term=2)
    server.receive(append(2, EntryId(1, 2)))
    assert reply_of(server).match_index == 2


def test_3_5_the_leader_goes_back_until_the_logs_agree_a_whole_term_a_step() -> None:
    """The hint skips every entry of a term that cannot agree: a refusal a term, not one an entry."""
    leader = Server(terms=(1, *[4] * 50), term=5)
    follower = Server(terms=(1, *[2] * 30, *[3] * 30), term=6)
    leader.lead()
    leader.said()
    refusals = 0
    leader.raft.role.progress[2].become_probe(leader.raft.log.last_index)  # type: ignore[union-attr]
    leader.time_out()
    for _ in range(10):
        sent = appends_of(leader)
        if not sent:
            break
        follower.now += 10
        follower.receive(append(follower.raft.term, sent[-1].prev, sent[-1].entries, number=sent[-1].round))
        reply = reply_of(follower)
        refusals += not reply.success
        leader.receive(
            AppendReply(
                from_id=2,
                to_id=1,
                term=leader.raft.term,
                round=reply.round,
                success=reply.success,
                match_index=min(reply.match_index, leader.raft.log.last_index),
                prev_index=reply.prev_index,
                hint=reply.hint,
            )
        )
    assert leader.raft.role.progress[2].match_index == leader.raft.log.last_index  # type: ignore[union-attr]
    assert refusals <= 3


def test_3_5_a_leader_never_overwrites_or_deletes_entries_in_its_own_log() -> None:
    server = Server(terms=(1, 1), term=2)
    server.lead()
    before = server.raft.log.last_id
    server.receive(
        AppendReply(from_id=2, to_id=1, term=server.raft.term, round=1, success=False, prev_index=3, hint=START)
    )
    assert server.raft.log.last_id == before


def test_3_5_a_refusal_that_comes_late_does_not_move_the_leader_back() -> None:
    server = Server(terms=(1, 1), term=2)
    server.lead()
    server.matched(2, 4)
    server.receive(
        AppendReply(from_id=2, to_id=1, term=server.raft.term, round=1, success=False, prev_index=3, hint=START)
    )
    assert server.raft.role.progress[2].next_index == 5  # type: ignore[union-attr]


def test_3_5_a_confirmation_of_more_than_there_is_is_not_believed() -> None:
    server = Server()
    server.lead()
    server.matched(2, 99)
    assert server.raft.role.progress[2].match_index == 0  # type: ignore[union-attr]


def test_3_4_a_leader_begins_with_a_no_op_of_its_term() -> None:
    server = Server(terms=(1,))
    server.lead()
    entries = server.raft.log.entries(3, 3, 1 << 20)
    assert entries is not None
    assert [(item.id, item.kind) for item in entries] == [((2, 3), EntryKind.NOOP)]


def test_entries_that_do_not_follow_on_each_other_are_dropped_like_a_lost_message() -> None:
    server = Server()
    for entries in [
        (entry(1, 3),),
        (entry(1, 2), entry(1, 4)),
        (entry(2, 2), entry(1, 3)),
        (entry(9, 2),),
    ]:
        server.receive(append(2, START, entries))
    assert server.raft.log.last_id == START
    assert not server.said()
