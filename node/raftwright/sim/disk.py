"""A disk in memory that tears writes, fills up, fails, and forgets what was not synced.

Stands in for `OsFiles` in the simulator and in the tests of storage. The one rule: only what a sync returned for is
sure to survive `power_loss`; of the rest, bytes by the sector and directory entries one by one, any part may.
"""

import errno
import posixpath
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from random import Random
from typing import Literal

SECTOR_BYTES = 512
Unsynced = Literal["drop", "keep", "mix"]
"""What a power loss does to what was not synced."""


class SimulatedCrash(BaseException):
    """The process died here. Not an Exception, so that nothing under test handles it."""


@dataclass(slots=True, eq=False)
class _Inode:
    """A file's bytes: as the page cache has them, as the medium has them, and the writes between the two."""

    cached: bytearray = field(default_factory=bytearray)
    medium: bytearray = field(default_factory=bytearray)
    unsynced: list[tuple[int, bytes | None]] = field(default_factory=list)
    """Offset and data of each write, in order; without data, a change of the size to the offset."""

    def write(self, offset: int, data: bytes) -> None:
        _write(self.cached, offset, data)
        self.unsynced.append((offset, data))

    def truncate(self, size: int) -> None:
        _truncate(self.cached, size)
        self.unsynced.append((size, None))

    def sync(self) -> None:
        for offset, data in self.unsynced:
            _apply(self.medium, offset, data)
        self.unsynced.clear()

    def lose(self, random: Random, unsynced: Unsynced) -> None:
        """Some of what was not synced reaches the medium, and nothing more of it ever will."""
        for offset, data in self.unsynced:
            for at, piece in _pieces(offset, data):
                if unsynced == "keep" or (unsynced == "mix" and random.random() < 0.5):
                    _apply(self.medium, at, piece)
        self.unsynced.clear()


def _pieces(offset: int, data: bytes | None) -> Iterator[tuple[int, bytes | None]]:
    """A write by the sector: the unit that is written whole or not at all."""
    if data is None:
        yield offset, None
        return
    start = 0
    while start < len(data):
        end = min(len(data), start + SECTOR_BYTES - (offset + start) % SECTOR_BYTES)
        yield offset + start, data[start:end]
        start = end


def _apply(content: bytearray, offset: int, data: bytes | None) -> None:
    if data is None:
        _truncate(content, offset)
    else:
        _write(content, offset, data)


def _write(content: bytearray, offset: int, data: bytes) -> None:
    if offset > len(content):
        content += bytes(offset - len(content))
    content[offset : offset + len(data)] = data


def _truncate(content: bytearray, size: int) -> None:
    if size < len(content):
        del content[size:]
    else:
        content += bytes(size - len(content))


@dataclass(slots=True)
class _Tree:
    """Names: of files, and of directories."""

    files: dict[str, _Inode] = field(default_factory=dict)
    directories: set[str] = field(default_factory=lambda: {"."})


@dataclass(frozen=True, slots=True)
class _Change:
    """A change of one directory."""

    directory: str
    apply: Callable[[_Tree], None]


