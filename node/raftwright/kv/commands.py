"""The commands of the key-value store and their encoding: clients make blobs of them, nodes keep the bytes unchanged.

Imports nothing of ours. A blob is what one frame writes: one byte of format version, then a MessagePack array of
commands with a 32-bit count, each command an array that begins with its tag. These bytes are a disk format: what
they mean never changes; a new command or field comes with a new version of the entry that carries the blob.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated

import msgspec
from msgspec import Meta

BLOB_VERSION = 1
BLOB_COMMANDS_MAX = 65_536
"""Bound of the format, so that a forged count allocates nothing; settings stay below it. Operations of a batch too."""

_HEADER = bytes((BLOB_VERSION, 0xDD))
_HEADER_BYTES = 6
_BYTES_PER_CHARACTER_MAX = 4

Revision = Annotated[int, Meta(ge=1)]


class Put(msgspec.Struct, array_like=True, tag=1, frozen=True, gc=False, forbid_unknown_fields=True):
    """Set a key. `if_revision`: only if the key is at that revision; `if_absent`: only if it is not there."""

    key: str
    value: bytes
    if_revision: Revision | None = None
    if_absent: bool = False


class Delete(msgspec.Struct, array_like=True, tag=2, frozen=True, gc=False, forbid_unknown_fields=True):
    """Remove a key, with `if_revision` only if it is at that revision."""

    key: str
    if_revision: Revision | None = None


class Compare(msgspec.Struct, array_like=True, tag=3, frozen=True, gc=False, forbid_unknown_fields=True):
    """Within a batch: the key must be at that revision; with None it must be absent."""

    key: str
    revision: Revision | None


Operation = Put | Delete | Compare


class Batch(msgspec.Struct, array_like=True, tag=4, frozen=True, gc=False, forbid_unknown_fields=True):
    """Operations as one command: one revision, all or nothing.

    Every condition is judged by the state before the batch. Then puts and deletes take effect in order; a delete
    without condition of a key that is absent does nothing.
    """

    ops: Annotated[list[Operation], Meta(max_length=BLOB_COMMANDS_MAX)]


Command = Put | Delete | Batch


class InvalidCommand(ValueError):
    """A command that no node takes. `position` is its place in the blob, `field` what is wrong with it."""

    def __init__(self, reason: str, *, position: int | None = None, field: str | None = None) -> None:
        super().__init__(reason if position is None else f"command {position}: {reason}")
        self.reason = reason
        self.position = position
        self.field = field


class CommandTooLarge(InvalidCommand):
    """A key, value, batch or blob is over a limit: `limit` is what is allowed, `actual` what was asked."""

    def __init__(self, what: str, *, limit: int, actual: int, position: int | None, field: str) -> None:
        super().__init__(f"{what} is {actual:,}, more than the {limit:,} allowed", position=position, field=field)
        self.limit = limit
        self.actual = actual


class InvalidBlob(InvalidCommand):
    """Bytes that are not a blob of commands."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CommandLimits:
    """Settings of a node, checked before proposing and never in apply: nodes may differ in them."""

    key_bytes_max: int = 1024
    value_bytes_max: int = 1 << 20
    batch_ops_max: int = 1000
    batch_bytes_max: int = 1 << 20
    """Keys and values of one batch together. A batch of one operation may be as large as one put."""
    blob_commands_max: int = 4096

    def __post_init__(self) -> None:
        for name in self.__slots__:
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1")
        for name in ("batch_ops_max", "blob_commands_max"):
            if getattr(self, name) > BLOB_COMMANDS_MAX:
                raise ValueError(f"{name} must be at most {BLOB_COMMANDS_MAX:,}")


_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder(Annotated[list[Command], Meta(max_length=BLOB_COMMANDS_MAX)])


def encode_command(command: Command) -> bytes:
    """One command, to be joined with others by `encode_blob`. UnicodeEncodeError for a key with lone surrogates."""
    return _encoder.encode(command)


def encode_blob(encoded_commands: Sequence[bytes]) -> bytes:
    """Join commands that `encode_command` made into a blob."""
    return b"".join((_HEADER, len(encoded_commands).to_bytes(4, "big"), *encoded_commands))


