"""§5 Log compaction: taking snapshots, sending them in chunks (Figure 5.3), and installing them."""

import zlib

from raftwright.raft.entries import EntryId, SnapshotMeta
from raftwright.raft.events import ChunkLoaded, SnapshotReceived, SnapshotTaken
from raftwright.raft.messages import AppendEntries, AppendReply, InstallSnapshot, InstallSnapshotReply
from raftwright.raft.ready import LoadChunk, Ready
from tests.paper.server import Server, append, entry, log_of
from tests.raft.cluster import membership_of

DATA = b"0123456789"
META = SnapshotMeta(
    id=EntryId(3, 9),
    time_ms=7,
    membership=membership_of([1, 2, 3, 4]),
    size=len(DATA),
    checksum=zlib.crc32(DATA),
)


def chunk(offset: int, length: int = 4, *, meta: SnapshotMeta = META, term: int = 3) -> InstallSnapshot:
    data = DATA[offset : offset + length]
    return InstallSnapshot(
        from_id=2, to_id=1, term=term, meta=meta, offset=offset, data=data, done=offset + len(data) == meta.size
    )


def wanted(ready: Ready) -> list[int]:
    return [message.next_offset for message in ready.messages_after if isinstance(message, InstallSnapshotReply)]


def receive_all(server: Server) -> None:
    for offset in (0, 4, 8):
        server.receive(chunk(offset))
    server.take()


def test_5_1_a_server_discards_its_log_up_to_its_snapshot_keeping_some_for_slow_followers() -> None:
    server = Server(terms=(1,) * 10)
    server.receive(append(1, EntryId(1, 11), commit_index=11))
    meta = SnapshotMeta(id=EntryId(1, 10), time_ms=0, membership=membership_of([1, 2, 3]))
    server.step(SnapshotTaken(now=server.now, meta=meta, keep_from=8))
    assert (server.raft.log.base, server.raft.log.last_id) == (EntryId(1, 7), EntryId(1, 11))
    assert server.raft.snapshot == meta


def test_5_1_what_is_not_on_disk_yet_is_not_discarded() -> None:
    server = Server()
    server.receive(append(1, entries=log_of(1, 1), commit_index=3))
    ready = server.take(persist=False)
    meta = SnapshotMeta(id=EntryId(1, 3), time_ms=0, membership=membership_of([1, 2, 3]))
    server.step(SnapshotTaken(now=server.now, meta=meta, keep_from=4))
    assert server.raft.log.base == EntryId(1, 1)
    server.persist(ready)


def test_5_1_an_older_snapshot_than_the_newest_changes_nothing() -> None:
    server = Server()
    receive_all(server)
    server.step(SnapshotReceived(now=server.now, meta=META, ok=True))
    older = SnapshotMeta(id=EntryId(1, 1), time_ms=0, membership=membership_of([1]))
    server.step(SnapshotTaken(now=server.now, meta=older, keep_from=2))
    assert server.raft.snapshot == META


def test_5_2_chunks_are_written_in_order_and_answered_by_what_is_wanted_next() -> None:
    server = Server()
    server.receive(chunk(0))
    ready = server.take()
    assert [(item.offset, item.data, item.done) for item in ready.chunks] == [(0, b"0123", False)]
    assert wanted(ready) == [4]


def test_5_2_a_chunk_out_of_order_or_repeated_is_answered_and_not_written() -> None:
    server = Server()
    server.receive(chunk(0))
    server.take()
    server.receive(chunk(8))
    server.receive(chunk(0))
    ready = server.take()
    assert (ready.chunks, wanted(ready)) == ((), [4, 4])


def test_5_2_a_transfer_resumes_only_within_the_same_snapshot() -> None:
    other = SnapshotMeta(id=EntryId(3, 9), time_ms=7, membership=META.membership, size=10, checksum=1)
    server = Server()
    server.receive(chunk(0))
    server.receive(chunk(4, meta=other))
    assert wanted(server.take()) == [4, 0]
    server.receive(chunk(0, meta=other))
    ready = server.take()
    assert ([item.offset for item in ready.chunks], wanted(ready)) == ([0], [4])


def test_5_2_chunks_that_lie_about_their_size_are_dropped() -> None:
    server = Server()
    small = SnapshotMeta(id=EntryId(3, 9), time_ms=0, membership=META.membership, size=3, checksum=1)
    server.receive(chunk(0, meta=small))
    server.receive(InstallSnapshot(from_id=2, to_id=1, term=3, meta=META, offset=0, data=b"01", done=True))
    server.receive(InstallSnapshot(from_id=2, to_id=1, term=3, meta=META, offset=-1, data=b"01", done=False))
    assert server.take().chunks == ()


def test_5_2_a_whole_snapshot_replaces_log_state_and_membership_and_is_confirmed_when_durable() -> None:
    server = Server(terms=(1, 1), term=3)
    receive_all(server)
    server.step(SnapshotReceived(now=server.now, meta=META, ok=True))
    ready = server.take(persist=False)
    assert ready.snapshot == META
    assert (server.raft.log.base, server.raft.log.last_id) == (META.id, META.id)
    assert (server.raft.commit_index, server.raft.applied_index) == (9, 9)
    assert server.raft.membership == META.membership
    assert not ready.messages
    (reply,) = ready.messages_after
    assert isinstance(reply, AppendReply)
    assert (reply.success, reply.match_index) == (True, 9)
    server.receive(append(3, META.id, number=2))
    (heartbeat_reply,) = server.take(persist=False).messages
    assert heartbeat_reply.match_index == 0, "nothing is durable yet"  # type: ignore[union-attr]


