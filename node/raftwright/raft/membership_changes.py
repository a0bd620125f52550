"""Membership changes by joint consensus (§4.3): what may be asked for, and which memberships lead there.

Called by the core for proposals, and by the leader's commitment to carry a change on. Its one rule: at most one
change is in flight, and any two memberships that may be in force at once have overlapping quorums. The first half
of the file is pure.
"""

from dataclasses import replace
from typing import TYPE_CHECKING

from raftwright.raft.errors import InvalidMembership, MembershipChangePending, MembershipOutdated, ProposalDropped
from raftwright.raft.membership import Membership

if TYPE_CHECKING:
    from raftwright.raft.raft import Raft
    from raftwright.raft.roles import Leader


def next_membership(current: Membership, target: Membership) -> Membership:
    """What is appended first on the way to `target`: a joint membership if the voters change, else it itself."""
    if target.voters == current.voters:
        return replace(target, version=current.version + 1)
    learners = target.learners - current.voters
    taking_part = current.voters | target.voters | learners
    members = {**current.members, **target.members}
    return Membership(
        version=current.version + 1,
        last_member_id=target.last_member_id,
        members={key: members[key] for key in sorted(taking_part)},
        voters=target.voters,
        outgoing_voters=current.voters,
        learners=learners,
        next_learners=target.learners & current.voters,
    )


def final_membership(joint: Membership) -> Membership:
    """What follows on a joint membership, known from it alone, so that any later leader can carry on (§4.3)."""
    learners = joint.learners | joint.next_learners
    staying = joint.voters | learners
    return Membership(
        version=joint.version + 1,
        last_member_id=joint.last_member_id,
        members={key: member for key, member in joint.members.items() if key in staying},
        voters=joint.voters,
        learners=learners,
    )


def check_target(current: Membership, target: Membership) -> None:
    """Raise InvalidMembership if `target` can follow on no path from `current`."""
    ids = frozenset(target.members)
    if target.is_joint or target.next_learners:
        raise InvalidMembership("a membership to change to is never joint itself")
    if not target.voters:
        raise InvalidMembership("a membership needs at least one voter")
    if target.voters & target.learners:
        raise InvalidMembership(f"both voters and learners: {sorted(target.voters & target.learners)}")
    if ids != target.voters | target.learners:
        odd = sorted(ids ^ (target.voters | target.learners))
        raise InvalidMembership(f"every member is a voter or a learner, and nobody else is; not so: {odd}")
    if target.last_member_id < max(current.last_member_id, *ids):
        raise InvalidMembership(f"the count of member ids goes back, or is below an id: {target.last_member_id}")
    used = sorted(key for key in ids - frozenset(current.members) if key <= current.last_member_id)
    if used:
        raise InvalidMembership(f"ids of removed members are never used again: {used}")


# -- the leader's part ------------------------------------------------------------------------------------------


def propose(raft: "Raft", leader: "Leader", target: Membership, base_version: int, time_ms: int) -> None:
    """Begin a change. A change counts from when it is appended, so it waits for the one before to be committed."""
    current = raft.membership
    if leader.transfer is not None:
        raise ProposalDropped("leadership is being transferred")
    if current.is_joint or raft.log.membership_index > raft.commit_index:
        raise MembershipChangePending("another change of the membership is in flight")
    if raft.commit_index < leader.first_index:
        raise MembershipChangePending("the leader has not committed anything in its term yet")
    if base_version != current.version:
        raise MembershipOutdated(f"the membership is at version {current.version}, not {base_version}")
    check_target(current, target)
    raft.append_membership(leader, next_membership(current, target), time_ms)


def on_committed(raft: "Raft", leader: "Leader") -> None:
    """Once the joint membership is committed, whoever leads appends the final one (§4.3)."""
    if raft.membership.is_joint and raft.log.membership_index <= raft.commit_index:
        raft.append_membership(leader, final_membership(raft.membership), raft.log.last_time_ms)
