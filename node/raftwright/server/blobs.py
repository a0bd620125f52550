"""The payload of an entry of commands: blobs, each with the origin that makes retries of it safe.

The driver makes payloads, `server/state.py` reads them in apply. Its one rule: decoding is total. What cannot be
decoded is a value, the same on every node, and never a crash. The encoding is a disk format: MessagePack, version
`PAYLOAD_VERSION` of an entry of kind COMMANDS; what it means never changes within that version.
"""

from collections.abc import Sequence
from typing import Annotated

import msgspec
from msgspec import Meta

PAYLOAD_VERSION = 1
SESSION_ID_BYTES = 16
ANONYMOUS_PRINCIPAL = "anonymous"

SequenceNumber = Annotated[int, Meta(ge=0, le=2**63 - 1)]


class Origin(msgspec.Struct, array_like=True, frozen=True, gc=False, forbid_unknown_fields=True):
    """Whose blob it is. The commands of a blob have the numbers `first_seq` up to `first_seq + count - 1`."""

    session: Annotated[bytes, Meta(max_length=SESSION_ID_BYTES)] = b""
    """16 bytes; empty: no session, so a retry runs again."""
    first_seq: SequenceNumber = 0
    count: Annotated[int, Meta(ge=1, le=65_536)] = 1
    acked_below: SequenceNumber = 0
    """The client has the answers to every number below it and never asks for them again."""
    opens: bool = False
    """The session may be new. Without it, a blob of an unknown session is not run: it was forgotten."""
    principal: Annotated[str, Meta(max_length=1024)] = ANONYMOUS_PRINCIPAL
    """The caller, as the node that took the request knows him."""


class Blob(msgspec.Struct, array_like=True, frozen=True, gc=False, forbid_unknown_fields=True):
    """Commands as the client encoded them, and their origin."""

    origin: Origin
    data: bytes


class InvalidPayload(msgspec.Struct, frozen=True):
    """Bytes that are no payload. `reason` is for people and may differ between versions of libraries."""

    reason: str


BLOBS_MAX = 65_536

_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder(Annotated[list[Blob], Meta(max_length=BLOBS_MAX)])


def encode_payload(blobs: Sequence[Blob]) -> bytes:
    return _encoder.encode(blobs)


def decode_payload(payload: bytes) -> list[Blob] | InvalidPayload:
    """The blobs of a payload, in order. Raises nothing for any bytes."""
    try:
        blobs: list[Blob] = _decoder.decode(payload)
        return blobs
    except (ValueError, RecursionError) as error:
        return InvalidPayload(str(error))
