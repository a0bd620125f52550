"""What the HTTP routes and the client stream ask of a node: the seam between `routes/` and the rest.

`server/node.py` implements it. Rule: nothing in here is about HTTP; every failure is a `ServiceError`.
"""

from asyncio import Future
from collections.abc import Mapping
from typing import Any, Protocol

from raftwright.client.member_models import BootstrapAnswer, BootstrapRequest
from raftwright.client.models import NodeStatus, SnapshotAnswer
from raftwright.server.blobs import Blob
from raftwright.server.machine import Machine
from raftwright.server.membership_requests import Call
from raftwright.server.settings import NodeSettings


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

    def write_one(self, command: Any, encoded: bytes) -> "Future[Any]":
        """One command without a session: gathered with others into a blob. The future's result is that of the
        command, as the machine gives it (an int revision, or a failure value of `client.models`; a
        `machine.outcomes.Outcome` of a user's machine); its exception a ServiceError."""
        ...

    def write_blob(self, blob: Blob, commands: list[Any]) -> "Future[bytes]":
        """A blob already decoded and checked against the limits, with its origin. The future's result is the encoded
        list of results (`machine.decode_results`)."""
        ...

    async def read_barrier(self) -> int:
        """Returns once a read of the local state is linearizable (§6.4): the index that it reflects. Concurrent
        callers share rounds."""
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

    def status(self) -> NodeStatus: ...

    def unready_reason(self) -> str | None:
        """None when this node can serve a linearizable read."""
        ...
