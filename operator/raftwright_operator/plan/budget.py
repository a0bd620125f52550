"""Labels of pods and the PodDisruptionBudget: how many voters others may stop, now and through the coming change.

`members.change` asks before each change. Rules: the budget is raised before a label is set and lowered after one is
cleared, so no moment lets an eviction take more voters than both sides of the change tolerate. And it notes the change
of votes that it was raised for: nothing of it is taken back while somebody who is late could still make that change,
which ends with the version of the membership.
"""

from raftwright_operator.actions import (
    Action,
    ApplyBudget,
    LabelPods,
    PodLabels,
    PromoteMembers,
    RemoveMembers,
    RenewMembership,
    Step,
)
from raftwright_operator.names import budget_key
from raftwright_operator.observed import MemberSeen
from raftwright_operator.plan.facts import Facts, listed, tolerance


def first(facts: Facts) -> ApplyBudget | None:
    """Where there is none and no leader says how many voters there are: none of the pods may be evicted."""
    if facts.seen.budget is not None or facts.membership is not None or _is_out_of_hand(facts):
        return None
    count = max(facts.spec.replicas, facts.size_of_members("voters"))
    return _apply(facts, count, f"There is no budget: all {count} pods have to stay for now.")


def protect(facts: Facts, coming: Step | None) -> Action | None:
    """What has to be put right before `coming` (the next change of the membership) may be done."""
    assert facts.membership is not None
    version, was_for, now_for = facts.membership.version, facts.seen.budget_ready_for, _noted(facts, coming)
    if was_for != now_for and was_for.startswith(f"{version} "):
        return RenewMembership(
            if_version=version, why=f"What the budget was raised for is not to be done any more: {was_for}."
        )
    voters, tolerated = _through(facts, coming)
    labelled = {pod.name for pod in facts.pods.values() if pod.voter_label}
    needed = max(0, len(voters | labelled) - tolerated)
    why = f"Of the voters {tolerated} may be away: {needed} have to stay."
    seen, is_ours = facts.seen.budget, not _is_out_of_hand(facts)
    if is_ours and (seen is None or seen < needed or (now_for and was_for != now_for)):
        return _apply(facts, max(needed, seen or 0), why, now_for)
    labels = _labels(facts, voters)
    if labels:
        names = ", ".join(one.pod for one in labels)
        return LabelPods(pods=labels, why=f"Who has a vote, or is to get one, and who leads: labels of {names}.")
    return None if seen == needed or not is_ours else _apply(facts, needed, why, now_for)


def _is_out_of_hand(facts: Facts) -> bool:
    """It is somebody else's, or changed back whenever it is applied: the members go on without it."""
    key = budget_key(facts.seen.name)
    return key in facts.seen.foreign or key in facts.seen.resisting


def _apply(facts: Facts, needed: int, why: str, ready_for: str = "") -> ApplyBudget:
    version = facts.seen.budget_version
    return ApplyBudget(min_available=needed, resource_version=version, ready_for=ready_for, why=why)


def _noted(facts: Facts, coming: Step | None) -> str:
    """`coming` as the budget notes it: the version that it is made from, and whose votes come or go; empty if none."""
    match coming:
        case PromoteMembers(ids=ids, if_version=version):
            return f"{version} promote {listed(map(str, ids))}"
        case RemoveMembers(ids=ids, if_version=version) if any(voter.id in ids for voter in facts.voters):
            return f"{version} remove {listed(map(str, ids))}"
    return ""


def _through(facts: Facts, coming: Step | None) -> tuple[set[str], int]:
    """Pods, there or not, that have a vote now or after the change; how many may be away before and after it alike.

    Members that are none of our pods count, and one that is away uses up what is tolerated: no budget keeps it. So
    does a voter whose volume was lost: the pod that carries its label has another store, and may be ready without a
    vote."""
    names = {member.name for member in facts.voters}
    before = after = len(facts.voters)
    if isinstance(coming, PromoteMembers):
        names.update(member.name for member in facts.members if member.id in coming.ids)
        after += len(coming.ids)
    elif isinstance(coming, RemoveMembers):
        after -= sum(voter.id in coming.ids for voter in facts.voters)
    ours = {name for name in names if facts.position(name) is not None}
    away = sum(_is_out_of_reach(facts, voter) for voter in facts.voters)
    return ours, max(0, min(tolerance(before), tolerance(after)) - away)


def _is_out_of_reach(facts: Facts, voter: MemberSeen) -> bool:
    """No pod that is counted as its own can be."""
    if facts.position(voter.name) is None:
        return voter.id not in facts.live
    node = facts.nodes.get(voter.name)
    return len(facts.by_name[voter.name]) > 1 or (node is not None and node.store_id != voter.store_id)


def _labels(facts: Facts, voters: set[str]) -> tuple[PodLabels, ...]:
    leader = next((member.name for member in facts.members if member.id == facts.leader), None)
    wrong = []
    for name, pod in facts.pods.items():
        if pod.terminating or (pod.voter_label == (name in voters) and pod.leader_label == (name == leader)):
            continue
        wrong.append(PodLabels(pod=name, uid=pod.uid, voter=name in voters, leader=name == leader))
    return tuple(wrong)
