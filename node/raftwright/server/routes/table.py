"""Every route of the HTTP API, in one table: what it is called, who may use it, what it takes and answers.

`http.py` dispatches by it and `openapi.py` describes it; docs/api.md explains it. Rule: a route that is not here does
not exist, and nothing here is without a permission.
"""

from raftwright.client.models import (
    BatchRequest,
    DiscardAnswer,
    DiscardRequest,
    ListPage,
    MachineAnswer,
    NodeStatus,
    ProposeRequest,
    QueryRequest,
    SettingsAnswer,
    SettingsChange,
    SnapshotAnswer,
    WriteAnswer,
)
from raftwright.kv.store import KvMachine
from raftwright.server.api import Answer, Parameter, Route
from raftwright.server.authorize import Permission
from raftwright.server.machine import Machine
from raftwright.server.routes import batches, keys, lists, node, operations, stream
from raftwright.server.routes import machine as own
from raftwright.server.routes.members_table import MEMBER_ROUTES
from raftwright.server.routes.parameters import IDEMPOTENCY_KEY, IF_MATCH, IF_NONE_MATCH, READING

_WRITTEN = Answer(status=200, text="Committed and applied.", model=WriteAnswer)
_WRITE_PROBLEMS = (412, 413, 422, 429, 503, 504, 507)
_READ_PROBLEMS = (429, 503, 504)

