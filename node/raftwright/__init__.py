"""Raftwright: a Raft service for Kubernetes and a Raft library.

`raftwright.Client` and what belongs to it are here, loaded when they are first asked for: a node needs none of it.
"""

from typing import TYPE_CHECKING, Any

from raftwright.version import __version__

if TYPE_CHECKING:
    from raftwright.client.client import Client
    from raftwright.client.errors import (
        ClientClosed,
        DiskFull,
        IdempotencyConflict,
        InvalidRequest,
        NotFound,
        OutcomeUnknown,
        PreconditionFailed,
        RaftwrightError,
        SessionExpired,
        Timeout,
        TooLarge,
        TooManyRequests,
        Unavailable,
    )
    from raftwright.client.results import Item, Value
    from raftwright.kv.commands import Compare, Delete, Put

__all__ = [
    "Client",
    "ClientClosed",
    "Compare",
    "Delete",
    "DiskFull",
    "IdempotencyConflict",
    "InvalidRequest",
    "Item",
    "NotFound",
    "OutcomeUnknown",
    "PreconditionFailed",
    "Put",
    "RaftwrightError",
    "SessionExpired",
    "Timeout",
    "TooLarge",
    "TooManyRequests",
    "Unavailable",
    "Value",
    "__version__",
]


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module 'raftwright' has no attribute {name!r}")
    from raftwright.client import client, errors, results
    from raftwright.kv import commands

    return next(getattr(module, name) for module in (client, errors, results, commands) if hasattr(module, name))
