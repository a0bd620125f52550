"""`GET /v1/stream`: from an HTTP request to a client's stream."""

from aiohttp import web

from raftwright.server.api import Api, Call
from raftwright.server.limits import Connection
from raftwright.server.problems import TooManyConnections, UpgradeRequired
from raftwright.server.stream import ClientStream

_CLOSE_TIMEOUT_S = 1.0


async def stream(api: Api, call: Call) -> web.StreamResponse:
    if len(api.streams) >= api.settings.streams_max:
        raise TooManyConnections("this node has too many streams")
    socket = web.WebSocketResponse(
        timeout=_CLOSE_TIMEOUT_S,
        heartbeat=api.settings.stream_heartbeat_s,
        compress=False,
        max_msg_size=api.settings.stream_frame_bytes_max,
    )
    if call.request.method != "GET" or not socket.can_prepare(call.request).ok:
        raise UpgradeRequired("ask for it with the headers of a WebSocket of version 13")
    socket.headers["X-Raft-Term"] = str(api.service.term)
    socket.headers["X-Raft-Index"] = str(api.service.applied_index)
    await socket.prepare(call.request)
    connection = call.request.protocol
    assert isinstance(connection, Connection)
    client = ClientStream(api, socket, call.principal, connection.frame_taken)
    api.streams.add(client)
    api.metrics.streams += 1
    try:
        await client.run()
    finally:
        api.streams.discard(client)
        api.metrics.streams -= 1
    return socket
