"""The listener for clients: from a request to its handler, and from whatever happened to a reply.

`server/node.py` starts and stops it. Rule: this is the one place where errors become replies, where permissions are
checked, and where requests are counted; no error leaves it, and no handler runs without it.
"""

import asyncio
import logging
import resource
from contextlib import suppress
from typing import cast

from aiohttp import WSCloseCode, web

from raftwright.client.models import CLUSTER_HEADER
from raftwright.server.addresses import parse_address
from raftwright.server.api import Api, Call, Route
from raftwright.server.authorize import ANONYMOUS, Permission, authorize
from raftwright.server.bodies import Bodies
from raftwright.server.errors import ServiceError, WrongCluster
from raftwright.server.limits import Admission, Connection, GuardedServer, Limits
from raftwright.server.listening import BACKLOG, EVERY_ADDRESS, every_address
from raftwright.server.metrics import Metrics
from raftwright.server.openapi import document
from raftwright.server.problems import (
    BodyTooSlow,
    MalformedRequest,
    MethodNotAllowed,
    NoSuchRoute,
    TooManyConnections,
    error_of_bug,
)
from raftwright.server.responses import Reply, problem_reply
from raftwright.server.routes.table import routes_of
from raftwright.server.service import Service
from raftwright.server.settings import NodeSettings
from raftwright.server.targets import decode_path, decode_query, split_target

_log = logging.getLogger(__name__)

_KEYS = "/v1/kv/"
_MEMBERS = "/v1/members/"
_KEY_PATH = "/v1/kv/{key}"
_FOR_PROBATION = frozenset({Permission.HEALTH, Permission.METRICS, Permission.STATUS})
"""What a connection beyond the most may ask for."""
_FILES_RESERVED = 256
"""File descriptors that are never given to clients: the log, snapshots, other members."""
_READING = frozenset({"GET", "HEAD", "OPTIONS"})


