"""Objects, and how many pods a set has: drift, sets that are missing, growing and shrinking.

Rule: a set always has a pod for every member. It shrinks only by ordinals that no committed membership knows.
"""

from raftwright_operator.actions import ApplyObjects, CreateSet, GrowSet, ShrinkSet, Step, Wait
from raftwright_operator.names import SET_KINDS, SetKind, peers_service, set_name
from raftwright_operator.plan import reasons
from raftwright_operator.plan.facts import Facts, listed


def apply(facts: Facts) -> Step | None:
    """Put right what is missing or differs. A StatefulSet that is missing is made by `create`, which knows its size."""
    seen = facts.seen
    if not seen.drifted:
        return None
    absent = {
        f"StatefulSet/{set_name(seen.name, kind)}"
        for kind in SET_KINDS
        if (found := seen.sets.get(kind)) is None or found.terminating
    }
    objects = tuple(one for one in seen.drifted if one not in absent)
    if not objects:
        return None
    return ApplyObjects(objects=objects, why=f"Not as they should be: {listed(objects)}.")


def create(facts: Facts) -> Step | None:
    """A missing set gets a pod for each one that there is, or that should be: none may stop for its being made anew."""
    for kind in SET_KINDS:
        found = facts.seen.sets.get(kind)
        if found is None and (taken := _in_the_way(facts, kind)):
            what = f"StatefulSet {set_name(facts.seen.name, kind)} is not made, for what it needs is not ours"
            return Wait(reason=reasons.NAME_TAKEN, message=f"{what}: {listed(taken)}.", retry_s=10.0)
        if found is None:
            size = _size(facts, kind)
            name = set_name(facts.seen.name, kind)
            return CreateSet(kind=kind, replicas=size, why=f"StatefulSet {name} does not exist.")
        if found.terminating:
            name = set_name(facts.seen.name, kind)
            return Wait(reason=reasons.CREATING, message=f"StatefulSet {name} is being deleted, and is made anew then.")
    return None


def _in_the_way(facts: Facts, kind: SetKind) -> list[str]:
    """Objects of others whose names the set itself has, or without which its pods do not work."""
    name = facts.seen.name
    needed = {
        f"StatefulSet/{set_name(name, kind)}",
        f"ConfigMap/{name}",
        f"Service/{peers_service(name)}",
        f"ServiceAccount/{name}",
    }
    return sorted(needed.intersection(facts.seen.foreign))


def _size(facts: Facts, kind: SetKind) -> int:
    pods = facts.highest_pod(kind)
    record = facts.seen.hibernation
    if facts.spec.replicas == 0:
        return pods  # they stop next; members and volumes wait until the cluster is wanted again
    if record is not None:
        return max(pods, record.of(kind))
    if facts.intent is None:
        return max(pods, _size_of_new(facts, kind))
    if facts.membership is None:
        return max(pods, facts.size_of_members(kind))
    return max(pods, facts.spec.wanted(kind), facts.size_of_members(kind))


def _size_of_new(facts: Facts, kind: SetKind) -> int:
    return facts.size_at_founding() if kind == "voters" else facts.spec.non_voting


def restore(facts: Facts) -> GrowSet | None:
    """A set that somebody else shrank gets the pods of its members back, also when no leader is known for want of
    them; and a new cluster gets its first pods."""
    for kind in SET_KINDS:
        size = _size_of_new(facts, kind) if facts.intent is None else facts.size_of_members(kind)
        step = _grow(facts, kind, size, "It has fewer pods than there are members." if facts.intent else "It is new.")
        if step is not None:
            return step
    return None


def grow(facts: Facts) -> GrowSet | None:
    for kind in SET_KINDS:
        step = _grow(facts, kind, facts.spec.wanted(kind), f"{facts.spec.wanted(kind)} were asked for.")
        if step is not None:
            return step
    return None


def _grow(facts: Facts, kind: SetKind, size: int, why: str) -> GrowSet | None:
    found = facts.seen.sets[kind]
    if found.replicas >= size:
        return None
    name = set_name(facts.seen.name, kind)
    return GrowSet(
        kind=kind,
        uid=found.uid,
        resource_version=found.resource_version,
        replicas=size,
        why=f"StatefulSet {name} grows from {found.replicas} to {size}. {why}",
    )


def await_gone(facts: Facts) -> Wait | None:
    """What a set that shrank has still to stop; whatever else there is to do has been done meanwhile."""
    stopping = [name for name, pod in facts.pods.items() if pod.ordinal >= facts.seen.sets[pod.kind].replicas]
    if not stopping:
        return None
    return Wait(reason=reasons.SCALING_DOWN, message=f"These pods stop: {listed(sorted(stopping))}.")


def shrink(facts: Facts) -> ShrinkSet | None:
    """Only after the membership, confirmed by a quorum just now, has no member in the pods that go."""
    for kind in SET_KINDS:
        found = facts.seen.sets[kind]
        size = max(facts.spec.wanted(kind), facts.size_of_members(kind))
        if found.replicas > size:
            name = set_name(facts.seen.name, kind)
            return ShrinkSet(
                kind=kind,
                uid=found.uid,
                resource_version=found.resource_version,
                replicas=size,
                why=f"StatefulSet {name} shrinks from {found.replicas} to {size}: no member is left in the pods above.",
            )
    return None
