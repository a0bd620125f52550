"""Builders of Spec and Observed: a settled cluster, and what differs from it. Called by the tests of `plan`.

Rule: what a builder makes is whole and consistent (pods, nodes, volumes, members); a test names what matters to it.
"""

from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any

from raftwright_operator import names
from raftwright_operator.actions import Action, Concern, Done, Step, Wait
from raftwright_operator.names import SetKind
from raftwright_operator.observed import (
    Intent,
    MemberSeen,
    MembershipSeen,
    NodeSeen,
    Observed,
    PodSeen,
    SetSeen,
    VolumeSeen,
)
from raftwright_operator.plan import concerns, plan
from raftwright_operator.spec import Spec, Storage

CLUSTER, NAMESPACE, UID = "db", "prod", "5f2b6c1e-0000-4000-8000-000000000001"
SIZE = 1 << 30
NOW = 1_000_000.0
OLD, NEW = "rev-1", "rev-2"


def spec(replicas: int = 3, **changes: Any) -> Spec:
    """`on_scale_down`, `on_deletion` and `size_bytes` go to the storage."""
    storage = {key: changes.pop(key) for key in ("on_scale_down", "on_deletion", "size_bytes") if key in changes}
    return Spec(**{"replicas": replicas, "storage": Storage(**{"size_bytes": SIZE, **storage}), **changes})


def store(pod: str, generation: int = 1) -> str:
    """The id of the store in a pod's first, second… volume."""
    return f"{pod}/{generation}"


def pod_of(name: str, **changes: Any) -> PodSeen:
    kind, ordinal = place(name)
    return PodSeen(
        **{
            "name": name,
            "uid": f"uid-{name}",
            "kind": kind,
            "ordinal": ordinal,
            "revision": OLD,
            "ready": True,
            **changes,
        }
    )


def node_of(name: str, **changes: Any) -> NodeSeen:
    """Of a member that serves."""
    return NodeSeen(
        **{"pod_uid": f"uid-{name}", "state": "serving", "store_id": store(name), "cluster_id": UID, **changes}
    )


def empty_node(name: str, generation: int = 1) -> NodeSeen:
    """Of a node that waits to be added, or bootstrapped."""
    return node_of(name, state="waiting", store_id=store(name, generation), cluster_id=None)


def volume_of(name: str, **changes: Any) -> VolumeSeen:
    kind, ordinal = place(name)
    return VolumeSeen(
        **{
            "name": names.claim_name(name),
            "uid": f"uid-{names.claim_name(name)}",
            "kind": kind,
            "ordinal": ordinal,
            "requested_bytes": SIZE,
            "capacity_bytes": SIZE,
            **changes,
        }
    )


def member_of(id: int, name: str, role: str = "voter", **changes: Any) -> MemberSeen:
    known = {"match_index": 100, "lag_commands": 0, "lag_seconds": 0.0, "last_contact_s": 0.1}
    return MemberSeen(**{"id": id, "name": name, "store_id": store(name), "role": role, **known, **changes})


def set_of(kind: SetKind, replicas: int, **changes: Any) -> SetSeen:
    known = {"uid": f"uid-{kind}", "resource_version": "7", "update_revision": OLD, "is_observed": True}
    return SetSeen(**{"replicas": replicas, "volume_bytes": SIZE, **known, **changes})


def place(name: str) -> tuple[SetKind, int]:
    found = names.position(CLUSTER, name)
    assert found is not None
    return found


def pod_names(kind: SetKind, count: int) -> list[str]:
    return [names.pod_name(CLUSTER, kind, ordinal) for ordinal in range(count)]


