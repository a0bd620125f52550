"""How a store becomes a member, once and for good: by its data directory, founding, bootstrap, being added, or joining.

`node.py` runs it before the node takes part in anything. Rules: the data directory decides, whatever the settings say;
a store that was removed never comes back; nothing is answered to anyone as a member before identity is durable.
"""

import asyncio
import logging
from collections.abc import Callable, Sequence
from functools import partial

from raftwright.client.member_models import (
    BootstrapAnswer,
    BootstrapRequest,
    MemberAddresses,
    NewMember,
)
from raftwright.raft.membership import Addresses, Member, first_membership
from raftwright.server.addresses import FirstMember
from raftwright.server.errors import AlreadyBootstrapped, InvalidRequest
from raftwright.server.founding import Founding, Stranger, digest_of, found, make_durable
from raftwright.server.joining import join
from raftwright.server.machine import Machine
from raftwright.server.membership_requests import Addition
from raftwright.server.peers import LocalIdentity
from raftwright.server.settings import NodeSettings
from raftwright.server.wire import PROTOCOL, PeerHello
from raftwright.storage.errors import DiskFull
from raftwright.storage.storage import Storage

_log = logging.getLogger(__name__)


class Admission:
    """`run` returns once this node is a member, or never can be."""

    def __init__(
        self,
        *,
        settings: NodeSettings,
        storage: Storage,
        identity: LocalIdentity,
        machine: Machine,
        say: Callable[[str, str], None],
    ) -> None:
        """`say(phase, why)` tells what the node waits for."""
        self._settings = settings
        self._storage = storage
        self._identity = identity
        self._machine = machine
        self._say = say
        self._admitted = asyncio.Event()
        self._lock = asyncio.Lock()
        self._writing: set[asyncio.Future[object]] = set()
        self._is_open = False
        """Whether a leader may make this node a member."""
        self._is_managed = False
        """Whether it may be bootstrapped."""

    async def run(self) -> bool:
        """True once this node is a member; False if it was removed. Raises WrongMembers."""
        settings = self._settings
        if self._identity.removed:
            self._say("removed", "this node was removed from its cluster; it can come back only with an empty disk")
            return False
        if self._identity.cluster_id is not None:
            return True
        members = settings.members
        if not members and not settings.peer_listen:
            members = (FirstMember(settings.name, "", None, True),)  # nobody could ever reach it: it is alone
        if members:
            await self._found(members)
        elif settings.join:
            self._say("waiting", f"this node waits to be added by the members at {', '.join(settings.join)}")
            await self._join(list(settings.join))
        else:
            self._is_open = self._is_managed = True
            self._say("waiting", "this node waits to be bootstrapped, or added to a cluster")
            await self._admitted.wait()
        return True

    async def _found(self, members: Sequence[FirstMember]) -> None:
        self._say("waiting", "this node waits to hear from every first member")
        try:
            founding = await found(self._identity, members)
        except Stranger as error:
            self._say("stranger", str(error))
            if self._settings.rejoin:
                others = [member.peer for member in members if member.name != self._identity.name]
                await self._join(others)
            else:
                self._is_open = True
                await self._admitted.wait()
            return
        await self._settle(founding)

    async def _settle(self, founding: Founding) -> None:
        await self._write(partial(make_durable, self._storage, self._machine, founding, self._identity.name))
        self._become(founding.cluster_id, founding.member_id)

    def _become(self, cluster_id: str, member_id: int) -> None:
        self._identity.cluster_id, self._identity.member_id = cluster_id, member_id
        self._identity.founding = self._storage.identity.founding
        self._admitted.set()

    async def _join(self, addresses: list[str]) -> None:
        """Ask to be added until a leader's stream says that it was done."""
        self._is_open = True
        identity, settings = self._identity, self._settings
        member = NewMember(
            name=identity.name,
            store_id=identity.store_id,
            addresses=MemberAddresses(peer=identity.peer, client=identity.client),
            role="learner" if settings.non_voting else "voter",
            metadata=identity.metadata,
        )
        replaces = identity.name if settings.rejoin else None
        addition = Addition(member=member, replaces=replaces, only_dead=True)
        await join(addition, addresses, say=self._say, until=self._admitted)

    async def adopt(self, hello: PeerHello) -> None:
        """A member's stream says that this store was added to its cluster. Durable on return, if it is so."""
        async with self._lock:
            identity = self._identity
            if not self._is_open or not is_adopted_by(hello, identity):
                return
            await self._write(
                partial(
                    self._storage.save_identity,
                    cluster_id=hello.cluster_id,
                    member_id=hello.to_member_id,
                    name=identity.name,
                    founding=hello.founding or None,
                )
            )
            _log.info("this node was added to cluster %s as member %d", hello.cluster_id, hello.to_member_id)
            self._become(hello.cluster_id, hello.to_member_id)

    async def learn_founding(self, founding: str) -> None:
        """What this node's cluster was founded as, from another member: durable on return, where the disk has room.
        Once known it stays."""
        async with self._lock:
            if self._identity.cluster_id is None or self._identity.founding is not None:
                return
            try:
                await self._write(partial(self._storage.save_identity, None, None, None, founding))
            except DiskFull as error:
                _log.warning("%s; what the cluster was founded as is learned another time", error)
            else:
                self._identity.founding = founding

    async def _write(self, work: Callable[[], object]) -> None:
        """In a thread, which goes on when whoever waits for it is cancelled: `close` waits for it then."""
        writing = asyncio.ensure_future(asyncio.to_thread(work))
        self._writing.add(writing)
        writing.add_done_callback(self._writing.discard)
        await asyncio.shield(writing)

    async def close(self) -> None:
        """Returns when nothing is written to the storage any more."""
        if self._writing:
            await asyncio.wait(self._writing)

    async def bootstrap(self, request: BootstrapRequest) -> BootstrapAnswer:
        """Found the cluster that the request describes. Durable on return; the same request again changes nothing."""
        async with self._lock:
            identity = self._identity
            if identity.cluster_id is None:
                if not self._is_managed:
                    raise AlreadyBootstrapped("this node was started with --members or --join, and waits for those")
                await self._settle(founding_of(request, identity))
            elif not self._is_founded_by(request):
                raise AlreadyBootstrapped(
                    f"this node is member {identity.member_id} of cluster {identity.cluster_id}, founded as"
                    f" {identity.founding or 'nobody knows what'}, and the request founds {request.cluster_id} as"
                    f" {_digest_of(request)}"
                )
            assert identity.cluster_id is not None and identity.member_id is not None
            return BootstrapAnswer(cluster_id=identity.cluster_id, id=identity.member_id)

    def _is_founded_by(self, request: BootstrapRequest) -> bool:
        """The same request; or one by which another node was bootstrapped, whose cluster then added this one."""
        identity = self._identity
        if identity.founding is not None:
            return identity.founding == _digest_of(request)
        named = any(one.store_id == identity.store_id and one.name == identity.name for one in request.members)
        return named and identity.cluster_id == request.cluster_id


