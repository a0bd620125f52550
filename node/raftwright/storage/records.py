"""The bytes of the log's records: how one is made, checked and looked for. docs/storage-format.md describes them.

Called by `segments.py`, `log.py` and `recovery.py`. The one rule: nothing of a record is believed, its length least
of all, before its header's checksum is right for this store, this generation of the segment and this offset.
"""

from collections.abc import Iterator, Sequence
from struct import Struct
from typing import NamedTuple
from zlib import crc32

from raftwright.raft.entries import Entry, EntryId, HardState
from raftwright.storage.errors import CorruptLog, UnsupportedFormat, WrongStore

MAGIC = 0x5752_F5A7
MAGIC_BYTES = MAGIC.to_bytes(4, "little")
MAGIC_AT = 8
FORMAT = 1
TRANSFORM_NONE = 0

ENTRY = 1
HARD_STATE = 2
TRUNCATE = 3
"""The log ends at this id: what came after it is void, what came before stays."""
RESET = 4
"""The log is empty and begins after this id: a snapshot stands for everything up to it."""
SEGMENT = 5
"""The first record of a segment. Its term and index are the id before the segment's first entry."""

HEADER = Struct("<IIIIQIIQQQBBHI")
HEADER_BYTES = HEADER.size
CHECKED_FROM = 8
"""The header's checksum covers the header from here on; the payload's checksum is seeded with it."""
_CHECKS = Struct("<II")
_BODY = Struct("<IIQIIQQQBBHI")
_PADDING = (b"", *(bytes(8 - rest) for rest in range(1, 8)))
TERMINATOR = bytes(HEADER_BYTES)
"""Written behind the last record where there is room, so that a clean end is told from a torn record."""

_SEGMENT = Struct("<HHI16sQQB7xQQQ")
SEGMENT_RECORD_BYTES = HEADER_BYTES + _SEGMENT.size
LENGTH_MAX = 1 << 30


class Position(NamedTuple):
    """A place in the log. Ordered."""

    generation: int
    offset: int


START = Position(0, 0)


class Item(NamedTuple):
    """A record that is not on disk yet. A control record is an entry without payload."""

    type: int
    entry: Entry

    @property
    def size(self) -> int:
        return record_bytes(len(self.entry.payload))


class SegmentHead(NamedTuple):
    """What the first record of a segment says."""

    store_id: bytes
    capacity: int
    hard_state: HardState
    snapshot: EntryId
    before: EntryId
    """The id before the segment's first entry."""
    previous: Position
    """Where the segment before ended; durable when this segment was begun."""


class Header(NamedTuple):
    """A header whose checksum was right."""

    length: int
    durable: Position


def record_bytes(length: int) -> int:
    """Bytes that a record with a payload of `length` takes: records begin at multiples of 8."""
    return (HEADER_BYTES + length + 7) & ~7


def segment_seed(store_id: bytes, generation: int) -> int:
    """What the checksums of a segment start from, XORed with the record's offset.

    Two generations never have the same seed (a CRC tells apart any two inputs that differ within 32 bits), so that
    at a given offset a record of an earlier generation cannot pass: not by chance, never.
    """
    return crc32(generation.to_bytes(8, "little"), crc32(store_id))


def hard_state_item(state: HardState) -> Item:
    voted = state.voted_for is not None
    return Item(HARD_STATE, Entry(state.term, state.voted_for or 0, int(voted), 0, 0, b"", 0))


def id_item(kind: int, entry_id: EntryId) -> Item:
    """A TRUNCATE or RESET record."""
    return Item(kind, Entry(entry_id.term, entry_id.index, 0, 0, 0, b"", 0))


def hard_state_of(term: int, index: int, kind: int) -> HardState:
    return HardState(term, index if kind else None)


def segment_item(head: SegmentHead) -> Item:
    voted = head.hard_state.voted_for
    payload = _SEGMENT.pack(
        FORMAT,
        TRANSFORM_NONE,
        0,
        head.store_id,
        head.capacity,
        head.hard_state.term,
        voted is not None,
        voted or 0,
        head.snapshot.term,
        head.snapshot.index,
    )
    return Item(SEGMENT, Entry(head.before.term, head.before.index, 0, 0, 0, payload, crc32(payload)))


