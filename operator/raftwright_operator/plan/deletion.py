"""Rows "paused" and "deleted": what is let alone, and what goes with the resource.

Rule: data goes only where `retention.onDeletion` says Delete, and only after the pods that use it. Of what is asked
for, the deletion is the later word: it is carried out while paused too, or `kubectl delete` would hang.
"""

from raftwright_operator.actions import DeleteSet, DeleteVolume, ReleaseFinalizer, RestartPod, Step, Wait
from raftwright_operator.names import SET_KINDS
from raftwright_operator.plan import reasons
from raftwright_operator.plan.facts import Facts, listed


def delete(facts: Facts) -> Step | None:
    """The whole way of a resource that is being deleted; whether it ever was founded, or hibernates, is all one."""
    seen = facts.seen
    if not seen.deleting:
        return None
    if facts.spec.storage.on_deletion == "Retain":
        return _delete_orphans(facts) or ReleaseFinalizer(
            why="The resource is being deleted; its volumes stay, as retention.onDeletion says."
        )
    for kind in SET_KINDS:
        found = seen.sets.get(kind)
        if found is not None and not found.terminating:
            return DeleteSet(kind=kind, uid=found.uid, why="The resource is being deleted, and its data with it.")
    orphan = _delete_orphans(facts)
    if orphan is not None:
        return orphan
    if facts.pods or seen.sets:
        going = listed(sorted(facts.pods)) or "the StatefulSets"
        return Wait(reason=reasons.DELETING, message=f"Volumes are deleted once pods are gone: {going}.")
    for claim in sorted(seen.volumes):
        if not seen.volumes[claim].terminating:
            return DeleteVolume(
                claim=claim,
                uid=seen.volumes[claim].uid,
                why="The resource is deleted with retention.onDeletion: Delete.",
            )
    return ReleaseFinalizer(why="Pods and volumes are gone.")


def _delete_orphans(facts: Facts) -> RestartPod | None:
    """Pods whose StatefulSet is away for the moment have no owner that would take them along."""
    for name in sorted(facts.pods):
        pod = facts.pods[name]
        if pod.kind not in facts.seen.sets and not pod.terminating:
            return RestartPod(
                pod=name, uid=pod.uid, evict=False, why=f"{name} has no StatefulSet any more that would take it along."
            )
    return None


def pause(facts: Facts) -> Wait | None:
    if facts.spec.paused:
        return Wait(reason=reasons.PAUSED, message="Nothing is touched while spec.paused is true.", retry_s=30.0)
    return None
