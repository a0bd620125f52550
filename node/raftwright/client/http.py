"""The client's HTTP requests: pages of keys, the status of nodes, and whether one is ready.

Called by `client.py`, `stream.py` and the commands. Rule: only reads go this way, so any of it may be tried again.
"""

import base64
from typing import Any

import aiohttp
import msgspec
import orjson

from raftwright.client import models
from raftwright.client.errors import RETRIED_KINDS, RaftwrightError, Unavailable
from raftwright.client.results import Item, error_of_problem, kind_of_problem

CONNECT_TIMEOUT_S = 2.0
DNS_TTL_S = 1
IDLE_S = 0.25
"""How long a connection is kept for the next request. Who answered for nobody would do so again: behind the address of
a load balancer, only a new connection leads to another node, so a retry that waited longer makes one."""
QUOTED_BYTES_MAX = 120
"""Of an answer that is not a node's: enough to tell whose it is."""


class Page(msgspec.Struct, frozen=True):
    """A page of keys. `next` is where the following page starts; None: there is none."""

    items: list[Item]
    next: str | None
    revision: int
    index: int = 0
    """The newest log entry that it reflects."""


class Refused(Exception):
    """A node answered that it cannot serve this now; another one, or a later try, may."""

    def __init__(self, error: RaftwrightError, retry_after_s: float | None, leader: str | None) -> None:
        super().__init__(str(error))
        self.error = error
        self.retry_after_s = retry_after_s
        self.leader = leader


def new_session() -> aiohttp.ClientSession:
    """One for the whole life of a client, made on its event loop."""
    # A node that was moved keeps its name and has another address: what a name was is not remembered for long.
    connector = aiohttp.TCPConnector(ttl_dns_cache=DNS_TTL_S, keepalive_timeout=IDLE_S)
    timeout = aiohttp.ClientTimeout(total=None, sock_connect=CONNECT_TIMEOUT_S)
    return aiohttp.ClientSession(connector=connector, timeout=timeout)


async def fetch_status(http: aiohttp.ClientSession, endpoint: str, timeout_s: float) -> models.NodeStatus:
    """The status of the node at `endpoint`. Unavailable if it gives none."""
    data, _ = await _get(http, endpoint, "/v1/status", {}, timeout_s)
    try:
        return msgspec.json.decode(data, type=models.NodeStatus)
    except ValueError as error:
        raise Unavailable(f"{endpoint} does not answer as a Raftwright node does: {error}") from None


async def fetch_page(http: aiohttp.ClientSession, endpoint: str, query: dict[str, str], timeout_s: float) -> Page:
    """One page of `GET /v1/kv`. Refused or Unavailable where another try may help, else the problem's error."""
    data, index = await _get(http, endpoint, "/v1/kv", query, timeout_s)
    try:
        page = msgspec.json.decode(data, type=models.ListPage)
    except ValueError as error:
        raise Unavailable(f"{endpoint} does not answer as a Raftwright node does: {error}") from None
    return Page([_item(item) for item in page.items], page.next, page.revision, index)


async def discard_store(
    http: aiohttp.ClientSession, endpoint: str, store_id: str, timeout_s: float
) -> models.DiscardAnswer:
    """Of this very node. Raises what it refuses with, or Unavailable."""
    try:
        async with http.post(
            f"http://{endpoint}/v1/store/discard",
            data=msgspec.json.encode(models.DiscardRequest(store_id=store_id)),
            timeout=aiohttp.ClientTimeout(total=timeout_s),
        ) as answer:
            data = await answer.read()
            if answer.status == 200:
                return msgspec.json.decode(data, type=models.DiscardAnswer)
    except (aiohttp.ClientError, OSError, TimeoutError, msgspec.DecodeError) as error:
        raise Unavailable(f"{endpoint} gave no answer: {reason_of(error)}") from None
    failure = failure_of(endpoint, answer.status, data)
    raise failure.error if isinstance(failure, Refused) else failure


async def is_ready(http: aiohttp.ClientSession, endpoint: str, timeout_s: float = 1.0) -> bool:
    """Whether the node can serve a linearizable read."""
    try:
        await _get(http, endpoint, "/readyz", {}, timeout_s)
    except (RaftwrightError, Refused):
        return False
    return True


async def _get(
    http: aiohttp.ClientSession, endpoint: str, path: str, query: dict[str, str], timeout_s: float
) -> tuple[bytes, int]:
    """The body, and the index that it reflects."""
    try:
        async with http.get(
            f"http://{endpoint}{path}", params=query, timeout=aiohttp.ClientTimeout(total=timeout_s)
        ) as answer:
            data = await answer.read()
    except (aiohttp.ClientError, OSError, TimeoutError) as error:
        raise Unavailable(f"{endpoint} cannot be reached: {reason_of(error)}") from None
    if answer.status == 200:
        index = answer.headers.get("X-Raft-Index", "")
        return data, int(index) if index.isdecimal() else 0
    raise failure_of(endpoint, answer.status, data)


def failure_of(endpoint: str, status: int, data: bytes) -> Exception:
    """What an answer that is no success means: Refused where another try may help."""
    try:
        problem = msgspec.json.decode(data, type=models.Problem)
    except ValueError:
        said = data[:QUOTED_BYTES_MAX].decode(errors="replace")
        return Unavailable(f"{endpoint} does not answer as a Raftwright node does: status {status}, {said!r}")
    error = error_of_problem(problem)
    if kind_of_problem(problem) in RETRIED_KINDS:
        return Refused(error, problem.retry_after_s, problem.leader)
    return error


def _item(item: models.ListItem) -> Item:
    value = base64.b64decode(item.value) if item.encoding == "base64" else item.value.encode()
    return Item(item.key, value, item.revision)


def reason_of(error: BaseException) -> str:
    """Why a node could not be reached, in words."""
    if isinstance(error, aiohttp.ClientConnectorError):
        return error.os_error.strerror or str(error.os_error)
    return str(error) or ("it does not answer" if isinstance(error, TimeoutError) else type(error).__name__)


def to_json(value: Any) -> str:
    """A model as JSON text, indented, for people and scripts."""
    return orjson.dumps(msgspec.to_builtins(value), option=orjson.OPT_INDENT_2).decode()