def encode(items: Sequence[Item], seed: int, offset: int, durable: Position) -> list[bytes]:
    """The bytes of `items` as records, the first of them at `offset`, in parts to be joined."""
    parts: list[bytes] = []
    generation, durable_offset = durable
    for record_type, (term, index, kind, version, time_ms, payload, checksum) in items:
        length = len(payload)
        body = _BODY.pack(
            MAGIC, length, generation, durable_offset, checksum, term, index, time_ms, record_type, kind, version, 0
        )
        check = crc32(body, seed ^ offset)
        parts += (_CHECKS.pack(check, crc32(payload, check)), body, payload, _PADDING[length & 7])
        offset += (HEADER_BYTES + length + 7) & ~7
    return parts


def decode_entries(data: bytes, offsets: Sequence[int], seed: int, file: str) -> list[Entry]:
    """The entries whose records lie at `offsets` of a segment, of which `data` is the part from the first one on.

    Both checksums of each are checked. Raises CorruptLog.
    """
    entries: list[Entry] = []
    append = entries.append
    unpack = HEADER.unpack_from
    make = Entry._make
    start = offsets[0]
    for offset in offsets:
        at = offset - start
        begin = at + HEADER_BYTES
        (check, payload_check, _, length, _, _, checksum, term, index, time_ms, record_type, kind, version, _) = unpack(
            data, at
        )
        payload = data[begin : begin + length]
        if (
            crc32(data[at + CHECKED_FROM : begin], seed ^ offset) != check
            or crc32(payload, check) != payload_check
            or record_type != ENTRY
        ):
            raise CorruptLog(file, offset, "an entry that was durable is damaged")
        append(make((term, index, kind, version, time_ms, payload, checksum)))
    return entries


def find_headers(data: bytes, seed: int, start: int) -> Iterator[tuple[int, Header]]:
    """Every offset from `start` (a multiple of 8) at which a header is valid, whatever is around it."""
    find = data.find
    unpack = HEADER.unpack_from
    at = find(MAGIC_BYTES, start + MAGIC_AT)
    while at >= 0:
        offset = at - MAGIC_AT
        if offset & 7 == 0 and offset + HEADER_BYTES <= len(data):
            fields = unpack(data, offset)
            if crc32(data[at : offset + HEADER_BYTES], seed ^ offset) == fields[0]:
                yield offset, Header(fields[3], Position(fields[4], fields[5]))
        at = find(MAGIC_BYTES, at + 4)


def parse_segment_head(data: bytes, store_id: bytes, generation: int, file: str) -> SegmentHead | None:
    """The segment's first record, or None if it is not valid. `data` is the segment's first bytes.

    Raises WrongStore or UnsupportedFormat for one that is whole but not for us.
    """
    if len(data) < SEGMENT_RECORD_BYTES:
        return None
    fields = HEADER.unpack_from(data, 0)
    check, payload_check, magic, length, previous_generation, previous_offset, _, term, index = fields[:9]
    if magic != MAGIC or fields[10] != SEGMENT or length != _SEGMENT.size:
        return None
    payload = data[HEADER_BYTES:SEGMENT_RECORD_BYTES]
    version, transform, _, owner, capacity, vote_term, voted, voted_for, *snapshot = _SEGMENT.unpack(payload)
    whole = crc32(data[CHECKED_FROM:HEADER_BYTES], segment_seed(owner, generation)) == check
    if not whole or crc32(payload, check) != payload_check:
        return None
    if owner != store_id:
        raise WrongStore(
            f"{file} belongs to the store {owner.hex()}, and this is the store {store_id.hex()}; put the "
            "files back where they belong"
        )
    if version != FORMAT or transform != TRANSFORM_NONE:
        raise UnsupportedFormat(
            f"{file} has format {version} and transform {transform}; use a newer version of the software"
        )
    return SegmentHead(
        store_id=owner,
        capacity=capacity,
        hard_state=HardState(vote_term, voted_for if voted else None),
        snapshot=EntryId(*snapshot),
        before=EntryId(term, index),
        previous=Position(previous_generation, previous_offset),
    )
