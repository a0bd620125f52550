"""The conditions: always all of them, each with a reason and a message that says what to do. Called by `document`.

Rules: `lastTransitionTime` moves only when a status does; a condition never says True of what is not known.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from raftwright_operator.actions import Action, Concern, Done, Step, Wait
from raftwright_operator.names import SET_KINDS, SetKind, pod_name, position
from raftwright_operator.observed import Observed
from raftwright_operator.plan import reasons
from raftwright_operator.spec import Spec
from raftwright_operator.status.members import settled_names

MESSAGE_CHARACTERS_MAX = 2048
_NO_QUORUM = frozenset({reasons.NO_LEADER, reasons.QUORUM_LOST, reasons.FOUNDING_LOST, reasons.DIFFERENT_CLUSTERS})


class Finding(NamedTuple):
    status: str
    """`True`, `False` or `Unknown`."""
    reason: str
    message: str


_HIBERNATING = Finding(
    "False",
    reasons.HIBERNATING,
    "Scaled to 0: all pods stop, all data stays. Raise spec.replicas to bring the same members back.",
)


def conditions(
    spec: Spec,
    observed: Observed,
    step: Step,
    concerns: Sequence[Concern],
    previous: Iterable[Mapping[str, Any]],
    now: str,
) -> list[dict[str, Any]]:
    found = {
        "Ready": _ready(spec, observed, concerns),
        "Progressing": _progressing(spec, step, concerns),
        "Degraded": _concern("Degraded", concerns),
        "QuorumAvailable": _quorum_available(spec, observed, concerns),
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


def _ready(spec: Spec, observed: Observed, concerns: Sequence[Concern]) -> Finding:
    if observed.deleting:
        return Finding("False", reasons.DELETING, "The resource is being deleted.")
    if spec.replicas == 0:
        return _HIBERNATING
    quorum = _quorum_available(spec, observed, concerns)
    membership = observed.membership
    if quorum.status != "True" or membership is None:
        return quorum
    if observed.intent is None or not observed.intent.bootstrapped:
        return Finding("False", reasons.FOUNDING, "Not all founding voters are in the membership yet.")
    wanted, voters = _wanted(spec, observed, "voters"), settled_names(observed, "voters")
    if membership.joint:
        return Finding("False", reasons.MEMBERSHIP_CHANGING, "A change of the voters is being made.")
    if missing := [name for name in wanted if name not in voters]:
        return Finding("False", "VotersMissing", f"Without a vote yet: {_list(missing)}.")
    if leaving := _surplus(observed, voters, wanted):
        return Finding("False", "VotersLeaving", f"Still with a vote: {_list(leaving)}.")
    if unready := [name for name in wanted if name not in observed.pods or not observed.pods[name].ready]:
        what = f"Voters that are not ready: {_list(unready)}; kubectl describe pod {unready[0]} says why."
        return Finding("False", "VotersNotReady", what)
    if pending := sorted(member.name for member in membership.members if member.role == "voter" and member.intent):
        return Finding("False", reasons.MEMBERSHIP_CHANGING, f"A change of these voters is pending: {_list(pending)}.")
    return Finding("True", "AllVotersReady", f"With their vote and ready: {_list(wanted)}.")


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
    sentences = dict.fromkeys(f"{concern.message.rstrip('.')}." for concern in found)
    return Finding("True", found[0].reason, " ".join(sentences))


def _quorum_available(spec: Spec, observed: Observed, concerns: Sequence[Concern]) -> Finding:
    """Why there is no leader, `plan` knows best; here is what is not its concern."""
    if observed.membership is not None:
        return Finding("True", "LeaderConfirmed", "A quorum has confirmed its leader.")
    if spec.replicas == 0:
        return _HIBERNATING
    for concern in concerns:
        if concern.condition == "Degraded" and concern.reason in _NO_QUORUM:
            return Finding("False", concern.reason, concern.message)
    if observed.intent is None or not observed.intent.bootstrapped:
        what = "The cluster has not been founded yet: Progressing says what it waits for."
        return Finding("False", reasons.FOUNDING, what)
    return Finding("False", reasons.NO_LEADER, "No leader is confirmed by a quorum.")


def _membership_in_sync(spec: Spec, observed: Observed) -> Finding:
    membership = observed.membership
    if spec.replicas == 0:
        return _HIBERNATING._replace(status="Unknown")
    if membership is None:
        return Finding("Unknown", "MembershipUnknown", "There is no leader to ask for the membership.")
    if membership.joint:
        return Finding("False", reasons.MEMBERSHIP_CHANGING, "A change of the voters is being made.")
    missing, surplus = [], []
    for kind in SET_KINDS:
        wanted, settled = _wanted(spec, observed, kind), settled_names(observed, kind)
        missing += [name for name in wanted if name not in settled]
        surplus += _surplus(observed, settled, wanted)
    foreign = [member.name for member in membership.members if position(observed.name, member.name) is None]
    parts = (("To come in", missing), ("To leave", surplus), ("No pods of this resource, and left alone", foreign))
    if any(names for _, names in parts):
        what = " ".join(f"{word}: {_list(names)}." for word, names in parts if names)
        return Finding("False", "MembersDiffer", what)
    return Finding("True", "AsWanted", "The members are those that the resource asks for.")


def _surplus(observed: Observed, settled: frozenset[str], wanted: Sequence[str]) -> list[str]:
    """Members that are to leave: those of our pods only."""
    return sorted(name for name in settled if name not in wanted and position(observed.name, name) is not None)


def _paused(spec: Spec) -> Finding:
    if spec.paused:
        return Finding("True", reasons.PAUSED, "Nothing is changed until spec.paused is false; the status goes on.")
    return Finding("False", "NotPaused", "The operator acts.")


def _wanted(spec: Spec, observed: Observed, kind: SetKind) -> list[str]:
    return [pod_name(observed.name, kind, ordinal) for ordinal in range(spec.wanted(kind))]


def _list(names: Sequence[str]) -> str:
    return ", ".join(names)
