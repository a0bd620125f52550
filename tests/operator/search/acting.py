"""What an action of the operator does to a world, under the preconditions that its docstring promises.

`compiled` puts an action into the terms of the world once; `execute` does it, now or much later. Rule: nothing is done
that the API server or a node would refuse; Refused says why.
"""

from raftwright_operator import actions
from raftwright_operator.actions import Action
from raftwright_operator.names import SET_KINDS, set_name
from raftwright_operator.observed import Intent
from tests.operator.search import membership
from tests.operator.search.environment import forced_out, may_be_evicted
from tests.operator.search.membership import Refused
from tests.operator.search.observing import change_of, member_of, store_of
from tests.operator.search.preconditions import changed
from tests.operator.search.world import (
    BUDGET,
    CLUSTER,
    LEAVING,
    MEMBER,
    OLD_UID,
    REMOVED,
    RESOURCE,
    SLOT_NAMED,
    SLOTS_OF,
    UID,
    UP,
    VOTER,
    WAITING,
    Act,
    Claim,
    Member,
    Raft,
    Set,
    Want,
    World,
    claim_key,
    new_store,
    set_index,
    set_uid_key,
    set_version_key,
    with_claim,
    with_pod,
    with_set,
)


def compiled(action: Action, want: Want) -> Act:
    match action:
        case actions.ApplyObjects(objects=names):
            sets = [f"StatefulSet/{set_name(CLUSTER, kind)}" for kind in SET_KINDS]
            revisions = tuple(want.revision if name in names else -1 for name in sets)
            return "objects", int(any(name not in sets for name in names)), revisions, 1
        case actions.CreateSet(kind=kind, replicas=count):
            return "create set", set_index(kind), Set(count, want.revision, want.big)
        case actions.GrowSet(kind=kind, replicas=count):
            return "grow", set_index(kind), count
        case actions.ShrinkSet(kind=kind, replicas=count):
            return "shrink", set_index(kind), count
        case actions.OrphanSet(kind=kind):
            return "orphan", set_index(kind)
        case actions.DeleteSet(kind=kind):
            return "delete set", set_index(kind)
        case actions.ApplyBudget(min_available=count, ready_for=change):
            return "budget", count, change_of(change)
        case actions.LabelPods(pods=pods):
            return "labels", tuple((SLOT_NAMED[one.pod], int(one.voter), int(one.leader)) for one in pods)
        case actions.RestartPod(pod=pod, evict=evict):
            return "restart", SLOT_NAMED[pod], int(evict)
        case actions.ExpandVolume(claim=claim):
            return "expand", SLOT_NAMED[claim.removeprefix("data-")]
        case actions.DeleteVolume(claim=claim):
            return "delete volume", SLOT_NAMED[claim.removeprefix("data-")]
        case actions.ReleaseFinalizer():
            return ("release",)
    return _compiled_for_nodes(action)


def _compiled_for_nodes(action: Action) -> Act:
    match action:
        case actions.RecordIntent(intent=intent):
            return "intent", int(intent.cluster_id == OLD_UID), _stores(intent), int(intent.bootstrapped)
        case actions.RecordHibernation(hibernation=found):
            return "hibernation", found and (found.voters, found.non_voting)
        case actions.Bootstrap(pod=pod, intent=intent):
            assert intent.cluster_id in (UID, OLD_UID)
            return "bootstrap", SLOT_NAMED[pod], _stores(intent)
        case actions.AddMembers(joiners=joiners):
            return "add", tuple(_joiner(joiner) for joiner in joiners)
        case actions.PromoteMembers(ids=ids):
            return "promote", tuple(member_of(one) for one in ids)
        case actions.RemoveMembers(ids=ids):
            return "remove", tuple(member_of(one) for one in ids)
        case actions.RenewMembership():
            return ("renew",)
        case actions.ReplaceMember(old=old, joiner=joiner):
            return "replace", (member_of(old), _joiner(joiner))
        case actions.TransferLeadership(to=to):
            return "transfer", member_of(to)
        case actions.DiscardStore(store_id=store):
            return "discard", store_of(store)
    raise AssertionError(f"an action that the world does not know: {action}")


def _stores(intent: Intent) -> tuple[tuple[int, int], ...]:
    return tuple(store_of(store) for _, store in intent.stores)


def _joiner(joiner: actions.Joiner) -> tuple[int, int]:
    slot, store = store_of(joiner.store_id)
    assert SLOT_NAMED[joiner.pod] == slot, "a store under the name of another pod"
    return slot, store


