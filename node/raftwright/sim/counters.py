"""A user's state machine in the simulation: counters that only go up, and a workload that knows what they may answer.

`simulation.py` runs it where the profile says so; it shows users how to test a machine of their own. Rule: as every
add is of one, its answers alone say which order of them there was.
"""

import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from random import Random
from typing import Any

from raftwright.machine.adapter import AdaptedMachine
from raftwright.machine.base import StateMachine
from raftwright.machine.registry import command
from raftwright.server.machine import ApplyContext
from raftwright.sim.checkers import Checker
from raftwright.sim.workload import LINEARIZABLE, ClientRead, ClientWrite
from raftwright.sim.world import Violation


@command("add", result=int)
@dataclass(frozen=True)
class Add:
    """Add one to a counter; the result is its new value."""

    name: str


class Counters(StateMachine):
    """Counters by name."""

    commands = (Add,)

    def __init__(self) -> None:
        self.values: dict[str, int] = {}

    def apply(self, command: Add, context: ApplyContext) -> int:
        value = self.values[command.name] = self.values.get(command.name, 0) + 1
        return value

    def query(self, request: Any) -> int:
        return self.values.get(request, 0)

    def snapshot(self) -> Iterator[bytes]:
        frozen = dict(self.values)
        for pair in frozen.items():
            yield json.dumps(pair).encode() + b"\n"

    def restore(self, chunks: Iterable[bytes]) -> None:
        self.values = dict(json.loads(line) for line in b"".join(chunks).splitlines())


def counters() -> AdaptedMachine:
    return AdaptedMachine(Counters())


@dataclass(frozen=True, slots=True)
class _Seen:
    name: str
    begin: float
    end: float
    value: int
    adds: bool


@dataclass(slots=True)
class CounterWorkload:
    random: Random
    keys: int
    writes: list[ClientWrite] = field(default_factory=list)
    _machine: AdaptedMachine = field(default_factory=counters)
    _seen: dict[str, list[_Seen]] = field(default_factory=dict)

    def any_key(self) -> str:
        return f"counter{self.random.randrange(self.keys)}"

    def next_write(self, name: str) -> ClientWrite:
        count = self.random.choice((1, 1, 1, 3))
        write = ClientWrite(name, [Add(self.any_key()) for _ in range(count)])
        self.writes.append(write)
        return write

    def probe(self, name: str) -> ClientWrite:
        write = ClientWrite(name, [Add("probe")])
        self.writes.append(write)
        return write

    def encode(self, commands: Sequence[Any]) -> bytes:
        return self._machine.join([self._machine.encode(one) for one in commands])

    def as_single(self, write: ClientWrite, name: str) -> None:
        """Which attempt it was is not to be seen in an add."""

    def decode(self, encoded: bytes) -> list[Any]:
        return self._machine.decode_results(encoded)

    def finished(self, write: ClientWrite) -> None:
        for one, outcome in zip(write.commands, write.results or [], strict=False):
            value = self._machine.value_of(outcome, self._machine.registry.of(Add))
            seen = _Seen(write.name, write.begin, write.end, value, adds=True)
            self._seen.setdefault(one.name, []).append(seen)

    def saw(self, read: ClientRead, machine: Any) -> None:
        value = machine.user.query(read.key)
        self._seen.setdefault(read.key, []).append(_Seen(read.name, read.begin, read.end, value, adds=False))

    def check(self, checker: Checker) -> None:
        """Every value was answered to one add at most, and whatever began later saw no less (§6.3, §6.4)."""
        for key, found in sorted(self._seen.items()):
            adds = [one.value for one in found if one.adds]
            if len(set(adds)) < len(adds):
                raise Violation(LINEARIZABLE, f"two adds to {key} had the same answer")
            self._check_order(key, found)

    @staticmethod
    def _check_order(key: str, found: list[_Seen]) -> None:
        ended: list[_Seen] = sorted(found, key=lambda one: one.end)
        highest: _Seen | None = None
        position = 0
        for one in sorted(found, key=lambda each: each.begin):
            while ended[position].end < one.begin:
                if highest is None or ended[position].value > highest.value:
                    highest = ended[position]
                position += 1
            if highest is not None and one.value < highest.value + one.adds:
                raise Violation(LINEARIZABLE, f"{one} of {key} is behind {highest}, which ended before it")
