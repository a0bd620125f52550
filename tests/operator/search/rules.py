"""What must never happen, each rule by a name that tests and traces use.

`exploring` asks after every step. Rule: a rule judges what the operator did, or what it let a drain do; what faults
destroy is nobody's fault.
"""

from collections.abc import Iterator

from raftwright_operator import actions
from raftwright_operator.actions import Action
from raftwright_operator.names import claim_name
from raftwright_operator.observed import Observed
from raftwright_operator.spec import Spec
from tests.operator.search.membership import can_recover, find, has_live_quorum, voters
from tests.operator.search.world import (
    MEMBER,
    NAMES,
    NEW_HALF,
    ORDINAL_OF,
    SET_OF,
    SLOTS_OF,
    UP,
    WAITING,
    Act,
    Claim,
    Pod,
    World,
    with_claim,
)

TWO_CLUSTERS = "never two clusters from one resource"
INTENT_KEPT = "the intent is written once"
QUORUM_TAKEN = "never less than a quorum by our own action"
EVICTION = "a voter that serves is not stopped past the budget"
BUDGET = "a drain that the budget allows never takes the quorum"
MEMBERS_POD = "no pod of a member is taken away"
MEMBERS_VOLUME = "no volume of a member is deleted"
VOLUME_KEPT = "volumes stay where they were asked to stay"
DATA_LOST = "what was acknowledged stays on a quorum of stores"
UNCONFIRMED = "nothing is discarded before committed membership confirms it"
OLD_SELF = "a removed member's volume never comes back as its old self"
EVEN = "votes never pass through an even number that was not asked for"
HIBERNATION = "hibernation changes no membership"
LABELS = "the label and the budget come before the vote"
FUTILE = "nothing is tried that is seen to be refused"
RELEASED_EARLY = "the finalizer goes last"
NO_END = "there is always an end when faults stop"


class Violation(Exception):
    """A rule was broken. `rule` is one of those above."""

    def __init__(self, rule: str, detail: str) -> None:
        super().__init__(f"{rule}: {detail}")
        self.rule = rule
        self.detail = detail


def require(holds: bool, rule: str, detail: str) -> None:
    if not holds:
        raise Violation(rule, detail)


def check_decision(spec: Spec, observed: Observed, action: Action) -> None:
    """What an action may be decided upon, from what was seen alone."""
    membership = observed.membership
    match action:
        case actions.DiscardStore(store_id=store):
            confirmed = membership is not None and all(member.store_id != store for member in membership.members)
            require(confirmed, UNCONFIRMED, f"store {store}, membership {membership}")
        case actions.DeleteVolume(claim=claim) if not observed.deleting:
            require(membership is not None, UNCONFIRMED, claim)
            claims = [claim_name(member.name) for member in membership.members] if membership is not None else []
            require(claim not in claims, MEMBERS_VOLUME, f"{claim} is a member's")
            require(spec.storage.on_scale_down == "Delete", VOLUME_KEPT, claim)
            require(all(claim_name(pod) != claim for pod in observed.pods), MEMBERS_VOLUME, f"{claim} is in use")
        case actions.DeleteVolume(claim=claim):
            require(spec.storage.on_deletion == "Delete", VOLUME_KEPT, claim)
        case actions.ReleaseFinalizer():
            require(observed.deleting, RELEASED_EARLY, "the resource is not being deleted")
            is_left = bool(observed.sets or observed.pods or observed.volumes)
            require(spec.storage.on_deletion == "Retain" or not is_left, RELEASED_EARLY, "there are volumes left")
        case actions.RestartPod(pod=name, evict=False) if membership is not None and not observed.deleting:
            votes = [member.store_id for member in membership.members if member.role == "voter"]
            node = observed.nodes.get(name)
            serves = node is not None and node.store_id in votes and observed.pods[name].ready
            require(not serves or len(votes) < 3, EVICTION, f"{name} serves, of {len(votes)} voters")
        case actions.PromoteMembers(ids=ids) if membership is not None:
            names = {member.name for member in membership.members if member.id in ids}
            unlabelled = [name for name in names if name not in observed.pods or not observed.pods[name].voter_label]
            require(not unlabelled, LABELS, f"{unlabelled} have no label")


