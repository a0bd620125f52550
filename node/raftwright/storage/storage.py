"""The store of one member: lock, identity, log and snapshots, as one thing.

Called by the shell (from threads; it blocks) and by the simulator. The one rule: what `write` and `finish` of a
snapshot returned for is there after any crash.
"""

import logging
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from raftwright.raft.entries import ZERO, Entry, EntryId, HardState, Recovered, SnapshotMeta
from raftwright.raft.membership import Membership
from raftwright.raft.ready import SnapshotChunk
from raftwright.storage import identity as identities
from raftwright.storage import segments, set_aside, snapshots
from raftwright.storage.errors import (
    CorruptIdentity,
    DiskFull,
    LockedStore,
    ReadFailed,
    SyncFailed,
)
from raftwright.storage.files import Files, Lock
from raftwright.storage.identity import StoreIdentity
from raftwright.storage.log import SEGMENT_BYTES_MIN, Log
from raftwright.storage.room import Room
from raftwright.storage.snapshot_io import SnapshotReader, SnapshotWriter
from raftwright.storage.snapshots import Snapshots
from raftwright.storage.transforms import transform_named

LOCK = "lock"

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class StorageSettings:
    segment_bytes: int = 16 << 20
    """Size of one segment of the log; three are there at least: in use, next, reserve. An entry that does not fit
    into one gets a larger one of its own."""
    tail_bytes_max: int = 16 << 20
    """How many bytes of the newest entries `recovered.tail` holds at most."""

    def __post_init__(self) -> None:
        if self.segment_bytes < SEGMENT_BYTES_MIN or self.segment_bytes % 8:
            raise ValueError(f"segment_bytes must be at least {SEGMENT_BYTES_MIN} and a multiple of 8")


