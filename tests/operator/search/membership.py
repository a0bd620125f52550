"""Raft membership as it behaves from outside: joint changes, learners that catch up, elections, refusals.

`acting` asks for changes, `environment` lets time pass. Rule: what the node's own membership code refuses is refused
here, what it carries on by itself goes on here; logs and terms are not in it.
"""

from collections.abc import Iterable, Iterator

from tests.operator.search.preconditions import changed
from tests.operator.search.world import (
    APPENDED,
    COMMITTED,
    INCOMING,
    JOINING,
    LEARNER,
    MEMBER,
    MEMBERSHIP,
    NEW_HALF,
    OLD_HALF,
    OUTGOING,
    REMOVED,
    REPLACED,
    SET_OF,
    SETTLED,
    UP,
    VOTER,
    WAITING,
    Claim,
    Kube,
    Member,
    Raft,
    World,
    set_version_key,
    with_claim,
)

Id = tuple[int, int]


class Refused(Exception):
    """The API says no; the argument is the kind of its error."""


def find(raft: Raft | None, slot: int, store: int) -> Member | None:
    if raft is not None:
        for member in raft.members:
            if member.slot == slot and member.store == store:
                return member
    return None


def is_live(kube: Kube, member: Member) -> bool:
    """Its node runs, and on its own store."""
    pod, claim = kube.pods[member.slot], kube.claims[member.slot]
    return (
        pod is not None
        and pod.phase == UP
        and claim is not None
        and claim.store == member.store
        and claim.content == MEMBER
    )


def is_intact(kube: Kube, member: Member) -> bool:
    """Its store exists, and may be taken into use."""
    claim = kube.claims[member.slot]
    return claim is not None and claim.store == member.store and claim.content != REMOVED


def has_quorum(members: Iterable[Member], good: Iterable[bool]) -> bool:
    """A majority of each half."""
    old = old_good = new = new_good = 0
    for member, is_good in zip(members, good, strict=True):
        if member.role in OLD_HALF:
            old += 1
            old_good += is_good
        if member.role in NEW_HALF:
            new += 1
            new_good += is_good
    return 2 * old_good > old and 2 * new_good > new


def has_live_quorum(kube: Kube, raft: Raft) -> bool:
    return has_quorum(raft.members, [is_live(kube, member) for member in raft.members])


def can_recover(kube: Kube, raft: Raft) -> bool:
    """A quorum's stores are there, and one of them at least knows that it is a member."""
    return has_quorum(raft.members, [is_intact(kube, member) for member in raft.members]) and any(
        claim is not None and claim.content == MEMBER and find(raft, slot, claim.store) is not None
        for slot, claim in enumerate(kube.claims)
    )


def voters(raft: Raft) -> list[Member]:
    return [member for member in raft.members if member.role not in (LEARNER, JOINING)]


def with_leader_checked(world: World) -> World:
    """A leader without its pod, its membership or a quorum leads no more."""
    raft = world.raft
    if raft is None or raft.leader < 0:
        return world
    leads = any(
        member.slot == raft.leader and member.role not in (LEARNER, JOINING) and is_live(world.kube, member)
        for member in raft.members
    )
    if leads and has_live_quorum(world.kube, raft):
        return world
    return world._replace(raft=raft._replace(leader=-1))


def _changed(world: World, raft: Raft) -> World:
    """At another version: nothing that was to be done at this one is done any more."""
    if world.kube.ready_for is not None:
        world = world._replace(kube=world.kube._replace(ready_for=None))
    return with_leader_checked(changed(world._replace(raft=raft), MEMBERSHIP))


# -- what may be asked for ----------------------------------------------------------------------------------------


def led(world: World) -> Raft:
    if world.raft is None or world.raft.leader < 0:
        raise Refused("no-leader")
    return world.raft


def _free(world: World) -> Raft:
    raft = led(world)
    if raft.joint != SETTLED:
        raise Refused("membership-change-pending")
    return raft


