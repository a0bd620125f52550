"""The one seam to the disk. Everything in this package reaches files only through `Files`.

The simulator puts a disk in its place that tears writes, fills up, fails and forgets what was not synced: so a sync
that is needed is always explicit. Paths are relative to a root, with `/`. Errors are OSErrors, unchanged.
"""

import errno
import fcntl
import os
from pathlib import Path
from typing import Protocol

_FULL_SYNC: int | None = getattr(fcntl, "F_FULLFSYNC", None)
_UNKNOWN_CALL = frozenset({errno.ENOTSUP, errno.EINVAL, errno.ENOTTY, errno.ENOSYS})


class File(Protocol):
    """One open file. Effects on one file happen in order."""

    def pread(self, size: int, offset: int) -> bytes:
        """Up to `size` bytes; fewer only at the end of the file."""
        ...

    def pwrite(self, data: bytes, offset: int) -> None:
        """Write all of `data`. It survives a crash only after `sync`."""
        ...

    def sync(self) -> None:
        """Returns when data and size are on the medium. After an error nothing is known about either."""
        ...

    def size(self) -> int: ...

    def truncate(self, size: int) -> None: ...

    def close(self) -> None: ...


class Lock(Protocol):
    def release(self) -> None: ...


class Files(Protocol):
    """A directory tree."""

    def open(self, path: str, create: bool = False) -> File:
        """Open for reading and writing. With `create` an absent file is made, durable after `sync_directory`."""
        ...

    def exists(self, path: str) -> bool: ...

    def list(self, directory: str) -> list[str]:
        """The names in `directory`, sorted."""
        ...

    def mkdir(self, path: str) -> None:
        """Nothing happens if it is there."""
        ...

    def rename(self, old: str, new: str) -> None:
        """Atomic; replaces `new`, but of directories only an empty one. Durable after `sync_directory` of both
        directories."""
        ...

    def remove(self, path: str) -> None:
        """Durable after `sync_directory`."""
        ...

    def sync_directory(self, directory: str) -> None: ...

    def lock(self, path: str) -> Lock:
        """An exclusive lock, held until released or the process ends. BlockingIOError if another has it."""
        ...

    def free_bytes(self) -> int: ...


def _full_sync(descriptor: int, command: int) -> None:
    """fsync of macOS leaves the data in the drive's cache. Some file systems do not know the stronger call."""
    try:
        fcntl.fcntl(descriptor, command)
    except OSError as error:
        if error.errno not in _UNKNOWN_CALL:
            raise
        os.fsync(descriptor)


class OsFile:
    """A file of the operating system."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor

    def pread(self, size: int, offset: int) -> bytes:
        data = os.pread(self._descriptor, size, offset)
        while 0 < len(data) < size:
            more = os.pread(self._descriptor, size - len(data), offset + len(data))
            if not more:
                break
            data += more
        return data

    def pwrite(self, data: bytes, offset: int) -> None:
        written = os.pwrite(self._descriptor, data, offset)
        while written < len(data):
            written += os.pwrite(self._descriptor, memoryview(data)[written:], offset + written)

    def sync(self) -> None:
        if _FULL_SYNC is None:
            os.fdatasync(self._descriptor)
        else:
            _full_sync(self._descriptor, _FULL_SYNC)

    def size(self) -> int:
        return os.fstat(self._descriptor).st_size

    def truncate(self, size: int) -> None:
        os.ftruncate(self._descriptor, size)

    def close(self) -> None:
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1


class OsLock:
    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor

    def release(self) -> None:
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1


class OsFiles:
    """The files under `root`, which is made if it is absent."""

    def __init__(self, root: Path) -> None:
        self.root = root
        root.mkdir(parents=True, exist_ok=True)

    def open(self, path: str, create: bool = False) -> OsFile:
        flags = os.O_RDWR | os.O_CLOEXEC | (os.O_CREAT if create else 0)
        return OsFile(os.open(self.root / path, flags, 0o600))

    def exists(self, path: str) -> bool:
        return (self.root / path).exists()

    def list(self, directory: str) -> list[str]:
        return sorted(os.listdir(self.root / directory))

    def mkdir(self, path: str) -> None:
        (self.root / path).mkdir(mode=0o700, exist_ok=True)

    def rename(self, old: str, new: str) -> None:
        os.replace(self.root / old, self.root / new)

    def remove(self, path: str) -> None:
        os.remove(self.root / path)

    def sync_directory(self, directory: str) -> None:
        descriptor = os.open(self.root / directory, os.O_RDONLY | os.O_CLOEXEC)
        try:
            if _FULL_SYNC is None:
                os.fsync(descriptor)
            else:
                _full_sync(descriptor, _FULL_SYNC)
        finally:
            os.close(descriptor)

    def lock(self, path: str) -> OsLock:
        # flock and not fcntl's lockf: that one is lost when any descriptor of the file is closed, and does not keep
        # two users within one process apart.
        descriptor = os.open(self.root / path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            os.close(descriptor)
            raise
        return OsLock(descriptor)

    def free_bytes(self) -> int:
        figures = os.statvfs(self.root)
        return figures.f_bavail * figures.f_frsize
