"""The snapshot of the key-value store as bytes. `kv/store.py` writes and reads it.

Its one rule: what is read is checked in full before any of it counts, and nothing is allocated by a length that
the bytes claim. Layout, numbers big-endian:

    header   "RWKV", version u8 (1), number of keys u64, revision of the store u64
    block    length u32, then a MessagePack array of [key, revision, value], keys ascending over the whole snapshot
    ...
    end      length u32 = 0

The same state always gives the same bytes.
"""

import struct
from collections.abc import Iterable, Iterator, Mapping
from operator import lt

import msgspec

from raftwright.server.machine import Change, InvalidSnapshot

VERSION = 1
SLICE_BYTES = 128 * 1024
SLICE_KEYS = 512
"""A block ends when it reaches either, which keeps making one near a millisecond."""
BLOCK_BYTES_MAX = 1 << 30

_HEADER = struct.Struct(">4sBQQ")
_LENGTH = struct.Struct(">I")
_MAGIC = b"RWKV"
_ITEM_OVERHEAD_BYTES = 16


class Item(Change, array_like=True, frozen=True, gc=False):
    """What the store holds of a key; at the same time the change that made it."""

    value: bytes


_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder(list[Item])


def encode(items: Mapping[str, Item], ordered: Iterable[str], revision: int) -> Iterator[bytes]:
    """Slices of the snapshot. `ordered` has every key of `items` ascending; others and repeats are skipped."""
    yield _HEADER.pack(_MAGIC, VERSION, len(items), revision)
    block: list[Item] = []
    size = 0
    last = None
    for key in ordered:
        item = items.get(key)
        if item is None or key == last:
            continue
        last = key
        block.append(item)
        size += len(item.value) + len(key) + _ITEM_OVERHEAD_BYTES
        if size >= SLICE_BYTES or len(block) >= SLICE_KEYS:
            yield _block(block)
            block = []
            size = 0
    if block:
        yield _block(block)
    yield _LENGTH.pack(0)


def decode(chunks: Iterable[bytes]) -> tuple[dict[str, Item], list[str], int]:
    """Items, their keys ascending, and the revision. `chunks` may be cut anywhere. Raises InvalidSnapshot."""
    reader = _Reader(chunks)
    magic, version, count, revision = _HEADER.unpack(reader.take(_HEADER.size))
    if magic != _MAGIC or version != VERSION:
        raise InvalidSnapshot(
            f"no snapshot of the key-value store in version {VERSION}: begins with {magic!r}, {version}"
        )
    items: dict[str, Item] = {}
    ordered: list[str] = []
    while length := _LENGTH.unpack(reader.take(_LENGTH.size))[0]:
        if length > BLOCK_BYTES_MAX:
            raise InvalidSnapshot(f"a block of {length:,} bytes, more than the {BLOCK_BYTES_MAX:,} allowed")
        block = _decode_block(reader.take(length), revision)
        keys = [item.key for item in block]
        if not all(map(lt, keys, keys[1:])) or (ordered and ordered[-1] >= keys[0]):
            raise InvalidSnapshot("the keys are not in ascending order")
        ordered += keys
        items.update(zip(keys, block, strict=True))
    if not reader.at_end():
        raise InvalidSnapshot("there is something behind the end")
    if len(items) != count:
        raise InvalidSnapshot(f"{len(items):,} keys where the header says {count:,}")
    return items, ordered, revision


def _block(items: list[Item]) -> bytes:
    encoded = _encoder.encode(items)
    return _LENGTH.pack(len(encoded)) + encoded


def _decode_block(data: bytes, revision: int) -> list[Item]:
    try:
        block = _decoder.decode(data)
    except ValueError as error:
        raise InvalidSnapshot(f"a block cannot be decoded: {error}") from error
    if not block:
        raise InvalidSnapshot("a block is empty")
    revisions = [item.revision for item in block]
    if min(revisions) < 1 or max(revisions) > revision:
        raise InvalidSnapshot(f"a key's revision is not between 1 and the store's, {revision}")
    return block


class _Reader:
    """Takes exact numbers of bytes from chunks that are cut anywhere."""

    def __init__(self, chunks: Iterable[bytes]) -> None:
        self._chunks = iter(chunks)
        self._chunk = b""
        self._position = 0

    def take(self, size: int) -> bytes:
        end = self._position + size
        if end <= len(self._chunk):
            taken = self._chunk[self._position : end]
            self._position = end
            return taken
        parts = [self._chunk[self._position :]]
        missing = size - len(parts[0])
        while missing > 0:
            chunk = next(self._chunks, None)
            if chunk is None:
                raise InvalidSnapshot("it ends early")
            parts.append(chunk[:missing])
            self._chunk, self._position = chunk, min(missing, len(chunk))
            missing -= self._position
        return b"".join(parts)

    def at_end(self) -> bool:
        return self._position == len(self._chunk) and not any(self._chunks)
