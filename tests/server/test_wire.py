"""Frames between peers: every message survives, and nothing else decodes."""

from dataclasses import replace

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from raftwright.raft.entries import Entry, EntryId, SnapshotMeta
from raftwright.raft.membership import Addresses, Member, first_membership
from raftwright.raft.messages import (
    AppendEntries,
    AppendReply,
    InstallSnapshot,
    InstallSnapshotReply,
    PreVoteReply,
    ReadIndexReply,
    ReadIndexRequest,
    RequestPreVote,
    RequestVote,
    TimeoutNow,
    VoteReply,
)
from raftwright.server.wire import (
    DigestReport,
    DigestVerdict,
    Forward,
    ForwardReply,
    PeerMessage,
    StateChunk,
    StateRequest,
    decode_frame,
    encode_frame,
)

MEMBERSHIP = first_membership(
    (
        Member(
            name=name,
            store_id=name * 32,
            addresses=Addresses(peer=f"{name}:1", client=f"{name}:2"),
            metadata={"zone": "1"},
            intent={"promote": 1},
        ),
        name != "c",
    )
    for name in "abc"
)
META = SnapshotMeta(id=EntryId(3, 9), time_ms=5, membership=MEMBERSHIP, size=100, checksum=2**32 - 1)
ENTRY = Entry(term=1, index=2, kind=2, version=1, time_ms=3, payload=b"\x00\xff", checksum=7)
EVERY: list[PeerMessage] = [
    RequestPreVote(from_id=1, to_id=2, term=3, last=EntryId(1, 2)),
    PreVoteReply(from_id=1, to_id=2, term=3, granted=True),
    RequestVote(from_id=1, to_id=2, term=3, last=EntryId(1, 2), transfer=True),
    VoteReply(from_id=1, to_id=2, term=3, granted=False),
    AppendEntries(from_id=1, to_id=2, term=3, prev=EntryId(1, 1), entries=(ENTRY,), commit_index=1, round=4),
    AppendReply(from_id=1, to_id=2, term=3, round=4, success=False, prev_index=8, hint=EntryId(2, 7)),
    InstallSnapshot(from_id=1, to_id=2, term=3, meta=META, offset=5, data=b"abc", done=True),
    InstallSnapshotReply(from_id=1, to_id=2, term=3, snapshot_id=EntryId(3, 9), checksum=1, next_offset=8),
    TimeoutNow(from_id=1, to_id=2, term=3),
    ReadIndexRequest(from_id=1, to_id=2, term=3, context=9),
    ReadIndexReply(from_id=1, to_id=2, term=3, context=9, index=None),
    Forward(from_id=1, to_id=2, id=1, blobs=b"x"),
    ForwardReply(from_id=1, to_id=2, id=1, position=0, index=5, results=b"y"),
    DigestReport(from_id=1, to_id=2, version="results-1:kv:1", digests=((256, b"12345678"), (512, b"\xff" * 8))),
    DigestVerdict(from_id=1, to_id=2, version="v", index=256, value=b"12345678", minority=(3,)),
    DigestVerdict(from_id=1, to_id=2, version="v", index=256, value=None, alarm="n1: 00; n2: 01"),
    StateRequest(
        from_id=1,
        to_id=2,
        index=8,
        version="v",
        value=b"1",
        min_index=9,
        snapshot_id=EntryId(2, 9),
        checksum=3,
        offset=5,
    ),
    StateChunk(from_id=1, to_id=2, meta=META, offset=5, data=b"abc", done=False),
]


def test_every_message_survives_the_wire() -> None:
    assert decode_frame(encode_frame(EVERY)) == EVERY


def test_an_entry_keeps_its_type() -> None:
    (message,) = decode_frame(encode_frame([EVERY[4]]))
    assert isinstance(message, AppendEntries)
    assert isinstance(message.entries[0], Entry)
    assert isinstance(message.prev, EntryId)


@pytest.mark.parametrize(
    "frame",
    [
        b"",
        b"\xc1",
        msgspec.msgpack.encode([[99, 1, 2, 3]]),
        msgspec.msgpack.encode([[9, 1, 2]]),
        msgspec.msgpack.encode([[9, "one", 2, 3]]),
        msgspec.msgpack.encode({"term": 1}),
        encode_frame(EVERY) + b"\x00",
        b"\xdd\xff\xff\xff\xff",
    ],
)
def test_what_is_no_frame_is_a_value_error(frame: bytes) -> None:
    with pytest.raises(ValueError, match="not a frame"):
        decode_frame(frame)


@given(st.data())
def test_a_damaged_frame_is_refused_or_decodes_to_messages(data: st.DataObject) -> None:
    frame = bytearray(encode_frame(EVERY))
    position = data.draw(st.integers(0, len(frame) - 1))
    frame[position] ^= data.draw(st.integers(1, 255))
    try:
        messages = decode_frame(bytes(frame))
    except ValueError:
        return
    assert all(type(message).__module__.startswith("raftwright") for message in messages)


def test_a_message_without_the_fields_that_came_later_is_still_one() -> None:
    """An answer of a node that does not say for how long it gives no vote: it promises nothing."""
    reply = AppendReply(from_id=1, to_id=2, term=3, round=4, success=True, match_index=5, withholds_s=0.6)
    (array,) = msgspec.msgpack.decode(encode_frame([reply]))
    assert array[-1] == 0.6
    assert decode_frame(msgspec.msgpack.encode([array[:-1]])) == [replace(reply, withholds_s=0.0)]
    with pytest.raises(ValueError, match="not a frame"):
        decode_frame(msgspec.msgpack.encode([array[:5]]))
