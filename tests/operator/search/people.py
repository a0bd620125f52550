"""What people do to a cluster's objects by hand, past the operator. `exploring` takes these for faults where a scenario
says so.

Rule: each is one command of `kubectl`; what it breaks at once is theirs, and what comes of it then is the operator's.
"""

from collections.abc import Iterator

from tests.operator.search.environment import Event, forced_out
from tests.operator.search.preconditions import changed
from tests.operator.search.world import (
    BUDGET,
    LEAVING,
    ORDINAL_OF,
    SET_OF,
    SLOTS_OF,
    World,
    claim_key,
    set_uid_key,
    set_version_key,
    with_claim,
    with_pod,
    with_set,
)


def by_hand(world: World) -> Iterator[tuple[Event, World]]:
    if world.want.deleting > 1:
        return
    for index in range(len(world.kube.sets)):
        yield from _to_set(world, index)
    for slot, pod in enumerate(world.kube.pods):
        if pod is not None and pod.phase != LEAVING:
            yield (
                ("somebody changes the voter label of pod", slot),
                with_pod(world, slot, pod._replace(voter=1 - pod.voter)),
            )
            yield (
                ("somebody changes the leader label of pod", slot),
                with_pod(world, slot, pod._replace(leader=1 - pod.leader)),
            )
    for slot, claim in enumerate(world.kube.claims):
        if claim is None or claim.terminating:
            continue
        pod, found = world.kube.pods[slot], world.kube.sets[SET_OF[slot]]
        if pod is not None:
            if pod.phase == LEAVING or found is None or ORDINAL_OF[slot] >= found.replicas:
                continue  # it stops anyway, and the volume with it
            yield ("somebody deletes the claim of pod", slot), with_claim(world, slot, claim._replace(terminating=1))
        else:
            yield ("somebody deletes claim", slot), changed(with_claim(world, slot, None), claim_key(slot))
    if world.kube.budget >= 0:
        without = world.kube._replace(budget=-1, ready_for=None)
        yield ("somebody deletes the budget",), changed(world._replace(kube=without), BUDGET)
    if world.kube.objects:
        yield ("somebody deletes services",), world._replace(kube=world.kube._replace(objects=0))


def _to_set(world: World, index: int) -> Iterator[tuple[Event, World]]:
    found = world.kube.sets[index]
    if found is None:
        return
    orphaned = changed(with_set(world, index, None), set_uid_key(index), set_version_key(index))
    yield ("somebody deletes set, without its pods", index), orphaned
    if any(claim is not None and claim.terminating for claim in world.kube.claims):
        return  # their pods would be stopped, and the volumes go with them
    deleted = orphaned
    for slot in SLOTS_OF[index]:
        if deleted.kube.pods[slot] is not None:
            deleted = forced_out(deleted, slot)
    yield ("somebody deletes set", index), deleted
    for count in {0, found.replicas - 1, found.replicas + 1} - {found.replicas}:
        if 0 <= count <= len(SLOTS_OF[index]):
            scaled = with_set(world, index, found._replace(replicas=count))
            yield ("somebody scales set", index, "to", count), changed(scaled, set_version_key(index))