class SimFiles:
    """Implements `storage.files.Files`. `random` decides what a crash leaves."""

    def __init__(self, random: Random, *, capacity_bytes: int = 1 << 40) -> None:
        self._random = random
        self.capacity_bytes = capacity_bytes
        self.effects = 0
        """Counts every write, sync and change of a directory."""
        self.crash_at: int | None = None
        """The number of the effect at which the process dies: half the time just before it, half just after."""
        self.fault: Callable[[str, str], OSError | None] | None = None
        """Asked before each effect and read, with its name (`pwrite`, `sync`, `rename`…) and path, for an error."""
        self._cached = _Tree()
        self._medium = _Tree()
        self._unsynced: list[_Change] = []
        self._locks: set[str] = set()
        self._process = 0
        self._dead = False

    # The end of a process.

    def kill(self) -> None:
        """The process is gone and the machine goes on: locks are free, the page cache is as it was."""
        self._process += 1
        self._dead = False
        self._locks.clear()
        self.crash_at = None

    def power_loss(self, unsynced: Unsynced) -> None:
        """The machine is gone as well, and comes back."""
        self.kill()
        for change in self._unsynced:
            if unsynced == "keep" or (unsynced == "mix" and self._random.random() < 0.5):
                change.apply(self._medium)
        self._unsynced.clear()
        self._medium.files = {
            path: inode
            for path, inode in self._medium.files.items()
            if (posixpath.dirname(path) or ".") in self._medium.directories
        }
        for inode in {id(inode): inode for inode in self._medium.files.values()}.values():
            inode.lose(self._random, unsynced)
            inode.cached = bytearray(inode.medium)
        self._cached = _Tree(dict(self._medium.files), set(self._medium.directories))

    def alive(self, process: int) -> None:
        if self._dead or process != self._process:
            raise SimulatedCrash

    def effect(
        self, name: str, path: str, process: int, run: Callable[[], None], failed: Callable[[], None] = lambda: None
    ) -> None:
        """Run one effect, unless the process is to die or it is to fail, and then `failed`."""
        self.alive(process)
        self.effects += 1
        crashing = self.crash_at is not None and self.effects >= self.crash_at
        if crashing:
            self._dead = True
            if self._random.random() < 0.5:
                raise SimulatedCrash
        try:
            self.check_fault(name, path)
        except OSError:
            failed()
            raise
        run()
        if crashing:
            raise SimulatedCrash

    def check_fault(self, name: str, path: str) -> None:
        error = self.fault(name, path) if self.fault is not None else None
        if error is not None:
            raise error

    def tear(self, inode: _Inode) -> None:
        """Pages count as clean after a failed sync: what did not reach the medium then never will."""
        inode.lose(self._random, "mix")

    # The files, as `storage.files.Files` has them.

    def open(self, path: str, create: bool = False) -> "SimFile":
        self.alive(self._process)
        if path not in self._cached.files:
            if not create or (posixpath.dirname(path) or ".") not in self._cached.directories:
                raise FileNotFoundError(errno.ENOENT, "no such file", path)
            inode = _Inode()
            self._change("create", path, lambda tree: tree.files.__setitem__(path, inode))
        return SimFile(self, path, self._cached.files[path], self._process)

    def exists(self, path: str) -> bool:
        return path in self._cached.files or path in self._cached.directories

    def list(self, directory: str) -> list[str]:
        if directory not in self._cached.directories:
            raise FileNotFoundError(errno.ENOENT, "no such directory", directory)
        names = (*self._cached.files, *(self._cached.directories - {"."}))
        return sorted(posixpath.basename(name) for name in names if (posixpath.dirname(name) or ".") == directory)

    def mkdir(self, path: str) -> None:
        if path not in self._cached.directories:
            self._change("mkdir", path, lambda tree: tree.directories.add(path))

    def rename(self, old: str, new: str) -> None:
        if old in self._cached.directories:
            return self._rename_directory(old, new)
        if old not in self._cached.files:
            raise FileNotFoundError(errno.ENOENT, "no such file", old)
        inode = self._cached.files[old]

        def move(tree: _Tree) -> None:
            tree.files.pop(old, None)
            tree.files[new] = inode

        self._change("rename", new, move)

    def _rename_directory(self, old: str, new: str) -> None:
        if new in self._cached.directories and self.list(new):
            raise OSError(errno.ENOTEMPTY, "directory not empty", new)

        def move(tree: _Tree) -> None:
            tree.files = {_moved(path, old, new): inode for path, inode in tree.files.items()}
            tree.directories = {_moved(path, old, new) for path in tree.directories}

        self._change("rename", new, move)

    def remove(self, path: str) -> None:
        if path not in self._cached.files:
            raise FileNotFoundError(errno.ENOENT, "no such file", path)

        def unlink(tree: _Tree) -> None:
            tree.files.pop(path, None)

        self._change("remove", path, unlink)

    def sync_directory(self, directory: str) -> None:
        def run() -> None:
            for change in self._unsynced:
                if change.directory == directory:
                    change.apply(self._medium)
            self._unsynced = [change for change in self._unsynced if change.directory != directory]

        self.effect("sync_directory", directory, self._process, run)

    def _change(self, name: str, path: str, apply: Callable[[_Tree], None]) -> None:
        def run() -> None:
            apply(self._cached)
            self._unsynced.append(_Change(posixpath.dirname(path) or ".", apply))

        self.effect(name, path, self._process, run)

    def lock(self, path: str) -> "SimLock":
        self.alive(self._process)
        if path in self._locks:
            raise BlockingIOError(errno.EAGAIN, "locked", path)
        self._locks.add(path)
        return SimLock(self, path, self._process)

    def unlock(self, path: str, process: int) -> None:
        if process == self._process:
            self._locks.discard(path)

    def used_bytes(self) -> int:
        return sum(len(inode.cached) for inode in self._cached.files.values())

    def free_bytes(self) -> int:
        return max(0, self.capacity_bytes - self.used_bytes())

    # For tests: what the medium is made to hold.

    def content(self, path: str) -> bytes:
        return bytes(self._cached.files[path].cached)

    def damage(self, path: str, content: bytes) -> None:
        """The medium holds other bytes than were written."""
        inode = self._cached.files[path]
        inode.unsynced.clear()
        inode.cached = bytearray(content)
        inode.medium = bytearray(content)


def _moved(path: str, old: str, new: str) -> str:
    return new + path.removeprefix(old) if path == old or path.startswith(old + "/") else path


class SimLock:
    def __init__(self, disk: SimFiles, path: str, process: int) -> None:
        self._disk = disk
        self._path = path
        self._process = process

    def release(self) -> None:
        self._disk.unlock(self._path, self._process)


class SimFile:
    """Implements `storage.files.File`. Belongs to one process: after its end every use is a crash."""

    def __init__(self, disk: SimFiles, path: str, inode: _Inode, process: int) -> None:
        self._disk = disk
        self._path = path
        self._inode = inode
        self._process = process

    def pread(self, size: int, offset: int) -> bytes:
        self._disk.alive(self._process)
        self._disk.check_fault("pread", self._path)
        return bytes(self._inode.cached[offset : offset + size])

    def pwrite(self, data: bytes, offset: int) -> None:
        growth = offset + len(data) - len(self._inode.cached)
        if growth > 0 and growth > self._disk.free_bytes():
            raise OSError(errno.ENOSPC, "no space left on device", self._path)
        copy = bytes(data)
        self._disk.effect("pwrite", self._path, self._process, lambda: self._inode.write(offset, copy))

    def sync(self) -> None:
        inode = self._inode
        self._disk.effect("sync", self._path, self._process, inode.sync, lambda: self._disk.tear(inode))

    def size(self) -> int:
        return len(self._inode.cached)

    def truncate(self, size: int) -> None:
        if size != len(self._inode.cached):
            self._disk.effect("truncate", self._path, self._process, lambda: self._inode.truncate(size))

    def close(self) -> None:
        pass
