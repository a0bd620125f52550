"""Writing and reading one snapshot file: named, versioned sections, streamed in bounded memory.

Made by `snapshots.py`, used by whoever takes or loads a snapshot, in a thread of its own. The one rule: a file is
whole under its final name or does not exist; no byte is handed out before its checksum was right.
"""

from collections.abc import Callable, Iterator
from zlib import crc32

from raftwright.raft.entries import EntryId, SnapshotMeta
from raftwright.raft.membership import Membership
from raftwright.storage import snapshot_format as form
from raftwright.storage.errors import CorruptSnapshot, ReadFailed, preparing
from raftwright.storage.files import File
from raftwright.storage.transforms import Transform, transform_numbered

_BUFFER_BYTES = 256 << 10
_SYNC_BYTES = 4 << 20
"""Synced as it grows: one sync of hundreds of MiB would hold up those of the log."""


class SnapshotWriter:
    """A snapshot being made. Call `section`, then `write` for its data, and so on; at the end `finish` or `abort`.

    Any of them raises DiskFull (the file is gone then, nothing else has changed) or SyncFailed.
    """

    def __init__(
        self,
        file: File,
        name: str,
        entry_id: EntryId,
        time_ms: int,
        membership: Membership,
        publish: Callable[[SnapshotMeta], SnapshotMeta],
        discard: Callable[[], None],
        transform: Transform | None = None,
    ) -> None:
        self._transform = transform or transform_numbered(0)
        self._file = file
        self._name = name
        self._meta = SnapshotMeta(id=entry_id, time_ms=time_ms, membership=membership)
        self._publish = publish
        self._discard = discard
        self._buffer: list[bytes] = []
        self._buffered = 0
        self._offset = 0
        self._synced = 0
        self._checksum = 0
        self._in_section = False
        self._open = True
        header = form.encode_header(entry_id, time_ms, membership, self._transform.number)
        self._block_check = int.from_bytes(header[-4:], "little")
        self._put(header)

    def section(self, name: str, version: int, required: bool) -> None:
        self._flush()
        self._in_section = True
        self._block(form.SECTION, name.encode(), flags=form.REQUIRED if required else 0, version=version)

    def write(self, data: bytes) -> None:
        """More of the current section. How it is divided up is not kept."""
        if not self._in_section:
            raise ValueError("data must be in a section")
        self._buffer.append(data)
        self._buffered += len(data)
        if self._buffered >= _BUFFER_BYTES:
            self._flush()

    def finish(self) -> SnapshotMeta:
        """Durable under its final name on return. Returns the store's newest snapshot, which is this one unless a
        newer one was received meanwhile."""
        self._flush()
        end = form.encode_end(self._checksum, self._offset)
        self._put(end)
        try:
            self._file.sync()
            self._file.close()
        except OSError as error:
            self.abort()
            raise preparing(error, self._name) from error
        self._open = False
        meta = self._meta
        return self._publish(
            SnapshotMeta(
                id=meta.id,
                time_ms=meta.time_ms,
                membership=meta.membership,
                size=self._offset,
                checksum=self._checksum,
            )
        )

    def abort(self) -> None:
        """Throw it away. May be called at any time, also twice."""
        if self._open:
            self._open = False
            self._file.close()
            self._discard()

    def _flush(self) -> None:
        if not self._buffered:
            return
        data = b"".join(self._buffer)
        self._buffer.clear()
        self._buffered = 0
        # What cannot be compressed becomes a little longer: it must still fit a block.
        step = form.BLOCK_MAX if self._transform.number == 0 else form.BLOCK_MAX // 2
        for start in range(0, len(data), step):
            self._block(form.DATA, self._transform.encode(data[start : start + step]))

    def _block(self, kind: int, data: bytes, *, flags: int = 0, version: int = 0) -> None:
        block, self._block_check = form.encode_block(kind, data, self._block_check, flags=flags, version=version)
        self._put(block)

    def _put(self, data: bytes) -> None:
        if not self._open:
            raise ValueError("the snapshot is finished or aborted")
        try:
            self._file.pwrite(data, self._offset)
            self._offset += len(data)
            if self._offset - self._synced >= _SYNC_BYTES:
                self._file.sync()
                self._synced = self._offset
        except OSError as error:
            self.abort()
            raise preparing(error, self._name) from error
        self._checksum = crc32(data, self._checksum)


class SnapshotReader:
    """A snapshot being loaded."""

    def __init__(self, file: File, name: str, meta: SnapshotMeta) -> None:
        self.meta = meta
        self._file = file
        self._name = name
        self._transform: Transform
        self._next: form.Block | None = None
        self._offset = 0
        self._check = 0

    def sections(self) -> Iterator[tuple[str, int, bool, Iterator[bytes]]]:
        """Name, version, whether it is required, and the data in pieces of at most 1 MiB, in order. Once a reader.

        What is left of a section when the next one is asked for is skipped. Raises CorruptSnapshot or ReadFailed
        before the end where anything is damaged, also in parts that are skipped. The file is closed at the end.
        """
        try:
            yield from self._sections()
        finally:
            self._file.close()

    def _sections(self) -> Iterator[tuple[str, int, bool, Iterator[bytes]]]:
        try:
            _, self._offset, self._check, number = form.read_header(self._file, self._name)
            self._transform = transform_numbered(number)
            if self._file.size() != self.meta.size:
                raise CorruptSnapshot(self._name, self._file.size(), f"the file must have {self.meta.size} bytes")
        except OSError as error:
            raise ReadFailed(f"{self._name}: {error}") from error
        block = self._read()
        while block.kind == form.SECTION:
            data = self._data()
            yield block.data.decode(), block.version, bool(block.flags & form.REQUIRED), data
            for _ in data:
                pass
            assert self._next is not None
            block = self._next
        if block.kind != form.END or self._offset != self.meta.size:
            raise CorruptSnapshot(self._name, self._offset, "the file does not end where it should")

    def _data(self) -> Iterator[bytes]:
        while (block := self._read()).kind == form.DATA:
            try:
                data = self._transform.decode(block.data, form.BLOCK_MAX)
            except ValueError as error:
                raise CorruptSnapshot(self._name, self._offset, f"a block cannot be decompressed: {error}") from error
            yield data
        self._next = block

    def _read(self) -> form.Block:
        try:
            block = form.read_block(self._file, self._offset, self._check, self.meta.size, self._name)
        except OSError as error:
            raise ReadFailed(f"{self._name}, offset {self._offset}: {error}") from error
        self._offset += form.BLOCK.size + len(block.data)
        self._check = block.checksum
        return block

    def close(self) -> None:
        self._file.close()
