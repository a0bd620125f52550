"""What a membership call comes to: whether it holds already, which membership is proposed for it, or why it is refused.

The leader's control calls it, and every node to see when a call is done. PURE. Rule: a call that is repeated never does
anything twice; of what a change leads to, the voters left must have a quorum that can be reached.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from enum import IntEnum

from raftwright.client.member_models import MemberRef, NewMember
from raftwright.raft import intents
from raftwright.raft.membership import Addresses, Member, Membership, has_majority
from raftwright.server.errors import (
    InvalidRequest,
    Lagging,
    LastVoter,
    MemberAlive,
    NameTaken,
    NoQuorumLeft,
    StoreTaken,
    UnknownMember,
)
from raftwright.server.membership_requests import Addition, Change


class Standing(IntEnum):
    DONE = 0
    PENDING = 1
    """Intents are in the membership that lead there."""
    OPEN = 2


@dataclass(frozen=True, slots=True, kw_only=True)
class View:
    """What the leader knows when it plans."""

    membership: Membership
    leader: int
    reachable: frozenset[int]
    caught_up: frozenset[int] = frozenset()
    """Of the learners."""
    lags: Mapping[int, str] = field(default_factory=dict)
    """Of members, in words."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    target: Membership
    """To be proposed now."""
    final: Membership
    """Where it ends; `target`, or what its intents lead to."""
    hands_over: bool
    """The leader leaves, and hands leadership over first."""


# Who is meant, and whether it is so already


def resolve(membership: Membership, ref: MemberRef) -> int:
    """The id of a member by its id, its name, or its id as text. Raises UnknownMember; InvalidRequest for a name that
    two members have, as while one takes the other's place."""
    if isinstance(ref, str):
        named = [key for key, member in sorted(membership.members.items()) if member.name == ref]
        if len(named) > 1:
            raise InvalidRequest(f"members {named[0]} and {named[1]} are both named {ref}: give the id")
        if named:
            return named[0]
        if not (ref.isascii() and ref.isdigit()):
            raise UnknownMember(f"no member is named {ref}")
        ref = int(ref)
    if ref not in membership.members:
        was = "was removed" if membership.was_removed(ref) else "never was"
        raise UnknownMember(f"member {ref} {was}")
    return ref


def standing(membership: Membership, change: Change) -> Standing:
    """How far the result that was asked for is there."""
    parts = [
        *(_standing_of_addition(membership, addition) for addition in change.add),
        *(_standing_of_role(membership, ref, intents.PROMOTE, membership.voters) for ref in change.promote),
        *(_standing_of_role(membership, ref, intents.DEMOTE, membership.learners) for ref in change.demote),
        *(_standing_of_removal(membership, ref) for ref in change.remove),
    ]
    for update in change.update:
        member = membership.members[resolve(membership, update.member)]
        parts.append(Standing.DONE if _updated(member, update.addresses, update.metadata) == member else Standing.OPEN)
    return max(parts, default=Standing.DONE)


def _standing_of_addition(membership: Membership, addition: Addition) -> Standing:
    wanted = addition.member
    key = _holder(membership, wanted.store_id)
    if key is None or membership.members[key].name != wanted.name:
        return Standing.OPEN
    is_pending = intents.group_of(membership.members[key], intents.PROMOTE) is not None
    if addition.replaces is not None:
        old = membership.members[key].intent.get(intents.REPLACES)
        still_there = _others(membership, addition.replaces, key)
        if still_there and not (is_pending and old in still_there):
            return Standing.OPEN
    if wanted.role == "learner":
        return Standing.DONE if key in membership.learners else Standing.OPEN
    if key in membership.voters or (not wanted.promote and not is_pending):
        return Standing.DONE
    return Standing.PENDING if is_pending else Standing.OPEN


def _standing_of_role(membership: Membership, ref: MemberRef, intent: str, having: frozenset[int]) -> Standing:
    key = resolve(membership, ref)
    if key in having:
        return Standing.DONE
    is_pending = intents.group_of(membership.members[key], intent) is not None or key in membership.next_learners
    return Standing.PENDING if is_pending else Standing.OPEN


def _standing_of_removal(membership: Membership, ref: MemberRef) -> Standing:
    try:
        key = resolve(membership, ref)
    except UnknownMember:
        is_id = isinstance(ref, int) or ref.isdigit()
        if is_id and not membership.was_removed(int(ref)):
            raise
        return Standing.DONE
    member = membership.members[key]
    is_leaving = membership.is_joint and key not in membership.voters | membership.learners | membership.next_learners
    return Standing.PENDING if is_leaving or intents.group_of(member, intents.REMOVE) is not None else Standing.OPEN


def _holder(membership: Membership, store_id: str) -> int | None:
    return next((key for key, member in membership.members.items() if member.store_id == store_id), None)


def _others(membership: Membership, ref: MemberRef, new: int) -> list[int]:
    """The members, other than the new one, that `ref` names."""
    return [
        key
        for key, member in membership.members.items()
        if key != new and (member.name == ref if isinstance(ref, str) else key == ref)
    ]


def _updated(member: Member, addresses: object, metadata: Mapping[str, str] | None) -> Member:
    if addresses is not None:
        peer, client = addresses.peer, addresses.client  # type: ignore[attr-defined]
        member = replace(member, addresses=Addresses(peer=peer, client=client))
    return member if metadata is None else replace(member, metadata=dict(metadata))


# What is to be proposed