ROUTES = (
    Route(
        method="PUT",
        path="/v1/kv/{key}",
        name="put",
        handler=keys.put_key,
        permission=Permission.WRITE,
        summary="Set a key to the body, whatever bytes it has.",
        answers=(_WRITTEN,),
        problems=(408, *_WRITE_PROBLEMS),
        parameters=(IF_MATCH, IF_NONE_MATCH, IDEMPOTENCY_KEY),
        body=bytes,
        is_write=True,
        serves="kv",
    ),
    Route(
        method="GET",
        path="/v1/kv/{key}",
        name="get",
        handler=keys.get_key,
        permission=Permission.READ,
        summary="The value of a key, with its revision as ETag.",
        answers=(Answer(status=200, text="The value.", model=bytes, media_type=keys.OCTETS),),
        problems=(404, *_READ_PROBLEMS),
        parameters=READING,
        serves="kv",
    ),
    Route(
        method="DELETE",
        path="/v1/kv/{key}",
        name="delete",
        handler=keys.delete_key,
        permission=Permission.WRITE,
        summary="Remove a key.",
        answers=(_WRITTEN,),
        problems=(404, *_WRITE_PROBLEMS),
        parameters=(IF_MATCH, IDEMPOTENCY_KEY),
        is_write=True,
        serves="kv",
    ),
    Route(
        method="GET",
        path="/v1/kv",
        name="list",
        handler=lists.list_keys,
        permission=Permission.READ,
        summary="One page of keys and values, in the order of keys.",
        answers=(Answer(status=200, text="The page.", model=ListPage),),
        problems=_READ_PROBLEMS,
        parameters=(
            Parameter(name="prefix", place="query", text="Only keys that begin with this."),
            Parameter(name="start", place="query", text="Only keys that are not less than this: `next` of a page."),
            Parameter(
                name="limit",
                place="query",
                text="At most so many items; a page of large values ends sooner.",
                schema={"type": "integer", "minimum": 1, "default": lists.LIMIT_DEFAULT},
            ),
            *READING,
        ),
        serves="kv",
    ),
    Route(
        method="POST",
        path="/v1/kv:batch",
        name="batch",
        handler=batches.batch,
        permission=Permission.WRITE,
        summary="Puts, deletes and compares as one command: one revision, all or nothing.",
        answers=(_WRITTEN,),
        problems=(408, *_WRITE_PROBLEMS),
        parameters=(IDEMPOTENCY_KEY,),
        body=BatchRequest,
        is_write=True,
        serves="kv",
    ),
    Route(
        method="GET",
        path="/v1/stream",
        name="stream",
        handler=stream.stream,
        permission=Permission.CONNECT,
        summary="The clients' stream: a WebSocket with binary frames.",
        answers=(Answer(status=101, text="Welcome to the stream; docs/api.md has its frames."),),
        problems=(426, 503),
        serves="kv",
    ),
    Route(
        method="POST",
        path="/v1/propose",
        name="propose",
        handler=own.propose,
        permission=Permission.WRITE,
        summary="A command of the node's own state machine: its result, once it is committed and applied.",
        answers=(Answer(status=200, text="What apply returned.", model=MachineAnswer),),
        problems=(408, 413, 422, 429, 503, 504, 507),
        parameters=(
            Parameter(name="command", place="query", text="The command's name, for a body that is no JSON."),
            IDEMPOTENCY_KEY,
        ),
        body=ProposeRequest,
        is_write=True,
        serves="own",
    ),
    Route(
        method="POST",
        path="/v1/query",
        name="query",
        handler=own.query,
        permission=Permission.READ,
        summary="A question to the node's own state machine.",
        answers=(Answer(status=200, text="What it answered.", model=MachineAnswer),),
        problems=(408, 413, 422, *_READ_PROBLEMS),
        parameters=READING,
        body=QueryRequest,
        serves="own",
    ),
    Route(
        method="GET",
        path="/v1/status",
        name="status",
        handler=node.status,
        permission=Permission.STATUS,
        summary="What this node is, and what it knows of its cluster.",
        answers=(Answer(status=200, text="The status.", model=NodeStatus),),
    ),
    Route(
        method="GET",
        path="/v1/settings",
        name="get_settings",
        handler=operations.get_settings,
        permission=Permission.SETTINGS_READ,
        summary="This node's settings, and which of them may change now.",
        answers=(Answer(status=200, text="The settings.", model=SettingsAnswer),),
    ),
    Route(
        method="PATCH",
        path="/v1/settings",
        name="change_settings",
        handler=operations.patch_settings,
        permission=Permission.SETTINGS_WRITE,
        summary="Change settings of this node until it is restarted: all that are named, or none.",
        answers=(Answer(status=200, text="The settings after it.", model=SettingsAnswer),),
        problems=(408, 413, 429),
        body=SettingsChange,
    ),
    Route(
        method="POST",
        path="/v1/snapshot",
        name="snapshot",
        handler=operations.take_snapshot,
        permission=Permission.SNAPSHOT,
        summary="Write a snapshot of this node's state now.",
        answers=(Answer(status=200, text="It is on disk.", model=SnapshotAnswer),),
        problems=(503, 504),
    ),
    Route(
        method="POST",
        path="/v1/store/discard",
        name="discard_store",
        handler=operations.discard_store,
        permission=Permission.STORE_DISCARD,
        summary="Set the store of a removed member aside, and begin a new one in its place.",
        answers=(Answer(status=200, text="The new store, which waits to be added.", model=DiscardAnswer),),
        problems=(408, 409, 413, 503, 507),
        body=DiscardRequest,
        is_write=True,
    ),
    Route(
        method="GET",
        path="/livez",
        name="livez",
        handler=node.livez,
        permission=Permission.HEALTH,
        summary="Whether the process lives; never depends on a quorum.",
        answers=(Answer(status=200, text="It lives."),),
    ),
    Route(
        method="GET",
        path="/readyz",
        name="readyz",
        handler=node.readyz,
        permission=Permission.HEALTH,
        summary="Whether this node can serve a linearizable read.",
        answers=(Answer(status=200, text="It can."),),
        problems=(503,),
    ),
    Route(
        method="GET",
        path="/metrics",
        name="metrics",
        handler=node.metrics,
        permission=Permission.METRICS,
        summary="Numbers for Prometheus.",
        answers=(Answer(status=200, text="Samples.", model=str, media_type="text/plain"),),
    ),
    Route(
        method="GET",
        path="/v1/openapi.json",
        name="openapi",
        handler=node.openapi,
        permission=Permission.DOCUMENTATION,
        summary="This description.",
        answers=(Answer(status=200, text="OpenAPI 3.1."),),
    ),
    *MEMBER_ROUTES,
)


def routes_of(machine: Machine) -> tuple[Route, ...]:
    """The routes that a node has with this state machine."""
    kind = "kv" if isinstance(machine, KvMachine) else "own"
    return tuple(route for route in ROUTES if route.serves in ("any", kind))
