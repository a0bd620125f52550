"""What the driver wants done: values that the glue (or the simulator) carries out.

Rule: the driver does no I/O; what is in here is all that it asks for.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

from raftwright.raft.entries import Entry, EntryId, HardState, SnapshotMeta
from raftwright.raft.membership import Membership
from raftwright.raft.ready import LoadChunk, LoadEntries, SnapshotChunk
from raftwright.server.errors import ServiceError
from raftwright.server.wire import PeerMessage


@dataclass(slots=True, kw_only=True)
class Persist:
    """One write and one sync for all of it (`Storage.write`), then `Driver.persisted`. One at a time."""

    ready: int
    """Number of the last Ready in it."""
    hard_state: HardState | None = None
    snapshot: SnapshotMeta | None = None
    chunks: list[SnapshotChunk] = field(default_factory=list)
    entries: list[Entry] = field(default_factory=list)
    messages_after: list[PeerMessage] = field(default_factory=list)
    """For the driver itself: it sends them when the write is durable."""


@dataclass(slots=True, kw_only=True)
class Answer:
    """The result of one write, for whoever holds `token`: decoded results, encoded results or an error."""

    token: Any
    index: int = 0
    results: list[Any] | None = None
    encoded: bytes | None = None
    error: ServiceError | None = None


@dataclass(slots=True, kw_only=True)
class ReadDone:
    """Local reads for these tokens are linearizable now, or failed."""

    tokens: list[Any]
    index: int = 0
    error: ServiceError | None = None


@dataclass(slots=True, kw_only=True)
class ControlDone:
    """The end of a call about members or the leader, for whoever holds `token`: an answer or an error."""

    token: Any
    status: int = 200
    """202: the change goes on by itself."""
    answer: Any = None
    """A struct of `client.member_models`."""
    error: ServiceError | None = None


@dataclass(slots=True, kw_only=True)
class SnapshotJob:
    """Write these sections to a new snapshot, in slices so that nothing stalls, then `Driver.snapshot_taken`."""

    id: EntryId
    time_ms: int
    membership: Membership
    sections: list[tuple[str, int, bool, Iterator[bytes]]]
    """Name, version, whether a reader must know it, and its bytes over a frozen view."""
    keep_from: int


@dataclass(slots=True, kw_only=True)
class Effects:
    """What one run of the driver wants done. The order between its parts is free, save that of each list."""

    persist: Persist | None = None
    sends: dict[int, list[PeerMessage]] = field(default_factory=dict)
    answers: list[Answer] = field(default_factory=list)
    reads: list[ReadDone] = field(default_factory=list)
    controls: list[ControlDone] = field(default_factory=list)
    loads: list[LoadEntries | LoadChunk] = field(default_factory=list)
    apply_load: tuple[int, int] | None = None
    """First and last index of entries to read from disk for apply, then `Driver.entries_for_apply`."""
    snapshot: SnapshotJob | None = None
    restore: SnapshotMeta | None = None
    """Load this snapshot into the state machine, then `Driver.restored`."""
    adopt: SnapshotMeta | None = None
    """Load this snapshot, which was received, into the state machine, unless it contradicts `ReplicaChecks.known`; make
    it the store's newest, with the log as it is; then `Driver.adopted`."""
    prepare: tuple[int, ...] = ()
    """Records of these sizes wait for room: prepare segments for them (`Storage.prepare`), then `Driver.set_room`."""
    compact: int | None = None
    """The first index that the log on disk must keep."""
    membership: Membership | None = None
    """The newest membership, where it changed: whom to connect to."""
    removed: bool = False
    """This member was removed, for good: said once."""
    leader_changed: bool = False
    committed: list[tuple[float, int]] = field(default_factory=list)
    """Of each entry of this leader's that was applied: seconds since it was proposed, and its commands."""
    again: bool = False
    """There is more to do at once: run again after what else is waiting had its turn."""

    def send(self, messages: Iterable[PeerMessage]) -> None:
        for message in messages:
            self.sends.setdefault(message.to_id, []).append(message)