def add(world: World, joiners: tuple[Id, ...]) -> World:
    raft = led(world)
    new = [one for one in joiners if find(raft, *one) is None]
    if not new:
        return world
    raft = _free(world)
    if any(member.slot == slot for member in raft.members for slot, _ in new):
        raise Refused("name-taken")
    return _changed(world, _with_members(raft, [*raft.members, *(Member(*one, LEARNER, 1) for one in new)]))


def promote(world: World, ids: tuple[Id, ...]) -> World:
    raft = led(world)
    found = [find(raft, *one) for one in ids]
    if any(member is None for member in found):
        raise Refused("unknown-member")
    promoted = [member for member in found if member is not None and member.role in (LEARNER, JOINING)]
    if not promoted:
        return world
    raft = _free(world)
    if any(member.behind or not is_live(world.kube, member) for member in promoted):
        raise Refused("lagging")
    return _begin(world, raft, {member: INCOMING for member in promoted})


def remove(world: World, ids: tuple[Id, ...]) -> World:
    raft = led(world)
    if all((member := find(raft, *one)) is None or member.role == OUTGOING for one in ids):
        return world
    raft = _free(world)
    learners = [one for one in ids if (member := find(raft, *one)) and member.role in (LEARNER, JOINING)]
    raft = _without_learners(raft, learners)
    leaving = {member: OUTGOING for one in ids if (member := find(raft, *one)) is not None}
    return _begin(world, raft, leaving) if leaving else _changed(world, raft)


def _without_learners(raft: Raft, ids: list[Id]) -> Raft:
    """Where one was to take a voter's place, that is called off."""
    called_off = {slot for slot, store in ids if (member := find(raft, slot, store)) and member.role == JOINING}
    members = (
        member._replace(role=VOTER) if member.role == REPLACED and member.slot in called_off else member
        for member in raft.members
        if member[:2] not in ids
    )
    return _with_members(raft, members)


def replace(world: World, old: Id, new: Id) -> World:
    raft = led(world)
    found = find(raft, *old)
    if find(raft, *new) is not None and (found is None or found.role == REPLACED):
        return world
    raft = _free(world)
    if found is None:
        raise Refused("unknown-member")
    if any(member.slot == new[0] and member != found for member in raft.members):
        raise Refused("name-taken")
    if found.role in (LEARNER, JOINING):
        others = [member for member in raft.members if member != found]
        return _changed(world, _with_members(raft, [*others, Member(*new, LEARNER, 1)]))
    members = [member._replace(role=REPLACED) if member == found else member for member in raft.members]
    return _changed(world, _with_members(raft, [*members, Member(*new, JOINING, 1)]))


def renew(world: World) -> World:
    return _changed(world, _free(world))


def transfer(world: World, to: Id) -> World:
    raft = led(world)
    member = find(raft, *to)
    if member is None:
        raise Refused("unknown-member")
    if not is_live(world.kube, member) or member.role in (LEARNER, JOINING):
        raise Refused("transfer-failed")
    if raft.leader == member.slot:
        return world
    return world._replace(raft=_with_members(raft._replace(leader=member.slot), _caught_up(raft, member)))


def _begin(world: World, raft: Raft, roles: dict[Member, int]) -> World:
    """The joint phase begins. A leader that leaves hands over to one that stays first."""
    staying = [member for member in raft.members if member.role in NEW_HALF and roles.get(member) != OUTGOING]
    if not staying and INCOMING not in roles.values():
        raise Refused("last-voter")
    final = [*staying, *(member for member, role in roles.items() if role == INCOMING)]
    if 2 * sum(is_live(world.kube, member) for member in final) <= len(final):
        raise Refused("no-quorum-left")
    leader = raft.leader
    if any(member.slot == leader and role == OUTGOING for member, role in roles.items()):
        heirs = [member.slot for member in staying if is_live(world.kube, member) and not member.behind]
        if not heirs:
            raise Refused("no-quorum-left")
        leader = heirs[0]
    members = [member._replace(role=roles.get(member, member.role)) for member in raft.members]
    return _changed(world, _with_members(raft._replace(leader=leader, joint=APPENDED), members))


def _with_members(raft: Raft, members: Iterable[Member]) -> Raft:
    return raft._replace(members=tuple(sorted(members)))


