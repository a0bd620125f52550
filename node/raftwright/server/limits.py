"""What aiohttp lacks: deadlines for heads and bodies, and caps on connections, heads and bodies.

`GuardedServer` stands between a listening socket and aiohttp's protocol; `server/http.py` makes one for clients, the
peers' listener one of its own, so that neither can use up the other's room. Rule: no timer and no task a connection:
one sweep looks at all of them, a slice at a time, and what it costs does not grow with what they send.
"""

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from enum import Enum
from typing import Any, cast

from aiohttp import web
from aiohttp.web_protocol import RequestHandler, _ErrInfo

from raftwright.server.metrics import Metrics
from raftwright.server.problems import BodyTooSlow, HeadTooLarge, HeadTooSlow, TooManyConnections, error_of_parser
from raftwright.server.responses import problem_reply, raw_problem

HEADERS_MAX = 64
RATE_WINDOW_S = 5.0
"""A body, or a response, must move at the least rate over each window of this length."""
LINGER_S = 1.0
"""How long the rest of a body is read after it was answered early, so that the answer is not lost in a reset."""
PROBATION_S = 1.0
"""How long a connection beyond the most may take for a request's head."""
SWEEP_S = 0.5
CONTROL_BYTES_MAX = 64
"""So little between two looks at a stream may be control frames, and does not count as part of a frame."""
SLICE = 256
"""Connections looked at in one go: about 50 microseconds."""


class Admission(Enum):
    TAKEN = 1
    PROBATION = 2
    """Within the reserve: health checks only."""
    REFUSED = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """Bounds of one listener. Times in seconds, sizes in bytes."""

    connections_max: int
    connections_per_address_max: int
    """0: as many as there may be in all."""
    connections_reserved: int
    head_timeout_s: float
    head_bytes_max: int
    keep_alive_timeout_s: float
    body_rate_min: float
    """Bytes a second."""
    frames_bytes_max: int = 1 << 62
    """Of frames of all streams that have arrived in part."""


