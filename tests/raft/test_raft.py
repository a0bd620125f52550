"""The core's edges: what it ignores, what it bounds, and what its shell may rely on."""

from dataclasses import replace
from random import Random

import pytest

from raftwright.raft.entries import Entry, EntryId, HardState, Recovered
from raftwright.raft.events import Applied, EntriesLoaded, Receive, SnapshotReceived, StreamLost, Tick
from raftwright.raft.messages import AppendEntries, AppendReply, InstallSnapshotReply
from raftwright.raft.raft import Raft, RaftSettings
from raftwright.raft.ready import LoadEntries
from tests.paper.server import START, Server, append, entry, request_pre_vote, request_vote
from tests.paper.test_5_snapshots import META, chunk
from tests.raft.cluster import Cluster, membership_of


def is_quiet(server: Server) -> bool:
    return not server.raft.has_ready


def test_readys_count_up_and_a_quiet_core_has_none() -> None:
    server = Server()
    assert is_quiet(server)
    server.receive(append(1, entries=(entry(1, 2),)))
    assert not is_quiet(server)
    assert [server.take().number, server.take().number] == [1, 2]
    assert is_quiet(server)


def test_a_new_commit_index_is_something_to_say() -> None:
    server = Server(terms=(1,))
    server.receive(append(1, EntryId(1, 2)))
    server.take()
    server.receive(append(1, EntryId(1, 2), commit_index=2))
    assert not is_quiet(server)
    assert server.take().commit_index == 2
    assert is_quiet(server)


def test_a_heartbeat_that_only_brings_a_commit_index_is_answered_once_a_round() -> None:
    server = Server(terms=(1,))
    server.receive(append(1, EntryId(1, 2), number=4))
    server.receive(append(1, EntryId(1, 2), number=4, commit_index=2))
    server.receive(append(1, EntryId(1, 2), number=5))
    assert [message.round for message in server.said() if isinstance(message, AppendReply)] == [4, 5]


def test_a_message_to_somebody_else_is_ignored() -> None:
    server = Server()
    server.receive(replace(request_vote(7), to_id=3))
    assert (server.raft.term, server.raft.has_ready) == (1, False)


def test_a_removed_member_is_ignored() -> None:
    membership = replace(membership_of([1, 2]), last_member_id=3)
    server = Server(membership=membership)
    server.receive(request_vote(7, of=3))
    server.receive(request_pre_vote(7, of=3))
    assert (server.raft.term, server.raft.has_ready) == (1, False)
    server.receive(request_vote(7, of=4))
    assert server.raft.term == 7, "one that is not known yet is heard"


def test_a_server_that_has_not_joined_takes_part_in_nothing_until_it_learns_its_id() -> None:
    raft = Raft(member_id=None, settings=RaftSettings(), recovered=Recovered(), random=Random(1), now=0.0)
    assert raft.next_deadline == float("inf")
    raft.step(Tick(now=100.0))
    raft.step(Receive(now=100.0, message=append(5)))
    assert (raft.hard_state, raft.has_ready) == (HardState(), False)
    raft.learn_member_id(1)
    raft.step(Receive(now=101.0, message=append(5)))
    assert raft.leader_id == 2
    (reply,) = raft.ready().messages_after
    assert isinstance(reply, AppendReply)
    assert (reply.success, reply.hint) == (False, EntryId(0, 0)), "its log is empty: it needs a snapshot"


def test_a_clock_that_goes_back_stands_still() -> None:
    server = Server()
    server.receive(append(1))
    deadline = server.raft.next_deadline
    server.now -= 0.5
    server.receive(append(1, number=2))
    assert server.raft.next_deadline == deadline


def test_what_is_applied_is_never_more_than_what_is_committed() -> None:
    server = Server(terms=(1, 1))
    server.step(Applied(now=server.now, index=3))
    assert server.raft.applied_index == 1


