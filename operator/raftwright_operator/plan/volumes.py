"""Rows "storage size up" and, of "replicas down", what becomes of the volumes of pods that are gone.

Rules: a volume is deleted only by uid, where its pod is gone, its set asks for none, and no member has its name. A
claim that is deleted all the same while a new pod already uses it stays until that pod stops; until then its node gets
no vote (`members`), and it is restarted to get a volume that lasts (`rolling`).
"""

from raftwright_operator.actions import DeleteVolume, ExpandVolume, OrphanSet, Step, Wait
from raftwright_operator.names import SET_KINDS, SetKind, pod_name, set_name
from raftwright_operator.observed import VolumeSeen
from raftwright_operator.plan import reasons
from raftwright_operator.plan.facts import Facts, listed


def delete(facts: Facts) -> DeleteVolume | None:
    if facts.spec.storage.on_scale_down != "Delete":
        return None
    seen = facts.seen
    for claim, volume in seen.volumes.items():
        pod = pod_name(seen.name, volume.kind, volume.ordinal)
        size = max(seen.sets[volume.kind].replicas, facts.spec.wanted(volume.kind))
        if volume.terminating or volume.ordinal < size or pod in facts.pods or pod in facts.by_name:
            continue
        return DeleteVolume(
            claim=claim, uid=volume.uid, why=f"{pod} is gone, and retention.onScaleDown says Delete: so goes {claim}."
        )
    return None


def grow(facts: Facts) -> Step | None:
    """Claims first, then their template, for which the StatefulSet is made anew around its pods."""
    size, seen = facts.spec.storage.size_bytes, facts.seen
    refused = not_enlarged(facts)
    for claim, volume in seen.volumes.items():
        if _is_too_small(facts, volume) and claim not in refused and volume.capacity_bytes > 0:
            return ExpandVolume(claim=claim, uid=volume.uid, size_bytes=size, why=f"{claim} is to be {size} bytes.")
    for kind in () if refused else SET_KINDS:
        found = seen.sets[kind]
        if found.volume_bytes < size and _is_at_rest(facts, kind):
            name = set_name(seen.name, kind)
            why = f"StatefulSet {name} is made anew for larger volumes; its pods go on."
            return OrphanSet(kind=kind, uid=found.uid, why=why)
    return None


def not_enlarged(facts: Facts) -> dict[str, str]:
    """Claims that are to be larger, and that the API server refuses to enlarge, with what it says."""
    volumes = facts.seen.volumes
    return {
        claim: told
        for claim, told in facts.seen.refused_volumes.items()
        if claim in volumes and _is_too_small(facts, volumes[claim])
    }


def await_permission(facts: Facts) -> Wait | None:
    """All else goes on; it is tried again now and then."""
    refused = not_enlarged(facts)
    if not refused:
        return None
    return Wait(reason=reasons.VOLUME_NOT_ENLARGED, message=why_not_enlarged(refused), retry_s=30.0)


def why_not_enlarged(refused: dict[str, str]) -> str:
    told = "; ".join(dict.fromkeys(refused.values()))
    return (
        f"The API server refuses to enlarge {listed(sorted(refused))}: {told.rstrip('.')}. If it is the StorageClass"
        " that does not let volumes grow, set its allowVolumeExpansion to true, where its driver can do it"
    )


def _is_too_small(facts: Facts, volume: VolumeSeen) -> bool:
    return volume.requested_bytes < facts.spec.storage.size_bytes and _is_in_use(facts, volume)


def _is_in_use(facts: Facts, volume: VolumeSeen) -> bool:
    """Of a pod that there is or will be again; one that was retained grows when it is mounted again. (What is not
    bound yet, Kubernetes does not let grow.)"""
    record = facts.seen.hibernation
    slept = 0 if record is None else record.of(volume.kind)
    found = facts.seen.sets.get(volume.kind)
    return not volume.terminating and volume.ordinal < max(0 if found is None else found.replicas, slept)


def _is_at_rest(facts: Facts, kind: SetKind) -> bool:
    """A set that has all of its pods and no others: there is nothing that it would be missed for meanwhile."""
    pods = [pod for pod in facts.pods.values() if pod.kind == kind]
    return len(pods) == facts.seen.sets[kind].replicas and not any(pod.terminating for pod in pods)


def await_growth(facts: Facts) -> Wait | None:
    small = [
        claim
        for claim, volume in facts.seen.volumes.items()
        if 0 < volume.capacity_bytes < volume.requested_bytes and not volume.terminating
    ]
    if not small:
        return None
    return Wait(reason=reasons.VOLUMES_GROWING, message=f"The storage system enlarges {listed(small)}.", retry_s=10.0)
