"""Rows "image, version or pod spec changes" and "a pod dies": pods are restarted one by one, or awaited.

Rules: a pod that is live is stopped only while every other voter is live and every pod restarted before is back; the
leader goes last, after a transfer. One that is broken may go at any time: nothing is lost by it, and a bad image must
not need the quorum that it took away.
"""

from raftwright_operator.actions import RestartPod, Step, Wait
from raftwright_operator.names import SET_KINDS
from raftwright_operator.observed import MemberSeen, PodSeen
from raftwright_operator.plan import members, reasons
from raftwright_operator.plan.facts import Facts, listed, pod_names, tolerance

EVICTABLE_VOTERS_MIN = 3
"""Of fewer voters the budget lets none go."""


def outdated(facts: Facts) -> list[PodSeen]:
    """Of the pods that stay."""
    sets = facts.seen.sets
    return [pod for pod in facts.pods.values() if facts.outdated(pod) and pod.ordinal < sets[pod.kind].replicas]


def restart_broken(facts: Facts) -> RestartPod | None:
    """Pods that Kubernetes cannot run, and that would be made of a newer template; a leader is not needed for it."""
    for pod in outdated(facts):
        is_lasting = not facts.is_claim_going(pod.name)  # else its data would go with it, and may be needed
        if pod.problem is not None and is_lasting and not pod.ready and not _serves(facts, pod):
            return _restart(facts, pod, f"it does not run ({pod.problem}), and its template has changed")
    return None


def _serves(facts: Facts, pod: PodSeen) -> bool:
    node = facts.nodes.get(pod.name)
    return node is not None and node.state == "serving"


def roll(facts: Facts) -> Step | None:
    pods = outdated(facts)
    if not pods:
        return None
    pods.sort(key=lambda pod: _turn(facts, pod))
    pod = pods[0]
    voter = _voter_of(facts, pod)
    trouble = _why_not_now(facts, pod)
    if trouble is not None:
        return trouble
    if voter is not None and voter.id == facts.leader and len(facts.voters) > 1:
        others = [other for other in facts.voters if other is not voter]
        transfer = members.transfer(facts, others, "leads, and is restarted next")
        return transfer or Wait(
            reason=reasons.ROLLING_OUT, message=f"{pod.name} leads, and no voter can take over yet."
        )
    return _restart(facts, pod, "its template has changed" if not facts.is_claim_going(pod.name) else "its claim goes")


def _turn(facts: Facts, pod: PodSeen) -> tuple[int, int]:
    """Who does not serve, non-voting ones, followers, the leader; of each kind the highest ordinal first."""
    member = facts.member_of(pod.name)
    if member is None or member.id not in facts.live:
        return 0, -pod.ordinal
    if member.role == "learner":
        return 1, -pod.ordinal
    return 3 if member.id == facts.leader else 2, -pod.ordinal


def _voter_of(facts: Facts, pod: PodSeen) -> MemberSeen | None:
    """The live voter in this pod."""
    member = facts.member_of(pod.name)
    return member if member is not None and member.role == "voter" and member.id in facts.live else None


def _why_not_now(facts: Facts, pod: PodSeen) -> Wait | None:
    voter = _voter_of(facts, pod)
    for name in _expected(facts):
        if name == pod.name or is_back(facts, name):
            continue
        other = facts.pods.get(name)
        if voter is None and other is not None and facts.outdated(other):
            continue  # it has its own turn yet
        reason = reasons.ROLLING_OUT if other is None or other.problem is None else reasons.ROLLOUT_STUCK
        message = f"{pod.name} is restarted once every other pod is back: {facts.why_not(name)}."
        return Wait(reason=reason, message=message)
    if voter is None:
        has_vote = any(member.role == "voter" for member in facts.by_name.get(pod.name, ()))
        if has_vote and not facts.has_live_quorum:
            return Wait(reason=reasons.ROLLING_OUT, message=f"{pod.name} may be needed: no quorum is live without it.")
        return None
    if facts.is_claim_going(pod.name) and is_only_copy(facts):
        return Wait(reason=reasons.VOLUME_GOING, message=only_copy(facts))
    if facts.live_voters() < len(facts.voters):
        down = "; ".join(facts.why_not(one.name) for one in facts.voters if one.id not in facts.live)
        return Wait(reason=reasons.ROLLING_OUT, message=f"{pod.name} is restarted once all voters are live: {down}.")
    return None


def is_only_copy(facts: Facts) -> bool:
    """Whether the claim of a voter goes that the others could not do without."""
    return tolerance(len(facts.voters)) == 0 and any(facts.is_claim_going(voter.name) for voter in facts.voters)


def only_copy(facts: Facts) -> str:
    """Of a claim that is being deleted, and that no other member's volume can stand in for."""
    going = listed(voter.name for voter in facts.voters if facts.is_claim_going(voter.name))
    return (
        f"The claim of {going} is being deleted, and goes with the data when the pod stops: too few others have a copy."
        " Nothing stops the pod by itself. Ask for three voters or more: then the member is replaced"
    )


def _expected(facts: Facts) -> list[str]:
    """Every pod that there should be, voters first."""
    return [name for kind in SET_KINDS for name in pod_names(facts.seen.name, kind, facts.seen.sets[kind].replicas)]


def is_back(facts: Facts, name: str) -> bool:
    """It is ready, and the member that it holds serves and has caught up."""
    pod, member = facts.pods.get(name), facts.member_of(name)
    if pod is None or pod.terminating or not pod.ready or member is None:
        return False
    return facts.has_caught_up(member) and not facts.nodes[name].diverged


def _restart(facts: Facts, pod: PodSeen, why: str) -> RestartPod:
    voter = _voter_of(facts, pod)
    evict = voter is not None and pod.ready and len(facts.voters) >= EVICTABLE_VOTERS_MIN
    return RestartPod(pod=pod.name, uid=pod.uid, evict=evict, why=f"{pod.name} is restarted: {why}.")


def await_pods(facts: Facts) -> Wait | None:
    """Kubernetes restarts what died. Nothing else is touched meanwhile."""
    away = [name for kind in SET_KINDS for name in facts.wanted_names(kind) if not is_back(facts, name)]
    if not away:
        return None
    return Wait(reason=reasons.POD_NOT_BACK, message="; ".join(facts.why_not(name) for name in away) + ".")
