"""What clients of the built-in store ask for, and whether all that they saw fits one store.

`clients.py` draws its writes and reads here, `simulation.py` asks for the verdict at the end. A user's own machine has
a workload of its own, with these methods. Its one rule: every value is written once, so that a read says which write
it saw.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from random import Random
from typing import Any, Protocol

from raftwright.client.models import NotFound, decode_results
from raftwright.kv.commands import Batch, Command, Compare, Delete, Operation, Put, encode_blob, encode_command
from raftwright.sim import linearizability
from raftwright.sim.checkers import Checker
from raftwright.sim.world import Violation

LINEARIZABLE = "linearizability: every key behaves as one copy of it would"


@dataclass(slots=True, eq=False)
class ClientWrite:
    name: str
    commands: list[Any]
    session: Any = None
    first_seq: int = 0
    attempts: int = 0
    begin: float = 0.0
    end: float = float("inf")
    outcome: str = "unknown"
    uncertain: bool = False
    results: list[Any] | None = None
    on_done: Callable[["ClientWrite"], None] = lambda _: None


@dataclass(slots=True, eq=False)
class ClientRead:
    name: str
    key: str
    begin: float
    end: float = float("inf")
    value: bytes | None = None
    revision: int = 0


class Workload(Protocol):
    """What clients do, and what must be true of the answers; of a machine of one's own, too."""

    def any_key(self) -> str:
        """Of what to read."""
        ...

    def next_write(self, name: str) -> ClientWrite: ...

    def probe(self, name: str) -> ClientWrite:
        """A write that must succeed once nothing is wrong any more."""
        ...

    def encode(self, commands: Sequence[Any]) -> bytes:
        """The blob that carries these commands."""
        ...

    def as_single(self, write: ClientWrite, name: str) -> Any:
        """The write as one command without a blob of its own, which shows the attempt's name; None where it cannot."""
        ...

    def decode(self, encoded: bytes) -> list[Any]: ...

    def finished(self, write: ClientWrite) -> None: ...

    def saw(self, read: ClientRead, machine: Any) -> None: ...

    def check(self, checker: Checker) -> None:
        """Raise Violation if no order of all that happened explains what clients saw."""
        ...