def check_effect(before: World, act: Act, after: World, *, late: bool) -> None:
    """What an action did. `late`: it was decided earlier, by another operator, on what was so then."""
    hibernates = before.want.replicas == 0 or before.kube.hibernation is not None
    match act:
        case ("bootstrap", slot, stores):
            _check_founding(before, slot, stores, after)
        case ("intent", adopted, stores, _):
            _check_intent(before, adopted, stores)
        case ("create set" | "grow" | "shrink", index, _):
            _check_size(before, index, after, late=late)
        case ("delete set", _):
            require(bool(before.want.deleting), MEMBERS_POD, "the resource is not being deleted")
        case ("delete volume", slot) if not before.want.deleting:
            require(not hibernates or late, HIBERNATION, f"the volume of {NAMES[slot]} is deleted")
            _check_volume(before, slot, late=late)
        case ("add", joiners):
            _check_joiners(before, joiners)
        case ("replace", (_, joiner)):
            _check_joiners(before, (joiner,))
        case ("remove" | "promote", ids):
            require(not hibernates or late, HIBERNATION, f"{act[0]} {ids}")
            _check_numbers(before, after)
        case ("discard", (slot, store)):
            require(find(before.raft, slot, store) is None, MEMBERS_VOLUME, f"the store of {NAMES[slot]} is discarded")
    if act[0] in ("restart", "remove", "promote", "replace", "shrink", "discard"):
        _check_quorum(before, act, after, late=late)


def _check_founding(before: World, slot: int, stores: tuple[tuple[int, int], ...], after: World) -> None:
    """Only the store that was written down first is ever told, and nobody once there is a cluster."""
    intent, claim = before.kube.intent, before.kube.claims[slot]
    assert claim is not None
    if after.kube.claims[slot] == claim:
        return
    is_first = intent is not None and bool(intent[1]) and intent[1][0] == (slot, claim.store)
    require(is_first, TWO_CLUSTERS, f"{NAMES[slot]} founds one, and {intent} was written down")
    require(before.raft is None or before.raft.founded == stores, TWO_CLUSTERS, f"there is {before.raft} already")


def _check_intent(before: World, adopted: int, stores: tuple[tuple[int, int], ...]) -> None:
    """Which cluster and who founds it stays; others may be replaced as long as nobody was told."""
    intent = before.kube.intent
    if intent is not None:
        same = intent[0] == adopted and intent[1][:1] == stores[:1] and (not intent[2] or intent[1] == stores)
        require(same, INTENT_KEPT, f"{intent} becomes {stores}")
    elif before.raft is not None:
        told = any(claim and pod and pod[0] == UP and claim.content == MEMBER for pod, claim in _mounted(before))
        require(bool(adopted) or not told, TWO_CLUSTERS, "there is one already")


def _mounted(world: World) -> Iterator[tuple[Pod | None, Claim | None]]:
    return zip(world.kube.pods, world.kube.claims, strict=True)


def _check_size(before: World, index: int, after: World, *, late: bool) -> None:
    """The controller ends pods above the size of the set: none of them may be a member's, unless all sleep. Who does
    so a moment too late finds that the set was looked at for the new spec, or that was to be done next."""
    was, found, raft = before.kube.sets[index], after.kube.sets[index], before.raft
    if found is None or raft is None or before.want.deleting or (was is not None and found.replicas >= was.replicas):
        return
    is_known = before.kube.hibernation is not None or before.kube.intent is None
    sleeps = not found.replicas and is_known and (not before.want.replicas or (late and not found.marked))
    for slot in SLOTS_OF[index]:
        claim = before.kube.claims[slot]
        member = claim and find(raft, slot, claim.store)
        counts = member is not None and (not late or member in voters(raft))  # a learner just goes and comes back
        if counts and before.kube.pods[slot] is not None and ORDINAL_OF[slot] >= found.replicas:
            require(sleeps, MEMBERS_POD, f"{NAMES[slot]} is a member, and its set gets {found.replicas} replicas")