def decode_blob(blob: bytes) -> list[Command]:
    """The commands of a blob. Raises InvalidBlob for anything that is not exactly one blob of known commands."""
    if blob[:2] != _HEADER:
        raise InvalidBlob(_wrong_header(blob))
    try:
        commands: list[Command] = _decoder.decode(memoryview(blob)[1:])
        return commands
    except (ValueError, RecursionError) as error:  # msgspec's errors, and UnicodeDecodeError, are ValueErrors
        raise InvalidBlob(f"not a blob of commands: {error}") from error


def _wrong_header(blob: bytes) -> str:
    if len(blob) < _HEADER_BYTES:
        return f"a blob has at least {_HEADER_BYTES} bytes, this one has {len(blob)}"
    if blob[0] != BLOB_VERSION:
        return f"blob format version {blob[0]} is not known; {BLOB_VERSION} is"
    return "the commands of a blob are an array with a 32-bit count"


def check_limits(commands: Sequence[Command], limits: CommandLimits) -> None:
    """Raise CommandTooLarge or InvalidCommand for the first command that breaks a limit or makes no sense."""
    if len(commands) > limits.blob_commands_max:
        raise CommandTooLarge(
            "the number of commands in the frame",
            limit=limits.blob_commands_max,
            actual=len(commands),
            position=None,
            field="commands",
        )
    value_bytes_max = limits.value_bytes_max
    surely_short = limits.key_bytes_max // _BYTES_PER_CHARACTER_MAX
    for position, command in enumerate(commands):
        kind = type(command)
        if kind is Put:
            key: str = command.key  # type: ignore[union-attr]
            if (
                0 < len(key) <= surely_short
                and len(command.value) <= value_bytes_max  # type: ignore[union-attr]
                and not command.if_absent  # type: ignore[union-attr]
            ):
                continue
        if isinstance(command, Batch):
            _check_batch(command, limits, position)
        else:
            _check_operation(command, limits, position, "")


def _check_operation(operation: Operation, limits: CommandLimits, position: int, prefix: str) -> None:
    if not operation.key:
        raise InvalidCommand("the key is empty", position=position, field=f"{prefix}key")
    key_bytes = len(operation.key) if operation.key.isascii() else len(operation.key.encode())
    if key_bytes > limits.key_bytes_max:
        raise CommandTooLarge(
            "the key's length in bytes",
            limit=limits.key_bytes_max,
            actual=key_bytes,
            position=position,
            field=f"{prefix}key",
        )
    if isinstance(operation, Put):
        if operation.if_absent and operation.if_revision is not None:
            raise InvalidCommand(
                "if_revision and if_absent exclude each other", position=position, field=prefix + "if_absent"
            )
        if len(operation.value) > limits.value_bytes_max:
            raise CommandTooLarge(
                "the value's length in bytes",
                limit=limits.value_bytes_max,
                actual=len(operation.value),
                position=position,
                field=f"{prefix}value",
            )


def _check_batch(batch: Batch, limits: CommandLimits, position: int) -> None:
    if not batch.ops:
        raise InvalidCommand("the batch has no operations", position=position, field="ops")
    if len(batch.ops) > limits.batch_ops_max:
        raise CommandTooLarge(
            "the number of operations in the batch",
            limit=limits.batch_ops_max,
            actual=len(batch.ops),
            position=position,
            field="ops",
        )
    changed: set[str] = set()
    size = 0
    for number, operation in enumerate(batch.ops):
        _check_operation(operation, limits, position, f"ops[{number}].")
        size += len(operation.key.encode())
        if isinstance(operation, Compare):
            continue
        if operation.key in changed:
            reason = f"operation {number} changes a key that the batch changes already"
            raise InvalidCommand(reason, position=position, field=f"ops[{number}].key")
        changed.add(operation.key)
        size += len(operation.value) if isinstance(operation, Put) else 0
    if size > limits.batch_bytes_max and len(batch.ops) > 1:
        raise CommandTooLarge(
            "the size of the batch in bytes", limit=limits.batch_bytes_max, actual=size, position=position, field="ops"
        )