@dataclass(slots=True)
class KvWorkload:
    random: Random
    keys: int
    writes: list[ClientWrite] = field(default_factory=list)
    reads: list[ClientRead] = field(default_factory=list)
    values: dict[tuple[str, int], bytes] = field(default_factory=dict)
    """By key and revision, as answers told."""
    newest: dict[str, int] = field(default_factory=dict)
    """The newest revision of a key that a client was told of."""

    # Asking

    def any_key(self) -> str:
        return f"key{self.random.randrange(self.keys)}"

    def next_write(self, name: str) -> ClientWrite:
        chance = self.random.random()
        if chance < 0.15:
            commands: list[Command] = [Batch(self._operations(name))]
        elif chance < 0.3:
            commands = [self._command(f"{name}:{number}") for number in range(self.random.randint(2, 4))]
        else:
            commands = [self._command(name)]
        write = ClientWrite(name, commands)
        self.writes.append(write)
        return write

    def _command(self, value: str) -> Put | Delete:
        key, chance = self.any_key(), self.random.random()
        revision = self.newest.get(key)
        size = self.random.choice((0, 0, 0, 40, 600))
        put = Put(key, value.encode() + b" " * size)
        if chance < 0.15:
            return Delete(key)
        if chance < 0.25:
            return replace_put(put, if_absent=True)
        if chance < 0.4 and revision:
            return replace_put(put, if_revision=revision)
        return put

    def _operations(self, name: str) -> list[Operation]:
        keys = self.random.sample(range(self.keys), min(self.keys, 3))
        operations: list[Operation] = []
        for number, key in enumerate(f"key{key}" for key in keys):
            chance = self.random.random()
            if chance < 0.2:
                operations.append(Compare(key, self.newest.get(key)))
            elif chance < 0.35:
                operations.append(Delete(key))
            else:
                operations.append(Put(key, f"{name}:{number}".encode()))
        return operations

    def probe(self, name: str) -> ClientWrite:
        write = ClientWrite(name, [Put("probe", name.encode())])
        self.writes.append(write)
        return write

    def encode(self, commands: Sequence[Command]) -> bytes:
        return encode_blob([encode_command(command) for command in commands])

    def as_single(self, write: ClientWrite, name: str) -> Put | None:
        """The write as one put whose value is the attempt's name, half of the times that it can be one."""
        if len(write.commands) == 1 and isinstance(write.commands[0], Put) and self.random.random() < 0.5:
            put = Put(write.commands[0].key, name.encode())
            write.commands = [put]
            return put
        return None

    def decode(self, encoded: bytes) -> list[Any]:
        return decode_results(encoded)

    # What came of it

    def finished(self, write: ClientWrite) -> None:
        if write.results is not None:
            for command, result in zip(write.commands, write.results, strict=True):
                for operation in command.ops if isinstance(command, Batch) else [command]:
                    if isinstance(operation, Put) and isinstance(result, int):
                        self._note(operation.key, result, operation.value)

    def saw(self, read: ClientRead, machine: Any) -> None:
        item = machine.get(read.key)
        if item is not None:
            read.value, read.revision = item.value, item.revision
            self._note(read.key, item.revision, item.value)
        self.reads.append(read)

    def _note(self, key: str, revision: int, value: bytes) -> None:
        known = self.values.setdefault((key, revision), value)
        if known != value:
            raise Violation(LINEARIZABLE, f"{key} has two values at revision {revision}: {known!r} and {value!r}")
        self.newest[key] = max(self.newest.get(key, 0), revision)

    # The verdict

    def check(self, checker: Checker) -> None:
        history: dict[str, list[linearizability.Operation]] = {}
        for write in self.writes:
            for key, operation in self._history(write, checker):
                history.setdefault(key, []).append(operation)
        for read in self.reads:
            seen = linearizability.Operation(name=read.name, begin=read.begin, end=read.end, sees=True, saw=read.value)
            history.setdefault(read.key, []).append(seen)
        for key, operations in sorted(history.items()):
            if not linearizability.is_linearizable(operations):
                lines = "\n".join(map(repr, sorted(operations, key=lambda operation: operation.begin)))
                raise Violation(LINEARIZABLE, f"no order explains what was seen of {key}:\n{lines}")

    def _history(self, write: ClientWrite, checker: Checker) -> Iterator[tuple[str, linearizability.Operation]]:
        """A write without an answer counts by whether it ran, and had its effect at the latest when it was applied."""
        results, end = write.results, write.end
        if results is None:
            ran = checker.writes.get(write.name)
            if ran is None:
                return
            attempt = checker.attempts[ran]
            # A single put without conditions always succeeds; its results are among those of others.
            results, end = decode_results(attempt.results) if attempt.results else [1], attempt.applied_s
        for command, result in zip(write.commands, results, strict=True):
            basis = linearizability.Operation(name=write.name, begin=write.begin, end=end)
            if isinstance(command, Batch):
                if isinstance(result, int):
                    yield from self._batch(command.ops, basis)
            else:
                yield from self._single(command, result, basis)

    def _single(
        self, command: Put | Delete, result: Any, basis: linearizability.Operation
    ) -> Iterator[tuple[str, linearizability.Operation]]:
        if isinstance(result, NotFound):
            yield command.key, replace(basis, sees=True, saw=None)
        elif isinstance(result, int):
            if isinstance(command, Delete):
                yield command.key, replace(basis, sees_something=True, sets=True, set=None)
                return
            if command.if_absent:
                basis = replace(basis, sees=True, saw=None)
            elif command.if_revision is not None:
                basis = replace(basis, sees=True, saw=self.values[command.key, command.if_revision])
            yield command.key, replace(basis, sets=True, set=command.value)

    def _batch(
        self, operations: Sequence[Operation], basis: linearizability.Operation
    ) -> Iterator[tuple[str, linearizability.Operation]]:
        for operation in operations:
            if isinstance(operation, Put):
                yield operation.key, replace(basis, sets=True, set=operation.value)
            elif isinstance(operation, Delete):
                yield operation.key, replace(basis, sets=True, set=None)
            else:
                saw = None if operation.revision is None else self.values[operation.key, operation.revision]
                yield operation.key, replace(basis, sees=True, saw=saw)


def replace_put(put: Put, *, if_absent: bool = False, if_revision: int | None = None) -> Put:
    return Put(put.key, put.value, if_revision=if_revision, if_absent=if_absent)
