"""The replicated system state: what apply depends on beside the data, and the commands that change it.

`server/state.py` applies them. Its one rule: it changes by SYSTEM entries alone, and an entry that this software
cannot understand because it is newer stops the node, for going on would make its state another one.
"""

from typing import Annotated

import msgspec
from msgspec import Meta

SYSTEM_VERSION = 1
"""Payload version of an entry of kind SYSTEM. A new command comes with a new version."""
FEATURE_LEVEL_MAX = 1
"""The newest feature level that this software knows. New formats of entries are gated by the level in force."""


class UnsupportedEntry(Exception):
    """The log holds an entry that only newer software understands. An environment error: the node stops."""


class SetFeatureLevel(msgspec.Struct, array_like=True, tag=1, frozen=True, forbid_unknown_fields=True):
    """Allow what came with this level. The level never goes down."""

    level: Annotated[int, Meta(ge=1)]


SystemCommand = SetFeatureLevel

_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder(SystemCommand)


def encode_system_command(command: SystemCommand) -> bytes:
    """The payload of a SYSTEM entry of version `SYSTEM_VERSION`."""
    return _encoder.encode(command)


def decode_system_command(payload: bytes) -> SystemCommand | None:
    """None for what is no command of this version, on every node alike."""
    try:
        command: SystemCommand = _decoder.decode(payload)
        return command
    except ValueError:
        return None
