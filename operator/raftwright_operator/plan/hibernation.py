"""Row "scaled to 0 and back": pods stop and start again; the membership and every volume stay.

Rule: what comes back first is what went, by the record in the status. Only with a leader again is anything changed.
"""

from raftwright_operator.actions import Done, GrowSet, RecordHibernation, ShrinkSet, Step, Wait
from raftwright_operator.names import SET_KINDS, SetKind, set_name
from raftwright_operator.observed import Hibernation
from raftwright_operator.plan import reasons, volumes
from raftwright_operator.plan.facts import Facts, listed, majority


def record(facts: Facts) -> RecordHibernation | None:
    """Note how many pods there are before the first one stops, be the cluster founded yet or not."""
    seen = facts.seen
    if facts.spec.replicas > 0 or seen.hibernation is not None:
        return None
    voters, non_voting = _pods_now(facts, "voters"), _pods_now(facts, "non-voting")
    if voters == non_voting == 0:
        return None
    return RecordHibernation(
        hibernation=Hibernation(voters=voters, non_voting=non_voting),
        resource_version=seen.resource_version,
        why="Scaled to 0: as many pods as there are now come back first.",
    )


def _pods_now(facts: Facts, kind: SetKind) -> int:
    found = facts.seen.sets.get(kind)
    return max(0 if found is None else found.replicas, facts.highest_pod(kind), facts.size_of_members(kind))


def sleep(facts: Facts) -> Step | None:
    """All of a cluster that was scaled to 0. Nothing else is done to it, save that its volumes may grow."""
    if facts.spec.replicas > 0:
        return None
    going = _needed_volumes_going(facts)
    for kind in reversed(SET_KINDS):
        found = facts.seen.sets[kind]
        if found.replicas > 0 and going:
            message = (
                f"The claims of {listed(going)} are being deleted, and go with the data when their pods stop: too few"
                " volumes would be left. Ask for replicas again, three or more, until these members are replaced."
            )
            return Wait(reason=reasons.VOLUME_GOING, message=message, retry_s=10.0)
        if found.replicas > 0:
            return ShrinkSet(
                kind=kind,
                uid=found.uid,
                resource_version=found.resource_version,
                replicas=0,
                why=f"Scaled to 0: the pods of {set_name(facts.seen.name, kind)} stop; members and volumes stay.",
            )
    if facts.pods:
        stopping = listed(sorted(facts.pods))
        return Wait(reason=reasons.HIBERNATING, message=f"Scaled to 0: {stopping} stop; members and volumes stay.")
    return volumes.grow(facts) or volumes.await_permission(facts) or Done()


def _needed_volumes_going(facts: Facts) -> list[str]:
    """Voters whose claims go when the pods stop, where those of the others are too few for a quorum."""
    voters = [voter.name for voter in facts.voters] or list(facts.seen.recorded_voters)
    going = [name for name in voters if facts.is_claim_going(name) and name in facts.pods]
    is_joint = facts.membership is not None and facts.membership.joint  # then each half needs its own
    lasting = [name for name in voters if name not in going and not facts.is_empty(name)]
    return going if is_joint or len(lasting) < majority(len(voters)) else []


def wake(facts: Facts) -> GrowSet | None:
    found = facts.seen.hibernation
    if found is None:
        return None
    for kind in SET_KINDS:
        present, size = facts.seen.sets[kind], found.of(kind)
        if present.replicas < size:
            return GrowSet(
                kind=kind,
                uid=present.uid,
                resource_version=present.resource_version,
                replicas=size,
                why=f"Back from hibernation: the same {size} pods start first.",
            )
    return None


def forget(facts: Facts) -> RecordHibernation | None:
    """The cluster lives again, or never did: from here on it goes to what is asked for now."""
    if facts.seen.hibernation is None:
        return None
    return RecordHibernation(
        hibernation=None,
        resource_version=facts.seen.resource_version,
        why="Back from hibernation: the members have a leader again.",
    )
