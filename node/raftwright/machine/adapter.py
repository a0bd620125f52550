"""A user's state machine as the node knows machines: `server.machine.Machine` around `machine.base.StateMachine`.

The node calls it as it calls its own key-value store. Rules: whatever a user's code does, every node does the same: an
exception of it is a result; an error of the environment stops the node; what cannot be decoded is a result too. A blob
is one byte of format version, then a MessagePack array, with a 32-bit count, of pairs: name of the command (empty where
commands are plain bytes), and the command as the codec encodes it. That is a disk format.
"""

import inspect
import logging
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Annotated, Any

import msgspec
from msgspec import Meta

from raftwright.machine.base import StateMachine
from raftwright.machine.codecs import codec_of
from raftwright.machine.outcomes import (
    Failed,
    Outcome,
    Succeeded,
    Undecodable,
    decode_outcomes,
    encode_outcomes,
    failed,
)
from raftwright.machine.registry import Declared, Registry
from raftwright.server.machine import Applied, ApplyContext, InvalidCommand, InvalidSnapshot, SnapshotFailed

_log = logging.getLogger(__name__)

BLOB_VERSION = 1
BLOB_COMMANDS_MAX = 65_536
ENVIRONMENT = (MemoryError, OSError, ImportError, RecursionError, SystemError)
"""Errors that may come on one node and not on another: a result made of them would divide the replicas."""

_HEADER = bytes((BLOB_VERSION, 0xDD))
_UNREADABLE = "this state machine cannot read the command"
_METHODS = ("apply", "snapshot", "restore")

_Pair = tuple[Annotated[str, Meta(max_length=128)], bytes]
_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder(Annotated[list[_Pair], Meta(max_length=BLOB_COMMANDS_MAX)])


class Unreadable:
    """Stands where a command of a blob should be that cannot be decoded. `reason` is for people."""

    __slots__ = ("reason",)

    def __init__(self, reason: str) -> None:
        self.reason = reason


