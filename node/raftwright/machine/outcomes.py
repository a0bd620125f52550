"""What became of one command of a user's machine, as replicas keep it and send it: one value a command.

Made in apply by the adapter. Rule: replicas keep these bytes and compare them, so nothing in them depends on the
process: no address of an object, no end of a long text.
"""

import re
from typing import Annotated

import msgspec
from msgspec import Meta

MESSAGE_CHARACTERS_MAX = 1000
_ADDRESS = re.compile(r"\b0x[0-9a-fA-F]{6,16}\b")


class Succeeded(msgspec.Struct, array_like=True, tag=0, frozen=True, gc=False):
    """What apply returned, as the codec encoded it."""

    data: bytes


class Failed(msgspec.Struct, array_like=True, tag=1, frozen=True, gc=False):
    """Apply raised: the name of the exception's class, and its message."""

    error: str
    message: str


class Undecodable(msgspec.Struct, array_like=True, tag=2, frozen=True, gc=False):
    """The command reached the log but this machine cannot read it; it changed nothing."""

    reason: str


Outcome = Succeeded | Failed | Undecodable

_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder(Annotated[list[Outcome], Meta(max_length=65_536)])


def encode_outcomes(outcomes: list[Outcome]) -> bytes:
    return _encoder.encode(outcomes)


def decode_outcomes(data: bytes) -> list[Outcome]:
    """The inverse of `encode_outcomes`. ValueError if `data` is not that."""
    outcomes: list[Outcome] = _decoder.decode(data)
    return outcomes


def failed(error: Exception) -> Failed:
    """The outcome of an exception. Addresses of objects, which differ from process to process, are left out."""
    try:
        message = str(error)
    except Exception:
        message = ""
    message = _ADDRESS.sub("0x…", message).encode("utf-8", "backslashreplace").decode()
    if len(message) > MESSAGE_CHARACTERS_MAX:
        message = message[: MESSAGE_CHARACTERS_MAX - 1] + "…"
    return Failed(type(error).__name__, message)