def test_5_2_a_broken_snapshot_is_asked_for_from_its_beginning() -> None:
    server = Server()
    receive_all(server)
    server.step(SnapshotReceived(now=server.now, meta=META, ok=False))
    ready = server.take()
    assert (ready.snapshot, wanted(ready)) == (None, [0])


def test_5_2_a_snapshot_of_what_is_committed_here_is_only_confirmed() -> None:
    server = Server(terms=(3,) * 10)
    server.receive(append(3, EntryId(3, 11), commit_index=11))
    server.said()
    server.receive(chunk(0))
    ready = server.take()
    (reply,) = ready.messages_after
    assert isinstance(reply, AppendReply)
    assert (reply.success, reply.match_index, ready.chunks) == (True, 11, ())


def test_5_3_entries_behind_the_snapshot_that_agree_with_it_are_kept() -> None:
    """They may have been acknowledged: a snapshot that arrives late must not throw them away."""
    server = Server()
    receive_all(server)
    entries = (*(entry(3, index) for index in range(2, 12)),)
    server.receive(append(3, entries=entries))
    server.take()
    server.step(SnapshotReceived(now=server.now, meta=META, ok=True))
    assert server.raft.log.last_id == EntryId(3, 11)
    assert server.raft.commit_index == 9, "and what the snapshot stands for is committed"
    assert server.take().snapshot is None


# -- the leader's side ------------------------------------------------------------------------------------------


def leader_with_snapshot() -> Server:
    server = Server(terms=(1,) * 9)
    server.receive(append(1, EntryId(1, 10), commit_index=10))
    meta = SnapshotMeta(
        id=EntryId(1, 10), time_ms=0, membership=membership_of([1, 2, 3]), size=len(DATA), checksum=zlib.crc32(DATA)
    )
    server.step(SnapshotTaken(now=server.now, meta=meta, keep_from=11))
    server.lead()
    # Peer 2 has nothing but the founding snapshot.
    server.receive(
        AppendReply(
            from_id=2, to_id=1, term=server.raft.term, round=1, success=False, prev_index=10, hint=EntryId(1, 1)
        )
    )
    return server


def loaded(server: Server, load: object, length: int = 4) -> None:
    assert isinstance(load, LoadChunk)
    assert server.raft.snapshot is not None
    server.step(
        ChunkLoaded(
            now=server.now,
            peer=load.peer,
            meta=server.raft.snapshot,
            offset=load.offset,
            data=DATA[load.offset : load.offset + length],
        )
    )


def asked(server: Server, next_offset: int) -> None:
    meta = server.raft.snapshot
    assert meta is not None
    server.receive(
        InstallSnapshotReply(
            from_id=2,
            to_id=1,
            term=server.raft.term,
            snapshot_id=meta.id,
            checksum=meta.checksum,
            next_offset=next_offset,
        )
    )


def test_5_2_a_follower_behind_the_log_is_sent_the_snapshot_in_chunks() -> None:
    server = leader_with_snapshot()
    sent = []
    for offset in (0, 4, 8):
        ready = server.take()
        assert [load.offset for load in ready.loads if isinstance(load, LoadChunk)] == [offset]
        loaded(server, ready.loads[0])
        sent += [message for message in server.said() if isinstance(message, InstallSnapshot)]
        asked(server, min(offset + 4, len(DATA)))
    assert [(item.offset, item.data, item.done) for item in sent] == [
        (0, b"0123", False),
        (4, b"4567", False),
        (8, b"89", True),
    ]
    server.matched(2, 10)
    appends = [m for m in server.said() if isinstance(m, AppendEntries) and m.to_id == 2]
    assert [message.prev for message in appends] == [EntryId(1, 10)]


def test_5_2_heartbeats_go_on_during_a_transfer() -> None:
    server = leader_with_snapshot()
    server.said()
    server.time_out()
    beats = [m for m in server.said() if isinstance(m, AppendEntries) and m.to_id == 2]
    assert [(message.prev.index, message.entries) for message in beats] == [(0, ())]


def test_5_2_a_chunk_without_an_answer_is_sent_again_from_where_the_receiver_is() -> None:
    server = leader_with_snapshot()
    loaded(server, server.take().loads[0])
    asked(server, 4)
    loaded(server, server.take().loads[0])
    server.said()
    loads: list[object] = []
    while not loads:
        server.matched(3, 10)
        server.time_out()
        loads += server.take().loads
    assert [load.offset for load in loads if isinstance(load, LoadChunk)] == [4]
    loaded(server, loads[0])
    asked(server, 0)  # the receiver restarted, and forgot
    assert [load.offset for load in server.take().loads if isinstance(load, LoadChunk)] == [0]


def test_5_2_a_snapshot_that_is_gone_is_replaced_by_another() -> None:
    server = leader_with_snapshot()
    load = server.take().loads[0]
    loaded(server, load)
    asked(server, 4)
    (load,) = server.take().loads
    assert isinstance(load, LoadChunk) and load.meta is not None
    server.step(ChunkLoaded(now=server.now, peer=2, meta=load.meta, offset=4, data=None))
    loads: list[object] = []
    while not loads:
        server.matched(3, 10)
        server.time_out()
        loads += server.take().loads
    assert [(load.meta, load.offset) for load in loads if isinstance(load, LoadChunk)] == [(None, 0)]