class AdaptedMachine:
    """See `server/machine.py` for what each method promises."""

    def __init__(self, user: Any) -> None:
        """ValueError, with what to do, if `user` is not a state machine."""
        _check_methods(user)
        self.user = user
        self.registry = Registry(getattr(user, "commands", ()))
        self.codec = codec_of(getattr(user, "codec", "msgpack"))
        self.name: str = getattr(user, "name", "") or type(user).__qualname__
        self.version: int = getattr(user, "version", 1)
        self.is_restoring = False
        """Restoring runs in a thread of its own; meanwhile the state is no state."""
        self.can_query = getattr(type(user), "query", StateMachine.query) is not StateMachine.query
        can_digest = getattr(type(user), "digest", StateMachine.digest) is not StateMachine.digest
        self.digest: Callable[[], bytes] | None = self._digest if can_digest else None
        version: int = getattr(user, "digest_version", 1)
        # The messages of Python's own exceptions are part of results and change with its versions: unlike chains.
        self.digest_version = version if can_digest else version * 1000 + sys.version_info.minor

    # Commands

    def encode(self, command: Any) -> bytes:
        """One command, to be joined with others by `join`. InvalidCommand if this machine does not take it."""
        name = ""
        if self.registry:
            declared = self.registry.of(type(command))
            if declared is None:
                raise InvalidCommand(
                    f"{type(command).__qualname__} is no command of {self.name}: declare it with"
                    " @raftwright.command(…) and list it in the machine's `commands`"
                )
            name = declared.name
        elif not isinstance(command, bytes | bytearray | memoryview):
            raise InvalidCommand(f"{self.name} lists no `commands`, so it takes bytes, not {type(command).__name__}")
        try:
            data = self.codec.encode(command) if name else bytes(command)
        except ENVIRONMENT:
            raise
        except Exception as error:
            raise InvalidCommand(f"{type(command).__name__} cannot be encoded: {error}") from error
        return self.encoded(name, data)

    def encoded(self, name: str, data: bytes) -> bytes:
        """One command of which the bytes are there already. `name` is empty where commands are plain bytes."""
        return _encoder.encode((name, data))

    def join(self, encoded: Sequence[bytes]) -> bytes:
        return b"".join((_HEADER, len(encoded).to_bytes(4, "big"), *encoded))

    def decode_one(self, encoded: bytes) -> Any:
        """What `encode` made, as apply gets it: never the caller's own object, which he may change meanwhile."""
        (command,) = self.decode(self.join([encoded]))
        self.check([command])
        return command

    def decode(self, blob: bytes) -> list[Any]:
        if blob[:2] != _HEADER:
            raise InvalidCommand(f"this is no blob of commands of format version {BLOB_VERSION}")
        try:
            pairs = _decoder.decode(memoryview(blob)[1:])
        except (ValueError, RecursionError) as error:
            raise InvalidCommand(f"this is no blob of commands: {error}") from error
        return [self._decode_pair(name, data) for name, data in pairs]

    def _decode_pair(self, name: str, data: bytes) -> Any:
        if not self.registry:
            return Unreadable(f"{self.name} takes plain bytes, not the command {name!r}") if name else data
        declared = self.registry.named(name)
        if declared is None:
            known = ", ".join(self.registry.names)
            return Unreadable(f"{self.name} has no command {name!r}; it has {known}")
        try:
            command = self.codec.decode(data, declared.kind)
        except (MemoryError, OSError, ImportError):
            raise
        except Exception as error:
            return Unreadable(f"the command {name!r} cannot be decoded: {error}")
        if type(command) is not declared.kind:
            return Unreadable(f"the command {name!r} was decoded as {type(command).__name__}")
        return command

    def check(self, commands: list[Any]) -> None:
        for position, command in enumerate(commands):
            if type(command) is Unreadable:
                raise InvalidCommand(command.reason, position=position, field="command")

    def apply(self, commands: list[Any], context: ApplyContext) -> Applied:
        apply, encode = self.user.apply, self.codec.encode
        outcomes: list[Outcome] = []
        for command in commands:
            if type(command) is Unreadable:
                outcomes.append(Undecodable(_UNREADABLE))
                continue
            try:
                outcomes.append(Succeeded(encode(apply(command, context))))
            except ENVIRONMENT as error:
                _log.critical(
                    "%s: %s in apply of %s at index %d; it comes from this node's environment and may come on no other,"
                    " so the node stops: free what it lacks, and start it again",
                    self.name,
                    repr(error),
                    type(command).__name__,
                    context.index,
                )
                raise
            except Exception as error:
                outcomes.append(failed(error))
        return Applied(outcomes)

    # Results

    def undecodable(self, count: int, reason: str) -> list[Any]:
        return [Undecodable(reason)] * count

    def encode_results(self, results: list[Any]) -> bytes:
        return encode_outcomes(results)

    def decode_results(self, data: bytes) -> list[Any]:
        return decode_outcomes(data)

    def value_of(self, outcome: Succeeded, declared: Declared | None) -> Any:
        """The result as whoever proposed the command gets it."""
        return self.codec.decode(outcome.data, declared.result if declared else Any)

    def declared_of(self, command: Any) -> Declared | None:
        return self.registry.of(type(command))

    # State

    def query(self, request: Any) -> Any:
        """What the machine answers. Raises what it raises; InvalidCommand if it answers none."""
        if not self.can_query:
            raise InvalidCommand(f"{self.name} answers no queries: it has no method `query`")
        return self.user.query(request)

    def _digest(self) -> bytes:
        digest = self.user.digest()
        if not isinstance(digest, bytes | bytearray | memoryview):
            raise TypeError(f"{self.name}.digest() gave {type(digest).__name__} where bytes belong")
        return bytes(digest)

    def snapshot(self) -> Iterator[bytes]:
        try:
            slices = iter(self.user.snapshot())
            # A generator's own first lines run only now, and they are what freezes the state.
            first = next(slices, None)
        except Exception as error:
            return _Failing(self._snapshot_failed(error))
        return self._slices(first, slices)

    def _slices(self, first: bytes | None, slices: Iterator[bytes]) -> Iterator[bytes]:
        slice_ = first
        while slice_ is not None:
            if not isinstance(slice_, bytes | bytearray | memoryview):
                raise SnapshotFailed(f"{self.name}.snapshot() gave {type(slice_).__name__} where bytes belong")
            yield bytes(slice_)
            try:
                slice_ = next(slices, None)
            except Exception as error:
                raise self._snapshot_failed(error) from error

    def _snapshot_failed(self, error: Exception) -> Exception:
        if isinstance(error, MemoryError | OSError):
            return error
        failure = SnapshotFailed(f"{self.name}.snapshot() raised {type(error).__name__}: {error}")
        failure.__cause__ = error
        return failure

    def restore(self, chunks: Iterable[bytes]) -> None:
        source = _Source(chunks)
        self.is_restoring = True
        try:
            self.user.restore(iter(source))
        except Exception as error:
            if error is source.error or isinstance(error, (*ENVIRONMENT, InvalidSnapshot)):
                raise
            raise InvalidSnapshot(f"{self.name}.restore() raised {type(error).__name__}: {error}") from error
        finally:
            self.is_restoring = False
        if source.error is not None:
            raise source.error  # the user's code kept it to itself, and holds half a state


class _Source:
    """Chunks, and the error that broke them off: that of the disk must not pass for the user's."""

    def __init__(self, chunks: Iterable[bytes]) -> None:
        self._chunks = chunks
        self.error: Exception | None = None

    def __iter__(self) -> Iterator[bytes]:
        try:
            yield from self._chunks
        except Exception as error:
            self.error = error
            raise


class _Failing:
    """An iterator that only fails."""

    def __init__(self, error: Exception) -> None:
        self._error = error

    def __iter__(self) -> Iterator[bytes]:
        return self

    def __next__(self) -> bytes:
        raise self._error


def _check_methods(user: Any) -> None:
    if isinstance(user, type):
        raise ValueError(f"{user.__qualname__} is a class: give an object of it, {user.__name__}()")
    for name in _METHODS:
        method = getattr(user, name, None)
        if not callable(method):
            raise ValueError(
                f"{type(user).__qualname__} is no state machine: it has no method {name!r};"
                " raftwright.StateMachine says what there must be"
            )
        if inspect.iscoroutinefunction(method) or inspect.isasyncgenfunction(method):
            raise ValueError(f"{type(user).__qualname__}.{name} must not be async: nothing in a state machine waits")
    if inspect.iscoroutinefunction(getattr(user, "query", None)):
        raise ValueError(f"{type(user).__qualname__}.query must not be async: nothing in a state machine waits")


__all__ = ["AdaptedMachine", "Failed", "Outcome", "Succeeded", "Undecodable", "Unreadable"]
