"""What a state machine is to the node: the contract that `kv` fulfils and that users' own machines will.

The driver and `server/state.py` call it. Its one rule: `apply` reads nothing but the machine's state, the commands
and the context; no clock, no setting, no environment, so that every node ends in the same state.
"""

from collections.abc import Iterable, Iterator, Sequence
from typing import Any, Protocol

import msgspec

from raftwright.kv.commands import InvalidCommand

__all__ = ["Applied", "ApplyContext", "Change", "InvalidCommand", "InvalidSnapshot", "Machine", "SnapshotFailed"]


class ApplyContext(msgspec.Struct, frozen=True, gc=False):
    """Where in the log a batch of commands stands."""

    index: int
    term: int
    time_ms: int
    """Log time: the leader's wall clock, never less than the entry before it."""


class Change(msgspec.Struct, array_like=True, frozen=True, gc=False):
    """What became of one key. `value` is None where it was deleted."""

    key: str
    revision: int
    value: bytes | None


class Applied(msgspec.Struct, gc=False):
    """What a batch of commands came to: one result a command, in order, and every change in order."""

    results: list[Any]
    changes: list[Change] = []


class InvalidSnapshot(ValueError):
    """The bytes are no snapshot of this machine, of a version it knows. An environment error: the node stops."""


class SnapshotFailed(Exception):
    """A machine cannot write its state. The node goes on without that snapshot, and tries again later."""


class Machine(Protocol):
    """A deterministic state machine. Everything runs on one thread, and nothing here waits.

    It may have a `digest()` that returns bytes, the same where the state is (None: it cannot say just now), and a
    `digest_version`, an int: see `server/digests.py`.
    """

    # A machine may also say `ignores_context = True`: `apply` reads nothing of its context, so that the commands of
    # several entries may come in one call.

    name: str
    """Says what the snapshots are of; a node refuses those of another machine."""
    version: int
    """Format version of the snapshots that this machine makes; it reads those up to it."""

    def join(self, encoded: Sequence[bytes]) -> bytes:
        """One blob of commands that were encoded one by one."""

    def decode(self, blob: bytes) -> list[Any]:
        """The commands of a blob. Raises InvalidCommand for bytes that are none; total: nothing else is raised."""

    def check(self, commands: list[Any]) -> None:
        """Called before proposing, never in apply, so local settings may count. Raises InvalidCommand."""

    def apply(self, commands: list[Any], context: ApplyContext) -> Applied:
        """Run commands that `decode` made, in order. A command that fails is a result; nothing is raised but
        MemoryError and OSError, and those stop the node."""

    def undecodable(self, count: int, reason: str) -> list[Any]:
        """The results of `count` commands that could not be decoded."""

    def encode_results(self, results: list[Any]) -> bytes:
        """For the client, and to be kept for a retry: deterministic."""

    def decode_results(self, data: bytes) -> list[Any]:
        """The inverse of `encode_results`. ValueError if `data` is not that."""

    def snapshot(self) -> Iterator[bytes]:
        """Freeze the state and return at once. Commands may be applied between the slices and do not show in them.
        A slice is bounded (about 64 to 256 KiB, or one large item) and takes about a millisecond to make."""

    def restore(self, chunks: Iterable[bytes]) -> None:
        """Replace the state by that of a snapshot, cut anywhere into chunks. All or nothing: raises
        InvalidSnapshot, or what `chunks` raises, and then the state is as before."""