class ClientServer:
    """Serves the HTTP API and clients' streams for `service`, from `start` to `stop`."""

    def __init__(self, service: Service, settings: NodeSettings, metrics: Metrics) -> None:
        routes = routes_of(service.machine)
        self._api = Api(
            service=service,
            settings=settings,
            metrics=metrics,
            bodies=Bodies(settings.bodies_bytes_max, metrics),
            openapi=document(routes),
        )
        self._paths: dict[str, dict[str, Route]] = {}
        for route in routes:
            self._paths.setdefault(route.path, {})[route.method] = route
        self._keys = self._paths.pop(_KEY_PATH, {})
        self._counts = {route.name: metrics.add_route(route.name) for route in routes}
        self._other = metrics.add_route("other")
        self._server: GuardedServer | None = None
        self._listener: asyncio.Server | None = None

    @property
    def address(self) -> tuple[str, int]:
        """Where it listens, once started."""
        assert self._listener is not None
        name = self._listener.sockets[0].getsockname()
        return str(name[0]), int(name[1])

    @property
    def guarded(self) -> GuardedServer:
        """The connections, once started."""
        assert self._server is not None
        return self._server

    def use(self, settings: NodeSettings) -> None:
        """From now on; what is bounded once at the start stays as it is."""
        self._api.settings = settings

    async def start(self) -> None:
        """Listen. OSError where the address is taken or not ours."""
        settings = self._api.settings
        host, port = parse_address(settings.client_listen, port_min=0)
        self._server = GuardedServer(self._handle, limits=limits_of(settings), metrics=self._api.metrics)
        loop = asyncio.get_running_loop()
        if host == EVERY_ADDRESS:
            opened = every_address(port)
            self._listener = await loop.create_server(self._server, sock=opened, backlog=BACKLOG)
        else:
            self._listener = await loop.create_server(self._server, host, port, backlog=BACKLOG, reuse_address=True)
        self._server.start_sweeps()

    async def stop(self) -> None:
        """Take no more connections, close the streams, let requests finish for `shutdown_timeout_s`, and close."""
        if self._listener is None or self._server is None:
            return
        self._listener.close()
        goodbyes = (stream.close(WSCloseCode.GOING_AWAY, "this node is shutting down") for stream in self._api.streams)
        await asyncio.gather(*goodbyes, return_exceptions=True)
        self._server.pre_shutdown()  # after that a stream could not hear its client say goodbye
        await self._server.shutdown(self._api.settings.shutdown_timeout_s)
        self._server.stop_sweeps()
        await self._listener.wait_closed()
        self._listener = None

    async def _handle(self, request: web.BaseRequest) -> web.StreamResponse:
        method = request.method
        counts, is_write = self._other, method not in _READING
        response: web.StreamResponse
        try:
            path, query = split_target(request.raw_path)
            route, key = self._find(method, path)
            counts, is_write = self._counts[route.name], route.is_write
            authorize(ANONYMOUS, route.permission)
            if _on_probation(request) and route.permission not in _FOR_PROBATION:
                raise TooManyConnections("this connection may ask for the node's health and status only")
            self._check_cluster(request)
            call = Call(request, ANONYMOUS, key, decode_query(query, route.query_names) if query else {})
            response = await route.handler(self._api, call)
        except ServiceError as error:
            response = problem_reply(error, is_write=is_write)
            response.raft_index = error.index
            if isinstance(error, BodyTooSlow | MalformedRequest):
                response.force_close()  # where the next request begins is anybody's guess
        except ConnectionError:
            # the client is gone: there is nobody to tell, and aiohttp finds that out by itself
            response = problem_reply(MalformedRequest(), is_write=is_write)
        except Exception as error:
            response = problem_reply(error_of_bug(error), is_write=is_write)
        if isinstance(response, Reply):
            self._finish(request, response)
        counts[response.status // 100 - 1] += 1
        return response

    def _check_cluster(self, request: web.BaseRequest) -> None:
        wanted, own = request.headers.get(CLUSTER_HEADER), self._api.service.cluster_id
        if wanted is not None and own is not None and wanted != own:
            raise WrongCluster(f"this node is of the cluster {own}, and the request is for another")

    def _finish(self, request: web.BaseRequest, reply: Reply) -> None:
        service = self._api.service
        index = reply.raft_index or service.applied_index
        reply.header_text += f"X-Raft-Term: {service.term}\r\nX-Raft-Index: {index}\r\n"
        if _on_probation(request):
            reply.force_close()

    def _find(self, method: str, path: str) -> tuple[Route, str]:
        """The route, and the key or member of it."""
        if self._keys and path.startswith(_KEYS):
            methods, key = self._keys, decode_path(path[len(_KEYS) :])
        else:
            key = ""
            found = self._paths.get(path) or self._paths.get(decode_path(path))
            if found is None and path.startswith(_MEMBERS):
                name, slash, verb = path[len(_MEMBERS) :].partition("/")
                found, key = self._paths.get(f"{_MEMBERS}{{member}}{slash}{verb}"), decode_path(name)
            if found is None:
                raise NoSuchRoute("docs/api.md, or /v1/openapi.json, has the paths there are")
            methods = found
        route = methods.get("GET" if method == "HEAD" else method)
        if route is None:
            allowed = (*methods, "HEAD") if "GET" in methods else tuple(methods)
            raise MethodNotAllowed(f"This path takes {', '.join(allowed)}", allowed=allowed)
        return route, key


def _on_probation(request: web.BaseRequest) -> bool:
    return cast(Connection, request.protocol).admission is Admission.PROBATION


def limits_of(settings: NodeSettings) -> Limits:
    """The bounds of the clients' listener: no more connections than the process may have files."""
    connections_max = settings.connections_max
    files = _files_max()
    if files is not None and files - _FILES_RESERVED - settings.connections_reserved < connections_max:
        connections_max = max(16, files - _FILES_RESERVED - settings.connections_reserved)
        _log.warning(
            "this process may have %d files open, so at most %d connections are taken, not connections_max = %d:"
            " raise the limit (ulimit -n) for more",
            files,
            connections_max,
            settings.connections_max,
        )
    return Limits(
        connections_max=connections_max,
        connections_per_address_max=settings.connections_per_address_max,
        connections_reserved=settings.connections_reserved,
        head_timeout_s=settings.request_head_timeout_s,
        head_bytes_max=settings.request_head_bytes_max,
        keep_alive_timeout_s=settings.keep_alive_timeout_s,
        body_rate_min=settings.body_rate_bytes_per_s_min,
        frames_bytes_max=settings.streams_bytes_max,
    )


def _files_max() -> int | None:
    """The most files that this process may have open, after raising that as far as it is allowed to. None: no end."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != hard:
        with suppress(ValueError, OSError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
            soft = hard
    return None if soft == resource.RLIM_INFINITY else soft
