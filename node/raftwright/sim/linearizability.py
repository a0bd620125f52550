"""Whether the history of one register, as clients saw it, can have been made by one copy of it (Wing and Gong 1993).

`workload.py` calls it for each key at the end of a run. Its one rule: it knows nothing of Raft; only when each
operation began, when it had ended, what it did and what it saw.
"""

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Operation:
    """It took effect at one moment between `begin` and `end`: found the register as it `saw` it, and left it `set`."""

    name: str
    begin: float
    end: float
    """Infinity for one that has not ended, or whose end nobody saw."""
    sees: bool = False
    saw: bytes | None = None
    """With `sees`: what was there. None: nothing."""
    sees_something: bool = False
    """It found a value, whichever."""
    sets: bool = False
    set: bytes | None = None
    """With `sets`: what it left. None: it deleted."""
    certain: bool = True
    """False: it may as well never have happened."""

    def fits(self, value: bytes | None) -> bool:
        if self.sees_something:
            return value is not None
        return not self.sees or value == self.saw


def is_linearizable(operations: Sequence[Operation]) -> bool:
    """Search for an order that keeps to time and explains every answer, remembering what was tried."""
    ordered = sorted(operations, key=lambda operation: (operation.begin, operation.end, operation.name))
    certain = sum(1 << number for number, operation in enumerate(ordered) if operation.certain)
    tried: set[tuple[int, bytes | None]] = set()
    stack: list[tuple[int, bytes | None]] = [(0, None)]
    while stack:
        done, value = stack.pop()
        if done & certain == certain:
            return True
        if (done, value) in tried:
            continue
        tried.add((done, value))
        stack += _steps(ordered, done, value)
    return False


def _steps(ordered: Sequence[Operation], done: int, value: bytes | None) -> list[tuple[int, bytes | None]]:
    """What may happen next: any operation that began before the first end among those that remain."""
    steps: list[tuple[int, bytes | None]] = []
    deadline = float("inf")
    number = (~done & (done + 1)).bit_length() - 1
    for position in range(number, len(ordered)):
        operation = ordered[position]
        if operation.begin > deadline:
            break
        if done >> position & 1:
            continue
        if operation.certain:
            deadline = min(deadline, operation.end)
        if operation.fits(value):
            steps.append((done | 1 << position, operation.set if operation.sets else value))
    # An operation that must come before `deadline` is only a candidate if it began before it.
    return [step for step in steps if ordered[_added(step[0], done)].begin <= deadline]


def _added(after: int, before: int) -> int:
    return (after ^ before).bit_length() - 1
