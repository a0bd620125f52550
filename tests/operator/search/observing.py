"""What the operator sees of a world: Spec and Observed, as `observe` would make them.

`deciding` calls it. Rule: objects are from the stale cache if there is one and nobody asked for fresh ones; what nodes
and the leader say is as it is now.
"""

from functools import cache

from raftwright_operator.names import SET_KINDS, claim_name
from raftwright_operator.observed import (
    Hibernation,
    Intent,
    MemberSeen,
    MembershipSeen,
    NodeSeen,
    Observed,
    PodSeen,
    SetSeen,
    VolumeSeen,
)
from raftwright_operator.spec import Retention, Spec, Storage
from tests.operator.search.membership import is_live
from tests.operator.search.world import (
    BUDGET,
    CLUSTER,
    COMMITTED,
    GOOD_REVISIONS,
    JOINING,
    KIND_OF,
    LEARNER,
    MEMBER,
    NAMES,
    NAMESPACE,
    OLD_UID,
    ORDINAL_OF,
    OUTGOING,
    REMOVED,
    REPLACED,
    RESOURCE,
    SETTLED,
    SLOTS,
    UID,
    UP,
    WAITING,
    Kube,
    Member,
    Pod,
    Raft,
    Want,
    World,
    claim_key,
    pod_key,
    set_uid_key,
    set_version_key,
)

SIZES = (1 << 30, 2 << 30)
MEMBERSHIP_VERSION = 5
STATES = {WAITING: "waiting", MEMBER: "serving", REMOVED: "removed"}
_PLAIN_OBJECTS = (
    f"ConfigMap/{CLUSTER}",
    f"Service/{CLUSTER}",
    f"Service/{CLUSTER}-leader",
    f"Service/{CLUSTER}-peers",
    f"ServiceAccount/{CLUSTER}",
)
Visible = tuple[Want, Kube, Raft | int | None, tuple[int, ...], Kube]


@cache
def spec_of(want: Want, on_scale_down: Retention, on_deletion: Retention) -> Spec:
    storage = Storage(size_bytes=SIZES[want.big], on_scale_down=on_scale_down, on_deletion=on_deletion)
    return Spec(
        storage=storage, replicas=want.replicas, non_voting=want.non_voting, image=f"raftwright/node:{want.revision}"
    )


def store_id(slot: int, store: int) -> str:
    return f"{slot:016x}{store:016x}"


def store_of(store_id: str) -> tuple[int, int]:
    return int(store_id[:16], 16), int(store_id[16:], 16)


def member_id(slot: int, store: int) -> int:
    return 1 + slot + SLOTS * store


def change_told(change: tuple[str, tuple[tuple[int, int], ...]] | None) -> str:
    """As the budget notes it."""
    if change is None:
        return ""
    return f"{MEMBERSHIP_VERSION} {change[0]} {', '.join(str(member_id(*one)) for one in change[1])}"


def change_of(told: str) -> tuple[str, tuple[tuple[int, int], ...]] | None:
    if not told:
        return None
    _, word, ids = told.split(" ", 2)
    return word, tuple(member_of(int(one)) for one in ids.split(", "))


def member_of(member_id: int) -> tuple[int, int]:
    return (member_id - 1) % SLOTS, (member_id - 1) // SLOTS


def visible(world: World, fresh: bool) -> Visible:
    """All that the operator can know, so that worlds which look alike are planned for once."""
    kube, raft, stale = world.kube, world.raft, world.stale
    claims = tuple(
        claim
        if claim is None or ((pod := kube.pods[slot]) is not None and pod.phase == UP)
        else claim._replace(store=0, content=0)
        for slot, claim in enumerate(kube.claims)
    )
    now = kube._replace(claims=claims)
    seen: Raft | int | None = None
    if raft is not None:
        seen = raft.adopted if raft.leader < 0 else raft._replace(joint=COMMITTED) if raft.joint else raft
    if stale is None or fresh:
        return world.want, now, seen, (), now
    return world.want, now, seen, stale.changed, stale.kube


def observed(seen: Visible, fresh: bool) -> Observed:
    """Reads worlds as `visible` leaves them."""
    want, now, raft, changed, kube = seen
    return Observed(
        fresh=fresh,
        name=CLUSTER,
        namespace=NAMESPACE,
        uid=UID,
        resource_version="old" if RESOURCE in changed else "now",
        generation=1,
        deleting=bool(want.deleting),
        intent=_intent(kube),
        hibernation=kube.hibernation and Hibernation(voters=kube.hibernation[0], non_voting=kube.hibernation[1]),
        recorded_members=tuple(NAMES[slot] for slot in kube.recorded),
        sets={kind: _set(kube, index, changed) for index, kind in enumerate(SET_KINDS) if kube.sets[index] is not None},
        pods={NAMES[slot]: _pod(kube, slot, pod, changed) for slot, pod in enumerate(kube.pods) if pod is not None},
        volumes=_volumes(kube, changed),
        nodes={NAMES[slot]: node for slot in range(SLOTS) if (node := _node(now, raft, slot)) is not None},
        membership=_membership(now, raft) if isinstance(raft, Raft) else None,
        budget=None if kube.budget < 0 else kube.budget,
        budget_version=None if kube.budget < 0 else "old" if BUDGET in changed else "now",
        budget_ready_for=change_told(kube.ready_for),
        drifted=_drifted(want, kube),
    )


