"""The snapshots of a store: the newest one, one being made, one being received.

Called by `storage.py`. The one rule: a snapshot is durable under its final name before an older one, or an entry that
it stands for, is let go.
"""

import logging
import threading
from collections.abc import Callable

from raftwright.raft.entries import EntryId, SnapshotMeta
from raftwright.raft.membership import Membership
from raftwright.raft.ready import SnapshotChunk
from raftwright.storage import snapshot_format as form
from raftwright.storage.errors import CorruptSnapshot, DiskFull, ReadFailed, SyncFailed, is_full, preparing
from raftwright.storage.files import File, Files
from raftwright.storage.snapshot_io import SnapshotReader, SnapshotWriter
from raftwright.storage.transforms import Transform

DIRECTORY = "snapshots"
SUFFIX = ".snapshot"
_OWN = f"{DIRECTORY}/own.tmp"
_RECEIVED = f"{DIRECTORY}/received.tmp"

_log = logging.getLogger(__name__)


def snapshot_path(entry_id: EntryId) -> str:
    """Names sort by index."""
    return f"{DIRECTORY}/{entry_id.index:016x}-{entry_id.term:016x}{SUFFIX}"


class Snapshots:
    """Threads: one may make a snapshot, one receive, any read."""

    def __init__(self, files: Files) -> None:
        self._files = files
        self._lock = threading.Lock()
        self._newest: SnapshotMeta | None = None
        self._file: File | None = None
        self._receiving: _Receiving | None = None

    @property
    def newest(self) -> SnapshotMeta | None:
        return self._newest

    def load(self, base: EntryId) -> None:
        """Find the newest whole snapshot that the log, which begins after `base`, goes on from.

        Raises CorruptSnapshot if there is none although the log needs one.
        """
        damaged: CorruptSnapshot | None = None
        names = [name for name in self._files.list(DIRECTORY) if name.endswith(SUFFIX)]
        for name in sorted(names, reverse=True):
            path = f"{DIRECTORY}/{name}"
            file = self._files.open(path)
            try:
                meta = form.verify(file, path)
                if path != snapshot_path(meta.id):
                    raise CorruptSnapshot(path, 0, f"the file holds another snapshot, that at {meta.id}")
            except CorruptSnapshot as error:
                _log.warning("%s", error)
                damaged = damaged or error
                file.close()
                continue
            except OSError as error:
                raise ReadFailed(f"{path}: {error}") from error
            if meta.id.index < base.index:
                file.close()
                break
            self._newest, self._file = meta, file
            break
        if self._newest is None:
            if damaged is not None:
                raise damaged
            if base.index:
                raise CorruptSnapshot(DIRECTORY, 0, f"the log begins after {base} and no snapshot reaches so far")

    def tidy(self) -> None:
        """Remove what earlier processes left unfinished or did not remove, and make renames durable that they did."""
        oldest = "" if self._newest is None else snapshot_path(self._newest.id)
        try:
            for name in self._files.list(DIRECTORY):
                if name.endswith(".tmp") or (name.endswith(SUFFIX) and f"{DIRECTORY}/{name}" < oldest):
                    self._files.remove(f"{DIRECTORY}/{name}")
            self._files.sync_directory(DIRECTORY)
        except OSError as error:
            raise SyncFailed(f"{DIRECTORY}: {error}") from error

    # Making one.

    def write(
        self,
        entry_id: EntryId,
        time_ms: int,
        membership: Membership,
        publish: Callable[[SnapshotMeta], SnapshotMeta],
        transform: Transform | None = None,
    ) -> SnapshotWriter:
        """`publish` is called with the finished file's meta, and calls `publish_own`. Raises DiskFull."""
        file = self._create(_OWN)
        return SnapshotWriter(file, _OWN, entry_id, time_ms, membership, publish, lambda: self._remove(_OWN), transform)

    def publish_own(self, meta: SnapshotMeta) -> SnapshotMeta:
        return self._publish(_OWN, meta)

    def _create(self, path: str) -> File:
        try:
            file = self._files.open(path, create=True)
            file.truncate(0)
        except OSError as error:
            raise preparing(error, path) from error
        return file

    def _publish(self, temporary: str, meta: SnapshotMeta) -> SnapshotMeta:
        """Give the synced file its final name, durably, and let go of the older ones."""
        with self._lock:
            if self._newest is not None and self._newest.id.index > meta.id.index:
                self._remove(temporary)
                return self._newest
            path = snapshot_path(meta.id)
            try:
                self._files.rename(temporary, path)
                self._files.sync_directory(DIRECTORY)
                opened = self._files.open(path)
                old, self._file, self._newest = self._file, opened, meta
                if old is not None:
                    old.close()
                for name in self._files.list(DIRECTORY):
                    if name.endswith(SUFFIX) and f"{DIRECTORY}/{name}" != path:
                        self._files.remove(f"{DIRECTORY}/{name}")
            except OSError as error:
                raise SyncFailed(f"{path}: {error}") from error
            return meta

    def _remove(self, path: str) -> None:
        try:
            if self._files.exists(path):
                self._files.remove(path)
        except OSError as error:
            _log.warning("%s was not removed: %s", path, error)

    # Reading.

    def open(self) -> SnapshotReader:
        """FileNotFoundError where there is no snapshot."""
        with self._lock:
            if self._newest is None:
                raise FileNotFoundError("the store has no snapshot")
            path = snapshot_path(self._newest.id)
            try:
                return SnapshotReader(self._files.open(path), path, self._newest)
            except OSError as error:
                raise ReadFailed(f"{path}: {error}") from error

    def read_chunk(self, meta: SnapshotMeta, offset: int, size: int) -> bytes | None:
        """Bytes of the newest snapshot, if `meta` is that one."""
        with self._lock:
            if self._file is None or meta != self._newest:
                return None
            try:
                return self._file.pread(size, offset)
            except OSError as error:
                raise ReadFailed(f"{snapshot_path(meta.id)}, offset {offset}: {error}") from error

    # Receiving one.

    def receive(self, chunk: SnapshotChunk) -> None:
        """Keep a chunk. It need not survive a crash: what is incomplete is thrown away at the next start.

        A full disk and chunks that do not fit together are found out by `finish_received`.
        """
        if chunk.offset == 0:
            self.abort_received()
            try:
                self._receiving = _Receiving(self._create(_RECEIVED), chunk.meta)
            except DiskFull as error:
                _log.warning("%s", error)
        receiving = self._receiving
        if receiving is None or receiving.failed:
            return
        end = chunk.offset + len(chunk.data)
        if chunk.meta != receiving.meta or chunk.offset > receiving.written or end > chunk.meta.size:
            receiving.failed = True
            return
        try:
            receiving.file.pwrite(chunk.data, chunk.offset)
        except OSError as error:
            if not is_full(error):
                raise SyncFailed(f"{_RECEIVED}: {error}") from error
            _log.warning("no space left for a snapshot from the leader: %s", error)
            self.abort_received()  # at once: a snapshot of one's own may want the space
            return
        receiving.written = max(receiving.written, end)

    def finish_received(self, meta: SnapshotMeta) -> bool:
        """Whether the received file is the one that `meta` names. It is durable then, save for its name."""
        receiving = self._receiving
        if receiving is None:
            return False
        whole = not receiving.failed and receiving.meta == meta and receiving.written == meta.size
        if whole:
            try:
                receiving.file.sync()
            except OSError as error:
                if not is_full(error):
                    raise SyncFailed(f"{_RECEIVED}: {error}") from error
                whole = False
        if whole:
            try:
                whole = form.verify(receiving.file, _RECEIVED) == meta
            except CorruptSnapshot as error:
                _log.warning("the snapshot received from the leader is damaged: %s", error)
                whole = False
        receiving.checked = whole
        if not whole:
            self.abort_received()
        return whole

    def install_received(self, meta: SnapshotMeta) -> None:
        """The received file, already checked, becomes the newest snapshot, durably."""
        receiving = self._receiving
        if receiving is None or not self.holds_received(meta):
            raise ValueError(f"no checked snapshot for {meta.id} has been received")
        self._receiving = None
        receiving.file.close()
        self._publish(_RECEIVED, meta)

    def holds_received(self, meta: SnapshotMeta) -> bool:
        """Whether `finish_received` said that this one is right, and it is still here."""
        receiving = self._receiving
        return receiving is not None and receiving.checked and receiving.meta == meta

    def open_received(self, meta: SnapshotMeta) -> SnapshotReader | None:
        if not self.holds_received(meta):
            return None
        try:
            return SnapshotReader(self._files.open(_RECEIVED), _RECEIVED, meta)
        except OSError as error:
            raise ReadFailed(f"{_RECEIVED}: {error}") from error

    def abort_received(self) -> None:
        if self._receiving is not None:
            self._receiving.file.close()
            self._receiving = None
            self._remove(_RECEIVED)

    def close(self) -> None:
        self.abort_received()
        if self._file is not None:
            self._file.close()
            self._file = None


class _Receiving:
    """A snapshot of which chunks arrive."""

    def __init__(self, file: File, meta: SnapshotMeta) -> None:
        self.file = file
        self.meta = meta
        self.written = 0
        self.failed = False
        self.checked = False
