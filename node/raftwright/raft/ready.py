"""What the core wants done: the one way out is `Raft.ready()`."""

from dataclasses import dataclass

from raftwright.raft.entries import Entry, HardState, SnapshotMeta
from raftwright.raft.messages import RaftMessage


@dataclass(frozen=True, slots=True, kw_only=True)
class LoadEntries:
    """Read entries from disk for a peer that is behind the in-memory tail: from `first` on, at most
    `bytes_max` bytes but at least one. Answer with EntriesLoaded. Nothing else is asked for that peer meanwhile."""

    peer: int
    first: int
    bytes_max: int


@dataclass(frozen=True, slots=True, kw_only=True)
class LoadChunk:
    """Read a chunk of the newest local snapshot for a peer. `meta` is None for a first chunk: any snapshot not
    older than the log's first index serves. Answer with ChunkLoaded."""

    peer: int
    meta: SnapshotMeta | None
    offset: int
    bytes_max: int


@dataclass(frozen=True, slots=True, kw_only=True)
class SnapshotChunk:
    """Write a received chunk at `offset` of the temporary file for `meta` (a new file when `offset` is 0). After
    the last one check the whole file against `meta` and answer with SnapshotReceived."""

    meta: SnapshotMeta
    offset: int
    data: bytes
    done: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class ReadAnswer:
    """A read with `context` is linearizable once `index` is applied; None: it failed, no leader could confirm."""

    context: int
    index: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Ready:
    """All that the core wants done since the last Ready, and in what order it is safe.

    - `messages` may be sent at once, whatever the disk does. The leader's own appends are here: it counts itself
      only when its write is durable (§10.2.1).
    - `messages_after` may be sent only when `hard_state`, `entries`, `chunks` and `snapshot` of this Ready *and
      of every earlier one* are durable: votes, and what acknowledges entries.
    - `entries` are contiguous, and replace whatever the log has from the first one's index on. They come after
      `snapshot`, if there is one.
    - `snapshot` replaces the whole log and the whole state machine, both durably as one.
    - Persisting is in order; `Persisted(ready=number)` says it is done. Several Readys may be persisted at once,
      with one sync, by saying so for the last.
    - `commit_index`: entries up to it may be applied, in order, whether or not the own disk has them yet (a quorum
      has). It never goes back.
    - `reads` may be answered once their index is applied.
    """

    number: int
    """Counts the Readys; what `Persisted` refers to."""
    hard_state: HardState | None
    """None: unchanged."""
    snapshot: SnapshotMeta | None
    chunks: tuple[SnapshotChunk, ...]
    entries: tuple[Entry, ...]
    messages: tuple[RaftMessage, ...]
    messages_after: tuple[RaftMessage, ...]
    commit_index: int
    reads: tuple[ReadAnswer, ...]
    loads: tuple[LoadEntries | LoadChunk, ...]

    @property
    def must_persist(self) -> bool:
        return bool(self.hard_state or self.snapshot or self.chunks or self.entries)
