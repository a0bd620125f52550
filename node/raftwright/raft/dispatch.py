"""Which room handles what: one `match` over events, one over messages, and the rules about terms before it.

Called by `Raft.step`. Its one rule: a message of a newer term ends the own one before anything else is looked at,
save where that would let a server that is cut off, or removed, disturb a working leader (§4.2.3, §9.6).
"""

from typing import TYPE_CHECKING, assert_never

from raftwright.raft import (
    catch_up,
    commitment,
    election,
    following,
    membership_changes,
    reads,
    replication,
    snapshots,
    transfer,
)
from raftwright.raft.events import (
    AnyEvent,
    Applied,
    ChunkLoaded,
    EntriesLoaded,
    Persisted,
    Propose,
    ProposeMembership,
    Receive,
    RequestRead,
    SnapshotReceived,
    SnapshotTaken,
    StreamLost,
    Tick,
    TransferLeadership,
)
from raftwright.raft.messages import (
    AppendEntries,
    AppendReply,
    InstallSnapshot,
    InstallSnapshotReply,
    PreVoteReply,
    RaftMessage,
    ReadIndexReply,
    ReadIndexRequest,
    RequestPreVote,
    RequestVote,
    TimeoutNow,
    VoteReply,
)
from raftwright.raft.roles import Follower, Leader

if TYPE_CHECKING:
    from raftwright.raft.raft import Raft


def step(raft: "Raft", event: AnyEvent) -> None:
    match event:
        case Receive(message=message):
            receive(raft, message)
        case Propose():
            raft.propose(raft.require_leader(), event)
        case Persisted(ready=number):
            on_persisted(raft, number)
        case Applied(index=index):
            raft.applied_index = max(raft.applied_index, min(index, raft.commit_index))
            raft.log.evict(persisted=raft.durability.persisted_index, applied=raft.applied_index)
        case Tick():
            on_tick(raft)
        case RequestRead(context=context):
            reads.on_request_read(raft, context)
        case ProposeMembership():
            leader = raft.require_leader()
            membership_changes.propose(raft, leader, event.target, event.base_version, event.time_ms)
        case TransferLeadership(target=target):
            transfer.begin(raft, raft.require_leader(), target)
        case SnapshotTaken():
            snapshots.on_snapshot_taken(raft, event)
        case SnapshotReceived():
            snapshots.on_snapshot_received(raft, event)
        case EntriesLoaded() | ChunkLoaded() | StreamLost():
            if isinstance(raft.role, Leader):
                on_leaders_event(raft, raft.role, event)
        case _:
            assert_never(event)


def on_leaders_event(raft: "Raft", leader: Leader, event: EntriesLoaded | ChunkLoaded | StreamLost) -> None:
    match event:
        case EntriesLoaded():
            replication.on_entries_loaded(raft, leader, event)
        case ChunkLoaded():
            snapshots.on_chunk_loaded(raft, leader, event)
        case StreamLost(peer=peer):
            replication.on_stream_lost(raft, leader, peer)
        case _:
            assert_never(event)


def on_persisted(raft: "Raft", number: int) -> None:
    raft.durability.confirm(number)
    raft.log.evict(persisted=raft.durability.persisted_index, applied=raft.applied_index)
    if isinstance(raft.role, Leader):
        commitment.advance(raft, raft.role)


def on_tick(raft: "Raft") -> None:
    """Whatever is due is done once, however late the tick is."""
    match raft.role:
        case Leader() as leader:
            transfer.on_tick(raft, leader)
            if raft.now >= leader.heartbeat_at and election.check_quorum(raft, leader):
                leader.heartbeat_at = raft.now + raft.settings.heartbeat_interval_s
                replication.heartbeat(raft, leader)
                snapshots.retry_transfers(raft, leader)
                transfer.advance(raft, leader)
                catch_up.carry_on(raft, leader)
            return
        case Follower() as follower:
            reads.give_up_late(raft, follower)
    if raft.now >= raft.election_deadline:
        election.on_election_timeout(raft)


