"""The streams of a simulated node: whom it reaches where, who may reach it, and what it learns by being refused.

In the place of `server/peers.py` and `server/peer_streams.py`; `node.py` makes one for each life of a node. Rule: who
introduces itself how, and who is refused for what, is decided by the real `PeerTransport`.
"""

from collections.abc import Sequence

from raftwright.raft.membership import Membership
from raftwright.raft.raft import Raft
from raftwright.server.peer_streams import CONTROL
from raftwright.server.peers import LocalIdentity, PeerTransport
from raftwright.server.wire import PeerHello, PeerMessage
from raftwright.sim.network import Network

KNOCK_INTERVAL_S = 0.3
"""How often streams are tried that have nothing to carry."""


def peer_address(place: int) -> str:
    return f"n{place}:1"


def place_of(address: str) -> int:
    return int(address.partition(":")[0][1:])


class SimStreams:
    def __init__(self, *, network: Network, place: int, identity: LocalIdentity) -> None:
        self._network = network
        self._place = place
        self.transport = PeerTransport(identity, on_messages=lambda _: None, on_lost=lambda _: None)
        self._callers: dict[int, tuple[str, str]] = {}
        """As in the real transport: members that called and that the own membership does not have yet."""
        self._open: set[tuple[int, str, int, str]] = set()
        """Streams of others that were taken."""

    def take_part(self, raft: Raft) -> None:
        """As `server/node.py` does it."""
        transport = self.transport
        transport.is_removed = lambda member_id: raft.committed_membership.was_removed(member_id)
        transport.is_settled = lambda member_id: member_id in raft.committed_membership.members
        transport.is_shut_out = lambda member_id: member_id != raft.leader_id and transport.is_removed(member_id)
        self.update(raft.membership)

    def update(self, membership: Membership) -> None:
        self.transport.update(membership)
        for number in [each for each in self._callers if each <= membership.last_member_id]:
            del self._callers[number]

    # Out

    def send(self, to: int, messages: Sequence[PeerMessage]) -> bool:
        """False if nobody knows where that member is."""
        found = self._where(to)
        if found is not None:
            store_id, address = found
            hello = self.transport.hello_to(to, store_id, CONTROL)
            self._network.send(self._place, place_of(address), hello, messages)
        return found is not None

    def _where(self, to: int) -> tuple[str, str] | None:
        member = self.transport.membership.members.get(to)
        return self._callers.get(to) if member is None else (member.store_id, member.addresses.peer)

    def knock(self) -> None:
        """Streams are there before there is anything to send: who is refused hears so."""
        for member_id in sorted({*self.transport.membership.members, *self._callers}):
            if member_id != self.transport.identity.member_id:
                self.send(member_id, ())

    # In

    def takes(self, sender: int, hello: PeerHello) -> bool:
        """Whether what comes by that stream may be read. The sender hears why if its stream was refused."""
        stream = (hello.member_id, hello.store_id, hello.to_member_id, hello.to_store_id)
        if stream not in self._open:
            why = self.transport.why_refused(hello)
            if why:
                self._network.world.counts[f"streams refused: {why.partition(':')[0]}"] += 1
                self._network.refuse(sender, self._place, hello, why)
                return False
            self._open.add(stream)
            if hello.address and hello.member_id not in self.transport.membership.members:
                self._callers[hello.member_id] = hello.store_id, hello.address
        if self.transport.is_shut_out(hello.member_id):
            self._open.discard(stream)
            return False
        return True
