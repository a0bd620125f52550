"""The first start of a static cluster: who the founding members are, by the ids of their stores.

`admission.py` calls it once, on an empty disk that was told `members`. Rules: every listed member is heard before
anything is decided; the cluster id is a hash of the whole map, so a disk that comes back empty never fits again; a node
never decides from an empty disk and its name that the cluster is new.
"""

import asyncio
import hashlib
import json
import logging
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import aiohttp
import msgspec

from raftwright.raft.entries import EntryId, HardState
from raftwright.raft.membership import Addresses, Member, Membership, first_membership
from raftwright.server.addresses import FirstMember
from raftwright.server.machine import Machine
from raftwright.server.peer_streams import new_connector
from raftwright.server.peers import IDENTITY_PATH, LocalIdentity
from raftwright.server.state import ReplicatedState
from raftwright.server.wire import PROTOCOL
from raftwright.storage.storage import Storage

_log = logging.getLogger(__name__)

FOUNDING_ID = EntryId(1, 1)
"""A cluster starts from a snapshot at this id with the first membership, so that who joins later always gets one."""
ASK_TIMEOUT_S = 2.0
ASK_INTERVAL_S = 0.1
SAY_INTERVAL_S = 5.0


class Identity(msgspec.Struct):
    """What a node says of itself before any cluster exists."""

    name: str
    store_id: str
    cluster_id: str | None = None
    member_id: int | None = None
    client: str = ""
    metadata: dict[str, str] = {}


class Stranger(Exception):
    """The cluster exists already and does not know this node's store: it may not take part under its old name."""


class WrongMembers(Exception):
    """The nodes that answer do not fit the list of members that this node was given."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Founding:
    cluster_id: str
    member_id: int
    membership: Membership

    @property
    def digest(self) -> str:
        voters = self.membership.voters
        return digest_of(
            self.cluster_id,
            (
                (member.name, member.store_id, member.addresses.peer, member.addresses.client, number in voters)
                for number, member in self.membership.members.items()
            ),
        )


def digest_of(cluster_id: str, members: Iterable[tuple[str, str, str, str, bool]]) -> str:
    """What a cluster was founded as, in 32 hexadecimal digits, whatever the order of its members: of each the name, the
    store id, the addresses for members and for clients, and whether it votes.

    Whoever begins from another first membership, be it only an address, is in another cluster, whatever its id."""
    document = json.dumps([cluster_id, sorted(members)], separators=(",", ":"))
    return hashlib.sha256(b"raftwright founding\0" + document.encode()).hexdigest()[:32]


async def found(identity: LocalIdentity, members: Sequence[FirstMember]) -> Founding:
    """Ask every listed member for its store id until all have answered, and compute the first membership.

    Waits as long as it takes. Raises Stranger or WrongMembers where waiting cannot help.
    """
    members = [_with_own_name(identity, member) for member in members]
    if identity.name not in {member.name for member in members}:
        raise WrongMembers(f"this node's name, {identity.name!r}, is not in the list of members")
    known: dict[str, Identity] = {
        identity.name: Identity(
            name=identity.name, store_id=identity.store_id, client=identity.client, metadata=identity.metadata
        )
    }
    said_at = float("-inf")
    timeout = aiohttp.ClientTimeout(total=ASK_TIMEOUT_S)
    async with aiohttp.ClientSession(connector=new_connector(), timeout=timeout) as session:
        while missing := [member for member in members if member.name not in known]:
            answers = await asyncio.gather(*(_ask(session, member) for member in missing))
            for member, answer in zip(missing, answers, strict=True):
                if answer is not None:
                    members[members.index(member)] = member._replace(name=answer.name)
                    known[answer.name] = answer
            missing = [member for member in missing if member.name not in known]
            now = asyncio.get_running_loop().time()
            if missing and now - said_at > SAY_INTERVAL_S:
                said_at = now
                names = ", ".join(f"{member.name or 'the member'} at {member.peer}" for member in missing)
                _log.info("a new cluster: waiting to hear from %s", names)
            if missing:
                await asyncio.sleep(ASK_INTERVAL_S)
    return decide(identity, members, known)


def _with_own_name(identity: LocalIdentity, member: FirstMember) -> FirstMember:
    """In a list of addresses only, each node's name comes from itself."""
    is_own = not member.name and member.peer == identity.peer
    return member._replace(name=identity.name) if is_own else member


async def _ask(session: aiohttp.ClientSession, member: FirstMember) -> Identity | None:
    try:
        async with session.get(f"http://{member.peer}{IDENTITY_PATH}") as response:
            response.raise_for_status()
            answer = msgspec.json.decode(await response.content.read(64 << 10), type=Identity)
    except (aiohttp.ClientError, OSError, TimeoutError, msgspec.DecodeError):
        return None
    if member.name and answer.name != member.name:
        raise WrongMembers(f"the node at {member.peer} is {answer.name!r}, not {member.name!r} as --members says")
    return answer


def decide(identity: LocalIdentity, members: Sequence[FirstMember], known: dict[str, Identity]) -> Founding:
    """The founding that follows from what every member said. PURE: the same answers give the same cluster."""
    membership = first_membership(
        (
            Member(
                name=member.name,
                store_id=known[member.name].store_id,
                addresses=Addresses(peer=member.peer, client=member.client or known[member.name].client),
                metadata=known[member.name].metadata,
                protocol_version=PROTOCOL,
            ),
            member.voter,
        )
        for member in members
    )
    cluster_id = hashlib.sha256(b"raftwright cluster\0" + membership.encode()).hexdigest()[:32]
    for answer in known.values():
        if answer.cluster_id is not None and answer.cluster_id != cluster_id:
            raise Stranger(
                f"{answer.name} is in cluster {answer.cluster_id} already, which was not founded with this node's store"
                f" {identity.store_id}: its disk was empty, so it forgot its vote and its log and may not come back as"
                f" {identity.name!r}. If its data is elsewhere, start it there; if it is lost, let this node take the"
                " old member's place: start it with --rejoin, or replace the member by this store"
            )
    member_id = membership.member_named(identity.name)
    assert member_id is not None
    return Founding(cluster_id=cluster_id, member_id=member_id, membership=membership)


def make_durable(storage: Storage, machine: Machine, founding: Founding, name: str) -> None:
    """The first membership, the first term, then the identity that says both are there. Blocks."""
    writer = storage.new_snapshot(id=FOUNDING_ID, time_ms=0, membership=founding.membership)
    for section, version, required, chunks in ReplicatedState(machine, applied=FOUNDING_ID).sections():
        writer.section(section, version, required)
        for chunk in chunks:
            writer.write(chunk)
    writer.finish()
    storage.write(hard_state=HardState(term=FOUNDING_ID.term))
    storage.save_identity(
        cluster_id=founding.cluster_id, member_id=founding.member_id, name=name, founding=founding.digest
    )