def _intent(kube: Kube) -> Intent | None:
    if kube.intent is None:
        return None
    adopted, stores, bootstrapped = kube.intent
    named = tuple((NAMES[slot], store_id(slot, store)) for slot, store in stores)
    return Intent(cluster_id=OLD_UID if adopted else UID, stores=named, bootstrapped=bool(bootstrapped))


def _set(kube: Kube, index: int, changed: tuple[int, ...]) -> SetSeen:
    found = kube.sets[index]
    assert found is not None
    return SetSeen(
        uid=f"{'other-' if set_uid_key(index) in changed else ''}set-{index}",
        resource_version="old" if set_version_key(index) in changed else "now",
        replicas=found.replicas,
        update_revision=f"revision-{found.revision}",
        is_observed=True,
        volume_bytes=SIZES[found.big],
    )


def _pod(kube: Kube, slot: int, pod: Pod, changed: tuple[int, ...]) -> PodSeen:
    claim = kube.claims[slot]
    return PodSeen(
        name=NAMES[slot],
        uid=f"{'other-' if pod_key(slot) in changed else ''}pod-{slot}",
        kind=KIND_OF[slot],
        ordinal=ORDINAL_OF[slot],
        revision=f"revision-{pod.revision}",
        ready=pod.phase == UP and claim is not None and claim.content == MEMBER,
        terminating=pod.phase > UP,
        voter_label=bool(pod.voter),
        leader_label=bool(pod.leader),
        node=f"machine-{slot}",
        problem=None if pod.revision in GOOD_REVISIONS else "ImagePullBackOff: no such image",
    )


def _volumes(kube: Kube, changed: tuple[int, ...]) -> dict[str, VolumeSeen]:
    return {
        claim_name(NAMES[slot]): VolumeSeen(
            name=claim_name(NAMES[slot]),
            uid=f"{'other-' if claim_key(slot) in changed else ''}claim-{slot}",
            kind=KIND_OF[slot],
            ordinal=ORDINAL_OF[slot],
            requested_bytes=SIZES[claim.big],
            capacity_bytes=SIZES[claim.big],
            terminating=bool(claim.terminating),
        )
        for slot, claim in enumerate(kube.claims)
        if claim is not None
    }


def _node(now: Kube, raft: Raft | int | None, slot: int) -> NodeSeen | None:
    pod, claim = now.pods[slot], now.claims[slot]
    if pod is None or pod.phase != UP or claim is None:
        return None
    belongs = claim.content != WAITING
    adopted = raft.adopted if isinstance(raft, Raft) else raft
    leader = None
    if isinstance(raft, Raft) and claim.content == MEMBER:
        leads = next(one for one in raft.members if one.slot == raft.leader and is_live(now, one))
        leader = member_id(leads.slot, leads.store)
    return NodeSeen(
        pod_uid=f"pod-{slot}",
        state=STATES[claim.content],  # type: ignore[arg-type]
        store_id=store_id(slot, claim.store),
        cluster_id=(OLD_UID if adopted else UID) if belongs else None,
        member_id=member_id(slot, claim.store) if belongs else None,
        leader=leader,
        applied_index=100 if claim.content == MEMBER else 0,
        version="1.0.0",
    )


def _membership(now: Kube, raft: Raft) -> MembershipSeen:
    leader = next(one for one in raft.members if one.slot == raft.leader and is_live(now, one))
    return MembershipSeen(
        version=MEMBERSHIP_VERSION,
        joint=raft.joint != SETTLED,
        leader=member_id(leader.slot, leader.store),
        members=tuple(_member(now, raft, one, one == leader) for one in raft.members),
    )


def _member(now: Kube, raft: Raft, member: Member, leads: bool) -> MemberSeen:
    slot, store, role, behind = member
    is_heard = is_live(now, member)
    intent: dict[str, int | str] = {}
    if role == JOINING:
        intent = {"promote": MEMBERSHIP_VERSION}
        for one in raft.members:
            if one.slot == slot and one.role == REPLACED:
                intent["replaces"] = member_id(one.slot, one.store)
    elif role == REPLACED:
        intent = {"remove": MEMBERSHIP_VERSION}
    return MemberSeen(
        id=member_id(slot, store),
        name=NAMES[slot],
        store_id=store_id(slot, store),
        role="learner" if role in (LEARNER, JOINING) else "voter",
        leaving=role == OUTGOING,
        match_index=50 if behind else 100,
        lag_commands=500_000 if behind else 0,
        lag_seconds=600.0 if behind else 0.0,
        last_contact_s=0.0 if leads else 0.05 if is_heard else 3600.0,
        intent=intent,
    )


def _drifted(want: Want, kube: Kube) -> tuple[str, ...]:
    sets = tuple(
        f"StatefulSet/{CLUSTER}{'-nonvoting' if index else ''}"
        for index, found in enumerate(kube.sets)
        if found is not None and (found.revision != want.revision or not found.marked)
    )
    return sets if kube.objects else _PLAIN_OBJECTS + sets
