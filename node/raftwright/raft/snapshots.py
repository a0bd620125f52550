"""Snapshots: how they cut the log (§5.1), and how one is sent to a peer that is too far behind, chunk by chunk.

Called by the core's dispatch and by replication. Its one rule: the receiver says which offset it needs next, and a
snapshot never takes the place of entries that this server already holds.
"""

from typing import TYPE_CHECKING

from raftwright.raft.entries import SnapshotMeta
from raftwright.raft.events import ChunkLoaded, SnapshotReceived, SnapshotTaken
from raftwright.raft.messages import AppendReply, InstallSnapshot, InstallSnapshotReply
from raftwright.raft.progress import Phase, Progress, SnapshotTransfer
from raftwright.raft.ready import LoadChunk, SnapshotChunk

if TYPE_CHECKING:
    from raftwright.raft.raft import Raft
    from raftwright.raft.roles import Leader

RETRY_HEARTBEATS = 5
"""A chunk without an answer is sent again after this many heartbeat intervals, then after twice as many, and so on…"""
RETRY_HEARTBEATS_MAX = 80
"""…up to this: a slow link must not be filled with copies."""


class Incoming:
    """The snapshot that this server is receiving."""

    __slots__ = ("complete", "meta", "next_offset")

    def __init__(self, meta: SnapshotMeta) -> None:
        self.meta = meta
        self.next_offset = 0
        self.complete = False
        """All chunks are here and the shell checks the file."""


def on_snapshot_taken(raft: "Raft", event: SnapshotTaken) -> None:
    """The own state machine was saved: the log before it may go, save what slow followers may want. Said again of the
    newest one, more of the log may go."""
    newest = raft.snapshot
    if newest is not None and event.meta.id.index < newest.id.index:
        return
    assert event.meta.id.index <= raft.commit_index, "only what is applied is in a snapshot"
    if newest is None or event.meta.id.index > newest.id.index:
        raft.snapshot = event.meta
    # What the own disk does not have yet is still to be written, though a quorum has it and it was applied.
    raft.log.compact(min(event.keep_from - 1, event.meta.id.index, raft.durability.persisted_index))


# -- the leader's side ------------------------------------------------------------------------------------------


def begin_transfer(raft: "Raft", peer: int, progress: Progress) -> None:
    progress.become_snapshot(SnapshotTransfer(retry_at=raft.now, retry_after_s=0.0))
    _load(raft, peer, _transfer(progress))


def retry_transfers(raft: "Raft", leader: "Leader") -> None:
    """Read and send a chunk again where no answer came. Called with each heartbeat."""
    for peer, progress in leader.progress.items():
        transfer = progress.transfer
        if transfer is not None and not transfer.loading and raft.now >= transfer.retry_at:
            _load(raft, peer, transfer)


def on_chunk_loaded(raft: "Raft", leader: "Leader", event: ChunkLoaded) -> None:
    progress = leader.progress.get(event.peer)
    transfer = None if progress is None else progress.transfer
    if transfer is None or not transfer.loading or event.offset != transfer.offset:
        return
    if transfer.meta is not None and event.meta != transfer.meta:
        return
    transfer.loading = False
    if event.data is None or event.meta.id < raft.log.base:
        # That snapshot is gone, or too old to join up with the log: begin with another one at the next retry.
        transfer.meta, transfer.offset = None, 0
        return
    transfer.meta = event.meta
    raft.send(
        InstallSnapshot(
            from_id=raft.own_id,
            to_id=event.peer,
            term=raft.term,
            meta=event.meta,
            offset=event.offset,
            data=event.data,
            done=event.offset + len(event.data) >= event.meta.size,
        ),
        promises=False,
    )