def _digest_of(request: BootstrapRequest) -> str:
    return digest_of(
        request.cluster_id,
        (
            (member.name, member.store_id, member.addresses.peer, member.addresses.client, member.role == "voter")
            for member in request.members
        ),
    )


def is_adopted_by(hello: PeerHello, identity: LocalIdentity) -> bool:
    """Whether a member's stream makes this store a member: it names this very store, and by what is committed. PURE."""
    is_meant = hello.to_store_id == identity.store_id and hello.to_member_id > 0 and bool(hello.cluster_id)
    return identity.cluster_id is None and is_meant and hello.settled


def founding_of(request: BootstrapRequest, identity: LocalIdentity) -> Founding:
    """The founding that a request describes. PURE. Raises InvalidRequest."""
    members = request.members
    for what in ("name", "store_id"):
        if len({getattr(member, what) for member in members}) != len(members):
            raise InvalidRequest(f"two members have the same {what}")
    if len({member.addresses.peer for member in members}) != len(members):
        raise InvalidRequest("two members have the same address for members")
    if not any(member.role == "voter" for member in members):
        raise InvalidRequest("no member has a vote")
    own = next((member for member in members if member.store_id == identity.store_id), None)
    if own is None or own.name != identity.name:
        raise InvalidRequest(f"this node, {identity.name} with store {identity.store_id}, is not among the members")
    membership = first_membership(
        (
            Member(
                name=member.name,
                store_id=member.store_id,
                addresses=Addresses(peer=member.addresses.peer, client=member.addresses.client),
                protocol_version=PROTOCOL,
            ),
            member.role == "voter",
        )
        for member in members
    )
    member_id = membership.member_named(identity.name)
    assert member_id is not None
    return Founding(cluster_id=request.cluster_id, member_id=member_id, membership=membership)
