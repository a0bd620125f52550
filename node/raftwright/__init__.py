"""Raftwright: a Raft service for Kubernetes and a Raft library.

`raftwright.Client`, `raftwright.Node` and what belongs to them are here, loaded when they are first asked for.
"""

import importlib
from typing import TYPE_CHECKING, Any

from raftwright.version import __version__

if TYPE_CHECKING:
    from raftwright.client.client import Client
    from raftwright.client.errors import (
        ClientClosed,
        CommandFailed,
        DiskFull,
        IdempotencyConflict,
        InvalidRequest,
        MembershipRefused,
        NotFound,
        OutcomeUnknown,
        PreconditionFailed,
        QueryFailed,
        RaftwrightError,
        SessionExpired,
        StoreKept,
        Timeout,
        TooLarge,
        TooManyRequests,
        Unavailable,
    )
    from raftwright.client.results import Item, Value
    from raftwright.kv.commands import Compare, Delete, Put
    from raftwright.machine.base import StateMachine
    from raftwright.machine.registry import command
    from raftwright.server.embedded import Node
    from raftwright.server.feeds import LeaderChange, SnapshotChange
    from raftwright.server.machine import ApplyContext
    from raftwright.server.policies import SnapshotPolicy

_LIBRARY = {
    "ApplyContext": "raftwright.server.machine",
    "LeaderChange": "raftwright.server.feeds",
    "Node": "raftwright.server.embedded",
    "SnapshotChange": "raftwright.server.feeds",
    "SnapshotPolicy": "raftwright.server.policies",
    "StateMachine": "raftwright.machine.base",
    "command": "raftwright.machine.registry",
}
"""What embedding a node takes, and where it is."""

__all__ = [
    "ApplyContext",
    "Client",
    "ClientClosed",
    "CommandFailed",
    "Compare",
    "Delete",
    "DiskFull",
    "IdempotencyConflict",
    "InvalidRequest",
    "Item",
    "LeaderChange",
    "MembershipRefused",
    "Node",
    "NotFound",
    "OutcomeUnknown",
    "PreconditionFailed",
    "Put",
    "QueryFailed",
    "RaftwrightError",
    "SessionExpired",
    "SnapshotChange",
    "SnapshotPolicy",
    "StateMachine",
    "StoreKept",
    "Timeout",
    "TooLarge",
    "TooManyRequests",
    "Unavailable",
    "Value",
    "__version__",
    "command",
]


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module 'raftwright' has no attribute {name!r}")
    home = _LIBRARY.get(name)
    if home is not None:
        return getattr(importlib.import_module(home), name)
    from raftwright.client import client, errors, results
    from raftwright.kv import commands

    return next(getattr(module, name) for module in (client, errors, results, commands) if hasattr(module, name))
