"""Turns Kubernetes' objects and nodes' answers into the facts of `observed`: PURE. Called by `observe`.

Rule: what an object does not say is not guessed; a part that cannot be read is as if it were not there.
"""

from collections.abc import Iterable, Mapping
from typing import Any

from raftwright.client.member_models import MemberInfo, MembersAnswer
from raftwright.client.models import NodeStatus
from raftwright_operator import quantities
from raftwright_operator.names import (
    DATA_VOLUME,
    LABEL_LEADER,
    LABEL_VOTER,
    SET_KINDS,
    claim_name,
    position,
    set_name,
)
from raftwright_operator.names import SetKind as Kind
from raftwright_operator.observed import (
    Hibernation,
    Intent,
    MemberSeen,
    MembershipSeen,
    NodeSeen,
    PodSeen,
    SetSeen,
    VolumeSeen,
)

Found = Mapping[str, Any]
_HARMLESS = ("ContainerCreating", "PodInitializing")
"""Reasons why a container waits that are no trouble."""


def intent_of(resource: Found) -> Intent | None:
    found = _map(_map(resource, "status"), "cluster")
    if not found.get("id"):
        return None
    stores: Found = found.get("stores") or {}
    name = resource["metadata"]["name"]
    in_order = sorted(stores.items(), key=lambda item: (position(name, item[0]) or ("", 0), item[0]))
    return Intent(cluster_id=found["id"], stores=tuple(in_order), bootstrapped=bool(found.get("bootstrapped")))


def hibernation_of(resource: Found) -> Hibernation | None:
    found = _map(_map(resource, "status"), "hibernation")
    if not found:
        return None
    return Hibernation(voters=int(found.get("voters") or 0), non_voting=int(found.get("nonVoting") or 0))


def recorded(resource: Found, *, voters_only: bool = False) -> tuple[str, ...]:
    """Names of the members that the status lists: pods that are none yet have no id there."""
    members = _map(resource, "status").get("members") or ()
    return tuple(
        member["name"]
        for member in members
        if member.get("id") is not None and (member.get("role") == "voter" or not voters_only)
    )


def sets_of(cluster: str, objects: Iterable[Found]) -> dict[Kind, SetSeen]:
    by_name = {found["metadata"]["name"]: found for found in objects}
    return {kind: _set(by_name[set_name(cluster, kind)]) for kind in SET_KINDS if set_name(cluster, kind) in by_name}


def _set(found: Found) -> SetSeen:
    meta, spec, status = found["metadata"], found["spec"], found.get("status") or {}
    replicas = spec.get("replicas")
    return SetSeen(
        uid=meta["uid"],
        resource_version=meta["resourceVersion"],
        replicas=1 if replicas is None else replicas,
        update_revision=status.get("updateRevision") or "",
        is_observed=(status.get("observedGeneration") or 0) >= meta.get("generation", 1),
        volume_bytes=_template_bytes(spec),
        terminating="deletionTimestamp" in meta,
    )


def _template_bytes(spec: Found) -> int:
    for template in spec.get("volumeClaimTemplates") or ():
        if template["metadata"]["name"] == DATA_VOLUME:
            return _requested(template)
    return 0


def _requested(claim: Found) -> int:
    return _bytes(_map(_map(_map(claim, "spec"), "resources"), "requests").get("storage"))


def _bytes(text: Any) -> int:
    try:
        return quantities.whole(text or 0)
    except ValueError:
        return 0


def pods_of(cluster: str, objects: Iterable[Found]) -> dict[str, PodSeen]:
    seen = {}
    for found in objects:
        place = position(cluster, found["metadata"]["name"])
        if place is not None:
            seen[found["metadata"]["name"]] = _pod(found, *place)
    return seen


def _pod(found: Found, kind: Kind, ordinal: int) -> PodSeen:
    meta, labels = found["metadata"], found["metadata"].get("labels") or {}
    conditions = {each["type"]: each for each in _map(found, "status").get("conditions") or ()}
    return PodSeen(
        name=meta["name"],
        uid=meta["uid"],
        kind=kind,
        ordinal=ordinal,
        revision=labels.get("controller-revision-hash", ""),
        ready=conditions.get("Ready", {}).get("status") == "True",
        terminating="deletionTimestamp" in meta,
        voter_label=labels.get(LABEL_VOTER) == "true",
        leader_label=labels.get(LABEL_LEADER) == "true",
        node=_map(found, "spec").get("nodeName"),
        problem=problem_of(found),
    )


def problem_of(pod: Found) -> str | None:
    """Why a pod does not run, as Kubernetes says; None where it does, or is just on its way."""
    status = _map(pod, "status")
    for each in status.get("conditions") or ():
        if each["type"] == "PodScheduled" and each["status"] == "False":
            return _said(each.get("reason") or "Unschedulable", each.get("message"))
    for each in (*(status.get("initContainerStatuses") or ()), *(status.get("containerStatuses") or ())):
        state = each.get("state") or {}
        waiting, ended = state.get("waiting") or {}, state.get("terminated") or {}
        if waiting.get("reason") and waiting["reason"] not in _HARMLESS:
            return _said(waiting["reason"], waiting.get("message"))
        if ended.get("exitCode"):
            return _said(ended.get("reason") or "Error", ended.get("message") or f"exit code {ended['exitCode']}")
    if status.get("phase") == "Failed":
        return _said(status.get("reason") or "Failed", status.get("message"))
    return None


def _said(reason: str, message: str | None) -> str:
    return f"{reason}: {message}" if message else reason


def volumes_of(cluster: str, objects: Iterable[Found]) -> dict[str, VolumeSeen]:
    """Claims of the cluster's pods, by their names; others that bear the label are not ours."""
    seen = {}
    for found in objects:
        name = found["metadata"]["name"]
        pod = name.removeprefix(claim_name(""))
        place = position(cluster, pod)
        if place is None or claim_name(pod) != name:
            continue
        seen[name] = VolumeSeen(
            name=name,
            uid=found["metadata"]["uid"],
            kind=place[0],
            ordinal=place[1],
            requested_bytes=_requested(found),
            capacity_bytes=_bytes(_map(_map(found, "status"), "capacity").get("storage")),
            terminating="deletionTimestamp" in found["metadata"],
        )
    return seen


def node_of(pod_uid: str, status: NodeStatus) -> NodeSeen | None:
    """None of a node that does not say its store yet."""
    if status.store_id is None:
        return None
    return NodeSeen(
        pod_uid=pod_uid,
        state=status.state,
        store_id=status.store_id,
        cluster_id=status.cluster_id,
        member_id=status.id,
        leader=status.leader,
        applied_index=status.applied_index,
        version=status.version,
        diverged=status.state_check is not None and status.state_check.diverged,
        detail=status.detail,
    )


def membership_of(answer: MembersAnswer) -> MembershipSeen | None:
    """None of an answer without a leader."""
    if answer.leader is None:
        return None
    members = tuple(_member(info) for info in answer.members)
    return MembershipSeen(version=answer.version, joint=answer.joint, leader=answer.leader, members=members)


def _member(info: MemberInfo) -> MemberSeen:
    return MemberSeen(
        id=info.id,
        name=info.name,
        store_id=info.store_id,
        role=info.role,
        leaving=info.leaving,
        match_index=info.match_index,
        lag_commands=info.lag.commands if info.lag else None,
        lag_seconds=info.lag.seconds if info.lag else None,
        last_contact_s=info.last_contact_s,
        intent=dict(info.intent),
    )


def _map(parent: Found, name: str) -> Found:
    found: Found = parent.get(name) or {}
    return found
