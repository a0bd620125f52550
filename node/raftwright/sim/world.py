"""Virtual time: what happens next, the one source of chance, and the trace of all that happened.

Every part of the simulator schedules here. Its one rule: nothing reads a real clock, and order depends on the seed
alone: events of one instant run in the order in which they were scheduled.
"""

import heapq
from collections import Counter, deque
from collections.abc import Callable
from hashlib import blake2b
from random import Random
from typing import Any


class Violation(Exception):
    """A property that must always hold does not. `rule` names it."""

    def __init__(self, rule: str, detail: str) -> None:
        super().__init__(f"{rule}: {detail}")
        self.rule = rule
        self.detail = detail


class World:
    """One run's time, chance and trace."""

    def __init__(self, seed: int, *, say: Callable[[str], None] | None = None, lines_kept: int = 60) -> None:
        self.seed = seed
        self.random = Random(seed)
        self.now = 0.0
        """Virtual seconds."""
        self.events = 0
        self.counts: Counter[str] = Counter()
        """What happened how often: the coverage of a run."""
        self.lines: deque[str] = deque(maxlen=lines_kept)
        """The end of the trace."""
        self._say = say
        self._digest = blake2b(digest_size=16)
        self._queue: list[tuple[float, int, Callable[..., object], tuple[Any, ...]]] = []
        self._number = 0

    def at(self, time: float, action: Callable[..., object], *arguments: Any) -> None:
        self._number += 1
        heapq.heappush(self._queue, (max(time, self.now), self._number, action, arguments))

    def after(self, delay: float, action: Callable[..., object], *arguments: Any) -> None:
        self.at(self.now + delay, action, *arguments)

    def run_until(self, time: float, *, done: Callable[[], bool] | None = None) -> bool:
        """Let everything up to `time` happen, or until `done` says so. Returns whether it did."""
        queue = self._queue
        while queue and queue[0][0] <= time:
            if done is not None and done():
                return True
            self.now, _, action, arguments = heapq.heappop(queue)
            self.events += 1
            action(*arguments)
        if done is not None and done():
            return True
        self.now = max(self.now, time)
        return False

    def trace(self, line: str) -> None:
        line = f"{self.now:10.6f} {line}"
        self._digest.update(line.encode())
        self.lines.append(line)
        if self._say is not None:
            self._say(line)

    @property
    def digest(self) -> str:
        """Of the whole trace: equal if and only if the runs were equal."""
        return self._digest.hexdigest()

    def chance(self, probability: float) -> bool:
        return self.random.random() < probability
