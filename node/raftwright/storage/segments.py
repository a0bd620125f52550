"""The files of the log: one a segment, named by its generation; how they are made, recycled and removed.

Called by `log.py` and `recovery.py`. The one rule: a file is durable under its final name, in full length and zeroed
or recycled, before it is used; what it held before can never be valid again, since a generation is never used twice.
"""

import logging
from array import array
from collections.abc import Callable

from raftwright.storage import records
from raftwright.storage.errors import DiskFull, SyncFailed, preparing
from raftwright.storage.files import File, Files

DIRECTORY = "log"
SUFFIX = ".segment"
TEMPORARY = ".tmp"
_ZEROS = bytes(1 << 20)
_SYNC_BYTES = 2 << 20
"""Synced in pieces: one sync of a whole segment would hold up those of the log."""

_log = logging.getLogger(__name__)


def segment_path(generation: int) -> str:
    return f"{DIRECTORY}/{generation:016x}{SUFFIX}"


def generation_of(name: str) -> int | None:
    """The generation that a file of the log's directory is named by."""
    stem, found, rest = name.partition(SUFFIX)
    if not found or rest or len(stem) != 16:
        return None
    try:
        return int(stem, 16)
    except ValueError:
        return None


class Segment:
    """One segment: its file, and where its live entries are."""

    __slots__ = ("capacity", "end", "file", "first_index", "generation", "live_end", "offsets", "seed")

    def __init__(self, generation: int, file: File, capacity: int, store_id: bytes) -> None:
        self.generation = generation
        self.file = file
        self.capacity = capacity
        self.seed = records.segment_seed(store_id, generation)
        self.end = 0
        """Offset behind the last record."""
        self.first_index = 0
        """Index of the first live entry; means nothing where there is none."""
        self.offsets = array("I")
        """The offset of each live entry: they are contiguous in index, though not in place."""
        self.live_end = 0
        """Offset behind the last live entry."""

    @property
    def path(self) -> str:
        return segment_path(self.generation)

    @property
    def last_index(self) -> int:
        return self.first_index + len(self.offsets) - 1

    def truncate_after(self, index: int) -> None:
        """Forget the live entries with a greater index."""
        keep = max(0, index - self.first_index + 1)
        if keep < len(self.offsets):
            self.live_end = self.offsets[keep]
            del self.offsets[keep:]


class SegmentFiles:
    """Makes, renames and removes the files of segments. Holds the counter of generations."""

    def __init__(self, files: Files, store_id: bytes, next_generation: Callable[[], int]) -> None:
        self._files = files
        self._store_id = store_id
        self._next_generation = next_generation

    def make(self, capacity: int, leaving: int = 0) -> Segment:
        """A new segment, filled with zeros and durable. Raises DiskFull, with nothing left behind, also where less than
        `leaving` bytes of the disk would be free then.

        Filled, since a write into space that is only reserved must change the file system's own records too, and
        takes twice as long to sync.
        """
        generation = self._next_generation()
        path = segment_path(generation)
        temporary = path + TEMPORARY
        file: File | None = None
        try:
            if leaving and (free := self._files.free_bytes()) < capacity + leaving:
                why = f"{free} bytes are free, of which {leaving} are kept for the next snapshot"
                raise DiskFull(f"{path}: {why}; free some space")
            file = self._files.open(temporary, create=True)
            for start in range(0, capacity, _SYNC_BYTES):
                write_zeros(file, start, min(capacity, start + _SYNC_BYTES))
                file.sync()
            self._files.rename(temporary, path)
            self._files.sync_directory(DIRECTORY)
        except OSError as error:
            self._clean(file, (temporary, path))
            raise preparing(error, path) from error
        return Segment(generation, file, capacity, self._store_id)

    def _clean(self, file: File | None, paths: tuple[str, ...]) -> None:
        try:
            if file is not None:
                file.close()
            for path in paths:
                if self._files.exists(path):
                    self._files.remove(path)
        except OSError as error:
            _log.warning("%s was not removed: %s", paths[0], error)

    def recycle(self, old: Segment) -> Segment:
        """`old` under a new generation. Its content stays, and is not valid there."""
        generation = self._next_generation()
        try:
            self._files.rename(old.path, segment_path(generation))
            # Before it is written: else a crash could bring back the old name with new content.
            self._files.sync_directory(DIRECTORY)
        except OSError as error:
            raise SyncFailed(f"{old.path}: {error}") from error
        return Segment(generation, old.file, old.capacity, self._store_id)

    def remove(self, old: Segment) -> None:
        try:
            old.file.close()
            self._files.remove(old.path)
            # One at a time: else a crash could leave an older one and a newer one with a gap between them.
            self._files.sync_directory(DIRECTORY)
        except OSError as error:
            raise SyncFailed(f"{old.path}: {error}") from error


def write_zeros(file: File, start: int, end: int) -> None:
    while start < end:
        size = min(len(_ZEROS), end - start)
        file.pwrite(_ZEROS[:size] if size < len(_ZEROS) else _ZEROS, start)
        start += size
