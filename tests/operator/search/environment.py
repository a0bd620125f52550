"""What happens without the operator: the StatefulSets' controller, the kubelet, the nodes among themselves, and faults.

`exploring` asks for everything that can happen next. Rule: `passing` is what goes on by itself and comes to rest;
`faults` are what somebody or something else does, each out of a bounded number.
"""

from collections.abc import Iterator

from tests.operator.search import membership
from tests.operator.search.membership import with_leader_checked
from tests.operator.search.preconditions import changed
from tests.operator.search.world import (
    DOWN,
    GOOD_REVISIONS,
    LEAVING,
    MEMBER,
    ORDINAL_OF,
    SET_OF,
    SLOTS,
    UP,
    WAITING,
    Claim,
    Pod,
    World,
    claim_key,
    new_store,
    pod_key,
    set_version_key,
    with_claim,
    with_pod,
)

Event = tuple[object, ...]


def passing(world: World) -> Iterator[tuple[Event, World]]:
    if world.want.deleting > 1:
        return
    for slot in range(SLOTS):
        yield from _controlled(world, slot)
    yield from membership.passes(world)


def _controlled(world: World, slot: int) -> Iterator[tuple[Event, World]]:
    kube = world.kube
    pod, claim, found = kube.pods[slot], kube.claims[slot], kube.sets[SET_OF[slot]]
    if pod is None:
        if found is not None and ORDINAL_OF[slot] < found.replicas and (claim is None or not claim.terminating):
            yield ("pod is made", slot), _with_new_pod(world, slot)
    elif pod.phase == LEAVING:
        yield ("pod is gone", slot), gone(world, slot)
    else:
        if found is not None and ORDINAL_OF[slot] >= found.replicas:
            yield ("controller ends pod", slot), forced_out(world, slot)
        if pod.phase == DOWN and pod.revision in GOOD_REVISIONS:
            yield ("pod answers", slot), _up(world, slot, pod)


def _with_new_pod(world: World, slot: int) -> World:
    found = world.kube.sets[SET_OF[slot]]
    assert found is not None
    if world.kube.claims[slot] is None:
        claim = Claim(store=new_store(world, slot), content=WAITING, big=found.big)
        world = changed(with_claim(world, slot, claim), claim_key(slot))
    world = with_pod(world, slot, Pod(DOWN, 0, 0, found.revision))
    return changed(world, pod_key(slot), set_version_key(SET_OF[slot]))


def _up(world: World, slot: int, pod: Pod) -> World:
    """A member that comes back has something to catch up with."""
    world = changed(with_pod(world, slot, pod._replace(phase=UP)), set_version_key(SET_OF[slot]))
    raft, claim = world.raft, world.kube.claims[slot]
    if raft is None or claim is None or claim.content != MEMBER:
        return world
    members = tuple(
        sorted(
            member._replace(behind=1) if member.slot == slot and member.store == claim.store else member
            for member in raft.members
        )
    )
    return world._replace(raft=raft._replace(members=members))


def _without_node(world: World, slot: int, pod: Pod | None) -> World:
    world = changed(with_pod(world, slot, pod), set_version_key(SET_OF[slot]))
    return with_leader_checked(world)


def forced_out(world: World, slot: int) -> World:
    """Evicted or deleted: its node stops, the pod goes soon."""
    pod = world.kube.pods[slot]
    assert pod is not None
    return _without_node(world, slot, pod._replace(phase=LEAVING))


def gone(world: World, slot: int) -> World:
    claim = world.kube.claims[slot]
    world = changed(_without_node(world, slot, None), pod_key(slot))
    if claim is not None and claim.terminating:
        world = changed(with_claim(world, slot, None), claim_key(slot))
    return world


def may_be_evicted(world: World, slot: int) -> bool:
    """As the disruption controller counts: ready pods that carry the label against `minAvailable`."""
    kube = world.kube
    pod = kube.pods[slot]
    if pod is None or not pod.voter or kube.budget < 0:
        return True
    healthy = [_is_ready(world, other) and bool(one and one.voter) for other, one in enumerate(kube.pods)]
    return sum(healthy) - kube.budget >= healthy[slot]


def _is_ready(world: World, slot: int) -> bool:
    pod, claim = world.kube.pods[slot], world.kube.claims[slot]
    return pod is not None and pod.phase == UP and claim is not None and claim.content == MEMBER


def faults(world: World, *, is_lossy: bool = True) -> Iterator[tuple[Event, World]]:
    if world.want.deleting > 1:
        return
    yield from drains(world)
    for slot, pod in enumerate(world.kube.pods):
        if pod is not None and pod.phase != LEAVING:
            if pod.phase == UP:
                yield ("node crashes", slot), _without_node(world, slot, pod._replace(phase=DOWN))
            yield ("somebody deletes pod", slot), gone(world, slot)
        if is_lossy and world.kube.claims[slot] is not None:
            yield ("volume is lost", slot), _without_volume(world, slot)
    yield from membership.elections(world)


def drains(world: World) -> Iterator[tuple[Event, World]]:
    for slot, pod in enumerate(world.kube.pods):
        if pod is not None and pod.phase == UP and pod.voter and may_be_evicted(world, slot):
            yield ("drain evicts pod", slot), forced_out(world, slot)


def _without_volume(world: World, slot: int) -> World:
    """Its machine is gone for good: the pod too."""
    if world.kube.pods[slot] is not None:
        world = gone(world, slot)
    return changed(with_claim(world, slot, None), claim_key(slot))
