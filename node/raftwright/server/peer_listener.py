"""The listener for other members: an aiohttp application behind the limits of the clients' one, with room of its own.

`server/node.py` starts it. Rule: nothing that clients do takes a connection from a member.
"""

from aiohttp import web

from raftwright.server.addresses import parse_address
from raftwright.server.limits import GuardedServer, Limits
from raftwright.server.listening import EVERY_ADDRESS, every_address
from raftwright.server.metrics import Metrics
from raftwright.server.peers import PeerTransport
from raftwright.server.settings import NodeSettings


class GuardedRunner(web.AppRunner):
    """As aiohttp's own, with every connection behind `limits`."""

    __slots__ = ("_guarded", "_limits", "_metrics")

    def __init__(self, app: web.Application, *, limits: Limits, metrics: Metrics, shutdown_timeout: float) -> None:
        super().__init__(app, access_log=None, shutdown_timeout=shutdown_timeout)
        self._limits = limits
        self._metrics = metrics
        self._guarded: GuardedServer | None = None

    async def _make_server(self) -> web.Server:
        made = await super()._make_server()
        self._guarded = GuardedServer(
            made.request_handler,
            limits=self._limits,
            metrics=self._metrics,
            request_factory=made.request_factory,
        )
        self._guarded.start_sweeps()
        return self._guarded

    async def _cleanup_server(self) -> None:
        if self._guarded is not None:
            self._guarded.stop_sweeps()
        await super()._cleanup_server()


def peer_limits_of(settings: NodeSettings) -> Limits:
    """The bounds of the members' listener: no reserve, since no health check comes here."""
    return Limits(
        connections_max=settings.peer_connections_max,
        connections_per_address_max=settings.peer_connections_max,
        connections_reserved=0,
        head_timeout_s=settings.request_head_timeout_s,
        head_bytes_max=settings.request_head_bytes_max,
        keep_alive_timeout_s=settings.keep_alive_timeout_s,
        body_rate_min=settings.body_rate_bytes_per_s_min,
    )


async def listen_to_peers(settings: NodeSettings, transport: PeerTransport) -> web.AppRunner:
    """Start the listener; OSError where the address is taken or not ours. `cleanup` of the runner ends it."""
    application = web.Application()
    application.add_routes(transport.routes())
    application.on_shutdown.append(lambda _: transport.hang_up())
    # Counters of its own: those of the node are about clients.
    limits = peer_limits_of(settings)
    runner = GuardedRunner(application, limits=limits, metrics=Metrics(), shutdown_timeout=1.0)
    await runner.setup()
    host, port = parse_address(settings.peer_listen, port_min=0)
    opened = every_address(port) if host == EVERY_ADDRESS else None
    await (web.TCPSite(runner, host, port) if opened is None else web.SockSite(runner, opened)).start()
    return runner
