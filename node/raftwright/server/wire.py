"""What travels between peers: a frame is a list of messages, each an array with a tag, in MessagePack.

The driver's and the core's messages are plain values; this file alone knows their bytes. Rule: decoding is typed and
bounded, so nothing that is not a message in shape reaches the core.
"""

from collections.abc import Iterable
from dataclasses import MISSING, dataclass, fields
from typing import Any, Union, get_type_hints

import msgspec

from raftwright.raft import messages
from raftwright.raft.entries import EntryId, SnapshotMeta
from raftwright.raft.messages import RaftMessage

PROTOCOL = 1
FRAME_BYTES_MAX = 64 << 20
"""Larger frames are refused by the WebSocket layer before they are read whole."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Forward:
    """Blobs of a client of `from_id`, for the leader to propose. Never forwarded a second time."""

    from_id: int
    to_id: int
    id: int
    """Counts the sender's forwards; the reply returns it."""
    blobs: bytes
    """As in an entry's payload (`server/blobs.py`)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ForwardReply:
    """Answers one blob of a Forward: its encoded results, or an error."""

    from_id: int
    to_id: int
    id: int
    position: int
    """Of the blob in the Forward."""
    index: int = 0
    """The entry that it was applied in."""
    results: bytes | None = None
    error: str | None = None
    """`ServiceError.kind`."""
    detail: str = ""
    outcome: str = "unknown"


@dataclass(frozen=True, slots=True, kw_only=True)
class ControlRequest:
    """A call about members or the leader, for the leader. Never forwarded a second time."""

    from_id: int
    to_id: int
    id: int
    """Counts the sender's calls; the reply returns it. One that got no reply is sent again."""
    body: bytes
    """JSON (`server/membership_requests.py`)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ControlReply:
    """What the leader says to it: an answer or what to watch for (`server/control.py`), or an error."""

    from_id: int
    to_id: int
    id: int
    body: bytes = b""
    error: str | None = None
    """`ServiceError.kind`."""
    detail: str = ""
    outcome: str = "unknown"


@dataclass(frozen=True, slots=True, kw_only=True)
class DigestReport:
    """What the sender's state is at some agreed indexes (`server/digests.py`). For the leader to compare."""

    from_id: int
    to_id: int
    version: str
    digests: tuple[tuple[int, bytes], ...]
    """Index and value."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DigestVerdict:
    """What the state is at `index` by a majority of the voters, as the leader counted it."""

    from_id: int
    to_id: int
    version: str
    index: int
    value: bytes | None
    """None: there is no majority, and `alarm` says who disagrees."""
    minority: tuple[int, ...] = ()
    """Members whose state is known to be another."""
    alarm: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class StateRequest:
    """A chunk of a snapshot, please, to replace the sender's state, which is not the majority's. Its log is right."""

    from_id: int
    to_id: int
    index: int
    version: str
    value: bytes
    """The verdict that the sender's state is not that of."""
    min_index: int
    """An older snapshot repairs nothing."""
    snapshot_id: EntryId
    checksum: int
    """Of the snapshot that it has the begin of; with offset 0 any will do."""
    offset: int


@dataclass(frozen=True, slots=True, kw_only=True)
class StateChunk:
    """The answer; none comes where the leader has no such snapshot yet. Goes over the stream for bulk."""

    from_id: int
    to_id: int
    meta: SnapshotMeta
    offset: int
    data: bytes
    done: bool


BULK_MESSAGES = (messages.InstallSnapshot, StateChunk)
"""These go over a stream of their own: heartbeats never wait behind them."""

CheckMessage = DigestReport | DigestVerdict | StateRequest | StateChunk

PeerMessage = RaftMessage | Forward | ForwardReply | ControlRequest | ControlReply | CheckMessage


class PeerHello(msgspec.Struct, array_like=True, frozen=True):
    """The first frame of who opens a stream. It is refused unless everything fits."""

    protocol_min: int
    protocol_max: int
    cluster_id: str
    member_id: int
    store_id: str
    to_member_id: int
    to_store_id: str
    channel: str
    """`control`, or `bulk` for snapshots."""
    features: list[str] = []
    address: str = ""
    """Where the sender is reached by members, for receivers that do not know it yet."""
    settled: bool = False
    """That the receiver is that member is committed: a store that belongs to no cluster yet becomes it now. Before, it
    might still come to nothing, and the id go to another."""
    founding: str = ""
    """What the sender's cluster was founded as (`server/founding.py`), where it knows."""


class PeerWelcome(msgspec.Struct, array_like=True, frozen=True):
    """The answer: accepted when `refusal` is empty, else why not, in words for an operator."""

    protocol: int
    refusal: str = ""
    kind: str = ""
    """Of the refusal: `version`, `cluster`, `stranger`, `removed`, `not-me`."""


# One array-like twin for each message class, since plain dataclasses would travel as maps of names. The order of this
# list is the protocol: only append to it.
_CLASSES: list[type[Any]] = [
    messages.RequestPreVote,
    messages.PreVoteReply,
    messages.RequestVote,
    messages.VoteReply,
    messages.AppendEntries,
    messages.AppendReply,
    messages.InstallSnapshot,
    messages.InstallSnapshotReply,
    messages.TimeoutNow,
    messages.ReadIndexRequest,
    messages.ReadIndexReply,
    Forward,
    ForwardReply,
    ControlRequest,
    ControlReply,
    DigestReport,
    DigestVerdict,
    StateRequest,
    StateChunk,
]


def _twin(tag: int, cls: type[Any]) -> type[msgspec.Struct]:
    """Fields at the end that have a default may be missing: so a message gets new ones."""
    hints = get_type_hints(cls)
    found: list[Any] = []
    for field in reversed(fields(cls)):
        may_be_missing = field.default is not MISSING and all(len(later) == 3 for later in found)
        default = (field.default,) if may_be_missing else ()
        found.insert(0, (field.name, hints[field.name], *default))
    return msgspec.defstruct(cls.__name__, found, array_like=True, tag=tag, frozen=True, gc=False)


_TWINS = {cls: _twin(tag, cls) for tag, cls in enumerate(_CLASSES, 1)}
_NAMES = {cls: tuple(field.name for field in fields(cls)) for cls in _CLASSES}
_ORIGINALS: dict[type[Any], type[Any]] = {twin: cls for cls, twin in _TWINS.items()}
_ENCODER = msgspec.msgpack.Encoder()
_DECODER: msgspec.msgpack.Decoder[Any] = msgspec.msgpack.Decoder(list[Union[tuple(_TWINS.values())]])  # type: ignore[misc]  # noqa: UP007


def encode_frame(batch: Iterable[PeerMessage]) -> bytes:
    twins = []
    for message in batch:
        cls = type(message)
        twins.append(_TWINS[cls](*[getattr(message, name) for name in _NAMES[cls]]))
    return _ENCODER.encode(twins)


def decode_frame(frame: bytes) -> list[PeerMessage]:
    """ValueError if it is not a frame."""
    try:
        twins = _DECODER.decode(frame)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise ValueError(f"not a frame of peer messages: {error}") from error
    found: list[PeerMessage] = []
    for twin in twins:
        cls = _ORIGINALS[type(twin)]
        found.append(cls(**{name: getattr(twin, name) for name in _NAMES[cls]}))
    return found
