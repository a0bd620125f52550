"""Intents: what is to become of members, replicated in the membership itself, so that any later leader carries it on.

A member's intent may be `promote`, `demote` or `remove`, each with the number of its *group*: all that was asked for by
one change, and that happens in one joint change once every learner of the group that is to be promoted has caught up.
The leader's `catch_up.py` and whoever plans a change use it. PURE.
"""

from dataclasses import replace

from raftwright.raft.membership import Member, Membership

PROMOTE, DEMOTE, REMOVE = "promote", "demote", "remove"
REPLACES = "replaces"
"""The id of the member whose place this one takes; for information."""
FORCE = "force"
"""The group goes on without a quorum of voters that can be reached, as whoever asked for it wanted."""
_GROUPED = (PROMOTE, DEMOTE, REMOVE)


def group_of(member: Member, intent: str) -> int | None:
    """The group in which that is to happen to the member; None if it is not."""
    group = member.intent.get(intent)
    return group if isinstance(group, int) else None


def groups(membership: Membership) -> list[int]:
    """Every group that something is still to be done for, oldest first."""
    found = {group_of(member, intent) for member in membership.members.values() for intent in _GROUPED}
    return sorted(group for group in found if group is not None)


def members_of(membership: Membership, group: int, intent: str) -> frozenset[int]:
    return frozenset(key for key, member in membership.members.items() if group_of(member, intent) == group)


def promotions(membership: Membership, group: int) -> frozenset[int]:
    """The learners that have to catch up before the group can go on."""
    return members_of(membership, group, PROMOTE) & membership.learners


def is_forced(membership: Membership, group: int) -> bool:
    return any(group_of(member, FORCE) == group for member in membership.members.values())


def with_intent(member: Member, **intent: int | str) -> Member:
    return replace(member, intent={**member.intent, **intent})


def without_group(member: Member, group: int) -> Member:
    """The member with nothing left to do for the group."""
    if not any(group_of(member, intent) == group for intent in _GROUPED):
        return member
    left = {key: value for key, value in member.intent.items() if key not in (*_GROUPED, REPLACES, FORCE)}
    return replace(member, intent=left)


def target_of(membership: Membership, group: int) -> Membership:
    """The membership that the group leads to, with its intents done and gone. It may be without voters."""
    promoted = promotions(membership, group)
    removed = members_of(membership, group, REMOVE)
    demoted = (members_of(membership, group, DEMOTE) & membership.voters) - removed
    return replace(
        membership,
        members={key: without_group(member, group) for key, member in membership.members.items() if key not in removed},
        voters=(membership.voters | promoted) - removed - demoted,
        learners=(membership.learners | demoted) - promoted - removed,
    )


def called_off(membership: Membership, leaving: frozenset[int]) -> dict[int, Member]:
    """The members once nothing is to become of those who leave. Where they were the last of a group that had to catch
    up, the rest of the group is called off: who cancels a replacement does not want the old member removed."""
    members = dict(membership.members)
    affected = set()
    for key in leaving:
        affected.add(group_of(members[key], PROMOTE))
        members[key] = replace(members[key], intent={})
    for group in sorted(group for group in affected if group is not None):
        if not promotions(replace(membership, members=members), group):
            members = {key: without_group(member, group) for key, member in members.items()}
    return members