class Storage:
    """Open with `Storage.open`. Threads: one calls `write`; others may read, snapshot, compact and prepare."""

    def __init__(
        self, files: Files, lock: Lock, identity: StoreIdentity, log: Log, own: Snapshots, settings: StorageSettings
    ) -> None:
        self._files = files
        self._lock = lock
        self._log = log
        self._snapshots = own
        self._settings = settings
        self.identity = identity
        self._identity_lock = threading.Lock()
        self.snapshot_compression = "none"
        """Of the next snapshot: `none`, `gzip` or `zstd`."""

    @classmethod
    def open(cls, files: Files, settings: StorageSettings, *, new_store_id: str) -> "Storage":
        """Lock the store and recover it, or make it with the id `new_store_id` where there is none.

        Raises LockedStore, CorruptIdentity, CorruptLog, CorruptSnapshot, WrongStore, UnsupportedFormat, ReadFailed
        with nothing changed; DiskFull where there is no space for a new store; SyncFailed.
        """
        try:
            lock = files.lock(LOCK)
        except BlockingIOError as error:
            raise LockedStore("another process uses this data directory; stop it first") from error
        except OSError as error:
            raise ReadFailed(f"the data directory cannot be used: {error}") from error
        try:
            return cls._open_locked(files, lock, settings, identities.check_store_id(new_store_id))
        except OSError as error:
            lock.release()
            raise ReadFailed(f"opening the data directory failed: {error}") from error
        except BaseException:
            lock.release()
            raise

    @classmethod
    def _open_locked(cls, files: Files, lock: Lock, settings: StorageSettings, new_store_id: str) -> "Storage":
        _make_directories(files)
        own = Snapshots(files)
        identity = identities.load(files)
        if identity is None:
            if _holds_data(files):
                raise CorruptIdentity(identities.COPIES[0], "both copies of the identity are gone, and there is data")
            identity = StoreIdentity(store_id=new_store_id)
            identities.save(files, identity)
        if identity.replaces is not None and not identity.has_log:
            set_aside.move_away(files)
            _make_directories(files)
        store_id = bytes.fromhex(identity.store_id)
        if identity.has_log:
            log = Log.open(files, store_id, settings.segment_bytes)
            own.load(log.base)
        else:
            _clear_log(files)
            log = Log.create(files, store_id, settings.segment_bytes)
            identity = identities.with_log(identity)
            identities.save(files, identity)
        own.tidy()
        cls._reconcile(log, own)
        try:
            log.prepare_reserve()
        except DiskFull as error:
            _log.warning("the log has no reserve: %s", error)
        return cls(files, lock, identity, log, own, settings)

    @staticmethod
    def _reconcile(log: Log, own: Snapshots) -> None:
        """A snapshot that the log does not lead up to replaces it: the log begins anew after it."""
        snapshot = own.newest
        if snapshot is None:
            return
        log.snapshot_id = snapshot.id
        at = snapshot.id
        leads_up = at.index <= log.last.index and log.term_at(at.index) == at.term
        # A vote of that term, had there been one, would be durable; the term itself may not be yet.
        behind = log.hard_state.term < at.term
        log.append(hard_state=HardState(at.term) if behind else None, reset=None if leads_up else at)

    @property
    def recovered(self) -> Recovered:
        """What a core starts with: read from the disk at each call, and not kept."""
        log = self._log
        return Recovered(
            hard_state=log.hard_state,
            snapshot=self._snapshots.newest,
            base=log.base,
            terms=log.terms,
            last=log.last,
            tail=tuple(self._tail()),
            memberships=log.memberships,
        )

    def _tail(self) -> list[Entry]:
        first = self._log.first_within(self._settings.tail_bytes_max)
        entries: list[Entry] = []
        while first <= self._log.last.index:
            entries += self._log.read(first, 1 << 20, self._log.last.index)
            first = entries[-1].index + 1
        return entries

    def save_identity(
        self, cluster_id: str | None, member_id: int | None, name: str | None, founding: str | None = None
    ) -> None:
        """Bind the store, durably; None leaves a field as it is. Raises WrongStore if it is bound otherwise."""
        self._save(lambda identity: identities.bound(identity, cluster_id, member_id, name, founding))

    def promise(self, election_timeout_ms: int) -> None:
        """From now on this member gives no vote for so long after hearing from a leader: durable on return."""
        self._save(lambda identity: identities.promising(identity, election_timeout_ms))

    def mark_removed(self) -> None:
        """The member that this store belongs to was removed: durable on return, and never undone."""
        self._save(identities.as_removed)

    def begin_anew(self, new_store_id: str) -> None:
        """Set this store, whose member was removed, aside and begin another one in its place: durable on return. To be
        closed then; the next `open` has the new store, and nothing of this one is read any more.

        Raises DiskFull with this store as it was, SyncFailed."""
        assert self.identity.removed
        self.identity = set_aside.begin_anew(self._files, self.identity, identities.check_store_id(new_store_id))

    def _save(self, change: Callable[[StoreIdentity], StoreIdentity]) -> None:
        """From any thread: what several change at once is all there in the end."""
        with self._identity_lock:
            identity = change(self.identity)
            if identity != self.identity:
                identities.save(self._files, identity)
                self.identity = identity

    # Writing.

    def write(
        self,
        *,
        hard_state: HardState | None = None,
        snapshot: SnapshotMeta | None = None,
        chunks: Sequence[SnapshotChunk] = (),
        entries: Sequence[Entry] = (),
    ) -> None:
        """Make all of it durable, with one sync unless there is a snapshot or a segment is full. Blocks.

        `snapshot`, received and checked by `finish_received` (or the newest one of this store's own), replaces the
        whole log; `entries` come after it, and replace what the log has from the first one's index on. Chunks are
        kept, and are durable once `finish_received` said True. Raises DiskFull with no entry and no hard state
        written, SyncFailed (end the process), ValueError for what does not fit together.
        """
        for chunk in chunks:
            self._snapshots.receive(chunk)
        reset: EntryId | None = None
        if snapshot is not None:
            if snapshot != self._snapshots.newest:
                self._snapshots.install_received(snapshot)
            self._log.snapshot_id = reset = snapshot.id
        if hard_state or reset or entries:
            self._log.append(hard_state=hard_state, reset=reset, entries=entries)
        if reset is not None:
            self._log.compact(reset.index + 1)

    def finish_received(self, meta: SnapshotMeta) -> bool:
        """Whether the chunks are the whole file that `meta` names, by size and checksum; if not, they are dropped."""
        return self._snapshots.finish_received(meta)

    def open_received(self, meta: SnapshotMeta) -> SnapshotReader | None:
        """The received snapshot, after `finish_received` found it right; None if it is no longer there."""
        return self._snapshots.open_received(meta)

    def adopt_received(self, meta: SnapshotMeta) -> bool:
        """Make the received and checked snapshot the newest one, durably, with the log as it is: as if it were taken
        here. Only for one that the durable log leads up to. False if it is no longer there."""
        if not self._snapshots.holds_received(meta):
            return False
        self._snapshots.install_received(meta)
        newest = self._snapshots.newest
        assert newest is not None
        self._log.snapshot_id = newest.id
        return newest == meta

    # Snapshots.

    @property
    def snapshot_meta(self) -> SnapshotMeta | None:
        """Of the newest one."""
        return self._snapshots.newest

    def new_snapshot(self, *, id: EntryId, time_ms: int, membership: Membership) -> SnapshotWriter:
        """Begin a snapshot of the state after the entry `id`, in a temporary file. Raises DiskFull."""
        return self._snapshots.write(id, time_ms, membership, self._publish, transform_named(self.snapshot_compression))

    def _publish(self, meta: SnapshotMeta) -> SnapshotMeta:
        newest = self._snapshots.publish_own(meta)
        self._log.snapshot_id = newest.id
        if self._log.last == ZERO:
            # The first snapshot of all founds the log. A log that has entries catches up with its snapshot by itself.
            self._log.append(reset=newest.id)
        return newest

    def open_snapshot(self) -> SnapshotReader:
        """The newest one; FileNotFoundError where there is none."""
        return self._snapshots.open()

    def read_chunk(self, meta: SnapshotMeta, offset: int, size: int) -> bytes | None:
        """Bytes of the newest snapshot; None if `meta` is not that one (any more)."""
        return self._snapshots.read_chunk(meta, offset, size)

    # The log.

    def read(self, first: int, bytes_max: int, last: int) -> list[Entry]:
        """Durable entries from `first` to `last` at most, contiguous: as many as fit in `bytes_max`, but at least one.

        Empty where `first` is not in the log (any more). Raises CorruptLog or ReadFailed.
        """
        return self._log.read(first, bytes_max, last)

    def compact(self, keep_from: int) -> None:
        """Let go of whole segments before entry `keep_from`, and never of what the newest snapshot does not cover."""
        newest = self._snapshots.newest
        if newest is not None:
            self._log.compact(min(keep_from, newest.id.index + 1))

    def prepare(self, sizes: Sequence[int] = ()) -> None:
        """Make the next segment and the reserve ahead of need, and what it takes for records of `sizes` bytes to fit.
        Raises DiskFull: the log goes on with what it has. It does not take the space that another snapshot of the size
        of the newest one needs, for only a snapshot makes space."""
        newest = self._snapshots.newest
        self._log.prepare(sizes, leaving=newest.size if newest else 0)

    def release_reserve(self) -> bool:
        """Give up a prepared segment so that a snapshot finds room; `prepare` remakes it. False if there is none."""
        return self._log.release_reserve()

    @property
    def needs_prepare(self) -> bool:
        """No next segment is ready, or there is no reserve."""
        return self._log.needs_prepare

    @property
    def room(self) -> Room:
        """What can be written before the reserve is used."""
        return self._log.room

    @property
    def log_bytes(self) -> int:
        return self._log.log_bytes

    @property
    def free_bytes(self) -> int:
        """Of the file system."""
        return self._files.free_bytes()

    @property
    def first_index(self) -> int:
        """Of the log's first entry; one behind the last where there is none."""
        return self._log.base.index + 1

    @property
    def last_id(self) -> EntryId:
        """Of the log's last durable entry; that of its base where there is none."""
        return self._log.last

    @property
    def sync_count(self) -> int:
        """Syncs of the log."""
        return self._log.sync_count

    @property
    def bytes_written(self) -> int:
        """Bytes written to the log."""
        return self._log.bytes_written

    def close(self) -> None:
        """Close the files and let the lock go. Nothing is written: what counts is durable already."""
        self._log.close()
        self._snapshots.close()
        self._lock.release()


def _make_directories(files: Files) -> None:
    try:
        # Also makes renames durable that a process did before it was killed.
        if files.exists(set_aside.DIRECTORY):
            files.sync_directory(set_aside.DIRECTORY)
        files.mkdir(segments.DIRECTORY)
        files.mkdir(snapshots.DIRECTORY)
        files.sync_directory(".")
    except OSError as error:
        raise SyncFailed(f"making the directories failed: {error}") from error


def _holds_data(files: Files) -> bool:
    return any(
        name.endswith((segments.SUFFIX, snapshots.SUFFIX))
        for directory in (segments.DIRECTORY, snapshots.DIRECTORY)
        for name in files.list(directory)
    )


def _clear_log(files: Files) -> None:
    """Throw away a log whose making did not end: nothing was ever promised by it."""
    try:
        for name in files.list(segments.DIRECTORY):
            files.remove(f"{segments.DIRECTORY}/{name}")
        files.sync_directory(segments.DIRECTORY)
    except OSError as error:
        raise SyncFailed(f"{segments.DIRECTORY}: {error}") from error
