"""The stable names of a user's commands: `@raftwright.command("set")` on a class.

Users declare with `command`; the adapter makes one `Registry` a machine, the client looks up the name of what it sends.
Imports nothing of ours. Rule: what a machine takes is what it lists, never what happens to be imported, so that every
node knows the same commands.
"""

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, TypeVar

_Kind = TypeVar("_Kind", bound=type)
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._/-]{0,127}")


@dataclass(frozen=True, slots=True)
class Declared:
    """One declared command. `result` is the type that its result is decoded as by who proposed it."""

    name: str
    kind: type
    result: Any


_declared: dict[type, Declared] = {}
"""By class and not as an attribute of it: generated classes take none, and a subclass must not inherit a name."""


def command(name: str, *, result: Any = Any) -> Callable[[_Kind], _Kind]:
    """Declare a class (a dataclass, a msgspec.Struct, a generated protobuf message) as a command called `name`.

    The name is written to disk: never give it to another command. `result` is the type of what apply returns for it;
    without it, a result arrives as plain dictionaries, lists, strings and numbers. ValueError for a name that is none,
    or a class that has one already.
    """
    if not _NAME.fullmatch(name):
        raise ValueError(f"{name!r} cannot name a command: 1 to 128 letters, digits, '.', '_', '/' or '-'")

    def declare(kind: _Kind) -> _Kind:
        if kind in _declared:
            raise ValueError(f"{kind.__qualname__} is the command {_declared[kind].name!r} already")
        _declared[kind] = Declared(name, kind, result)
        return kind

    return declare


def declaration_of(kind: type) -> Declared | None:
    return _declared.get(kind)


class Registry:
    """The commands of one machine. Without any, its commands are plain bytes."""

    def __init__(self, kinds: Iterable[type]) -> None:
        """ValueError if a class was not declared, or two have one name."""
        self._by_kind: dict[type, Declared] = {}
        self._by_name: dict[str, Declared] = {}
        for kind in kinds:
            declared = _declared.get(kind)
            if declared is None:
                raise ValueError(
                    f"{kind.__qualname__} has no name: put @raftwright.command(…) above its other decorators"
                )
            other = self._by_name.setdefault(declared.name, declared)
            if other.kind is not kind:
                raise ValueError(
                    f"two commands are called {declared.name!r}: {other.kind.__qualname__} and {kind.__qualname__}"
                )
            self._by_kind[kind] = declared

    def __bool__(self) -> bool:
        return bool(self._by_kind)

    @property
    def names(self) -> list[str]:
        return list(self._by_name)

    def named(self, name: str) -> Declared | None:
        return self._by_name.get(name)

    def of(self, kind: type) -> Declared | None:
        return self._by_kind.get(kind)
