"""What a person should know of a cluster whatever the step is: one function a concern, asked each time.

`concerns` is called through the package. Rule: facts of now, never of before; a message says what is left and what
can be done.
"""

from collections.abc import Callable, Iterator

from raftwright_operator.actions import Concern
from raftwright_operator.names import FIELD_MANAGER, LABEL_CLUSTER, LABEL_MANAGED_BY
from raftwright_operator.plan import founding, members, quorum, reasons, rolling, volumes
from raftwright_operator.plan.facts import Facts, listed

EVENT = "Event"
"""In place of a condition: worth an event, and makes no condition true."""


def concerns(facts: Facts) -> tuple[Concern, ...]:
    if facts.seen.deleting:
        return ()
    asked = _ASLEEP if facts.spec.replicas == 0 else _AWAKE
    return tuple(concern for ask in asked for concern in ask(facts))


def _degraded(reason: str, message: str) -> Concern:
    return Concern(condition="Degraded", reason=reason, message=message)


def _even_voters(facts: Facts) -> Iterator[Concern]:
    count = facts.spec.replicas
    if count and count % 2 == 0:
        message = f"{count} voters tolerate no more failures than {count - 1}: ask for an odd number"
        yield Concern(condition=EVENT, reason=reasons.EVEN_VOTERS, message=message)


def _founding(facts: Facts) -> Iterator[Concern]:
    if facts.intent is None:
        if len(founding.cluster_ids(facts)) > 1:
            yield _degraded(reasons.DIFFERENT_CLUSTERS, founding.different_clusters(facts))
        if left := founding.left_over(facts):
            yield _degraded(reasons.FOREIGN_STORE, founding.why_left_over(left))
    elif founding.is_lost(facts):
        yield _degraded(reasons.FOUNDING_LOST, founding.why_lost(facts, facts.intent))


def _foreign_stores(facts: Facts) -> Iterator[Concern]:
    foreign = sorted((name, node.cluster_id or "") for name, node in facts.nodes.items() if facts.is_foreign(node))
    if foreign:
        told = listed(f"{name} ({cluster_id})" for name, cluster_id in foreign)
        yield _degraded(
            reasons.FOREIGN_STORE,
            f"Volumes of another cluster are left alone: {told}. If they are not needed, delete their claims and pods",
        )


def _no_leader(facts: Facts) -> Iterator[Concern]:
    if facts.intent is not None and facts.intent.bootstrapped and facts.membership is None:
        yield _degraded(*quorum.why_no_leader(facts))


def _down(facts: Facts) -> Iterator[Concern]:
    for role, reason, word in (
        ("voter", reasons.VOTERS_DOWN, "voters"),
        ("learner", reasons.NON_VOTING_DOWN, "non-voting members"),
    ):
        all_of = [member for member in facts.members if member.role == role]
        down = [member for member in all_of if member.id not in facts.live]
        if down:
            told = "; ".join(facts.why_not(member.name) for member in down)
            yield _degraded(reason, f"Of {len(all_of)} {word}, {len(all_of) - len(down)} are live: {told}")


def _volumes(facts: Facts) -> Iterator[Concern]:
    lost = [member.name for member in facts.members if facts.has_lost_volume(member)]
    if lost:
        yield _degraded(reasons.VOLUME_LOST, f"The volumes of {listed(lost)} were lost: these members are replaced")


def _volumes_going(facts: Facts) -> Iterator[Concern]:
    going = sorted({member.name for member in facts.members if facts.is_claim_going(member.name)})
    if going and rolling.is_only_copy(facts):
        yield _degraded(reasons.VOLUME_GOING, rolling.only_copy(facts))
    elif going:
        yield _degraded(
            reasons.VOLUME_GOING,
            f"The claims of {listed(going)} are being deleted: they go as their pods are restarted, one by one",
        )


def _diverged(facts: Facts) -> Iterator[Concern]:
    diverged = sorted(name for name, node in facts.nodes.items() if node.diverged)
    if diverged:
        yield _degraded(reasons.STATE_DIVERGED, f"The state of {listed(diverged)} is not that of the majority")


def _scale_down(facts: Facts) -> Iterator[Concern]:
    if facts.membership is not None and not facts.membership.joint and members.is_scale_down_blocked(facts):
        yield Concern(
            condition="ScaleDownBlocked", reason=reasons.SCALE_DOWN_BLOCKED, message=members.why_blocked(facts)
        )


def _rollout(facts: Facts) -> Iterator[Concern]:
    if not rolling.outdated(facts):
        return
    stuck = [pod for pod in facts.pods.values() if pod.problem is not None and not facts.outdated(pod)]
    if stuck:
        told = "; ".join(facts.why_not(pod.name) for pod in stuck)
        yield _degraded(
            reasons.ROLLOUT_STUCK, f"No further pod is restarted until this is mended, or the template changed: {told}"
        )


def _volumes_refused(facts: Facts) -> Iterator[Concern]:
    refused = volumes.not_enlarged(facts)
    if refused:
        yield _degraded(reasons.VOLUME_NOT_ENLARGED, volumes.why_not_enlarged(refused))


def _names_taken(facts: Facts) -> Iterator[Concern]:
    if facts.seen.foreign:
        labels = f"{LABEL_CLUSTER}={facts.seen.name} {LABEL_MANAGED_BY}={FIELD_MANAGER}"
        yield _degraded(
            reasons.NAME_TAKEN,
            f"Not made by the operator, and left alone: {listed(facts.seen.foreign)}. Rename or delete what is in the"
            f" way; what nothing else controls can be handed over with kubectl label {labels}",
        )


def _resisting(facts: Facts) -> Iterator[Concern]:
    if facts.seen.resisting:
        told = listed(f"{key} ({field or 'deleted'})" for key, field in sorted(facts.seen.resisting.items()))
        yield _degraded(
            reasons.CHANGED_BY_OTHERS,
            f"Applied again and again, and changed back each time: {told}. See which webhook, controller or person"
            " does it; it is tried again in some minutes",
        )


def _foreign_members(facts: Facts) -> Iterator[Concern]:
    foreign = [member.name for member in facts.members if facts.position(member.name) is None]
    if foreign:
        message = f"{listed(foreign)} are members, and no pods of this resource: they count, and are left alone"
        yield Concern(condition=EVENT, reason=reasons.FOREIGN_MEMBERS, message=message)


_ASLEEP: tuple[Callable[[Facts], Iterator[Concern]], ...] = (_names_taken, _resisting, _volumes_refused, _volumes_going)
_AWAKE: tuple[Callable[[Facts], Iterator[Concern]], ...] = (
    _founding,
    _no_leader,
    _scale_down,
    _volumes,
    _foreign_stores,
    _down,
    _diverged,
    _rollout,
    *_ASLEEP,
    _foreign_members,
    _even_voters,
)
