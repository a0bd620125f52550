"""What the log is made of: ids, entries, hard state and the identity of a snapshot.

Everything in the project may import these; they import nothing. Values only.
"""

from dataclasses import dataclass
from enum import IntEnum
from typing import NamedTuple

from raftwright.raft.membership import Membership

ENTRY_OVERHEAD_BYTES = 64
"""What an entry is taken to cost beside its payload, in memory and on the wire, when sizes are bounded."""


class EntryId(NamedTuple):
    """Term and index of an entry. Ids are ordered: "at least as up to date" (§3.6.1) is one comparison."""

    term: int
    index: int  # type: ignore[assignment]  # the field's own name matters more than tuple.index


ZERO = EntryId(0, 0)
"""The id before the first entry."""


class EntryKind(IntEnum):
    NOOP = 0
    """What a new leader appends, so that it may commit what came before (§3.6.2)."""
    MEMBERSHIP = 1
    """Payload: an encoded `Membership`. In force as soon as it is in the log, committed or not (§4.1)."""
    COMMANDS = 2
    """Payload: blobs of commands, each with its origin (`server/blobs.py`). Opaque to the core."""
    SYSTEM = 3
    """Payload: a command to the replicated system state. Opaque to the core."""


class Entry(NamedTuple):
    """One entry of the log: a batch of commands, or a command to Raft itself.

    `time_ms` is log time: the leader's wall clock in milliseconds since 1970, never less than the entry before
    it. `checksum` is the CRC-32 of `payload`, computed once by the leader and carried unchanged to every disk.
    A NamedTuple, since a million of them are made at a restart.
    """

    term: int
    index: int  # type: ignore[assignment]
    kind: int
    version: int
    """Format version of the payload."""
    time_ms: int
    payload: bytes
    checksum: int

    @property
    def id(self) -> EntryId:
        return EntryId(self.term, self.index)

    @property
    def size(self) -> int:
        return len(self.payload) + ENTRY_OVERHEAD_BYTES


@dataclass(frozen=True, slots=True)
class HardState:
    """What a server must not forget, durable before anything that follows from it is sent (§3.4, Figure 3.1)."""

    term: int = 0
    voted_for: int | None = None
    """Member id that this server voted for in `term`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SnapshotMeta:
    """The identity of a snapshot: it stands for every entry up to and with `id`.

    Two snapshots of one index may differ in their bytes; `checksum` and `size` tell them apart, so that a
    transfer resumes only within the same file.
    """

    id: EntryId
    time_ms: int
    """Log time of the entry at `id`."""
    membership: Membership
    """As of `id`."""
    size: int = 0
    """Bytes of the file."""
    checksum: int = 0
    """CRC-32 of the file's bytes."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Recovered:
    """What storage found on disk at the start: all that the core needs to go on."""

    hard_state: HardState = HardState()
    snapshot: SnapshotMeta | None = None
    """The newest snapshot; None on a store that has never been founded or joined."""
    base: EntryId = ZERO
    """The id before the log's first entry: that of the snapshot, or an older one where entries before the
    snapshot were kept for slow followers."""
    terms: tuple[EntryId, ...] = ()
    """The log as runs: the term and first index of each run of entries of one term, ascending."""
    last: EntryId = ZERO
    """The newest entry's id; `base` where the log is empty."""
    tail: tuple[Entry, ...] = ()
    """The newest entries, contiguous up to `last`, as many as the cache takes."""
    memberships: tuple[Entry, ...] = ()
    """Every MEMBERSHIP entry in the log."""