def _check_volume(before: World, slot: int, *, late: bool) -> None:
    claim, raft, intent = before.kube.claims[slot], before.raft, before.kube.intent
    if claim is None:
        return
    if late:  # its uid is the same, and the pod that uses it by now keeps it until it stops: it must be one to spare
        _check_spared(before, with_claim(before, slot, None))
        return
    require(find(raft, slot, claim.store) is None, MEMBERS_VOLUME, f"the volume of {NAMES[slot]} is deleted")
    is_founder = raft is None and intent is not None and (slot, claim.store) in intent[1]
    require(not is_founder, MEMBERS_VOLUME, f"{NAMES[slot]} is to found the cluster")
    wanted = before.want.non_voting if SET_OF[slot] else before.want.replicas
    require(ORDINAL_OF[slot] >= wanted, VOLUME_KEPT, f"{NAMES[slot]} is wanted")


def _check_spared(before: World, after: World) -> None:
    if before.raft is not None and after.raft is not None and can_recover(before.kube, before.raft):
        require(can_recover(after.kube, after.raft), DATA_LOST, "too few volumes of members are left")


def _check_joiners(before: World, joiners: tuple[tuple[int, int], ...]) -> None:
    for slot, store in joiners:
        claim = before.kube.claims[slot]
        if claim is not None and claim.store == store and find(before.raft, slot, store) is None:
            require(claim.content == WAITING, OLD_SELF, f"{NAMES[slot]} is added with the store that was removed")


def _check_numbers(before: World, after: World) -> None:
    if before.raft is None or after.raft is None or not after.raft.joint or before.raft.joint:
        return
    count = sum(member.role in NEW_HALF for member in after.raft.members)
    asked = before.want.replicas
    require(
        count % 2 == 1 or count == asked, EVEN, f"from {len(voters(before.raft))} to {count} votes, {asked} asked for"
    )


def _check_quorum(before: World, act: Act, after: World, *, late: bool) -> None:
    if before.raft is None or after.raft is None:
        return
    _check_spared(before, after)
    if act[0] == "shrink" and before.kube.hibernation is not None:
        return
    if act[0] == "restart" and (len(voters(before.raft)) < 3 or (late and not act[2])):
        return  # one of two goes down by a restart; of a pod that was not ready, a uid cannot say that it is now
    was = has_live_quorum(before.kube, before.raft)
    require(not was or has_live_quorum(after.kube, after.raft), QUORUM_TAKEN, f"{act}")
    if act[0] == "restart" and not was:
        pod = before.kube.pods[act[1]]
        assert pod is not None
        claim = before.kube.claims[act[1]]
        votes = claim is not None and any(
            member.slot == act[1] and member.store == claim.store for member in voters(before.raft)
        )
        require(late or not (votes and pod.phase == 1), QUORUM_TAKEN, f"{act}: it is needed as it runs")


def check_event(before: World, event: tuple[object, ...], after: World) -> None:
    """What the operator has let happen."""
    if before.raft is None or after.raft is None:
        return
    if event[0] == "drain evicts pod" and has_live_quorum(before.kube, before.raft):
        require(has_live_quorum(after.kube, after.raft), BUDGET, f"minAvailable is {before.kube.budget}")
    if event[0] == "pod is gone":
        slot = event[1]
        assert isinstance(slot, int)
        claim = before.kube.claims[slot]
        if claim is not None and after.kube.claims[slot] is None and not before.want.deleting:
            _check_spared(before, after)
