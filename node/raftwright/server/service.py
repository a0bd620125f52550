"""What the HTTP routes and the client stream ask of a node: the seam between `routes/` and the rest.

`server/node.py` implements it. Rule: nothing in here is about HTTP; every failure is a `ServiceError`.
"""

from asyncio import Future
from collections.abc import Mapping
from typing import Any, Protocol

from raftwright.client.member_models import BootstrapAnswer, BootstrapRequest
from raftwright.client.models import DiscardAnswer, NodeStatus, SnapshotAnswer
from raftwright.server.blobs import Blob
from raftwright.server.machine import Machine
from raftwright.server.membership_requests import Call
from raftwright.server.settings import NodeSettings


class WriteFuture(Future[Any]):
    """The result of a write, once it is applied."""

    index = 0
    """Of the log entry in which it was applied: a read with this `min_index` sees it. Set before the result."""


class Service(Protocol):
    @property
    def name(self) -> str: ...

    @property
    def cluster_id(self) -> str | None: ...

    @property
    def machine(self) -> Machine:
        """The state of this node. Read it on the event loop only, after `read_barrier` for a linearizable read."""
        ...

    @property
    def term(self) -> int: ...

    @property
    def applied_index(self) -> int: ...

    def write_one(self, command: Any, encoded: bytes) -> "WriteFuture":
        """One command without a session: gathered with others into a blob. The future's result is that of the
        command, as the machine gives it (an int revision, or a failure value of `client.models`; a
        `machine.outcomes.Outcome` of a user's machine); its exception a ServiceError."""
        ...

    def write_blob(self, blob: Blob, commands: list[Any]) -> "WriteFuture":
        """A blob already decoded and checked against the limits, with its origin. The future's result is the encoded
        list of results (`machine.decode_results`)."""
        ...

    async def read_barrier(self, min_index: int = 0) -> int:
        """Returns once a read of the local state is linearizable (§6.4) and has `min_index`: the index that it
        reflects. Concurrent callers share rounds. RequestTimeout if that takes too long; StateDiverged."""
        ...

    def check_state(self) -> None:
        """Raises StateDiverged while the local state is known not to be that of the majority. Ask where a read is
        answered without waiting for anything: what waits, here, asks itself."""
        ...

    async def wait_applied(self, min_index: int) -> int:
        """Returns once the local state has `min_index`, however old it is otherwise: the index that it reflects.
        RequestTimeout if that takes too long; StateDiverged."""
        ...

    def holds_lease(self) -> bool:
        """Whether a read of the local state just made is linearizable as it is, by the leader's lease (§6.4.1). Ask
        after the read, in the same turn of the event loop: the clock is read here."""
        ...

    def staleness_s(self) -> float:
        """How long ago at most the local state was up to date, by the own clock; infinity if that is not known."""
        ...

    async def control(self, call: Call) -> tuple[int, Any]:
        """A call about members or the leader, to whichever node leads: HTTP status and a struct of
        `client.member_models`, once it is done."""
        ...

    async def bootstrap(self, request: BootstrapRequest) -> BootstrapAnswer:
        """Make this node, which waits for it, a first member of a new cluster. Durable on return."""
        ...

    def change_settings(self, changes: Mapping[str, Any]) -> NodeSettings:
        """Change settings while the node runs: all of them or none. Raises SettingRefused."""
        ...

    async def take_snapshot(self) -> SnapshotAnswer:
        """Write one now, unless the newest has everything already. Raises SnapshotFailed or RequestTimeout."""
        ...

    async def discard_store(self, store_id: str) -> DiscardAnswer:
        """Set the data of a removed member aside, durably on return; the node then begins anew. Again, for the store
        that was set aside last, changes nothing. Raises StoreKept or DiskIsFull."""
        ...

    def status(self) -> NodeStatus: ...

    def unready_reason(self) -> str | None:
        """None when this node can serve a linearizable read."""
        ...
