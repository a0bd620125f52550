"""Clients of a simulated cluster: they write and read at any node, lose patience, retry, and write down what they saw.

`simulation.py` owns them. Rules: a client knows only what nodes answered; whoever has a session repeats a write of
unknown outcome under the same numbers, whoever has none never repeats it.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from raftwright.kv.commands import encode_command
from raftwright.server.blobs import Blob, Origin
from raftwright.server.driver import Driver
from raftwright.server.effects import Answer, ReadDone
from raftwright.server.errors import IdempotencyConflict, ServiceError, SessionExpired
from raftwright.server.writes import Write
from raftwright.sim.checkers import Checker
from raftwright.sim.node import SimNode
from raftwright.sim.workload import ClientRead, ClientWrite, Workload
from raftwright.sim.world import Violation, World

ATTEMPTS_MAX = 12


@dataclass(slots=True, eq=False)
class Pending:
    """A request on its way: the token that the driver gives back."""

    name: str
    node: int
    """The place of the machine that was asked."""
    on_result: Callable[[bytes | None, Any], None]
    """Encoded results, or the decoded result of a single command."""
    on_error: Callable[[str, ServiceError | None], None]
    """Outcome and error; None: the connection was lost."""


@dataclass(slots=True)
class Session:
    id: bytes
    next_seq: int = 1
    waiting: set[int] = field(default_factory=set)
    """First numbers that are not answered yet."""
    known: bool = False
    """A write of it was acknowledged."""

    @property
    def acked_below(self) -> int:
        return min(self.waiting, default=self.next_seq)


class Clients:
    """All clients, and what they wait for."""

    def __init__(
        self,
        world: World,
        nodes: Sequence[SimNode],
        checker: Checker,
        workload: Workload,
        *,
        request_timeout_s: float,
        clocks_jump: bool = False,
    ) -> None:
        self.world = world
        self.nodes = nodes
        self.checker = checker
        self.workload = workload
        self.request_timeout_s = request_timeout_s
        self.clocks_jump = clocks_jump
        """Nobody can tell for how long a retry that may open its session is safe, so there is none."""
        self._pending: dict[int, dict[str, Pending]] = {node.place: {} for node in nodes}
        self._count = 0
        for node in nodes:
            node.on_answer = self._on_answer
            node.on_read = partial(self._on_read, node)
            node.on_down = self._on_down

    def next_name(self, kind: str) -> str:
        self._count += 1
        return f"{kind}{self._count}"

    @property
    def waiting(self) -> int:
        return sum(map(len, self._pending.values()))

    def expect(self, pending: Pending) -> None:
        self._pending[pending.node][pending.name] = pending

    def forget(self, pending: Pending) -> bool:
        """False if it was answered, or given up, before."""
        return self._pending[pending.node].pop(pending.name, None) is pending

    def _on_down(self, node: SimNode) -> None:
        lost = list(self._pending[node.place].values())
        self._pending[node.place].clear()
        for pending in lost:
            pending.on_error("unknown", None)

    def _on_answer(self, answer: Answer) -> None:
        if isinstance(answer.token, list):
            results = answer.results or [None] * len(answer.token)
            if answer.error is None and answer.results is None:
                results = self.workload.decode(answer.encoded or b"")
            for token, result in zip(answer.token, results, strict=True):
                self._settle(token, answer.error, None, result)
        else:
            self._settle(answer.token, answer.error, answer.encoded, None)

    def _settle(self, pending: Pending, error: ServiceError | None, encoded: bytes | None, result: Any) -> None:
        if not self.forget(pending):
            return
        if error is None:
            pending.on_result(encoded, result)
        else:
            self.world.counts[f"{error.kind}, outcome {error.outcome}"] += 1
            pending.on_error(error.outcome, error)

    def _on_read(self, node: SimNode, done: ReadDone) -> None:
        for pending in done.tokens:
            if self.forget(pending):
                if done.error is None:
                    pending.on_result(None, node)
                else:
                    self.world.counts[f"read failed: {done.error.kind}"] += 1
                    pending.on_error("none", done.error)


class Client:
    """One client: thinks, asks, waits; up to `window` requests at once."""

    def __init__(self, clients: Clients, *, think_time_s: float, with_session: bool, window: int) -> None:
        self.clients = clients
        self.world = clients.world
        self.think_time_s = think_time_s
        self.with_session = with_session
        self.window = window
        self.session: Session | None = None
        self.stopped = False
        self.busy = 0

    def start(self) -> None:
        for _ in range(self.window):
            self._think()

    def _think(self) -> None:
        self.world.after(self.world.random.expovariate(1 / self.think_time_s), self._act)

    def _act(self) -> None:
        if self.stopped:
            return
        node = self._any_node()
        if node is None:
            self._think()
        elif self.world.chance(0.4):
            self._read(node)
        else:
            self.write(self.clients.workload.next_write(self.clients.next_name("w")), node)

    def _any_node(self) -> SimNode | None:
        """One that takes connections: it may be paused, or cut off from the others."""
        up = [node for node in self.clients.nodes if node.is_up]
        return self.world.random.choice(up) if up else None

    # Writes

    def write(self, write: ClientWrite, node: SimNode, on_done: Callable[[ClientWrite], None] | None = None) -> None:
        self.busy += 1
        write.begin = self.world.now
        write.on_done = on_done or (lambda _: self._think())
        if self.with_session:
            if self.session is None:
                self.session = Session(self.world.random.randbytes(16))
            write.session = self.session
            write.first_seq = self.session.next_seq
            self.session.next_seq += len(write.commands)
            self.session.waiting.add(write.first_seq)
        self._send(write, node)

    def _send(self, write: ClientWrite, node: SimNode | None = None) -> None:
        node = node or self._any_node()
        if node is None:
            self.world.after(0.05, self._send, write)
            return
        write.attempts += 1
        name = f"{write.name}/{write.attempts}"
        pending = Pending(
            name,
            node.place,
            on_result=partial(self._on_written, write, name),
            on_error=partial(self._on_failed, write, name),
        )
        self.clients.expect(pending)
        self.world.trace(f"client asks {node}: {name} {write.first_seq} {write.commands}")
        single = self.clients.workload.as_single(write, name) if not self.with_session else None
        node.submit(partial(self._submit, write, pending, node, single))
        if self.world.chance(0.05):
            self.world.after(self.world.random.uniform(0.005, 0.1), self._lose_patience, pending)

    def _submit(self, write: ClientWrite, pending: Pending, node: SimNode, single: Any, driver: Driver) -> None:
        try:
            if single is not None:
                driver.write_one(single, encode_command(single), pending)
            else:
                blob = Blob(self._origin(write, pending.name), self.clients.workload.encode(write.commands))
                deadline = node.clock + self.clients.request_timeout_s
                driver.write(Write(blob, list(write.commands), pending, deadline))
        except ServiceError as error:
            if self.clients.forget(pending):
                pending.on_error(error.outcome, error)

    def _origin(self, write: ClientWrite, name: str) -> Origin:
        session: Session | None = write.session
        if session is None:
            return Origin(count=len(write.commands), principal=name)
        return Origin(
            session=session.id,
            first_seq=write.first_seq,
            count=len(write.commands),
            acked_below=session.acked_below,
            opens=not session.known,
            principal=name,
        )

    def _lose_patience(self, pending: Pending) -> None:
        if self.clients.forget(pending):
            self.world.counts["client gave up waiting"] += 1
            pending.on_error("unknown", None)

    def _on_written(self, write: ClientWrite, name: str, encoded: bytes | None, result: Any) -> None:
        self.clients.checker.answered(name, "ok", encoded)
        self.world.counts["writes acknowledged"] += 1
        results = [result] if encoded is None else self.clients.workload.decode(encoded)
        self.world.trace(f"client has {name}: {results}")
        if write.session is not None:
            write.session.waiting.discard(write.first_seq)
            write.session.known = True
        self._finish(write, "ok", results)

    def _on_failed(self, write: ClientWrite, name: str, outcome: str, error: ServiceError | None) -> None:
        self.world.trace(f"client has {name}: {outcome} {error!r}")
        self.clients.checker.answered(name, outcome, None)
        self.world.counts[f"attempts with outcome {outcome}"] += 1
        if isinstance(error, IdempotencyConflict):
            raise Violation("sessions", f"{name} is taken for another request")
        write.uncertain = write.uncertain or outcome == "unknown"
        if isinstance(error, SessionExpired):
            self.session = None
        elif write.session is not None and self._may_retry(write):
            self.world.counts["retries under a session"] += 1
            self.world.after(self.world.random.uniform(0.01, 0.1), self._send, write)
            return
        if write.session is not None and write.session is self.session:
            self.session = None  # who gives a write up must not say later that it has the answer to all before
        self._finish(write, "unknown" if write.uncertain else "none", None)

    def _may_retry(self, write: ClientWrite) -> bool:
        may_run_again = self.clients.clocks_jump and write.uncertain and not write.session.known
        return write.attempts < ATTEMPTS_MAX and not self.stopped and not may_run_again

    def _finish(self, write: ClientWrite, outcome: str, results: list[Any] | None) -> None:
        self.busy -= 1
        write.end, write.outcome, write.results = self.world.now, outcome, results
        self.clients.workload.finished(write)
        write.on_done(write)

    # Reads

    def _read(self, node: SimNode) -> None:
        self.busy += 1
        read = ClientRead(name=self.clients.next_name("r"), key=self.clients.workload.any_key(), begin=self.world.now)
        pending = Pending(
            read.name, node.place, on_result=partial(self._on_read, read), on_error=partial(self._on_unread, read)
        )
        self.clients.expect(pending)
        node.submit(partial(self._submit_read, pending, node, self.world.chance(0.5)))

    def _submit_read(self, pending: Pending, node: SimNode, by_lease: bool, driver: Driver) -> None:
        try:
            if by_lease and driver.holds_lease(node.clock):
                self.world.counts["reads by lease"] += 1
                if self.clients.forget(pending):
                    pending.on_result(None, node)
            else:
                driver.read(pending, node.clock)
        except ServiceError as error:
            if self.clients.forget(pending):
                pending.on_error(error.outcome, error)

    def _on_read(self, read: ClientRead, _: bytes | None, node: SimNode) -> None:
        self.world.counts["reads answered"] += 1
        read.end = self.world.now
        self.clients.workload.saw(read, node.state.machine)
        self.world.trace(f"client reads at {node}: {read.key} {read.revision} {read.value!r}")
        self.busy -= 1
        self._think()

    def _on_unread(self, read: ClientRead, outcome: str, error: ServiceError | None) -> None:
        self.world.trace(f"client has {read.name}: {error!r}")
        self.busy -= 1
        self._think()
