"""Actions on nodes and their membership. Called by `execute` only.

Rules: every change of the membership names the cluster and the version that it was planned from; and a call to one node
first reads its pod anew, so that no other that got its address is bootstrapped or emptied.
"""

from collections.abc import Iterable

from raftwright.client.errors import MembershipRefused
from raftwright.client.member_models import BootstrapRequest, FirstMember, MemberAddresses, NewMember
from raftwright.client.members import Members
from raftwright.client.models import NodeStatus
from raftwright_operator.actions import (
    AddMembers,
    Bootstrap,
    DiscardStore,
    Joiner,
    PromoteMembers,
    RemoveMembers,
    RenewMembership,
    ReplaceMember,
    TransferLeadership,
)
from raftwright_operator.kube import Kube
from raftwright_operator.names import client_address, peer_address, position
from raftwright_operator.nodes import Nodes, Place
from raftwright_operator.observe import Sight, cluster_of, cluster_places
from raftwright_operator.outcome import Outcome

CHANGE_TIMEOUT_S = 10.0
"""A change that takes longer goes on by itself, and the next observation shows it."""
MOVED_ON = frozenset({"membership-outdated", "already-bootstrapped", "unknown-member", "membership-change-pending"})
"""Refusals that say that the membership is another than the one that was planned from."""
RENEWED = "raftwright.io/renewed"
"""In a member's metadata: the version after which the membership was renewed."""


class Membership:
    """For one action on what `sight` shows."""

    def __init__(self, kube: Kube, nodes: Nodes, sight: Sight) -> None:
        self._kube = kube
        self._nodes = nodes
        self._sight = sight
        self._observed = sight.observed

    async def bootstrap(self, action: Bootstrap) -> Outcome:
        store_id = dict(action.intent.stores).get(action.pod)
        found = await self._node_of(action.pod, action.pod_uid)
        if found is None or found[1].store_id != store_id or found[1].state != "waiting":
            return Outcome.again("NodeChanged", f"{action.pod} is not the waiting node that it was")
        members = [
            FirstMember(name=pod, store_id=store, addresses=self._addresses(pod)) for pod, store in action.intent.stores
        ]
        request = BootstrapRequest(cluster_id=action.intent.cluster_id, members=members)
        node = self._nodes.members([found[0]], action.intent.cluster_id)
        try:
            await node.bootstrap(request, timeout_s=CHANGE_TIMEOUT_S)
        except MembershipRefused as error:
            return _moved_on(error)
        return Outcome.done()

    async def add(self, action: AddMembers) -> Outcome:
        return await self._change(add=[self._new(joiner) for joiner in action.joiners], if_version=action.if_version)

    async def promote(self, action: PromoteMembers) -> Outcome:
        return await self._change(promote=action.ids, if_version=action.if_version)

    async def remove(self, action: RemoveMembers) -> Outcome:
        return await self._change(remove=action.ids, if_version=action.if_version)

    async def renew(self, action: RenewMembership) -> Outcome:
        """By the metadata of one member, of which the rest stays: read anew, and so under the same version."""
        members = self._members()
        found = await members.list(linearizable=True, timeout_s=CHANGE_TIMEOUT_S)
        if found.version != action.if_version or not found.members:
            return Outcome.again("MembershipChanged", f"the membership is at version {found.version}")
        first = found.members[0]
        metadata = {**first.metadata, RENEWED: str(found.version)}
        try:
            await members.update(first.id, metadata=metadata, if_version=action.if_version, timeout_s=CHANGE_TIMEOUT_S)
        except MembershipRefused as error:
            return _moved_on(error)
        return Outcome.done()

    async def _change(
        self, *, add: Iterable[NewMember] = (), promote: Iterable[int] = (), remove: Iterable[int] = (), if_version: int
    ) -> Outcome:
        try:
            await self._members().change(
                add=list(add),
                promote=list(promote),
                remove=list(remove),
                if_version=if_version,
                timeout_s=CHANGE_TIMEOUT_S,
            )
        except MembershipRefused as error:
            return _moved_on(error)
        return Outcome.done()

    async def replace(self, action: ReplaceMember) -> Outcome:
        new = self._new(action.joiner, promote=True)
        try:
            await self._members().replace(action.old, new, if_version=action.if_version, timeout_s=CHANGE_TIMEOUT_S)
        except MembershipRefused as error:
            return _moved_on(error)
        return Outcome.done()

    async def transfer(self, action: TransferLeadership) -> Outcome:
        await self._members().transfer_leadership(action.to, timeout_s=CHANGE_TIMEOUT_S)
        return Outcome.done()

    async def discard(self, action: DiscardStore) -> Outcome:
        found = await self._node_of(action.pod, action.pod_uid)
        if found is None or found[1].store_id != action.store_id:
            return Outcome.again("NodeChanged", f"{action.pod} does not have store {action.store_id} any more")
        await self._nodes.discard_store(found[0], action.store_id)
        return Outcome.done()

    def _members(self) -> Members:
        seen = self._observed
        places = cluster_places(seen, seen.nodes, self._sight.places)
        return self._nodes.members(places, cluster_of(seen, seen.nodes))

    async def _node_of(self, pod: str, uid: str) -> tuple[Place, NodeStatus] | None:
        """Where the node of this very pod is now, and what it says; None if that cannot be told."""
        found = await self._kube.get("Pod", self._observed.namespace, pod)
        if found is None or found["metadata"]["uid"] != uid:
            return None
        place = await self._nodes.place(found)
        status = await self._nodes.status(place) if place is not None else None
        return None if place is None or status is None else (place, status)

    def _new(self, joiner: Joiner, *, promote: bool = False) -> NewMember:
        place = position(self._observed.name, joiner.pod)
        return NewMember(
            name=joiner.pod,
            store_id=joiner.store_id,
            addresses=self._addresses(joiner.pod),
            role="voter" if place is not None and place[0] == "voters" else "learner",
            promote=promote,
        )

    def _addresses(self, pod: str) -> MemberAddresses:
        cluster, namespace = self._observed.name, self._observed.namespace
        return MemberAddresses(
            peer=peer_address(cluster, namespace, pod), client=client_address(cluster, namespace, pod)
        )


def _moved_on(error: MembershipRefused) -> Outcome:
    if error.reason in MOVED_ON:
        return Outcome.again("MembershipChanged", str(error))
    raise error
