"""The contract between client and node: results of commands, JSON bodies of the HTTP API, frames of the stream.

Imports nothing of ours. Requests are strict (an unknown field is an error); replies are lenient (a client may be
older than its node). Results and frames are MessagePack arrays, the rest JSON objects.
"""

from enum import IntEnum
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta

# --- results of commands -------------------------------------------------------------------------------------------


class NotFound(msgspec.Struct, array_like=True, tag=1, frozen=True, gc=False):
    """A delete without condition found no such key (404)."""


class PreconditionFailed(msgspec.Struct, array_like=True, tag=2, frozen=True, gc=False):
    """A condition did not hold (412). `revision` is the key's, None if it is absent."""

    revision: int | None


class BatchFailed(msgspec.Struct, array_like=True, tag=3, frozen=True, gc=False):
    """A condition of a batch did not hold, so nothing of it happened (412). `position` counts operations from 0."""

    position: int
    revision: int | None


class Undecodable(msgspec.Struct, array_like=True, tag=4, frozen=True, gc=False):
    """The command reached the log but could not be read there; it changed nothing (400)."""

    reason: str


Failure = NotFound | PreconditionFailed | BatchFailed | Undecodable
Result = int | Failure
"""A success is the store's revision after the command."""

_encoder = msgspec.msgpack.Encoder()
_results_decoder = msgspec.msgpack.Decoder(list[Result])


def encode_results(results: list[Result]) -> bytes:
    """Results of the commands of one blob, in order."""
    return _encoder.encode(results)


def decode_results(data: bytes) -> list[Result]:
    """The inverse of `encode_results`. ValueError (msgspec.DecodeError) if `data` is not that."""
    return _results_decoder.decode(data)


# --- HTTP: keys and batches ----------------------------------------------------------------------------------------

Encoding = Literal["utf-8", "base64"]
"""How a value that is bytes stands in JSON: as text, or in base64 where it is not UTF-8."""

Revision = Annotated[int, Meta(ge=1, le=2**63 - 1)]


class WriteAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """The answer to a write: committed and applied."""

    revision: int


class ListItem(msgspec.Struct, frozen=True, kw_only=True):
    key: str
    value: str
    encoding: Encoding
    revision: int


class ListPage(msgspec.Struct, frozen=True, kw_only=True):
    """One page, in the order of keys."""

    items: list[ListItem]
    next: str | None
    """Where the next page starts (`start=`); None: this was the last one."""
    revision: int
    """The store's revision that the page was read at."""


class PutOp(msgspec.Struct, tag_field="op", tag="put", frozen=True, kw_only=True, forbid_unknown_fields=True):
    key: str
    value: str
    encoding: Encoding = "utf-8"
    if_revision: Revision | None = None
    if_absent: bool = False


class DeleteOp(msgspec.Struct, tag_field="op", tag="delete", frozen=True, kw_only=True, forbid_unknown_fields=True):
    key: str
    if_revision: Revision | None = None


class CompareOp(msgspec.Struct, tag_field="op", tag="compare", frozen=True, kw_only=True, forbid_unknown_fields=True):
    key: str
    revision: Revision | None
    """None: the key must be absent."""


