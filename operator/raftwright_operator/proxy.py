"""Nodes as seen from outside of the cluster: each gets a local address whose requests go through the API server.

Used where the operator runs on somebody's own machine. Rule: it listens on the loopback interface only, and passes on
what it gets without a look at it.
"""

import asyncio

import aiohttp
from aiohttp import web

from raftwright.client.models import CLUSTER_HEADER
from raftwright_operator.kube import Kube, Object, path_of
from raftwright_operator.names import CLIENT_PORT

BODY_BYTES_MAX = 4 * 1024 * 1024
PASSED_HEADERS = ("Content-Type", "If-Match", "ETag", "Retry-After", "X-Raft-Index", CLUSTER_HEADER)


class ProxyReach:
    """One local listener a pod, by namespace and name; it goes when the operator does."""

    is_direct = False

    def __init__(self, kube: Kube) -> None:
        self._kube = kube
        self._runners: dict[str, tuple[web.AppRunner, str]] = {}
        self._lock = asyncio.Lock()

    async def endpoint(self, pod: Object) -> str | None:
        if not pod["status"].get("podIP"):
            return None
        meta = pod["metadata"]
        path = path_of("Pod", meta["namespace"], f"{meta['name']}:{CLIENT_PORT}") + "/proxy"
        async with self._lock:
            if path not in self._runners:
                self._runners[path] = await self._listen(path)
            return self._runners[path][1]

    async def close(self) -> None:
        while self._runners:
            await self._runners.popitem()[1][0].cleanup()

    async def _listen(self, path: str) -> tuple[web.AppRunner, str]:
        async def passed_on(request: web.Request) -> web.Response:
            headers = {name: request.headers[name] for name in PASSED_HEADERS if name in request.headers}
            try:
                status, found, data = await self._kube.forward(
                    request.method, path + request.path, dict(request.query), headers, await request.read()
                )
            except (aiohttp.ClientError, OSError, TimeoutError) as error:
                return web.Response(status=502, text=f"the API server does not answer: {error!r}")
            passed = {name: found[name] for name in PASSED_HEADERS if name in found}
            return web.Response(status=status, body=data, headers=passed)

        app = web.Application(client_max_size=BODY_BYTES_MAX)
        app.router.add_route("*", "/{rest:.*}", passed_on)
        runner = web.AppRunner(app, access_log=None)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        host, port = runner.addresses[0][:2]
        return runner, f"{host}:{port}"