def _caught_up(raft: Raft, which: Member) -> list[Member]:
    return [member._replace(behind=0) if member == which else member for member in raft.members]


# -- what happens by itself ---------------------------------------------------------------------------------------


def passes(world: World) -> Iterator[tuple[tuple[object, ...], World]]:
    """What the nodes do among themselves: (event, world after it)."""
    raft, kube = world.raft, world.kube
    if raft is None:
        return
    live = [is_live(kube, member) for member in raft.members]
    for member in raft.members:
        claim, pod = kube.claims[member.slot], kube.pods[member.slot]
        is_here = claim is not None and pod is not None and pod.phase == UP and claim.store == member.store
        if is_here and claim is not None and claim.content == WAITING and any(live):
            yield ("adopted", member.slot), _said(world, member.slot, claim._replace(content=MEMBER))
    if raft.leader < 0:
        if has_quorum(raft.members, live):
            yield from _elections(world, raft, live)
        return
    for member, is_up in zip(raft.members, live, strict=True):
        if member.behind and is_up:
            after = world._replace(raft=_with_members(raft, _caught_up(raft, member)))
            yield ("caught up", member.slot), after
    yield from _carried_on(world, raft, live)
    for slot, claim in enumerate(kube.claims):
        pod = kube.pods[slot]
        if claim is None or pod is None or pod.phase != UP or claim.content != MEMBER:
            continue
        if find(raft, slot, claim.store) is None:
            yield ("hears of its removal", slot), _said(world, slot, claim._replace(content=REMOVED))


def _said(world: World, slot: int, claim: Claim) -> World:
    """What its store says of itself decides whether a pod is ready, which its set counts."""
    return changed(with_claim(world, slot, claim), set_version_key(SET_OF[slot]))


def elections(world: World) -> Iterator[tuple[tuple[object, ...], World]]:
    """Another one leads, for no reason."""
    raft = world.raft
    if raft is not None and raft.leader >= 0:
        yield from _elections(world, raft, [is_live(world.kube, member) for member in raft.members])


def _elections(world: World, raft: Raft, live: list[bool]) -> Iterator[tuple[tuple[object, ...], World]]:
    able = [one for one, up in zip(raft.members, live, strict=True) if up and one.role not in (LEARNER, JOINING)]
    able = [one for one in able if not one.behind] or able
    for member in able:
        if member.slot == raft.leader:
            continue
        after = _with_members(raft._replace(leader=member.slot), _caught_up(raft, member))
        yield ("elected", member.slot), world._replace(raft=after)
        if raft.joint == APPENDED:
            undone = _changed(world, _undone(after))
            if undone.raft is not None and undone.raft.leader >= 0:
                yield ("elected, the joint change is lost", member.slot), undone


def _undone(raft: Raft) -> Raft:
    left = {member.slot for member in raft.members if member.role == OUTGOING}
    members = []
    for member in raft.members:
        if member.role == INCOMING:
            member = member._replace(role=JOINING if member.slot in left else LEARNER)
        elif member.role == OUTGOING:
            takes_place = any(one.slot == member.slot and one.role == INCOMING for one in raft.members)
            member = member._replace(role=REPLACED if takes_place else VOTER)
        members.append(member)
    return _with_members(raft._replace(joint=SETTLED), members)


def _carried_on(world: World, raft: Raft, live: list[bool]) -> Iterator[tuple[tuple[object, ...], World]]:
    if raft.joint == APPENDED:
        yield ("joint is committed",), world._replace(raft=raft._replace(joint=COMMITTED))
    elif raft.joint == COMMITTED:
        members = [
            member._replace(role=VOTER) if member.role == INCOMING else member
            for member in raft.members
            if member.role != OUTGOING
        ]
        yield ("joint is over",), _changed(world, _with_members(raft._replace(joint=SETTLED), members))
    else:
        for member, is_up in zip(raft.members, live, strict=True):
            if member.role != JOINING or member.behind or not is_up:
                continue
            roles = {one: OUTGOING for one in raft.members if one.slot == member.slot and one.role == REPLACED}
            try:
                yield ("replacement is carried on", member.slot), _begin(world, raft, {**roles, member: INCOMING})
            except Refused:
                continue