def receive(raft: "Raft", message: RaftMessage) -> None:
    if message.to_id != raft.member_id or is_from_removed(raft, message.from_id):
        return
    if message.term > raft.term:
        if not meet_newer_term(raft, message):
            return
    elif message.term < raft.term:
        answer_older_term(raft, message)
        return
    handle(raft, message)


def is_from_removed(raft: "Raft", from_id: int) -> bool:
    """Whether the sender is surely no member any more, and so has nothing to say.

    Only the leader that removed itself is still heard: the commit of it, and who is to follow.
    """
    return from_id != raft.leader_id and raft.committed_membership.was_removed(from_id)


def meet_newer_term(raft: "Raft", message: RaftMessage) -> bool:
    """Take the newer term, as every server does that sees one (§3.3). False if the message is done with."""
    match message:
        case RequestPreVote() | PreVoteReply(granted=True):
            pass  # speaks of a term that nobody has begun
        case RequestVote(transfer=False) if election.withholds_votes(raft):
            election.refuse_vote(raft, message)
            return False
        case _:
            raft.become_follower(message.term, leader_id=None)
    return True


def answer_older_term(raft: "Raft", message: RaftMessage) -> None:
    """Refuse with the own term, from which the sender learns; what needs no answer is dropped (§3.3)."""
    match message:
        case RequestPreVote():
            election.on_request_pre_vote(raft, message)
        case RequestVote():
            election.refuse_vote(raft, message)
        case AppendEntries(round=number):
            following.refuse_stale(raft, message.from_id, number)
        case InstallSnapshot():
            following.refuse_stale(raft, message.from_id, 0)
        case ReadIndexRequest():
            reads.on_read_index_request(raft, message)
        case PreVoteReply() | VoteReply() | AppendReply() | InstallSnapshotReply() | TimeoutNow() | ReadIndexReply():
            pass
        case _:
            assert_never(message)


def handle(raft: "Raft", message: RaftMessage) -> None:
    """A message of the current term."""
    match message:
        case AppendEntries():
            following.on_append_entries(raft, follow(raft, message.from_id), message)
        case AppendReply():
            if isinstance(raft.role, Leader):
                replication.on_append_reply(raft, raft.role, message)
                advance(raft, raft.role, message.from_id)
        case RequestPreVote():
            election.on_request_pre_vote(raft, message)
        case PreVoteReply():
            election.on_pre_vote_reply(raft, message)
        case RequestVote():
            election.on_request_vote(raft, message)
        case VoteReply():
            election.on_vote_reply(raft, message)
        case InstallSnapshot():
            follow(raft, message.from_id)
            snapshots.on_install_snapshot(raft, message)
        case InstallSnapshotReply():
            if isinstance(raft.role, Leader):
                snapshots.on_install_snapshot_reply(raft, raft.role, message)
        case TimeoutNow():
            election.on_timeout_now(raft, message)
        case ReadIndexRequest():
            reads.on_read_index_request(raft, message)
        case ReadIndexReply():
            reads.on_read_index_reply(raft, message)
        case _:
            assert_never(message)


def advance(raft: "Raft", leader: Leader, peer: int) -> None:
    """A peer confirmed something: commit, hand over to the target of a transfer once it has everything, and promote a
    learner that has caught up."""
    commitment.advance(raft, leader)
    if raft.role is leader and leader.transfer is not None and leader.transfer.target == peer:
        transfer.advance(raft, leader)
    if raft.role is leader:
        catch_up.on_reply(raft, leader, peer)


def follow(raft: "Raft", leader_id: int) -> Follower:
    """The leader of the current term spoke: whatever this server was, it follows now (§3.4)."""
    role = raft.role
    assert not isinstance(role, Leader), f"members {leader_id} and {raft.member_id} both lead term {raft.term}"
    if not isinstance(role, Follower) or role.leader_id is None:
        raft.become_follower(raft.term, leader_id)
        assert isinstance(raft.role, Follower)
        role = raft.role
    assert role.leader_id == leader_id, f"members {leader_id} and {role.leader_id} both lead term {raft.term}"
    raft.hear_leader()
    return role