class Doorman:
    """Counts connections, in all and by address, and says who may come in.

    Beyond the caps there is a reserve, on probation, of which no address gets more than a quarter: so a flood from
    one place does not keep out the health checks of another.
    """

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._taken: Counter[str] = Counter()
        self._reserve: Counter[str] = Counter()
        self.taken = 0
        self.in_reserve = 0

    def admit(self, address: str) -> Admission:
        """Counts the connection unless it is refused; `leave` uncounts it."""
        limits = self._limits
        cap = limits.connections_per_address_max
        if self.taken < limits.connections_max and (not cap or self._taken[address] < cap):
            self.taken += 1
            self._taken[address] += 1
            return Admission.TAKEN
        share = max(1, limits.connections_reserved // 4)
        if self.in_reserve < limits.connections_reserved and self._reserve[address] < share:
            self.in_reserve += 1
            self._reserve[address] += 1
            return Admission.PROBATION
        return Admission.REFUSED

    @property
    def held(self) -> set[str]:
        """Addresses that are remembered: only those with a connection."""
        return set(self._taken) | set(self._reserve)

    def leave(self, address: str, admission: Admission) -> None:
        counts = self._taken
        if admission is Admission.TAKEN:
            self.taken -= 1
        else:
            self.in_reserve -= 1
            counts = self._reserve
        counts[address] -= 1
        if not counts[address]:
            del counts[address]


class Phase(Enum):
    """What a connection is waiting for, as the sweep sees it."""

    NOTHING = 0
    HEAD = 1
    BODY = 2
    RESPONSE = 3


class Connection(RequestHandler):
    """aiohttp's protocol, that knows how much has arrived of what, and can be looked at by the sweep."""

    __slots__ = (
        "_address",
        "_head_bytes",
        "_mark",
        "_mark_bytes",
        "_mark_time",
        "_received",
        "_server",
        "admission",
        "frame_bytes",
    )

    def __init__(self, server: "GuardedServer", address: str, admission: Admission, **options: Any) -> None:
        super().__init__(server, **options)
        self._server = server
        self._address = address
        self.admission = admission
        self.frame_bytes = 0
        """Of a stream: what has arrived and was not taken yet, frames in part most of all."""
        self._received = 0
        self._head_bytes = 0
        self._mark: tuple[int, Phase] = (0, Phase.NOTHING)
        self._mark_time = 0.0
        self._mark_bytes = 0

    def data_received(self, data: bytes) -> None:
        # aiohttp waits for the next head exactly while there is a waiter: what arrives then and ends no head is
        # part of one.
        waits_for_head = self._waiter is not None and not self._messages
        count = self._request_count
        self._received += len(data)
        if self._payload_parser is not None:
            self.frame_bytes += len(data)
            self._server.stream_arrived(len(data))
        super().data_received(data)
        if not waits_for_head or self._request_count != count:
            self._head_bytes = 0
            if not waits_for_head and self._request_count != count:
                self._tell_of_broken_body()
            return
        self._head_bytes += len(data)
        if self._head_bytes > self._server.limits.head_bytes_max:
            self.end(raw_problem(HeadTooLarge()))

    def _tell_of_broken_body(self) -> None:
        """The parser's error waits behind the request whose body it broke, and that would wait for the body."""
        request = self._current_request
        if request is not None and not request.content.is_eof() and isinstance(self._messages[-1][0], _ErrInfo):
            self._give_up_body(request, web.RequestPayloadError("the body is not what its headers say"))

    def _give_up_body(self, request: web.BaseRequest, error: Exception) -> None:
        request.content.set_exception(error)
        request.content.feed_eof()  # so that nobody waits for the rest of it

    def frame_taken(self, size: int) -> None:
        """A whole frame of a stream, with a message of so many bytes, was taken."""
        self._forget_frames(min(self.frame_bytes, size + (6 if size < 126 else 8 if size < 65_536 else 14)))

    def _forget_frames(self, size: int) -> None:
        self.frame_bytes -= size
        self._server.frames_bytes -= size

    def cut(self) -> None:
        """End a stream that holds too much of frames in part."""
        self._forget_frames(self.frame_bytes)
        if self.transport is not None:
            self.transport.abort()

    def connection_lost(self, exc: BaseException | None) -> None:
        self._forget_frames(self.frame_bytes)
        super().connection_lost(exc)
        self._server.left(self._address, self.admission)

    def end(self, farewell: bytes) -> None:
        """Say why, and close."""
        if self.transport is not None and farewell:
            self.transport.write(farewell)
        self.force_close()

    def look(self, now: float) -> None:
        """Called by the sweep: give up what takes too long."""
        if 0 < self.frame_bytes <= CONTROL_BYTES_MAX:
            self._forget_frames(self.frame_bytes)  # the answers to pings, which no frame ends
        phase = self._phase()
        mark = (self._request_count, phase)
        if mark != self._mark:
            self._mark, self._mark_time, self._mark_bytes = mark, now, self._moved(phase)
        elif phase is not Phase.NOTHING:
            self._judge(phase, now - self._mark_time, now)

    def _phase(self) -> Phase:
        request = self._current_request
        if self.transport is None or self._payload_parser is not None:
            return Phase.NOTHING  # gone, or a stream, which has heartbeats
        if self._paused:
            return Phase.RESPONSE
        if request is None:
            fresh = self._request_count == 0 or self.admission is Admission.PROBATION
            return Phase.HEAD if self._waiter is not None and (fresh or self._head_bytes) else Phase.NOTHING
        return Phase.NOTHING if request.content.is_eof() or self._reading_paused else Phase.BODY

    def _moved(self, phase: Phase) -> int:
        """A number that grows with what arrived, or with what was sent."""
        if phase is Phase.RESPONSE and self.transport is not None:
            return -self.transport.get_write_buffer_size()
        return self._received

    def _judge(self, phase: Phase, elapsed: float, now: float) -> None:
        metrics, limits = self._server.metrics, self._server.limits
        if phase is Phase.HEAD:
            probation = self.admission is Admission.PROBATION
            if elapsed >= (min(PROBATION_S, limits.head_timeout_s) if probation else limits.head_timeout_s):
                metrics.heads_too_slow += 1
                self.end(raw_problem(HeadTooSlow()) if self._head_bytes else b"")
            return
        if elapsed < self._server.rate_window_s:
            return
        moved = self._moved(phase) - self._mark_bytes
        if moved >= limits.body_rate_min * elapsed:
            self._mark_time, self._mark_bytes = now, self._moved(phase)
        elif phase is Phase.BODY and self._current_request is not None:
            metrics.bodies_too_slow += 1
            self._give_up_body(self._current_request, BodyTooSlow())
        elif self.transport is not None:
            metrics.responses_too_slow += 1
            self.transport.abort()

    def handle_error(
        self,
        request: web.BaseRequest,
        status: int = 500,
        exc: BaseException | None = None,
        message: str | None = None,
    ) -> web.StreamResponse:
        """Only for what the parser could not read: the dispatcher lets no error out."""
        self._server.metrics.requests_malformed += 1
        response = problem_reply(error_of_parser(exc), is_write=True)
        response.force_close()
        return response


class _Door(asyncio.Protocol):
    """A connection's first protocol: refuses it at once, or hands it to a `Connection`."""

    def __init__(self, server: "GuardedServer") -> None:
        self._server = server

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._server.arrived(cast(asyncio.Transport, transport))


class GuardedServer(web.Server):
    """aiohttp's low-level server behind the limits. It is itself the protocol factory for `loop.create_server`."""

    def __init__(
        self,
        handler: Callable[[web.BaseRequest], Awaitable[web.StreamResponse]],
        *,
        limits: Limits,
        metrics: Metrics,
        **options: Any,
    ) -> None:
        super().__init__(handler, **options)
        self.limits = limits
        self.metrics = metrics
        self.rate_window_s = RATE_WINDOW_S
        self.frames_bytes = 0
        """Of frames of all streams that have arrived in part."""
        self.doorman = Doorman(limits)
        self._sweep_s = min(SWEEP_S, limits.head_timeout_s / 4, RATE_WINDOW_S / 4)
        self._to_see: list[RequestHandler] = []
        self._timer: asyncio.TimerHandle | None = None
        self._refusal = raw_problem(TooManyConnections())

    def __call__(self) -> asyncio.Protocol:  # type: ignore[override]  # a connection is taken once its address is known
        return _Door(self)

    def arrived(self, transport: asyncio.Transport) -> None:
        peer = transport.get_extra_info("peername")
        address = str(peer[0]) if isinstance(peer, tuple) else ""
        admission = self.doorman.admit(address)
        if admission is Admission.REFUSED:
            self.metrics.connections_refused += 1
            transport.write(self._refusal)
            transport.close()
            return
        self.metrics.connections_accepted += 1
        self.metrics.connections += 1
        connection = Connection(
            self,
            address,
            admission,
            loop=self._loop,
            access_log=None,
            keepalive_timeout=self.limits.keep_alive_timeout_s,
            lingering_time=LINGER_S,
            max_line_size=self.limits.head_bytes_max,
            max_field_size=self.limits.head_bytes_max,
            max_headers=HEADERS_MAX,
            auto_decompress=False,
        )
        transport.set_protocol(connection)
        connection.connection_made(transport)

    def stream_arrived(self, size: int) -> None:
        """Bytes of some stream's frame: over the bound of all, the stream that holds most is cut."""
        self.frames_bytes += size
        if self.frames_bytes > self.limits.frames_bytes_max:
            largest = max((cast(Connection, one) for one in self.connections), key=lambda one: one.frame_bytes)
            self.metrics.streams_cut += 1
            largest.cut()

    def left(self, address: str, admission: Admission) -> None:
        self.metrics.connections -= 1
        self.doorman.leave(address, admission)

    def start_sweeps(self) -> None:
        self._timer = self._loop.call_later(self._sweep_s, self._sweep)

    def stop_sweeps(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _sweep(self) -> None:
        if not self._to_see:
            self._to_see = self.connections
        now = self._loop.time()
        for connection in self._to_see[-SLICE:]:
            cast(Connection, connection).look(now)
        del self._to_see[-SLICE:]
        slices = len(self._to_see) // SLICE + 1
        self._timer = self._loop.call_later(self._sweep_s / slices if self._to_see else self._sweep_s, self._sweep)
