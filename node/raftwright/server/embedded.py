"""`raftwright.Node`: a node inside one's own program, with one's own state machine.

Rules: everything runs on the event loop that started it; every call ends by its time-out, and a command that failed
says whether it may have happened; when the node stops, for whatever reason, nothing that waits for it is left waiting.
"""

import asyncio
import secrets
from asyncio import Future
from collections.abc import AsyncIterator, Callable
from functools import partial
from types import TracebackType
from typing import Any, Literal, Self

from raftwright.client.errors import RaftwrightError, Timeout, Unavailable, error_of
from raftwright.client.models import Consistency, MemberStatus, SnapshotAnswer
from raftwright.machine.adapter import AdaptedMachine
from raftwright.raft.membership import Membership
from raftwright.server import clock
from raftwright.server.addresses import parse_members
from raftwright.server.blobs import Blob, Origin
from raftwright.server.errors import NoLeader, ProposalRefused, RequestTimeout, ServiceError
from raftwright.server.errors import OutcomeUnknown as Lost
from raftwright.server.feeds import LeaderChange, SnapshotChange
from raftwright.server.machine import Machine
from raftwright.server.membership_requests import Call
from raftwright.server.node import Node as Core
from raftwright.server.policies import SnapshotPolicy
from raftwright.server.proposals import Proposals
from raftwright.server.reading import Reader, Wish, read_as_asked
from raftwright.server.routes.parameters import session_of_key
from raftwright.server.settings import NodeSettings
from raftwright.server.settings_sources import settings_of

RETRY_S = 0.02
_NEVER_HAPPENED = (NoLeader, ProposalRefused)
_MAY_HAVE_HAPPENED = (Lost, RequestTimeout)


