"""What a route is, and what a handler is given.

`routes/` declares and implements the routes, `http.py` dispatches to them, `openapi.py` describes them: all three from
one table, `routes/table.py`. Rule: a handler reads its `Call`, asks the service, and returns a reply or raises a
ServiceError; it knows nothing of connections.
"""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Literal

from aiohttp import web

from raftwright.kv.store import KvMachine
from raftwright.server.authorize import Permission, Principal
from raftwright.server.bodies import Bodies
from raftwright.server.metrics import Metrics
from raftwright.server.problems import FieldInvalid
from raftwright.server.service import Service
from raftwright.server.settings import NodeSettings


@dataclass(slots=True, kw_only=True)
class Api:
    """What all handlers share."""

    service: Service
    settings: NodeSettings
    metrics: Metrics
    bodies: Bodies
    openapi: bytes = b""
    streams: set["Closable"] = field(default_factory=set)
    """Streams now open, so that a node that stops can close them."""

    @property
    def kv(self) -> KvMachine:
        """The store. Only for routes that `serves` gives to it."""
        machine = self.service.machine
        assert isinstance(machine, KvMachine)
        return machine


class Closable:
    """Something that is open as long as its client likes."""

    async def close(self, code: int, reason: str) -> None:
        raise NotImplementedError


@dataclass(slots=True)
class Call:
    """One request, taken apart."""

    request: web.BaseRequest
    principal: Principal
    key: str
    """The key, or the member, of the path, decoded; empty on routes without one."""
    query: dict[str, str]

    def chosen(self, name: str, allowed: tuple[str, ...]) -> str:
        """A query parameter that is one of `allowed`, of which the first is the default."""
        value = self.query.get(name)
        if value is None:
            return allowed[0]
        if value not in allowed:
            raise FieldInvalid(f"{name} is one of {', '.join(allowed)}", field=name)
        return value

    def switch(self, name: str) -> bool:
        """A query parameter that is `true` or `false`, the default."""
        return self.chosen(name, ("false", "true")) == "true"

    def number(self, name: str, default: int, low: int, high: int) -> int:
        value = self.query.get(name)
        if value is None:
            return default
        if not (value.isascii() and value.isdigit() and len(value) <= 10 and low <= int(value) <= high):
            raise FieldInvalid(f"{name} is a whole number from {low} to {high}", field=name)
        return int(value)


Handler = Callable[[Api, Call], Awaitable[web.StreamResponse]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Parameter:
    """A query parameter or a header, as OpenAPI describes it."""

    name: str
    place: str
    """`query` or `header`."""
    text: str
    schema: dict[str, object] = field(default_factory=lambda: {"type": "string"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """A success of a route: status, what it means, and the body: a struct of `client.models` or a media type."""

    status: int
    text: str
    model: type | None = None
    media_type: str = "application/json"
    or_model: type | None = None
    """Another body that it may have."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Route:
    method: str
    path: str
    """With `{key}` or `{member}` where that is."""
    name: str
    """Of the operation, in OpenAPI and in metrics."""
    handler: Handler
    permission: Permission
    summary: str
    answers: tuple[Answer, ...]
    problems: tuple[int, ...] = ()
    """Statuses of the problems that are special to it, beside those that any request may meet."""
    parameters: tuple[Parameter, ...] = ()
    body: type | None = None
    """A struct of `client.models`, `bytes`, or None."""
    is_write: bool = False
    serves: Literal["any", "kv", "own"] = "any"
    """Which state machine must run: any one, the key-value store, or a user's own."""

    @property
    def query_names(self) -> frozenset[str]:
        return frozenset(parameter.name for parameter in self.parameters if parameter.place == "query")