def on_install_snapshot_reply(raft: "Raft", leader: "Leader", message: InstallSnapshotReply) -> None:
    progress = leader.progress.get(message.from_id)
    if progress is None:
        return
    progress.contact_at = raft.now
    transfer = progress.transfer
    if transfer is None or transfer.loading or (meta := transfer.meta) is None:
        return
    if (meta.id, meta.checksum) != (message.snapshot_id, message.checksum):
        return
    if not 0 <= message.next_offset <= meta.size or message.next_offset == transfer.offset:
        return
    transfer.retry_after_s = 0.0
    if message.next_offset < meta.size:
        transfer.offset = message.next_offset
        _load(raft, message.from_id, transfer)
    else:
        # The receiver checks the whole file now; its AppendReply ends the transfer, a retry asks again.
        transfer.retry_at = raft.now + RETRY_HEARTBEATS_MAX * raft.settings.heartbeat_interval_s


def _load(raft: "Raft", peer: int, transfer: SnapshotTransfer) -> None:
    interval = raft.settings.heartbeat_interval_s
    transfer.retry_after_s = min(
        max(2 * transfer.retry_after_s, RETRY_HEARTBEATS * interval), RETRY_HEARTBEATS_MAX * interval
    )
    transfer.retry_at = raft.now + transfer.retry_after_s
    transfer.loading = True
    raft.loads.append(
        LoadChunk(peer=peer, meta=transfer.meta, offset=transfer.offset, bytes_max=raft.settings.chunk_bytes)
    )


def _transfer(progress: Progress) -> SnapshotTransfer:
    assert progress.phase is Phase.SNAPSHOT and progress.transfer is not None
    return progress.transfer


# -- the receiver's side ----------------------------------------------------------------------------------------


def on_install_snapshot(raft: "Raft", message: InstallSnapshot) -> None:
    """A chunk from the leader of the current term."""
    meta = message.meta
    if _holds_already(raft, meta):
        raft.incoming = None
        _acknowledge(raft, message.from_id)
        return
    end = message.offset + len(message.data)
    if message.offset < 0 or end > meta.size or message.done != (end == meta.size):
        return
    incoming = raft.incoming
    if incoming is None or incoming.meta != meta:
        if message.offset > 0:
            _ask_for(raft, message.from_id, meta, 0)
            return
        incoming = raft.incoming = Incoming(meta)
    if message.offset == incoming.next_offset and not incoming.complete:
        raft.chunks.append(SnapshotChunk(meta=meta, offset=message.offset, data=message.data, done=message.done))
        incoming.next_offset = end
        incoming.complete = message.done
    _ask_for(raft, message.from_id, meta, incoming.next_offset)


def on_snapshot_received(raft: "Raft", event: SnapshotReceived) -> None:
    """The file is whole and right, or broken; then it is sent anew from its beginning."""
    incoming = raft.incoming
    if incoming is None or incoming.meta != event.meta or not incoming.complete:
        return
    raft.incoming = None
    leader_id = raft.leader_id
    if not event.ok:
        if leader_id is not None and leader_id != raft.member_id:
            _ask_for(raft, leader_id, event.meta, 0)
        return
    if not _holds_already(raft, event.meta):
        raft.install(event.meta)
    if leader_id is not None and leader_id != raft.member_id:
        _acknowledge(raft, leader_id)


def _holds_already(raft: "Raft", meta: SnapshotMeta) -> bool:
    """Whether all that the snapshot stands for is here, so that it brings nothing new.

    Entries that follow it may have been acknowledged, and with them committed: they must not be thrown away (§5.3).
    A snapshot holds only what is committed, so here it is, too.
    """
    if raft.commit_index < meta.id.index and raft.log.holds(meta.id):
        raft.commit_to(meta.id.index)
    return meta.id.index <= raft.commit_index


def _acknowledge(raft: "Raft", leader_id: int) -> None:
    raft.send(
        AppendReply(
            from_id=raft.own_id,
            to_id=leader_id,
            term=raft.term,
            round=0,
            success=True,
            match_index=raft.commit_index,
            withholds_s=raft.settings.election_timeout_s,
        ),
        promises=True,
    )


def _ask_for(raft: "Raft", leader_id: int, meta: SnapshotMeta, next_offset: int) -> None:
    raft.send(
        InstallSnapshotReply(
            from_id=raft.own_id,
            to_id=leader_id,
            term=raft.term,
            snapshot_id=meta.id,
            checksum=meta.checksum,
            next_offset=next_offset,
        ),
        promises=True,
    )