def plan(view: View, change: Change, *, force: bool = False) -> Plan:
    """The first membership to propose for `change`, of which something is still open. Raises a MembershipRefusal or
    InvalidRequest."""
    draft = _Draft(view, force=force)
    for addition in change.add:
        draft.add(addition)
    for ref in change.promote:
        draft.promote(ref)
    for ref in change.demote:
        draft.leave(ref, draft.demoted)
    for ref in change.remove:
        if _standing_of_removal(view.membership, ref) is Standing.OPEN:
            draft.leave(ref, draft.removed)
    for update in change.update:
        key = resolve(view.membership, update.member)
        draft.members[key] = _updated(draft.members[key], update.addresses, update.metadata)
    found = draft.plan()
    _check(view, found, draft.promoted, force=force)
    return found


def _check(view: View, found: Plan, promoted: Iterable[int], *, force: bool) -> None:
    voters = found.final.voters
    if not voters:
        raise LastVoter("a cluster keeps one voter at least: add another first, or stop the node")
    reachable = view.reachable | frozenset(promoted)
    if not force and voters != view.membership.voters and not has_majority(voters, reachable):
        away = ", ".join(found.final.members[key].name for key in sorted(voters - reachable))
        raise NoQuorumLeft(f"of {len(voters)} voters {away} cannot be reached: the cluster would stop (force goes on)")


class _Draft:
    """The membership as it is being changed, and what waits for the joint change."""

    def __init__(self, view: View, *, force: bool) -> None:
        self.view = view
        self.force = force
        self.base = view.membership
        self.group = self.base.version + 1
        self.members = dict(self.base.members)
        self.learners = set(self.base.learners)
        self.last_member_id = self.base.last_member_id
        self.promoted: set[int] = set()
        self.demoted: set[int] = set()
        self.removed: set[int] = set()
        self.waits = False
        """For a learner that is to catch up."""

    def add(self, addition: Addition) -> None:
        wanted = addition.member
        key = _holder(self.base, wanted.store_id)
        old = self._replaced(addition, key)
        if key is None:
            key = self._new(wanted, old)
        elif self.members[key].name != wanted.name:
            raise StoreTaken(f"store {wanted.store_id} is member {key}, named {self.members[key].name}")
        elif wanted.role == "learner" and key in self.base.voters:
            raise NameTaken(f"{wanted.name} is a member with a vote: demote it")
        if wanted.role == "voter" and wanted.promote and key in self.learners:
            self.promoted.add(key)
            self.waits = True
        if old is not None:
            if key in self.promoted:  # else the old one leaves at once, and nothing is left to be carried on
                self.members[key] = intents.with_intent(self.members[key], replaces=old)
            self.removed.add(old)

    def _replaced(self, addition: Addition, new: int | None) -> int | None:
        if addition.replaces is None:
            return None
        if new is not None and not _others(self.base, addition.replaces, new):
            return None
        found = [key for key in _others(self.base, addition.replaces, new or 0)]
        old = found[0] if len(found) == 1 else resolve(self.base, addition.replaces)
        if addition.only_dead and old in self.view.reachable:
            raise MemberAlive(f"member {old}, {self.members[old].name}, was heard from just now")
        return old

    def _new(self, wanted: NewMember, old: int | None) -> int:
        for key, member in self.members.items():
            if member.name == wanted.name and key != old:
                raise NameTaken(
                    f"{wanted.name} is member {key} with store {member.store_id}. If that disk is lost, replace the"
                    f" member by store {wanted.store_id} (or start the node with --rejoin)"
                )
        self.last_member_id += 1
        self.members[self.last_member_id] = Member(
            name=wanted.name,
            store_id=wanted.store_id,
            addresses=Addresses(peer=wanted.addresses.peer, client=wanted.addresses.client),
            metadata=dict(wanted.metadata),
        )
        self.learners.add(self.last_member_id)
        return self.last_member_id

    def promote(self, ref: MemberRef) -> None:
        key = resolve(self.base, ref)
        if key in self.base.voters:
            return
        if key not in self.view.caught_up:
            raise Lagging(f"{self.members[key].name} is {self.view.lags.get(key, 'far')} behind the leader")
        self.promoted.add(key)

    def leave(self, ref: MemberRef, whom: set[int]) -> None:
        key = resolve(self.base, ref)
        if whom is self.demoted and key in self.base.learners:
            return
        whom.add(key)

    def plan(self) -> Plan:
        leader = self.view.leader
        leaves = leader in self.removed | self.demoted
        stay = self.base.voters - self.removed - self.demoted
        marked = self._marked()
        final = intents.target_of(marked, self.group)
        if self.waits or (leaves and stay):
            return Plan(target=marked, final=final, hands_over=leaves and bool(stay))
        return Plan(target=final, final=final, hands_over=False)

    def _marked(self) -> Membership:
        """With everything that is to happen in the joint change as intents of one group."""
        draft = replace(
            self.base,
            members=dict(sorted(self.members.items())),
            learners=frozenset(self.learners),
            last_member_id=self.last_member_id,
        )
        members = intents.called_off(draft, frozenset(self.removed))
        for keys, intent in (
            (self.promoted, intents.PROMOTE),
            (self.demoted, intents.DEMOTE),
            (self.removed, intents.REMOVE),
        ):
            for key in keys:
                kept = {name: value for name, value in members[key].intent.items() if name == intents.REPLACES}
                forced = {intents.FORCE: self.group} if self.force else {}
                members[key] = replace(members[key], intent={**kept, **forced, intent: self.group})
        return replace(draft, members=members)
