"""Routes about the node itself: its status, its health, its metrics, and the description of the API."""

from raftwright.server.api import Api, Call
from raftwright.server.metrics import CONTENT_TYPE
from raftwright.server.problems import NotReady
from raftwright.server.responses import JSON, Reply, json_reply


async def status(api: Api, call: Call) -> Reply:
    return json_reply(api.service.status())


async def livez(api: Api, call: Call) -> Reply:
    """The event loop turns: that is all that liveness means, whatever the quorum does."""
    return Reply(200, JSON, b'{"alive":true}')


async def readyz(api: Api, call: Call) -> Reply:
    reason = api.service.unready_reason()
    if reason is not None:
        raise NotReady(reason)
    return Reply(200, JSON, b'{"ready":true}')


async def metrics(api: Api, call: Call) -> Reply:
    return Reply(200, CONTENT_TYPE, api.metrics.exposition())


async def openapi(api: Api, call: Call) -> Reply:
    return Reply(200, JSON, api.openapi)
