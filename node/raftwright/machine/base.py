"""What a user writes: a state machine of three methods, and what it may say beside them.

`adapter.py` makes a `server.machine.Machine` of it. Deriving from `StateMachine` is a convenience: any object with
these methods will do.
"""

from abc import ABC, abstractmethod
from collections.abc import Iterable
from typing import Any, ClassVar

from raftwright.machine.codecs import Codec
from raftwright.server.machine import ApplyContext


class StateMachine(ABC):
    """A deterministic machine: the same commands in the same order give the same state and results on every node.

    So apply reads nothing but this object, the command and the context: no clock (the context has one), no random
    numbers, no files, no environment, no order of a set. All methods run on the event loop of the node, one at a time,
    and none waits.
    """

    commands: ClassVar[tuple[type, ...]] = ()
    """The classes that it takes, each declared with `@raftwright.command(name)`. None: its commands are bytes."""
    codec: ClassVar["str | Codec | type[Codec]"] = "msgpack"
    """Of commands and results: `msgpack`, `json`, `raw`, `protobuf`, or an object with `encode` and `decode`."""
    name: ClassVar[str] = ""
    """Says whose snapshots they are, on disk: never change it. Empty: the name of the class."""
    version: ClassVar[int] = 1
    """Of the snapshots that this class writes. It is refused those of a later version."""

    digest_version: ClassVar[int] = 1
    """Raise it with a change after which the same commands come to other results or digests: replicas whose versions
    differ, as in the middle of an upgrade, are not compared."""

    @abstractmethod
    def apply(self, command: Any, context: ApplyContext) -> Any:
        """Change the state and return the result, which the codec must be able to encode.

        An exception is the result too: whoever proposed the command gets `CommandFailed` with the class and message
        of it, from every node alike. So check first, then change: nothing is undone. Errors of the environment
        (MemoryError, OSError, ImportError, RecursionError) stop the node instead.
        """

    @abstractmethod
    def snapshot(self) -> Iterable[bytes]:
        """The state as slices of bytes, about 64 to 256 KiB each and quickly made: other work runs between them.

        It must be frozen when this returns: commands are applied before the last slice is taken. In a generator, what
        stands before the first `yield` has run by then: copy there (`items = dict(self.items)`).
        """

    @abstractmethod
    def restore(self, chunks: Iterable[bytes]) -> None:
        """Replace the state by that of a snapshot. `chunks` are its bytes, cut anywhere. An error stops the node."""

    def query(self, request: Any) -> Any:
        """Answer from the state, without changing it. Optional."""
        raise NotImplementedError(f"{type(self).__name__} answers no queries")

    def digest(self) -> bytes:
        """Some bytes that are the same where the state is the same, and else different. Optional.

        Asked for every few hundred entries, so keep it up to date in apply rather than hash everything. Without it
        replicas are compared by the results of their commands, which shows less.
        """
        raise NotImplementedError(f"{type(self).__name__} makes no digests")