def feeding_from_disk() -> tuple[Server, LoadEntries]:
    """A leader whose tail does not reach back to what peer 2 needs."""
    server = Server(terms=(1,) * 20, settings=RaftSettings(tail_bytes_max=200))
    server.lead()
    term = server.raft.term
    refusal = AppendReply(from_id=2, to_id=1, term=term, round=1, success=False, prev_index=21, hint=EntryId(1, 5))
    server.matched(3, 22)
    server.step(Applied(now=server.now, index=22))
    server.receive(refusal)
    server.said()
    server.matched(2, 5)
    (load,) = server.take().loads
    assert isinstance(load, LoadEntries)
    return server, load


def loaded(server: Server, first: int, entries: tuple[Entry, ...]) -> list[AppendEntries]:
    server.step(EntriesLoaded(now=server.now, peer=2, first=first, entries=entries))
    ready = server.take()
    return [m for m in ready.messages if isinstance(m, AppendEntries) and m.entries]


def test_entries_behind_the_tail_are_loaded_one_request_at_a_time() -> None:
    server, load = feeding_from_disk()
    assert (load.peer, load.first) == (2, 6)
    server.propose()
    assert server.take().loads == (), "nothing else is asked for that peer meanwhile"
    (message,) = loaded(server, 6, tuple(entry(1, index) for index in range(6, 9)))
    assert (message.prev, [item.index for item in message.entries]) == (EntryId(1, 5), [6, 7, 8])


def test_loaded_entries_that_are_no_longer_those_of_the_log_are_not_sent() -> None:
    """They were asked for in an earlier leadership, and replaced since."""
    server, load = feeding_from_disk()
    server.step(EntriesLoaded(now=server.now, peer=2, first=load.first, entries=(entry(0, 6), entry(0, 7))))
    ready = server.take()
    assert not [m for m in ready.messages if isinstance(m, AppendEntries) and m.entries]
    assert [again.first for again in ready.loads if isinstance(again, LoadEntries)] == [6]


def test_loaded_entries_that_nobody_waits_for_are_dropped() -> None:
    server, load = feeding_from_disk()
    server.step(StreamLost(now=server.now, peer=2))
    server.said()
    assert not loaded(server, load.first, (entry(1, 6),)), "the peer is probed anew"
    assert not loaded(server, 9, (entry(1, 9),))


def test_entries_that_are_gone_from_disk_are_made_up_for_by_a_snapshot() -> None:
    server, load = feeding_from_disk()
    server.step(EntriesLoaded(now=server.now, peer=2, first=load.first, entries=()))
    (snapshot_load,) = server.take().loads
    assert not isinstance(snapshot_load, LoadEntries)
    assert (snapshot_load.peer, snapshot_load.meta, snapshot_load.offset) == (2, None, 0)


def test_the_tail_stays_within_its_bound_under_load() -> None:
    cluster = Cluster(3, settings=RaftSettings(tail_bytes_max=2000))
    cluster.elect(1)
    for _ in range(200):
        cluster.propose(b"x" * 50)
        cluster.deliver_all()
    for store in cluster.stores.values():
        log = store.raft.log
        entries = log.entries(log.tail_first, log.last_index, 1 << 30) or ()
        assert sum(item.size for item in entries) <= 2000


def test_a_snapshot_that_nobody_waits_for_is_not_installed() -> None:
    server = Server()
    server.step(SnapshotReceived(now=server.now, meta=META, ok=True))
    server.receive(chunk(0))
    server.step(SnapshotReceived(now=server.now, meta=META, ok=True))
    ready = server.take()
    assert ready.snapshot is None
    assert [m.next_offset for m in ready.messages_after if isinstance(m, InstallSnapshotReply)] == [4]
    assert server.raft.log.last_id == START


@pytest.mark.parametrize("voters", [1, 3])
def test_a_restart_goes_on_from_what_is_durable(voters: int) -> None:
    cluster = Cluster(voters)
    cluster.elect(1)
    for _ in range(10):
        cluster.propose(b"x")
    cluster.deliver_all()
    digest, term = cluster[1].digest, cluster[1].raft.term
    for number in range(1, voters + 1):
        cluster.crash(number)
    for number in range(1, voters + 1):
        cluster.start(number)
        assert cluster[number].raft.term == term
    cluster.run(5.0)
    assert cluster.digests[12] == digest
    assert cluster.leader.raft.commit_index == 13, "the no-op of the new leader"
