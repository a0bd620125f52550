"""The conditions: always all of them, each with a reason and a message that says what to do. Called by `document`.

Rules: `lastTransitionTime` moves only when a status does; a condition never says True of what is not known.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from raftwright_operator.actions import Action, Concern, Done, Step, Wait
from raftwright_operator.names import SET_KINDS, SetKind, pod_name
from raftwright_operator.observed import Observed
from raftwright_operator.spec import Spec
from raftwright_operator.status.members import settled_names

MESSAGE_CHARACTERS_MAX = 2048


class Finding(NamedTuple):
    status: str
    """`True`, `False` or `Unknown`."""
    reason: str
    message: str


def conditions(
    spec: Spec,
    observed: Observed,
    step: Step,
    concerns: Sequence[Concern],
    previous: Iterable[Mapping[str, Any]],
    now: str,
) -> list[dict[str, Any]]:
    found = {
        "Ready": _ready(spec, observed),
        "Progressing": _progressing(spec, step, concerns),
        "Degraded": _concern("Degraded", concerns),
        "QuorumAvailable": _quorum_available(spec, observed),
        "MembershipInSync": _membership_in_sync(spec, observed),
        "ScaleDownBlocked": _concern("ScaleDownBlocked", concerns),
        "Paused": _paused(spec),
    }
    before = {condition.get("type"): condition for condition in previous}
    return [_written(name, finding, before.get(name, {}), observed, now) for name, finding in found.items()]


def _written(name: str, found: Finding, before: Mapping[str, Any], observed: Observed, now: str) -> dict[str, Any]:
    is_same = before.get("status") == found.status and before.get("lastTransitionTime")
    return {
        "type": name,
        "status": found.status,
        "reason": found.reason,
        "message": found.message[:MESSAGE_CHARACTERS_MAX],
        "observedGeneration": observed.generation,
        "lastTransitionTime": before["lastTransitionTime"] if is_same else now,
    }


def _ready(spec: Spec, observed: Observed) -> Finding:
    if observed.deleting:
        return Finding("False", "Deleting", "The resource is being deleted.")
    quorum = _quorum_available(spec, observed)
    membership = observed.membership
    if quorum.status != "True" or membership is None:
        return quorum
    if observed.intent is None or not observed.intent.bootstrapped:
        return Finding("False", "Founding", "Not all founding voters are in the membership yet.")
    wanted, voters = _wanted(spec, observed, "voters"), settled_names(observed, "voters")
    if membership.joint:
        return Finding("False", "MembershipChanging", "A change of the voters is being made.")
    if missing := [name for name in wanted if name not in voters]:
        return Finding("False", "VotersMissing", f"Without a vote yet: {_list(missing)}.")
    if leaving := sorted(voters - set(wanted)):
        return Finding("False", "VotersLeaving", f"Still with a vote: {_list(leaving)}.")
    if unready := [name for name in wanted if name not in observed.pods or not observed.pods[name].ready]:
        what = f"Voters that are not ready: {_list(unready)}; kubectl describe pod {unready[0]} says why."
        return Finding("False", "VotersNotReady", what)
    if pending := sorted(member.name for member in membership.members if member.role == "voter" and member.intent):
        return Finding("False", "MembershipChanging", f"A change of these voters is pending: {_list(pending)}.")
    return Finding("True", "AllVotersReady", f"All {len(wanted)} voters have their vote and are ready.")


def _progressing(spec: Spec, step: Step, concerns: Sequence[Concern]) -> Finding:
    """Not True of what waits for a person: a reason that is a concern too, or a pause."""
    match step:
        case Done():
            return Finding("False", "Settled", "All is as asked for.")
        case Wait(reason=reason, message=message):
            is_stuck = spec.paused or reason in {concern.reason for concern in concerns}
            return Finding("False" if is_stuck else "True", reason, message)
        case Action(why=why):
            return Finding("True", type(step).__name__, why)


def _concern(condition: str, concerns: Sequence[Concern]) -> Finding:
    found = [concern for concern in concerns if concern.condition == condition]
    if not found:
        return Finding("False", "AsExpected", "Nothing of this kind.")
    return Finding("True", found[0].reason, " ".join(dict.fromkeys(concern.message for concern in found)))


def _quorum_available(spec: Spec, observed: Observed) -> Finding:
    if observed.membership is not None:
        return Finding("True", "LeaderConfirmed", "A quorum has confirmed its leader.")
    if spec.replicas == 0 and not any(pod.kind == "voters" for pod in observed.pods.values()):
        what = "The cluster hibernates, with all of its data; set spec.replicas to bring it back."
        return Finding("False", "Hibernating", what)
    if observed.intent is None:
        return Finding("False", "Founding", "The cluster has not been founded yet: its first pods have to start.")
    if not observed.intent.bootstrapped:
        return Finding("False", "Founding", "The cluster is being founded.")
    answering = sorted(name for name, node in observed.nodes.items() if node.state == "serving")
    return Finding(
        "False",
        "NoLeader",
        f"No leader is confirmed by a quorum. Members that answer: {_list(answering) or 'none'}. An election takes a"
        " few seconds; if this stays, get the other voters' pods to run again, with the volumes that they had.",
    )


def _membership_in_sync(spec: Spec, observed: Observed) -> Finding:
    membership = observed.membership
    if membership is None:
        return Finding("Unknown", "MembershipUnknown", "There is no leader to ask for the membership.")
    if membership.joint:
        return Finding("False", "MembershipChanging", "A change of the voters is being made.")
    missing, surplus = [], []
    for kind in SET_KINDS:
        wanted, settled = _wanted(spec, observed, kind), settled_names(observed, kind)
        missing += [name for name in wanted if name not in settled]
        surplus += sorted(settled - set(wanted))
    if not missing and not surplus:
        return Finding("True", "AsWanted", "The members are those that the resource asks for.")
    parts = [f"To come in: {_list(missing)}." if missing else "", f"To leave: {_list(surplus)}." if surplus else ""]
    return Finding("False", "MembersDiffer", " ".join(filter(None, parts)))


def _paused(spec: Spec) -> Finding:
    if spec.paused:
        return Finding("True", "Paused", "Nothing is changed until spec.paused is false; the status goes on.")
    return Finding("False", "NotPaused", "The operator acts.")


def _wanted(spec: Spec, observed: Observed, kind: SetKind) -> list[str]:
    return [pod_name(observed.name, kind, ordinal) for ordinal in range(spec.wanted(kind))]


def _list(names: Sequence[str]) -> str:
    return ", ".join(names)
