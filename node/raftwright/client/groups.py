"""Operations on their way, and the groups that they travel in.

Made and moved by `session.py`. Rule: what a group is never changes once it was sent; only how far it came does.
"""

from asyncio import Future
from typing import Any, NamedTuple

from raftwright.client.errors import (
    DiskFull,
    RaftwrightError,
    Timeout,
    TooLarge,
    TooManyRequests,
    Unavailable,
)
from raftwright.client.models import Consistency, Welcome
from raftwright.client.results import copy_of

FRAME_OVERHEAD_BYTES = 256
WINDOW_BYTES_MAX = 2 * 1024 * 1024
"""How far a session runs ahead of its oldest write without an answer: half of what the cluster surely keeps."""
WINDOW_BYTES_A_GROUP = 1024
WINDOW_BYTES_AN_OPERATION = 24


class Operation(NamedTuple):
    """One operation: who waits, until when, and what it is."""

    future: "Future[Any]"
    deadline: float
    """By the loop's clock, in seconds."""
    key: str
    """Empty for a batch."""
    encoded: bytes
    """A command for a blob; empty for a read."""
    value_bytes: int = 0
    consistency: Consistency = Consistency.LINEARIZABLE
    max_staleness_s: float | None = None
    min_index: int = 0


class Group:
    """Operations that travel together. Writes have one blob and one range of numbers, the same in every attempt."""

    __slots__ = (
        "blob",
        "first_sent_at",
        "first_seq",
        "frame_id",
        "is_writes",
        "moves",
        "operations",
        "trouble",
        "uncertain",
        "window_begin",
    )

    def __init__(self, operations: list[Operation], *, is_writes: bool) -> None:
        self.operations = operations
        self.is_writes = is_writes
        self.first_seq = 0
        self.blob = b""
        self.window_begin = 0
        """Where it begins in the session's window, by `window_cost`."""
        self.frame_id: int | None = None
        """The frame that it is in on the present connection; None while it is not on its way."""
        self.first_sent_at = float("inf")
        self.uncertain = False
        """An earlier attempt may have happened: no failure of a write is `none` any more."""
        self.moves = 0
        """How often a node refused it for what that node is, so that another one is asked."""
        self.trouble: RaftwrightError | None = None
        """Why the last attempt did not do."""

    @property
    def window_cost(self) -> int:
        """About how many bytes the cluster keeps to know this group again."""
        return WINDOW_BYTES_A_GROUP + WINDOW_BYTES_AN_OPERATION * len(self.operations)

    @property
    def is_wanted(self) -> bool:
        """Whether anyone still waits for it."""
        return any(not operation.future.done() for operation in self.operations)

    @property
    def may_have_happened(self) -> bool:
        return self.is_writes and (self.uncertain or self.frame_id is not None)

    def fail(self, error: RaftwrightError) -> None:
        """Give everyone who still waits this error."""
        for operation in self.operations:
            if not operation.future.done():
                operation.future.set_exception(copy_of(error))

    def out_of_time(self, disconnected: RaftwrightError | None) -> RaftwrightError:
        """The error for an operation whose time is up: what kept it, and whether it may have happened. `disconnected`
        is why there is no connection now."""
        outcome = "unknown" if self.may_have_happened else "none"
        if self.frame_id is None and isinstance(self.trouble, TooManyRequests | Unavailable | DiskFull):
            error = copy_of(self.trouble)
            error.outcome = "unknown" if self.may_have_happened else "none"
            return error
        last = disconnected or self.trouble
        because = f"; last: {last}" if last else ""
        return Timeout(f"no answer came in time{because}", outcome="unknown" if outcome == "unknown" else "none")


def too_large(operation: Operation, limits: Welcome) -> TooLarge | None:
    """Why a node would refuse an operation for its size. It would refuse the whole frame, so the client asks first."""
    key_bytes = len(operation.key) if operation.key.isascii() else len(operation.key.encode())
    if key_bytes > limits.key_bytes_max:
        return TooLarge(f"the key has {key_bytes:,} bytes; {limits.key_bytes_max:,} are allowed")
    if operation.key and operation.value_bytes > limits.value_bytes_max:
        return TooLarge(f"the value has {operation.value_bytes:,} bytes; {limits.value_bytes_max:,} are allowed")
    room = limits.frame_bytes_max - FRAME_OVERHEAD_BYTES
    if len(operation.encoded) > room:
        return TooLarge(f"the operation has {len(operation.encoded):,} bytes; a frame takes {room:,}")
    return None