def settled(voters: int = 3, non_voting: int = 0, **changes: Any) -> Observed:
    """All as asked for: members 1, 2, … are db-0, db-1, … and then db-nonvoting-0…; the first one leads."""
    tolerated = voters - (voters // 2 + 1)
    everyone = [*pod_names("voters", voters), *pod_names("non-voting", non_voting)]
    members = tuple(
        member_of(number, name, "voter" if number <= voters else "learner", last_contact_s=None if number == 1 else 0.1)
        for number, name in enumerate(everyone, 1)
    )
    known: dict[str, Any] = {
        "fresh": True,
        "name": CLUSTER,
        "namespace": NAMESPACE,
        "uid": UID,
        "resource_version": "41",
        "generation": 1,
        "intent": Intent(
            cluster_id=UID, stores=tuple((name, store(name)) for name in everyone[:voters]), bootstrapped=True
        ),
        "recorded_members": tuple(everyone),
        "recorded_voters": tuple(everyone[:voters]),
        "sets": {"voters": set_of("voters", voters), "non-voting": set_of("non-voting", non_voting)},
        "pods": {
            name: pod_of(name, voter_label=name in everyone[:voters], leader_label=name == everyone[0])
            for name in everyone
        },
        "volumes": {names.claim_name(name): volume_of(name) for name in everyone},
        "nodes": {name: node_of(name, member_id=number) for number, name in enumerate(everyone, 1)},
        "membership": MembershipSeen(version=10, joint=False, leader=1, members=members),
        "budget": voters - tolerated,
    }
    return Observed(**{**known, **changes})


def new(voters: int = 3, **changes: Any) -> Observed:
    """A new cluster whose pods are there and wait: nothing is written down yet."""
    old = settled(voters)
    return replace(
        old,
        **{
            "intent": None,
            "recorded_members": (),
            "recorded_voters": (),
            "membership": None,
            "pods": {name: pod_of(name, ready=False) for name in old.pods},
            "nodes": {name: empty_node(name) for name in old.pods},
            "budget": voters,
            **changes,
        },
    )


# What differs


def with_pods(seen: Observed, *pods: PodSeen) -> Observed:
    return replace(seen, pods={**seen.pods, **{pod.name: pod for pod in pods}})


def with_pod(seen: Observed, name: str, **changes: Any) -> Observed:
    return replace(seen, pods={**seen.pods, name: replace(seen.pods[name], **changes)})


def with_node(seen: Observed, name: str, **changes: Any) -> Observed:
    return replace(seen, nodes={**seen.nodes, name: replace(seen.nodes[name], **changes)})


def with_nodes(seen: Observed, nodes: Mapping[str, NodeSeen]) -> Observed:
    return replace(seen, nodes={**seen.nodes, **nodes})


def with_set(seen: Observed, kind: SetKind, **changes: Any) -> Observed:
    return replace(seen, sets={**seen.sets, kind: replace(seen.sets[kind], **changes)})


def with_volume(seen: Observed, pod: str, **changes: Any) -> Observed:
    claim = names.claim_name(pod)
    return replace(seen, volumes={**seen.volumes, claim: replace(seen.volumes.get(claim) or volume_of(pod), **changes)})


def with_members(seen: Observed, *members: MemberSeen, **changes: Any) -> Observed:
    """Added, or in place of those with the same ids."""
    assert seen.membership is not None
    kept = {member.id: member for member in (*seen.membership.members, *members)}
    return replace(seen, membership=replace(seen.membership, members=tuple(kept.values()), **changes))


def with_member(seen: Observed, id: int, **changes: Any) -> Observed:
    assert seen.membership is not None
    found = next(member for member in seen.membership.members if member.id == id)
    return with_members(seen, replace(found, **changes))


def without_members(seen: Observed, *ids: int) -> Observed:
    assert seen.membership is not None
    left = tuple(member for member in seen.membership.members if member.id not in ids)
    return replace(seen, membership=replace(seen.membership, members=left))


def led_by(seen: Observed, id: int) -> Observed:
    """Another leader, whose pod has the label."""
    assert seen.membership is not None
    name = next(member.name for member in seen.membership.members if member.id == id)
    members = tuple(replace(one, last_contact_s=None if one.id == id else 0.1) for one in seen.membership.members)
    pods = {pod.name: replace(pod, leader_label=pod.name == name) for pod in seen.pods.values()}
    return replace(seen, pods=pods, membership=replace(seen.membership, leader=id, members=members))


def without_pods(seen: Observed, *gone: str) -> Observed:
    """Their nodes answer no more, and the leader does not hear from them."""
    seen = silent(seen, *gone)
    return replace(seen, pods={name: pod for name, pod in seen.pods.items() if name not in gone})


def silent(seen: Observed, *names_: str) -> Observed:
    """Nodes that answer neither us nor the leader; their pods are not ready."""
    pods = {name: replace(pod, ready=pod.ready and name not in names_) for name, pod in seen.pods.items()}
    nodes = {name: node for name, node in seen.nodes.items() if name not in names_}
    membership = seen.membership
    if membership is not None:
        members = tuple(replace(one, last_contact_s=60.0) if one.name in names_ else one for one in membership.members)
        membership = replace(membership, members=members)
    return replace(seen, pods=pods, nodes=nodes, membership=membership)


def broken(seen: Observed, name: str, problem: str = "ImagePullBackOff", **changes: Any) -> Observed:
    return with_pod(silent(seen, name), name, ready=False, problem=problem, **changes)


def lost_volume(seen: Observed, name: str, generation: int = 2) -> Observed:
    """The pod is there again, labelled, with an empty volume and so another store; the budget spares no other one for
    it any more."""
    seen = with_pods(silent(seen, name), pod_of(name, uid=f"uid-{name}-{generation}", ready=False, voter_label=True))
    seen = with_nodes(seen, {name: replace(empty_node(name, generation), pod_uid=f"uid-{name}-{generation}")})
    voters = 0 if seen.membership is None else sum(one.role == "voter" for one in seen.membership.members)
    return (
        replace(seen, budget=min(voters, (seen.budget or 0) + 1)) if name in seen.recorded_voters and voters else seen
    )


def without_leader(seen: Observed) -> Observed:
    return replace(seen, membership=None)


# What is asked


def step(spec: Spec, seen: Observed) -> Step:
    return plan(spec, seen, NOW)


def waits_for(found: Step) -> str:
    assert isinstance(found, Wait), found
    return found.reason


def is_done(found: Step) -> bool:
    return isinstance(found, Done)


def reasons_of(spec: Spec, seen: Observed) -> set[str]:
    return {concern.reason for concern in concerns(spec, seen, NOW)}


def concern_of(spec: Spec, seen: Observed, reason: str) -> Concern:
    return next(concern for concern in concerns(spec, seen, NOW) if concern.reason == reason)


def same(found: Step, action: Action) -> bool:
    """The same but for the sentence that says why."""
    return isinstance(found, type(action)) and replace(found, why=action.why) == action


def kinds(steps: Iterable[Step]) -> list[str]:
    return [type(one).__name__ for one in steps]
