"""Mistakes that `plan` could make, each put into it on purpose: the search has to find every one of them.

`test_bugs.py` runs them. Rule: a bug is the real plan with one decision changed, as a person could get it wrong.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace

from raftwright_operator import actions
from raftwright_operator.actions import Done, Step, Wait
from raftwright_operator.names import claim_name, pod_name
from raftwright_operator.observed import Intent, Observed
from raftwright_operator.plan import members, plan, reasons
from raftwright_operator.plan.facts import Facts
from raftwright_operator.spec import Spec
from tests.operator.search import rules
from tests.operator.search.deciding import NOW


@dataclass(frozen=True, slots=True)
class Bug:
    plan: Callable[[Spec, Observed, float], Step]
    rule: str
    """That it breaks."""
    scenario: str
    """Where it is looked for."""

    @property
    def name(self) -> str:
        return self.plan.__name__.replace("_", " ")


BUGS: list[Bug] = []


def _bug(rule: str, scenario: str) -> Callable[[Callable[[Spec, Observed, Step], Step]], None]:
    """Registers a function that changes what `plan` decided; `plan` is asked first."""

    def register(change: Callable[[Spec, Observed, Step], Step]) -> None:
        def broken(spec: Spec, seen: Observed, now: float) -> Step:
            return change(spec, seen, plan(spec, seen, now))

        broken.__name__ = change.__name__
        BUGS.append(Bug(broken, rule, scenario))

    return register


def _waiting(seen: Observed) -> tuple[tuple[str, str], ...]:
    """(pod, store) of the nodes that belong to no cluster."""
    return tuple((name, node.store_id) for name, node in seen.nodes.items() if node.state == "waiting")


# The founding


@_bug(rules.TWO_CLUSTERS, "founding one")
def bootstraps_the_stores_that_the_pods_have_now(spec: Spec, seen: Observed, step: Step) -> Step:
    stores = _waiting(seen)
    if seen.intent is None or seen.membership is not None or not stores or len(stores) < spec.replicas:
        return step
    pod = stores[0][0]
    intent = Intent(cluster_id=seen.uid, stores=stores)
    return actions.Bootstrap(pod=pod, pod_uid=seen.pods[pod].uid, intent=intent, why="")


@_bug(rules.INTENT_KEPT, "founding one")
def writes_a_new_founding_when_all_volumes_are_lost(spec: Spec, seen: Observed, step: Step) -> Step:
    stores = _waiting(seen)
    is_lost = seen.intent is not None and bool(stores) and not set(stores) & set(seen.intent.stores)
    if not isinstance(step, Wait) or not is_lost or len(stores) < spec.replicas:
        return step
    return actions.RecordIntent(
        intent=Intent(cluster_id=seen.uid, stores=stores), resource_version=seen.resource_version, why=""
    )


@_bug(rules.TWO_CLUSTERS, "leftover volumes")
def founds_a_cluster_over_the_volumes_of_an_older_one(spec: Spec, seen: Observed, step: Step) -> Step:
    if not isinstance(step, actions.RecordIntent) or step.intent.stores or not step.intent.bootstrapped:
        return step
    stores = tuple((name, node.store_id) for name, node in seen.nodes.items())
    return replace(step, intent=Intent(cluster_id=seen.uid, stores=stores))


# Scaling


@_bug(rules.MEMBERS_POD, "three to one")
def shrinks_the_set_before_the_removal_is_committed(spec: Spec, seen: Observed, step: Step) -> Step:
    found = seen.sets.get("voters")
    if found is None or spec.replicas == 0 or found.replicas <= spec.replicas or seen.membership is None:
        return step
    return actions.ShrinkSet(
        kind="voters", uid=found.uid, resource_version=found.resource_version, replicas=spec.replicas, why=""
    )


@_bug(rules.MEMBERS_VOLUME, "three to one")
def deletes_volumes_above_the_number_of_replicas(spec: Spec, seen: Observed, step: Step) -> Step:
    for claim, volume in seen.volumes.items():
        is_gone = pod_name(seen.name, volume.kind, volume.ordinal) not in seen.pods
        if is_gone and volume.ordinal >= spec.wanted(volume.kind) and seen.membership is not None:
            return actions.DeleteVolume(claim=claim, uid=volume.uid, why="")
    return step


@_bug(rules.VOLUME_KEPT, "non-voting")
def deletes_volumes_that_are_to_be_retained(spec: Spec, seen: Observed, step: Step) -> Step:
    storage = replace(spec.storage, on_scale_down="Delete")
    return plan(replace(spec, storage=storage), seen, NOW)


@_bug(rules.FUTILE, "three to one")
def removes_members_though_no_quorum_would_be_left(spec: Spec, seen: Observed, step: Step) -> Step:
    if not isinstance(step, Wait) or step.reason != reasons.SCALE_DOWN_BLOCKED or seen.membership is None:
        return step
    ids = tuple(member.id for member in members.leaving(Facts(spec, seen)))
    return actions.RemoveMembers(ids=ids, if_version=seen.membership.version, why="")


@_bug(rules.FUTILE, "one to three")
def promotes_learners_before_they_caught_up(spec: Spec, seen: Observed, step: Step) -> Step:
    if seen.membership is None:
        return step
    hurried = tuple(replace(member, lag_commands=0, lag_seconds=0.0) for member in seen.membership.members)
    return plan(spec, replace(seen, membership=replace(seen.membership, members=hurried)), NOW)


@_bug(rules.EVEN, "one to three")
def promotes_one_after_the_other(spec: Spec, seen: Observed, step: Step) -> Step:
    return replace(step, ids=step.ids[:1]) if isinstance(step, actions.PromoteMembers) else step


@_bug(rules.BUDGET, "one to three")
def raises_the_budget_after_the_promotion(spec: Spec, seen: Observed, step: Step) -> Step:
    if not isinstance(step, actions.ApplyBudget) or seen.budget is None or step.min_available <= seen.budget:
        return step
    following = plan(spec, replace(seen, budget=step.min_available, budget_ready_for=step.ready_for), NOW)
    return following if isinstance(following, (actions.LabelPods, actions.PromoteMembers)) else step


@_bug(rules.BUDGET, "three to one, drained")
def lowers_the_budget_while_somebody_late_may_still_remove_voters(spec: Spec, seen: Observed, step: Step) -> Step:
    if not isinstance(step, actions.RenewMembership):
        return step
    return plan(spec, replace(seen, budget_ready_for=""), NOW)


@_bug(rules.MEMBERS_POD, "to hibernation")
def marks_sets_for_a_new_spec_last(spec: Spec, seen: Observed, step: Step) -> Step:
    if not isinstance(step, actions.ApplyObjects):
        return step
    following = plan(spec, replace(seen, drifted=()), NOW)
    return step if isinstance(following, Done) else following


@_bug(rules.BUDGET, "three, settled")
def counts_a_lost_voter_among_those_that_may_be_away(spec: Spec, seen: Observed, step: Step) -> Step:
    """The pod of a voter that lost its volume has the label, and another store."""
    if not isinstance(step, actions.ApplyBudget) or step.min_available <= 2:
        return step
    return plan(spec, replace(seen, budget=step.min_available), NOW)


@_bug(rules.LABELS, "one to three")
def sets_labels_after_the_promotion(spec: Spec, seen: Observed, step: Step) -> Step:
    if not isinstance(step, actions.LabelPods):
        return step
    pods = {one.pod: replace(seen.pods[one.pod], voter_label=one.voter, leader_label=one.leader) for one in step.pods}
    following = plan(spec, replace(seen, pods={**seen.pods, **pods}), NOW)
    return following if isinstance(following, actions.PromoteMembers) else step


# Volumes and stores


@_bug(rules.DATA_LOST, "by hand")
def restarts_the_only_voter_though_its_claim_goes(spec: Spec, seen: Observed, step: Step) -> Step:
    if not isinstance(step, Wait) or step.reason != reasons.VOLUME_GOING:
        return step
    facts = Facts(spec, seen)
    pod = next(pod for pod in seen.pods.values() if facts.is_claim_going(pod.name))
    return actions.RestartPod(pod=pod.name, uid=pod.uid, evict=False, why="")


@_bug(rules.UNCONFIRMED, "retained volumes")
def discards_a_store_on_its_own_word(spec: Spec, seen: Observed, step: Step) -> Step:
    for name, node in seen.nodes.items():
        if node.state == "removed" and isinstance(step, Wait):
            return actions.DiscardStore(pod=name, pod_uid=node.pod_uid, store_id=node.store_id, why="")
    return step


@_bug(rules.OLD_SELF, "retained volumes")
def adds_a_removed_store_again(spec: Spec, seen: Observed, step: Step) -> Step:
    if not isinstance(step, actions.DiscardStore) or seen.membership is None:
        return step
    joiner = actions.Joiner(pod=step.pod, store_id=step.store_id)
    return actions.AddMembers(joiners=(joiner,), if_version=seen.membership.version, why="")


@_bug(rules.FUTILE, "three, settled")
def adds_a_lost_voter_without_replacing_it(spec: Spec, seen: Observed, step: Step) -> Step:
    if not isinstance(step, actions.ReplaceMember):
        return step
    return actions.AddMembers(joiners=(step.joiner,), if_version=step.if_version, why="")


@_bug(rules.NO_END, "three, settled")
def leaves_a_lost_voter_as_it_is(spec: Spec, seen: Observed, step: Step) -> Step:
    return Wait(reason="Never", message="") if isinstance(step, actions.ReplaceMember) else step


# Restarts, hibernation, deletion


@_bug(rules.QUORUM_TAKEN, "rolling, races")
def restarts_voters_without_waiting_for_those_before(spec: Spec, seen: Observed, step: Step) -> Step:
    if seen.membership is None or seen.membership.joint:
        return step
    facts = Facts(spec, seen)
    outdated = [pod for pod in facts.pods.values() if facts.outdated(pod)]
    if outdated and seen.budget != 0:
        return actions.ApplyBudget(min_available=0, resource_version=seen.budget_version, why="")
    return actions.RestartPod(pod=outdated[0].name, uid=outdated[0].uid, evict=True, why="") if outdated else step


@_bug(rules.EVICTION, "rolling")
def restarts_voters_past_the_budget(spec: Spec, seen: Observed, step: Step) -> Step:
    return replace(step, evict=False) if isinstance(step, actions.RestartPod) else step


@_bug(rules.HIBERNATION, "to hibernation")
def removes_members_for_hibernation(spec: Spec, seen: Observed, step: Step) -> Step:
    if not isinstance(step, actions.ShrinkSet) or seen.membership is None or len(seen.membership.members) < 2:
        return step
    ids = tuple(member.id for member in seen.membership.members if member.id != seen.membership.leader)
    return actions.RemoveMembers(ids=ids, if_version=seen.membership.version, why="")


@_bug(rules.NO_END, "hibernated")
def comes_back_to_the_new_target_at_once(spec: Spec, seen: Observed, step: Step) -> Step:
    if not isinstance(step, actions.GrowSet) or step.replicas <= spec.wanted(step.kind):
        return step
    found = seen.sets[step.kind]
    if found.replicas < spec.wanted(step.kind):
        return replace(step, replicas=spec.wanted(step.kind))
    return Wait(reason="Never", message="")


@_bug(rules.MEMBERS_POD, "larger volumes")
def makes_a_set_anew_with_as_many_as_are_asked_for(spec: Spec, seen: Observed, step: Step) -> Step:
    return replace(step, replicas=spec.wanted(step.kind)) if isinstance(step, actions.CreateSet) else step


@_bug(rules.MEMBERS_POD, "larger volumes")
def takes_the_pods_along_when_a_set_is_made_anew(spec: Spec, seen: Observed, step: Step) -> Step:
    return actions.DeleteSet(kind=step.kind, uid=step.uid, why="") if isinstance(step, actions.OrphanSet) else step


@_bug(rules.RELEASED_EARLY, "deleted with its data")
def releases_the_resource_before_its_data_is_gone(spec: Spec, seen: Observed, step: Step) -> Step:
    return actions.ReleaseFinalizer(why="") if isinstance(step, actions.DeleteVolume) and seen.deleting else step


@_bug(rules.VOLUME_KEPT, "deleted, data kept")
def deletes_data_that_the_deletion_is_to_keep(spec: Spec, seen: Observed, step: Step) -> Step:
    claims = [volume for volume in seen.volumes.values() if claim_name(volume.name) not in seen.pods]
    if not isinstance(step, actions.ReleaseFinalizer) or not claims:
        return step
    return actions.DeleteVolume(claim=claims[0].name, uid=claims[0].uid, why="")
