"""Clients that write and read all the time, and remember everything that they were told.

`with Load(endpoint) as load:` runs them in a thread of their own; `load.verdict()` stops them, reads all back, and
checks it. Used by tests and the report. Its one rule: what a client was told must be true: no acknowledged write is
lost, and the history of each key is linearizable.
"""

import asyncio
import contextlib
import itertools
import secrets
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from types import TracebackType
from typing import Self

from raftwright.client.client import Client
from raftwright.client.errors import RaftwrightError
from raftwright.sim.linearizability import Operation, is_linearizable

PACE_S = 0.02
"""Between two operations of one client: the cores are needed for the cluster."""
OPERATION_TIMEOUT_S = 60.0
KEY_OPERATIONS = 60
"""After so many operations, or one whose outcome is unknown, clients go on with a new key: histories stay short."""
PAUSE_S = 0.1
"""A shorter one is none: there are several times as many writes in it when nothing is wrong."""
PROGRESS_S = 60.0
"""No pause may be longer."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """What a load saw."""

    acknowledged: int
    unknown: int
    """Writes that may or may not have happened."""
    longest_pause_s: float
    """Between two acknowledged writes."""
    paused_s: float
    """All such pauses of a tenth of a second or longer, together."""

    def __str__(self) -> str:
        return (
            f"{self.acknowledged} acknowledged writes, {self.unknown} of unknown outcome, "
            f"longest pause {self.longest_pause_s:.2f} s, {self.paused_s:.2f} s in all"
        )


def _nothing() -> None:
    """There is nothing to abandon yet."""


@dataclass(slots=True, eq=False)
class _Register:
    """A key that two clients write and read."""

    pair: int
    key: str
    history: list[Operation] = field(default_factory=list)
    full: bool = False


class Load:
    """Two pairs of clients: each client of a pair writes keys of its own, and a register which the pair shares."""

    def __init__(self, *endpoints: str, pairs: int = 2) -> None:
        self._endpoints, self._pairs = endpoints, pairs
        self._name = secrets.token_hex(4)
        """Keys begin with it: what another load wrote before is none of this one's."""
        self._acknowledged: dict[str, bytes] = {}
        self._times: list[float] = []
        self._unknown = 0
        self._registers: list[_Register] = []
        self._missing: list[str] = []
        self._stopping = threading.Event()
        self._failure: BaseException | None = None
        self._thread = threading.Thread(target=self._main, name="load")
        self._abandon: Callable[[], None] = _nothing

    def __enter__(self) -> Self:
        self._thread.start()
        self.await_progress()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is not None:
            self._abandon()
        self._stop()

    @property
    def acknowledged(self) -> int:
        """Writes so far."""
        return len(self._times)

    def await_progress(self, *, within_s: float = PROGRESS_S) -> float:
        """Until a write is acknowledged that ended after this call; returns how long that took, in seconds."""
        begin, seen = time.monotonic(), self.acknowledged
        while self.acknowledged == seen and self._failure is None:
            if time.monotonic() - begin > within_s:
                raise AssertionError(f"no write was acknowledged for {within_s} s")
            time.sleep(0.01)
        if self._failure is not None:
            raise AssertionError(f"the load failed: {self._failure!r}") from self._failure
        return time.monotonic() - begin

    def verdict(self) -> Verdict:
        """Stops the clients. AssertionError if an acknowledged write is lost, a key's history is not linearizable, or
        writes stood still for a minute."""
        self._stop()
        if self._failure is not None:
            raise AssertionError(f"the load failed: {self._failure!r}") from self._failure
        assert not self._missing, f"acknowledged writes are lost: {self._missing[:5]} ({len(self._missing)} in all)"
        for register in self._registers:
            assert is_linearizable(register.history), f"{register.key} is not linearizable: {register.history}"
        pauses = [after - before for before, after in itertools.pairwise(self._times)]
        longest = max(pauses, default=0.0)
        assert longest < PROGRESS_S, f"no write was acknowledged for {longest:.1f} s"
        paused = sum(pause for pause in pauses if pause >= PAUSE_S)
        return Verdict(len(self._acknowledged), self._unknown, longest, paused)

    def _stop(self) -> None:
        self._stopping.set()
        self._thread.join(2 * OPERATION_TIMEOUT_S)
        assert not self._thread.is_alive(), "the load does not end"

    # In the thread

    def _main(self) -> None:
        try:
            asyncio.run(self._run())
        except asyncio.CancelledError:
            self._failure = AssertionError("the test failed before")
        except BaseException as error:
            self._failure = error

    async def _run(self) -> None:
        task, loop = asyncio.current_task(), asyncio.get_running_loop()
        assert task is not None

        def abandon() -> None:
            with contextlib.suppress(RuntimeError):  # It has ended.
                loop.call_soon_threadsafe(task.cancel)

        self._abandon = abandon
        # `discover` is off: what nodes tell of each other are names inside the cluster.
        async with asyncio.TaskGroup() as tasks:
            for pair in range(self._pairs):
                shared = [self._register(pair, 0)]
                for half in range(2):
                    tasks.create_task(self._client(f"{pair}{'ab'[half]}", shared))
        async with Client(self._endpoints, discover=False, timeout_s=OPERATION_TIMEOUT_S) as client:
            found = {item.key: item.value async for item in client.scan(f"{self._name}/written/")}
        self._missing = [key for key, value in self._acknowledged.items() if found.get(key) != value]

    async def _client(self, name: str, registers: list[_Register]) -> None:
        async with Client(self._endpoints, discover=False, timeout_s=OPERATION_TIMEOUT_S) as client:
            for number in itertools.count():
                if self._stopping.is_set():
                    return
                await self._write(client, f"{self._name}/written/{name}/{number:06}", f"{name}:{number}".encode())
                await self._use(client, registers, f"{name}:{number}", writes=number % 2 == 0)
                await asyncio.sleep(PACE_S)

    async def _write(self, client: Client, key: str, value: bytes) -> None:
        try:
            await client.put(key, value)
        except RaftwrightError as error:
            self._unknown += error.outcome == "unknown"
        else:
            self._acknowledged[key] = value
            self._times.append(time.monotonic())

    def _register(self, pair: int, number: int) -> _Register:
        self._registers.append(register := _Register(pair, f"{self._name}/register/{pair}/{number}"))
        return register

    async def _use(self, client: Client, registers: list[_Register], name: str, *, writes: bool) -> None:
        """One operation on the newest register of a pair."""
        register = registers[-1]
        if register.full:
            register = self._register(register.pair, len(registers))
            registers.append(register)
        begin = time.monotonic()
        try:
            if writes:
                value = name.encode()
                await client.put(register.key, value)
                register.history.append(Operation(name=name, begin=begin, end=time.monotonic(), sets=True, set=value))
            else:
                found = await client.get(register.key)
                seen = found.value if found else None
                register.history.append(Operation(name=name, begin=begin, end=time.monotonic(), sees=True, saw=seen))
        except RaftwrightError as error:
            if writes and error.outcome == "unknown":
                self._unknown += 1
                register.history.append(
                    Operation(name=name, begin=begin, end=float("inf"), sets=True, set=name.encode(), certain=False)
                )
                register.full = True
        register.full = register.full or len(register.history) >= KEY_OPERATIONS
