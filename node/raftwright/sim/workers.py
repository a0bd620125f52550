"""The threads of a simulated process: one for the log's disk, and as many beside it as there are jobs.

`glue.py` gives them work. Rules: a piece of work takes time and then happens at once; what was under way when power
goes has got anywhere between its begin and its end.
"""

from collections import deque
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any, Protocol

from raftwright.sim.world import World

Work = Callable[[], Any]
Job = Iterator[Work]
"""Yields the next piece of work each time that the one before is done."""


class Process(Protocol):
    """Whose threads they are."""

    world: World
    crash_at_write: bool

    def disk_time(self) -> float: ...

    def guarded(self, work: Work) -> Any:
        """Run it. What ends the process ends it here."""
        ...

    def when_running(self, action: Callable[[], None]) -> None: ...

    def poke(self) -> None: ...

    def crash_in_write(self) -> None: ...


class Workers:
    def __init__(self, process: Process) -> None:
        self._process = process
        self._world = process.world
        self.is_ended = False
        self._queue: deque[tuple[Work, Callable[[Any], None]]] = deque()
        self._writing: Work | None = None
        self._aside: dict[int, Work] = {}
        self._count = 0

    def end(self) -> list[Work]:
        """Nothing more happens. Returns what was under way."""
        self.is_ended = True
        return [*([self._writing] if self._writing is not None else []), *self._aside.values()]

    @property
    def is_writing(self) -> bool:
        return self._writing is not None

    # The thread of the log: one thing at a time, in order

    def on_disk(self, work: Work, then: Callable[[Any], None]) -> None:
        self._queue.append((work, then))
        if self._writing is None:
            self._next()

    def _next(self) -> None:
        work, then = self._queue.popleft()
        self._writing = work
        time = self._process.disk_time()
        if self._process.crash_at_write:
            self._world.after(time * self._world.random.random(), self._crash)
        self._world.after(time, self._done, work, then)

    def _crash(self) -> None:
        if not self.is_ended:
            self._process.crash_in_write()

    def _done(self, work: Work, then: Callable[[Any], None]) -> None:
        result = None if self.is_ended else self._process.guarded(work)
        if self.is_ended:  # by then, or by this very work
            return
        self._writing = None
        if self._queue:
            self._next()
        self._process.when_running(partial(self._finish, then, result))

    def _finish(self, then: Callable[[Any], None], result: Any) -> None:
        then(result)
        self._process.poke()

    # Beside it

    def spawn(self, job: Job) -> None:
        self._count += 1
        self._continue(self._count, job)

    def _continue(self, number: int, job: Job) -> None:
        work = next(job, None)
        if work is None:
            self._process.poke()
            return
        self._aside[number] = work
        self._world.after(self._process.disk_time(), self._piece_done, number, job, work)

    def _piece_done(self, number: int, job: Job, work: Work) -> None:
        if self.is_ended:
            return
        del self._aside[number]
        self._process.guarded(work)
        if not self.is_ended:
            self._process.when_running(partial(self._continue, number, job))