class Node:
    """One member of a cluster, in this process.

        async with raftwright.Node(state_machine=Counter(), name="a", data_dir="data") as node:
            total = await node.propose(Add(1))

    That is a cluster of one that nobody can reach. With `members="a=host:port,b=host:port,c=host:port"` it is one of
    several; it listens where the list says. With `client_listen="host:port"` it serves the HTTP API too.
    """

    def __init__(self, settings: NodeSettings | None = None, *, state_machine: Any = None, **values: Any) -> None:
        """`settings`, or the settings by name. `state_machine` is an object like `raftwright.StateMachine`; the
        key-value store if it is None. `snapshot_policy` may be a `raftwright.SnapshotPolicy` too.

        SettingsError or ValueError for what cannot be."""
        policy = None
        if isinstance(values.get("snapshot_policy"), SnapshotPolicy):
            policy = values.pop("snapshot_policy")
        if settings is not None and values:
            raise TypeError("give settings, or single settings by name, not both")
        self.settings = settings or settings_of(_for_embedding(values))
        self._core = Core(self.settings, _adapted(state_machine), policy)
        self._proposals = Proposals(self._core.machine)
        self._task: asyncio.Task[None] | None = None
        self._pending: set[Future[Any]] = set()
        self._ended = False

    @classmethod
    async def start(cls, settings: NodeSettings | None = None, *, state_machine: Any = None, **values: Any) -> Self:
        """A node that runs: its data is open and it listens. Whether it is in a cluster yet is another matter: calls
        wait for that. Raises what keeps it from starting: StorageError, WrongIdentity, WrongMembers, OSError."""
        node = cls(settings, state_machine=state_machine, **values)
        await node._start()
        return node

    async def _start(self) -> None:
        if self._task is not None:
            raise RuntimeError("a node is started once")
        self._task = asyncio.create_task(self._run(), name=f"raftwright node {self.settings.name}")
        listening = asyncio.create_task(self._core.listening.wait())
        try:
            await asyncio.wait((self._task, listening), return_when=asyncio.FIRST_COMPLETED)
        finally:
            listening.cancel()
        if self._task.done():
            await self._task

    async def _run(self) -> None:
        try:
            await self._core.run()
        except BaseExceptionGroup as group:
            raise _first(group) from None
        finally:
            self._ended = True
            for future in list(self._pending):
                future.cancel()

    async def stop(self) -> None:
        """Hand leadership over, finish what is under way, and end. Raises what ended the node, if it had failed."""
        self._core.stop()
        await self.wait()

    async def wait(self) -> None:
        """Until the node has stopped. Raises what it failed with."""
        if self._task is None:
            raise RuntimeError("the node was not started")
        await asyncio.shield(self._task)

    async def __aenter__(self) -> Self:
        if self._task is None:
            await self._start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.stop()

    # Commands and reads

    async def propose(
        self, command: Any, *, idempotent: bool = False, key: str | None = None, timeout_s: float | None = None
    ) -> Any:
        """Have the cluster apply a command; returns what apply returned, once a majority has it on disk.

        With `idempotent`, it is sent again where its fate is unknown, and still happens once. With a `key`, calls with
        the same key and command are one. CommandFailed if the machine raised; any other error says by its `outcome`
        whether the command may have happened."""
        decoded, encoded = self._proposals.encode(command)
        session = session_of_key(key) if key is not None else secrets.token_bytes(16) if idempotent else None
        deadline = self._deadline(timeout_s)
        uncertain = False
        while True:
            try:
                await self._until_serving(deadline)
                outcome = await self._within(deadline, self._propose_once(decoded, encoded, session))
                return self._proposals.value(decoded, outcome)
            except ServiceError as error:
                again = isinstance(error, _NEVER_HAPPENED) or (session and isinstance(error, _MAY_HAVE_HAPPENED))
                uncertain |= error.outcome == "unknown"
                if not again or self.is_stopped or clock.now() + RETRY_S >= deadline:
                    raise _public(error, "unknown" if uncertain else error.outcome) from None
            await asyncio.sleep(RETRY_S)

    async def _propose_once(self, command: Any, encoded: bytes, session: bytes | None) -> Any:
        core = self._core
        if session is None:
            return await self._settled(core.write_one(command, encoded))
        blob = Blob(Origin(session=session, first_seq=1, count=1, opens=True), core.machine.join([encoded]))
        results = await self._settled(core.write_blob(blob, [command]))
        return core.machine.decode_results(results)[0]

    async def read_index(self, *, timeout_s: float | None = None) -> int:
        """Returns once the state here has everything that was acknowledged before the call: its index."""
        deadline = self._deadline(timeout_s)
        while True:
            try:
                await self._until_serving(deadline)
                index: int = await self._within(deadline, self._read_once())
                return index
            except ServiceError as error:
                if not isinstance(error, NoLeader) or self.is_stopped or clock.now() + RETRY_S >= deadline:
                    raise _public(error, "none") from None
            await asyncio.sleep(RETRY_S)

    async def _read_once(self) -> int:
        barrier: Future[int] = asyncio.ensure_future(self._core.read_barrier())
        index: int = await self._settled(barrier)
        return index

    async def query(
        self,
        request: Any,
        *,
        consistency: Literal["linearizable", "lease", "stale"] = "linearizable",
        max_staleness_s: float | None = None,
        min_index: int = 0,
        timeout_s: float | None = None,
    ) -> Any:
        """What the machine's `query` returns; of the key-value store, the item of a key. QueryFailed if it raised.

        `lease` asks nobody while this node leads and its lease runs, else it is `linearizable`. `stale` asks the state
        as it is here, if that was up to date at most `max_staleness_s` ago. It has the entry `min_index` anyway."""
        wish = Wish(Consistency[consistency.upper()], max_staleness_s, min_index)
        deadline = self._deadline(timeout_s)
        while True:
            try:
                await self._until_serving(deadline)
                asked = read_as_asked(Reader(self._core, self._core.metrics), wish, partial(self._asked, request))
                answer = await self._within(deadline, self._settled(asyncio.ensure_future(asked)))
                if isinstance(answer, RaftwrightError):
                    raise answer
                return answer
            except ServiceError as error:
                if not isinstance(error, NoLeader) or self.is_stopped or clock.now() + RETRY_S >= deadline:
                    raise _public(error, "none") from None
            await asyncio.sleep(RETRY_S)

    def _asked(self, request: Any) -> Any:
        """An error of the machine is an answer too."""
        try:
            return self._proposals.query(request)
        except RaftwrightError as error:
            return error

    # The cluster

    @property
    def machine(self) -> Any:
        """The state machine. Read it on the event loop only, after `read_index` for what is up to date."""
        machine = self._core.machine
        return machine.user if isinstance(machine, AdaptedMachine) else machine

    @property
    def id(self) -> int | None:
        """The member's id; None until it is in a cluster."""
        return self._core.identity.member_id if self._core.listening.is_set() else None

    @property
    def role(self) -> str | None:
        """leader, follower, candidate or pre-candidate; None until it is in a cluster."""
        return self._core.status().role if self._core.listening.is_set() else None

    @property
    def is_leader(self) -> bool:
        return self._core.driver is not None and self._core.driver.is_leader

    @property
    def leader(self) -> MemberStatus | None:
        """The member that leads, as far as this node knows."""
        return next((member for member in self.members if member.leader), None)

    @property
    def members(self) -> list[MemberStatus]:
        """Everyone in the cluster, with role, addresses and metadata."""
        return self._core.status().members if self._core.listening.is_set() else []

    @property
    def is_stopped(self) -> bool:
        return self._ended or self._task is None

    async def transfer_leadership(self, to: str | int | None = None, *, timeout_s: float | None = None) -> None:
        """Hand leadership to the voter of that name or id, or to the most up-to-date one. Any node may be asked.
        Returns when it leads; MembershipRefused if that cannot be."""
        deadline = self._deadline(timeout_s)
        await self._until_serving(deadline)
        call = self._core.control(Call(kind="transfer", to=to))
        try:
            await self._within(deadline, self._settled(asyncio.ensure_future(call)))
        except ServiceError as error:
            raise _public(error, error.outcome) from None

    async def take_snapshot(self) -> SnapshotAnswer:
        """Write a snapshot now, unless the newest has everything already."""
        try:
            return await self._core.take_snapshot()
        except ServiceError as error:
            raise _public(error, "none") from None

    def change_settings(self, **changes: Any) -> NodeSettings:
        """Change settings while it runs: all of them or none. SettingsError, with its name, for one that may not."""
        self.settings = self._core.change_settings(changes)
        return self.settings

    # What happens

    def leader_changes(self) -> AsyncIterator[LeaderChange]:
        """Who leads: now, and after each change. One that is not asked for in time is passed over for the latest."""
        return self._core.feeds.leaders.subscribe()

    def membership_changes(self) -> AsyncIterator[Membership]:
        """The membership, once it is committed: now, and after each change."""
        return self._core.feeds.memberships.subscribe()

    def snapshots(self) -> AsyncIterator[SnapshotChange]:
        """Each snapshot that is taken, received or failed from now on."""
        return self._core.feeds.snapshots.subscribe()

    def on_leader_change(self, callback: Callable[[LeaderChange], object]) -> Callable[[], None]:
        """Call back at each change, on the event loop. Returns what ends that."""
        return self._core.feeds.leaders.call(callback)

    def on_membership_change(self, callback: Callable[[Membership], object]) -> Callable[[], None]:
        return self._core.feeds.memberships.call(callback)

    def on_snapshot(self, callback: Callable[[SnapshotChange], object]) -> Callable[[], None]:
        return self._core.feeds.snapshots.call(callback)

    # How

    def _deadline(self, timeout_s: float | None) -> float:
        return clock.now() + (self.settings.request_timeout_s if timeout_s is None else timeout_s)

    async def _within(self, deadline: float, work: Any) -> Any:
        try:
            async with asyncio.timeout(max(0.0, deadline - clock.now())):
                return await work
        except TimeoutError:
            raise Timeout("the time is up") from None

    async def _until_serving(self, deadline: float) -> None:
        if not self._core.serving.is_set() and not self.is_stopped:
            try:
                async with asyncio.timeout(max(0.0, deadline - clock.now())):
                    await self._settled(asyncio.ensure_future(self._core.serving.wait()))
            except TimeoutError:
                raise Unavailable(self._core.why) from None
            except Lost:
                pass
        if self.is_stopped:
            raise Unavailable("the node is not running")

    async def _settled(self, future: "Future[Any]") -> Any:
        """Its result; an error when the node stops first."""
        self._pending.add(future)
        try:
            return await future
        except asyncio.CancelledError:
            if self._ended and future.cancelled():
                raise Lost("the node has stopped") from None
            raise
        finally:
            self._pending.discard(future)


def _adapted(state_machine: Any) -> Machine | None:
    if state_machine is None or hasattr(state_machine, "decode_results"):
        machine: Machine | None = state_machine
        return machine
    return AdaptedMachine(state_machine)


def _for_embedding(values: dict[str, Any]) -> dict[str, Any]:
    """No listener that was not asked for: that for members where the list of them says, that for clients nowhere."""
    members = values.get("members", ())
    if isinstance(members, str):
        members = parse_members(members)
    peers = {member.name: member.peer for member in members}
    return {"client_listen": "", "peer_listen": peers.get(values.get("name", ""), ""), **values}


def _public(error: ServiceError, outcome: Literal["none", "unknown"]) -> RaftwrightError:
    return error_of(error.kind, error.detail, outcome=outcome)


def _first(error: BaseException) -> BaseException:
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error