class BatchRequest(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    ops: list[PutOp | DeleteOp | CompareOp]


# --- HTTP: a state machine of one's own -----------------------------------------------------------------------------


class ProposeRequest(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    command: str
    """The name that the command was declared with."""
    fields: msgspec.Raw = msgspec.field(default_factory=lambda: msgspec.Raw(b"{}"))
    """Its fields; bytes in base64."""


class QueryRequest(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    request: Any
    """What the machine's `query` gets."""


class MachineAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """What the machine returned."""

    result: Any


# --- HTTP: status and problems -------------------------------------------------------------------------------------


class MemberStatus(msgspec.Struct, frozen=True, kw_only=True):
    """One member, as the answering node knows it."""

    id: int
    name: str
    role: Literal["voter", "learner", "outgoing"]
    peer: str
    """`host:port`, as is `client`."""
    client: str
    store_id: str
    match_index: int | None = None
    """Up to where the member's log is known to be the leader's; only the leader knows."""
    leader: bool = False
    metadata: dict[str, str] = {}
    election_timeout_ms: int | None = None
    """Of this member; the leader knows that of the others, too. They should be the same."""
    refusal: str | None = None
    """Why that member refuses the streams of the answering node."""


class StateCheck(msgspec.Struct, frozen=True, kw_only=True):
    """How this node's state compared with that of the others, since the node started (`docs/operations.md`)."""

    passed: int
    """Checks in which the state here was that of the majority, and somebody else's was, too."""
    passed_index: int
    """Log index of the newest of them; 0 where there was none."""
    failed: int
    """Checks in which it was another, or there was no majority."""
    skipped: int
    """Checks that could not be made: nobody else answered, or the versions cannot be compared."""
    repairs: int
    """How often the state here was replaced by the leader's."""
    diverged: bool
    """The state here is known not to be that of the majority: the node is not ready, and repairs itself."""
    minority: list[str]
    """Names of the members whose state is not that of the majority, as far as this node was told."""
    alarm: str | None = None
    """Voters disagree without a majority: which, and where. Nothing is repaired."""
    problem: str | None = None
    """Why the newest attempt to repair failed."""


class NodeStatus(msgspec.Struct, frozen=True, kw_only=True):
    """The answer of `GET /v1/status`. Fields about the cluster are None until the node is part of one."""

    name: str
    state: Literal["waiting", "starting", "serving", "stranger", "removed", "stopping"]
    """waiting: to become a member, `detail` says how; stranger: this store is no member of the cluster it found;
    removed: it was one, and is no more."""
    version: str
    """Of the software."""
    uptime_s: float
    id: int | None = None
    cluster_id: str | None = None
    store_id: str | None = None
    founding: str | None = None
    """A digest of the members that the cluster was founded with, the same on every node of it; None: not known."""
    role: Literal["leader", "follower", "candidate", "pre-candidate"] | None = None
    member_role: Literal["voter", "learner"] | None = None
    term: int = 0
    leader: int | None = None
    """Member id."""
    commit_index: int = 0
    applied_index: int = 0
    first_index: int = 0
    last_index: int = 0
    revision: int = 0
    """Of the store, as applied here."""
    membership_version: int = 0
    members: list[MemberStatus] = []
    state_check: StateCheck | None = None
    detail: str | None = None
    """A sentence for people where the state needs one: whom the node waits for, why it is a stranger."""


class SettingsAnswer(msgspec.Struct, frozen=True, kw_only=True):
    settings: dict[str, Any]
    """Each setting's value, as a file of settings has it."""
    changeable: list[str]
    """Those that may change while the node runs."""


class SettingsChange(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    settings: dict[str, Any]


class SnapshotAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """The newest snapshot of the answering node."""

    index: int
    """Of the newest entry in it."""
    term: int
    bytes: int


class DiscardRequest(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The body of `POST /v1/store/discard`."""

    store_id: str
    """The store that is meant: another one is never discarded."""


class DiscardAnswer(msgspec.Struct, frozen=True, kw_only=True):
    discarded: str
    """The store that was set aside."""
    store_id: str
    """The new one in its place."""


class Problem(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """RFC 9457 `application/problem+json`. `type` is stable; docs/api.md lists them all."""

    type: str
    title: str
    status: int
    detail: str = ""
    outcome: Literal["none", "unknown"] | None = None
    """Of a failed write. none: it never happened, retry freely; unknown: it may have, or may yet."""
    leader: str | None = None
    """Client address of the leader, where it is known."""
    retry_after_s: float | None = None
    field: str | None = None
    """Which part of the request is wrong."""
    revision: int | None = None
    """The key's revision, where a condition failed (absent: there is no such key)."""
    position: int | None = None
    """Which command of a frame or operation of a batch, counted from 0."""
    error: str | None = None
    """Of a command or query that failed: the class of the exception that the state machine raised."""


# --- the stream: one WebSocket, binary frames ----------------------------------------------------------------------

STREAM_PROTOCOL = 1
SESSION_ID_BYTES = 16


class Consistency(IntEnum):
    LINEARIZABLE = 0
    STALE = 1
    LEASE = 2
    """As good, without a round where the leader's lease allows it."""


Count = Annotated[int, Meta(ge=1, le=65_536)]
Sequence = Annotated[int, Meta(ge=0, le=2**63 - 1)]


class Hello(msgspec.Struct, array_like=True, tag=1, frozen=True):
    """The client's first frame."""

    protocol: int
    session: Annotated[bytes, Meta(min_length=SESSION_ID_BYTES, max_length=SESSION_ID_BYTES)]
    """Random, and one for the client's whole life, over all its connections."""
    client: Annotated[str, Meta(max_length=128)] = ""
    """Software and version, for people."""


CLUSTER_HEADER = "X-Raft-Cluster"
"""In a request: the cluster that it is meant for. A node of another one refuses it as `wrong-cluster`."""


class Welcome(msgspec.Struct, array_like=True, tag=2, frozen=True):
    """The node's first frame. Bounds of what it takes."""

    protocol: int
    node: str
    cluster_id: str
    frame_bytes_max: int
    blob_commands_max: int
    key_bytes_max: int
    value_bytes_max: int
    session_retention_s: float
    """How long after its last use a session is surely remembered; never retry a write beyond it."""


class Writes(msgspec.Struct, array_like=True, frozen=True, gc=False):
    """The writes of a frame as one blob, with the sequence numbers `first_seq` up to `first_seq + count - 1`.

    A retry repeats the blob byte by byte under the same numbers. Every answer to numbers below `acked_below` has
    arrived. `opens` says that the session may be new to the cluster: true until a write of it was acknowledged.
    """

    first_seq: Annotated[int, Meta(ge=1, le=2**63 - 1)]
    count: Count
    acked_below: Sequence
    opens: bool
    blob: bytes


class Read(msgspec.Struct, array_like=True, frozen=True, gc=False):
    key: str
    consistency: Consistency = Consistency.LINEARIZABLE
    max_staleness_s: Annotated[float, Meta(ge=0)] | None = None
    """Of a stale read: how long ago its answer may have been up to date; None: any time."""
    min_index: Sequence = 0
    """Wait until the node has applied this entry: one that an earlier answer named."""


class RequestFrame(msgspec.Struct, array_like=True, tag=3, frozen=True):
    """Writes and reads are answered apart, and neither waits for the other."""

    id: Sequence
    writes: Writes | None = None
    reads: Annotated[list[Read], Meta(max_length=65_536)] | None = None


class WriteReply(msgspec.Struct, array_like=True, tag=1, frozen=True, gc=False):
    id: int
    results: bytes
    """For `decode_results`: one result a command."""
    index: int = 0
    """The log entry in which they were applied: a later read with this `min_index` sees them."""


class ReadReply(msgspec.Struct, array_like=True, tag=2, frozen=True):
    id: int
    values: list[tuple[int, bytes] | None]
    """Revision and value, None where there is no such key; in the order of the frame's reads."""
    index: int = 0
    """The newest entry that the answer reflects."""


class ProblemReply(msgspec.Struct, array_like=True, tag=3, frozen=True):
    """That part of the frame failed as a whole. `id` is 0 where the frame could not be read."""

    id: int
    part: Literal["writes", "reads", "frame"]
    problem: Problem


class ReplyFrame(msgspec.Struct, array_like=True, tag=4, frozen=True):
    """Answers to parts of earlier frames, in any order."""

    replies: list[WriteReply | ReadReply | ProblemReply]
    term: int
    index: int
    """Applied index of the answering node; each answer has its own."""


ClientFrame = Hello | RequestFrame
NodeFrame = Welcome | ReplyFrame

_client_frame_decoder = msgspec.msgpack.Decoder(ClientFrame)
_node_frame_decoder = msgspec.msgpack.Decoder(NodeFrame)


def encode_frame(frame: ClientFrame | NodeFrame) -> bytes:
    return _encoder.encode(frame)


def decode_client_frame(data: bytes) -> ClientFrame:
    """What a client sent. ValueError (msgspec.DecodeError, UnicodeDecodeError) if it is no frame."""
    frame: ClientFrame = _client_frame_decoder.decode(data)
    return frame


def decode_node_frame(data: bytes) -> NodeFrame:
    """What a node sent. ValueError (msgspec.DecodeError, UnicodeDecodeError) if it is no frame."""
    frame: NodeFrame = _node_frame_decoder.decode(data)
    return frame
