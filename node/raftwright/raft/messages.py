"""What members say to each other: one class an RPC and one a reply, all of them values.

Every message has a sender, a receiver and the sender's term. `server/wire.py` puts them on the wire.
"""

from dataclasses import dataclass

from raftwright.raft.entries import ZERO, Entry, EntryId, SnapshotMeta


@dataclass(frozen=True, slots=True, kw_only=True)
class Message:
    from_id: int
    to_id: int
    term: int
    """The sender's current term, save in a pre-vote: there the term it would campaign in."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RequestPreVote(Message):
    """Would you vote for me in this term? Changes nothing at the receiver (§9.6)."""

    last: EntryId


@dataclass(frozen=True, slots=True, kw_only=True)
class PreVoteReply(Message):
    """`term` is the request's when granted, else the receiver's own."""

    granted: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class RequestVote(Message):
    """§3.4, Figure 3.1."""

    last: EntryId
    transfer: bool = False
    """A leadership transfer asked for this election: the check for a live leader does not apply (§4.2.3)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class VoteReply(Message):
    granted: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class AppendEntries(Message):
    """§3.5, Figure 3.1. Without entries it is a heartbeat."""

    prev: EntryId
    entries: tuple[Entry, ...] = ()
    commit_index: int
    round: int
    """Counts the leader's rounds of heartbeats; a reply returns it, and confirms leadership for reads (§6.4)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AppendReply(Message):
    """The answer to AppendEntries, and after the last chunk to InstallSnapshot.

    With `success`, every entry up to `match_index` is durable here and as the leader has it. Without, `prev_index`
    is that of the refused message and `hint` is the last id of this log that may match: the leader goes back at
    once to the last entry of its own log whose id is not greater (a whole term is skipped a reply, §3.5).
    """

    round: int
    success: bool
    match_index: int = 0
    prev_index: int = 0
    hint: EntryId = ZERO
    withholds_s: float = 0.0
    """For so long from the arrival of what this answers, the sender gives no vote to anybody who was not told to
    campaign: its election timeout (§4.2.3). 0: it says nothing about that."""


@dataclass(frozen=True, slots=True, kw_only=True)
class InstallSnapshot(Message):
    """One chunk of a snapshot (§5, Figure 5.3). Goes over a connection of its own, never before heartbeats."""

    meta: SnapshotMeta
    offset: int
    data: bytes
    done: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class InstallSnapshotReply(Message):
    """How far the receiver is, so that a transfer resumes: the next offset of this very snapshot it needs."""

    snapshot_id: EntryId
    checksum: int
    next_offset: int


@dataclass(frozen=True, slots=True, kw_only=True)
class TimeoutNow(Message):
    """Campaign at once: leadership is being transferred to you (§3.10)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ReadIndexRequest(Message):
    """A follower or learner asks the leader for an index at which a read is linearizable (§6.4)."""

    context: int


@dataclass(frozen=True, slots=True, kw_only=True)
class ReadIndexReply(Message):
    context: int
    index: int | None
    """None: the receiver cannot say (it is no leader, or lost leadership meanwhile); ask again."""


RaftMessage = (
    RequestPreVote
    | PreVoteReply
    | RequestVote
    | VoteReply
    | AppendEntries
    | AppendReply
    | InstallSnapshot
    | InstallSnapshotReply
    | TimeoutNow
    | ReadIndexRequest
    | ReadIndexReply
)
