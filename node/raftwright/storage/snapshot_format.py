"""The bytes of a snapshot file: header, checked blocks, end. docs/storage-format.md describes them.

Called by `snapshot_io.py` and `snapshots.py`. The one rule: a length is compared with the file's size, and a header
with its checksum, before anything is allocated by it.
"""

from dataclasses import dataclass
from struct import Struct
from zlib import crc32

from raftwright.raft.entries import EntryId, SnapshotMeta
from raftwright.raft.membership import Membership
from raftwright.storage.errors import CorruptSnapshot, UnsupportedFormat
from raftwright.storage.files import File
from raftwright.storage.transforms import NAMES

MAGIC = b"RWSNAP\r\n"
FORMAT = 1
_HEADER = Struct("<8sHHIQQQ")
_CHECK = Struct("<I")
MEMBERSHIP_MAX = 16 << 20

BLOCK = Struct("<IIBBH")
SECTION = 1
DATA = 2
END = 3
REQUIRED = 1
"""A flag of a SECTION block: a reader that does not know the section must refuse the snapshot."""
BLOCK_MAX = 1 << 20
_END = Struct("<IQ")
END_BYTES = BLOCK.size + _END.size
READ_BYTES = 1 << 20


@dataclass(frozen=True, slots=True)
class Block:
    kind: int
    flags: int
    version: int
    data: bytes
    checksum: int


def encode_header(entry_id: EntryId, time_ms: int, membership: Membership, transform: int = 0) -> bytes:
    members = membership.encode()
    head = _HEADER.pack(MAGIC, FORMAT, transform, len(members), entry_id.term, entry_id.index, time_ms) + members
    return head + _CHECK.pack(crc32(head))


def read_header(file: File, name: str) -> tuple[SnapshotMeta, int, int, int]:
    """The meta without size and checksum, the offset of the first block, the header's checksum, the transform."""
    size = file.size()
    head = file.pread(_HEADER.size, 0)
    if len(head) < _HEADER.size or not head.startswith(MAGIC):
        raise CorruptSnapshot(name, 0, "this is no snapshot")
    _, version, transform, length, term, index, time_ms = _HEADER.unpack(head)
    end = _HEADER.size + length + _CHECK.size
    if length > MEMBERSHIP_MAX or end > size:
        raise CorruptSnapshot(name, 0, "the header is damaged")
    head = file.pread(end, 0)
    (check,) = _CHECK.unpack(head[-_CHECK.size :])
    if crc32(head[: -_CHECK.size]) != check:
        raise CorruptSnapshot(name, 0, "the header is damaged")
    if version != FORMAT or transform >= len(NAMES):
        raise UnsupportedFormat(
            f"{name} has format {version} and transform {transform}; use a newer version of the software"
        )
    membership = Membership.decode(head[_HEADER.size : -_CHECK.size])
    return SnapshotMeta(id=EntryId(term, index), time_ms=time_ms, membership=membership), end, check, transform


def encode_block(kind: int, data: bytes, before: int, *, flags: int = 0, version: int = 0) -> tuple[bytes, int]:
    """A block and its checksum, which is seeded with that of the block before, so that none can change places."""
    head = BLOCK.pack(0, len(data), kind, flags, version)[4:]
    check = crc32(data, crc32(head, before))
    return b"".join((_CHECK.pack(check), head, data)), check


def encode_end(file_checksum: int, offset: int) -> bytes:
    """The last block: the CRC-32 of all bytes before it, and how many those are. Its own checksum starts from 0."""
    return encode_block(END, _END.pack(file_checksum, offset), 0)[0]


def read_block(file: File, offset: int, before: int, size: int, name: str) -> Block:
    """The block at `offset` of a file of `size` bytes. Raises CorruptSnapshot."""
    head = file.pread(BLOCK.size, offset)
    if len(head) < BLOCK.size:
        raise CorruptSnapshot(name, offset, "the file ends too early")
    check, length, kind, flags, version = BLOCK.unpack(head)
    if length > BLOCK_MAX or offset + BLOCK.size + length > size:
        raise CorruptSnapshot(name, offset, "a block's length is damaged")
    data = file.pread(length, offset + BLOCK.size)
    if crc32(data, crc32(head[4:], 0 if kind == END else before)) != check:
        raise CorruptSnapshot(name, offset, "a block is damaged")
    return Block(kind, flags, version, data, check)


def verify(file: File, name: str) -> SnapshotMeta:
    """Read the whole file once and return its meta, with size and checksum. Raises CorruptSnapshot."""
    meta, start, _, _ = read_header(file, name)
    size = file.size()
    end_at = size - END_BYTES
    if end_at < start:
        raise CorruptSnapshot(name, size, "the file ends too early")
    checksum = 0
    offset = 0
    while offset < end_at:
        data = file.pread(min(READ_BYTES, end_at - offset), offset)
        if not data:
            raise CorruptSnapshot(name, offset, "the file ends too early")
        checksum = crc32(data, checksum)
        offset += len(data)
    tail = file.pread(END_BYTES, end_at)
    if tail != encode_end(checksum, end_at):
        raise CorruptSnapshot(name, end_at, "the checksum of the whole file is wrong, or it ends too early")
    return SnapshotMeta(
        id=meta.id, time_ms=meta.time_ms, membership=meta.membership, size=size, checksum=crc32(tail, checksum)
    )
