"""The members as the status lists them, and what follows from the membership alone. Called by `document`, `conditions`.

Rule: who has an id is a member. Without a known membership those stay listed as they were, for their names tell how
many pods a set must have.
"""

import re
from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any

from raftwright_operator.names import SetKind, position
from raftwright_operator.observed import MemberSeen, Observed

_PARTS = re.compile(r"[0-9]+|[^0-9.+-]+")
ROLES = {"voter": "voter", "learner": "nonVoting"}


def members(observed: Observed, previous: Iterable[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """In the order of sets and ordinals, pods that are no members yet among them; names that are none of ours last."""
    if observed.membership is None:
        found = [dict(member) for member in previous if member.get("id") is not None]
    else:
        found = [_of_member(member) for member in observed.membership.members]
    names = {member["name"] for member in found}
    found += [{"name": name} for name in observed.pods if name not in names]
    found.sort(key=lambda member: (_place(observed, member["name"]), member["name"], member.get("id", 0)))
    return [_known({**member, **_of_pod(observed, member["name"])}) for member in found]


def settled_names(observed: Observed, kind: SetKind) -> frozenset[str]:
    """The members that are what their set is for: voters that stay, or learners. Not those that are being replaced,
    when two members have one name for a while."""
    wanted = "voter" if kind == "voters" else "learner"
    seen = observed.membership.members if observed.membership else ()
    times = Counter(member.name for member in seen)
    return frozenset(
        member.name for member in seen if member.role == wanted and not member.leaving and times[member.name] == 1
    )


def leader_name(observed: Observed) -> str | None:
    membership = observed.membership
    if membership is None:
        return None
    return next((member.name for member in membership.members if member.id == membership.leader), None)


def version_of(observed: Observed) -> str | None:
    """What the nodes that answer run; the lowest while they differ, so that a new one is there when all have it."""
    versions = {node.version for node in observed.nodes.values() if node.version}
    return min(versions, key=_numbers, default=None)


def _numbers(version: str) -> tuple[list[tuple[int, str]], str]:
    """By the numbers in it as numbers: 0.9 is before 0.10."""
    return [(int(part), "") if part.isdecimal() else (-1, part) for part in _PARTS.findall(version)], version


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