def execute(world: World, act: Act) -> World:
    """Raises Refused, and then nothing has changed."""
    match act:
        case ("objects", plain, revisions, marked):
            return _apply(world, plain, revisions, marked)
        case ("create set", index, found):
            if world.kube.sets[index] is not None:
                raise Refused("already-exists")
            return changed(with_set(world, index, found), set_uid_key(index), set_version_key(index))
        case ("grow" | "shrink", index, count):
            return _resize(world, index, count)
        case ("orphan", index):
            return changed(with_set(world, index, None), set_uid_key(index), set_version_key(index))
        case ("delete set", index):
            return _delete_set(world, index)
        case ("budget", count, change):
            return changed(world._replace(kube=world.kube._replace(budget=count, ready_for=change)), BUDGET)
        case ("labels", labels):
            return _label(world, labels)
        case ("intent", adopted, stores, bootstrapped):
            raft = world.raft and (world.raft._replace(founded=()) if bootstrapped else world.raft)
            kube = world.kube._replace(intent=(adopted, stores, bootstrapped))
            return changed(world._replace(kube=kube, raft=raft), RESOURCE)
        case ("hibernation", found):
            return changed(world._replace(kube=world.kube._replace(hibernation=found)), RESOURCE)
        case ("bootstrap", slot, stores):
            return _bootstrap(world, slot, stores)
        case ("add", joiners):
            return membership.add(world, joiners)
        case ("promote", ids):
            return membership.promote(world, ids)
        case ("remove", ids):
            return membership.remove(world, ids)
        case ("renew",):
            return membership.renew(world)
        case ("replace", (old, new)):
            return membership.replace(world, old, new)
        case ("transfer", to):
            return membership.transfer(world, to)
        case ("discard", (slot, store)):
            return _discard(world, slot, store)
        case ("restart", slot, evict):
            return _restart(world, slot, bool(evict))
        case ("expand", slot):
            return with_claim(world, slot, _claim(world, slot)._replace(big=1))
        case ("delete volume", slot):
            return _delete_volume(world, slot)
        case ("release",):
            return world._replace(want=world.want._replace(deleting=2))
    raise AssertionError(act)


def _apply(world: World, plain: int, revisions: tuple[int, int], marked: int) -> World:
    if plain:
        world = world._replace(kube=world.kube._replace(objects=1))
    for index, revision in enumerate(revisions):
        found = world.kube.sets[index]
        if found is not None and revision >= 0 and (revision, marked) != (found.revision, found.marked):
            applied = found._replace(revision=revision, marked=marked)
            world = changed(with_set(world, index, applied), set_version_key(index))
    return world


def _resize(world: World, index: int, count: int) -> World:
    found = world.kube.sets[index]
    if found is None:
        raise Refused("not-found")
    return changed(with_set(world, index, found._replace(replicas=count)), set_version_key(index))


def _delete_set(world: World, index: int) -> World:
    world = changed(with_set(world, index, None), set_uid_key(index), set_version_key(index))
    for slot in SLOTS_OF[index]:
        if world.kube.pods[slot] is not None:
            world = forced_out(world, slot)
    return world


def _label(world: World, labels: tuple[tuple[int, int, int], ...]) -> World:
    for slot, voter, leader in labels:
        pod = world.kube.pods[slot]
        if pod is not None:
            world = with_pod(world, slot, pod._replace(voter=voter, leader=leader))
    return world


def _claim(world: World, slot: int) -> Claim:
    found = world.kube.claims[slot]
    if found is None:
        raise Refused("not-found")
    return found


def _is_up(world: World, slot: int) -> bool:
    pod = world.kube.pods[slot]
    return pod is not None and pod.phase == UP


def _bootstrap(world: World, slot: int, stores: tuple[tuple[int, int], ...]) -> World:
    """A second node given the same body founds the same cluster: all that it begins with follows from the body."""
    claim = _claim(world, slot)
    if not _is_up(world, slot):
        raise Refused("not-reached")
    if (slot, claim.store) not in stores:
        raise Refused("invalid-request")
    if claim.content != WAITING:
        if claim.content == MEMBER and world.raft is not None and world.raft.founded == stores:
            return world
        raise Refused("already-bootstrapped")
    if world.raft is None:
        members = tuple(sorted(Member(*one, VOTER, int(one[0] != slot)) for one in stores))
        world = world._replace(raft=Raft(members, leader=-1, joint=0, adopted=0, founded=stores))
    return with_claim(world, slot, claim._replace(content=MEMBER))


def _discard(world: World, slot: int, store: int) -> World:
    claim = _claim(world, slot)
    if not _is_up(world, slot):
        raise Refused("not-reached")
    if claim.store != store:
        return world  # it was discarded before
    if claim.content != REMOVED:
        raise Refused("not-removed")
    return with_claim(world, slot, claim._replace(store=new_store(world, slot), content=WAITING))


def _restart(world: World, slot: int, evict: bool) -> World:
    pod = world.kube.pods[slot]
    if pod is None:
        raise Refused("not-found")
    if pod.phase == LEAVING:
        return world
    if evict and not may_be_evicted(world, slot):
        raise Refused("disruption-budget")
    return forced_out(world, slot)


def _delete_volume(world: World, slot: int) -> World:
    claim = _claim(world, slot)
    if world.kube.pods[slot] is not None:
        return with_claim(world, slot, claim._replace(terminating=1))  # until its pod is gone
    return changed(with_claim(world, slot, None), claim_key(slot))
