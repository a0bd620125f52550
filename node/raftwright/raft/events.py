"""What may happen to the core: the one way in is `Raft.step(event)`.

`now` is in seconds of a monotonic clock that counts suspend where the system has one.
"""

from dataclasses import dataclass

from raftwright.raft.entries import Entry, SnapshotMeta
from raftwright.raft.membership import Membership
from raftwright.raft.messages import RaftMessage


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    now: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Tick(Event):
    """Time has passed. Due at `Raft.next_deadline`, harmless at any other time; a late one counts once."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Receive(Event):
    """A message from a peer whose identity the shell has checked."""

    message: RaftMessage


@dataclass(frozen=True, slots=True, kw_only=True)
class Propose(Event):
    """Append one entry. Raises NotLeader or ProposalDropped before anything changes; else the entry's id is
    `raft.log.last_id` after the step."""

    kind: int
    version: int
    time_ms: int
    """The leader's wall clock; the core lifts it to that of the entry before if it is less."""
    payload: bytes
    checksum: int


@dataclass(frozen=True, slots=True, kw_only=True)
class ProposeMembership(Event):
    """Change the membership to `target` (never joint itself: the core goes through the joint one when the voters
    change). Raises NotLeader, MembershipChangePending, MembershipOutdated or InvalidMembership."""

    target: Membership
    base_version: int
    """The version of the membership that `target` was computed from."""
    time_ms: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Persisted(Event):
    """Everything of the Readys up to and with number `ready` is durable."""

    ready: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Applied(Event):
    """The shell applied every entry up to `index`."""

    index: int


@dataclass(frozen=True, slots=True, kw_only=True)
class EntriesLoaded(Event):
    """The answer to `LoadEntries`: entries from `first`, contiguous; empty where they are no longer there."""

    peer: int
    first: int
    entries: tuple[Entry, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class ChunkLoaded(Event):
    """The answer to `LoadChunk`. `data` is None where that snapshot is no longer there."""

    peer: int
    meta: SnapshotMeta
    offset: int
    data: bytes | None


@dataclass(frozen=True, slots=True, kw_only=True)
class SnapshotTaken(Event):
    """A snapshot of this server's own is durable: the log may be cut behind it.

    `keep_from` is the first index that stays in the log for followers that are a little behind.
    """

    meta: SnapshotMeta
    keep_from: int


@dataclass(frozen=True, slots=True, kw_only=True)
class SnapshotReceived(Event):
    """All chunks of a leader's snapshot have arrived and its checksum is right (`ok`), or is wrong."""

    meta: SnapshotMeta
    ok: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class RequestRead(Event):
    """Ask for an index at which a read is linearizable; `Ready.reads` answers with `context`."""

    context: int


@dataclass(frozen=True, slots=True, kw_only=True)
class TransferLeadership(Event):
    """Hand leadership to `target`, or to the most up-to-date voter. Raises NotLeader or TransferImpossible."""

    target: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class StreamLost(Event):
    """The stream to `peer` broke: what was in flight on it may be lost, so probe again."""

    peer: int


AnyEvent = (
    Tick
    | Receive
    | Propose
    | ProposeMembership
    | Persisted
    | Applied
    | EntriesLoaded
    | ChunkLoaded
    | SnapshotTaken
    | SnapshotReceived
    | RequestRead
    | TransferLeadership
    | StreamLost
)
