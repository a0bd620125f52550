"""The members as the status lists them, and what follows from the membership alone. Called by `document`, `conditions`.

Rule: the list is of members, not of pods. Without a known membership it stays as it was, for its names tell how many
pods a set must have.
"""

from collections.abc import Iterable, Mapping
from typing import Any

from raftwright_operator.names import SetKind, position
from raftwright_operator.observed import MemberSeen, Observed

ROLES = {"voter": "voter", "learner": "nonVoting"}


def members(observed: Observed, previous: Iterable[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """In the order of sets and ordinals; names that are none of ours come last."""
    if observed.membership is None:
        return [_known({**member, **_of_pod(observed, str(member.get("name")))}) for member in previous]
    seen = sorted(observed.membership.members, key=lambda member: (_place(observed, member.name), member.id))
    return [_known({**_of_member(member), **_of_pod(observed, member.name)}) for member in seen]


def settled_names(observed: Observed, kind: SetKind) -> frozenset[str]:
    """The members that are what their set is for: voters that stay, or learners."""
    wanted = "voter" if kind == "voters" else "learner"
    seen = observed.membership.members if observed.membership else ()
    return frozenset(member.name for member in seen if member.role == wanted and not member.leaving)


def leader_name(observed: Observed) -> str | None:
    membership = observed.membership
    if membership is None:
        return None
    return next((member.name for member in membership.members if member.id == membership.leader), None)


def version_of(observed: Observed) -> str | None:
    """The leader's, who is the last to get a new one: so it is the new one when all have it. Without a leader that
    answers, the first one that is known."""
    leader = observed.nodes.get(leader_name(observed) or "")
    if leader is not None and leader.version:
        return leader.version
    return next((node.version for _, node in sorted(observed.nodes.items()) if node.version), None)


def _of_member(member: MemberSeen) -> dict[str, Any]:
    return {
        "name": member.name,
        "id": member.id,
        "role": ROLES[member.role],
        "storeId": member.store_id,
        "matchIndex": member.match_index,
        "lagCommands": member.lag_commands,
        "lagSeconds": member.lag_seconds,
    }


def _of_pod(observed: Observed, name: str) -> dict[str, Any]:
    pod, node = observed.pods.get(name), observed.nodes.get(name)
    return {
        "pod": None if pod is None else pod.name,
        "node": None if pod is None else pod.node,
        "version": None if node is None else node.version or None,
        "ready": pod is not None and pod.ready,
    }


def _known(fields: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in fields.items() if value is not None}


def _place(observed: Observed, name: str) -> tuple[int, int]:
    match position(observed.name, name):
        case ("voters", ordinal):
            return 0, ordinal
        case ("non-voting", ordinal):
            return 1, ordinal
    return 2, 0
