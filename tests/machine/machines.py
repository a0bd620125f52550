"""State machines that the tests run."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import msgspec

import raftwright
from raftwright.server.machine import ApplyContext


@raftwright.command("set", result=int)
@dataclass(frozen=True)
class Set:
    key: str
    value: int


@raftwright.command("append", result=list[int])
class Append(msgspec.Struct):
    key: str
    values: list[int]


@raftwright.command("fail")
@dataclass(frozen=True)
class Fail:
    """`how` says with what."""

    how: str
    text: str = ""


class Table(raftwright.StateMachine):
    """Lists of numbers by key. The result is how often anything was applied, or the list."""

    commands = (Set, Append, Fail)

    def __init__(self) -> None:
        self.items: dict[str, list[int]] = {}
        self.applied = 0

    def apply(self, command: Set | Append | Fail, context: ApplyContext) -> Any:
        self.applied += 1
        match command:
            case Set():
                self.items[command.key] = [command.value]
                return self.applied
            case Append():
                values = self.items.setdefault(command.key, command.values)
                if values is not command.values:
                    values.extend(command.values)
                return values
            case Fail():
                fail(command)
        return None

    def query(self, request: Any) -> Any:
        return self.items[request]

    def snapshot(self) -> Iterator[bytes]:
        frozen = {key: list(values) for key, values in self.items.items()}
        yield self.applied.to_bytes(8, "big")
        for pair in frozen.items():
            encoded = msgspec.msgpack.encode(pair)
            yield len(encoded).to_bytes(4, "big") + encoded

    def restore(self, chunks: Iterable[bytes]) -> None:
        data = b"".join(chunks)
        self.applied = int.from_bytes(data[:8], "big")
        self.items = {}
        position = 8
        while position < len(data):
            length = int.from_bytes(data[position : position + 4], "big")
            key, values = msgspec.msgpack.decode(data[position + 4 : position + 4 + length])
            self.items[key] = values
            position += 4 + length


def fail(command: Fail) -> None:
    errors: dict[str, BaseException] = {
        "value": ValueError(command.text),
        "memory": MemoryError(),
        "disk": OSError(28, "No space left on device"),
        "depth": RecursionError(),
        "surrogate": ValueError("\ud800" + command.text),
        "address": RuntimeError(f"bad {object()!r}"),
    }
    if command.how == "result":
        return
    raise errors[command.how]


class Bytes:
    """A machine of plain bytes that derives from nothing."""

    codec = "raw"
    name = "bytes"

    def __init__(self) -> None:
        self.log: list[bytes] = []

    def apply(self, command: bytes, context: ApplyContext) -> bytes:
        self.log.append(command)
        return command[::-1]

    def snapshot(self) -> list[bytes]:
        return [b"\0".join(self.log)]

    def restore(self, chunks: Iterable[bytes]) -> None:
        data = b"".join(chunks)
        self.log = data.split(b"\0") if data else []
