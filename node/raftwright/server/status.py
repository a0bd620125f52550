"""What a node says of itself: the answer of `GET /v1/status`, made from what the parts know. Read only."""

from collections.abc import Mapping
from typing import Literal

from raftwright.client.models import MemberStatus, NodeStatus, StateCheck
from raftwright.raft.membership import Membership
from raftwright.raft.raft import Raft
from raftwright.raft.roles import Candidate, Leader, PreCandidate
from raftwright.server.checks import ReplicaChecks
from raftwright.server.driver import Driver
from raftwright.server.peers import LocalIdentity
from raftwright.version import __version__


def node_status(
    *,
    identity: LocalIdentity,
    phase: str,
    why: str,
    uptime_s: float,
    driver: Driver | None,
    refusals: Mapping[int, str],
    revision: int,
) -> NodeStatus:
    """`phase` and `why` are the node's own; `driver` is None until it takes part in a cluster; `refusals` are by
    member."""
    common = {
        "name": identity.name,
        "state": phase,
        "version": __version__,
        "uptime_s": round(uptime_s, 3),
        "id": identity.member_id,
        "cluster_id": identity.cluster_id,
        "store_id": identity.store_id,
        "founding": identity.founding,
        "revision": revision,
        "detail": why or (driver and wrong_state(driver.checks)) or None,
    }
    if driver is None:
        return NodeStatus(**common)  # type: ignore[arg-type]
    raft = driver.raft
    membership = raft.membership
    return NodeStatus(
        **common,  # type: ignore[arg-type]
        role=role_name(raft),
        member_role="voter" if identity.member_id in membership.all_voters else "learner",
        term=raft.term,
        leader=raft.leader_id,
        commit_index=raft.commit_index,
        applied_index=driver.state.applied_index,
        first_index=raft.log.first_index,
        last_index=raft.log.last_id.index,
        membership_version=membership.version,
        members=_members(driver, membership, refusals),
        state_check=state_check(driver.checks, membership),
    )


def wrong_state(checks: ReplicaChecks) -> str:
    """A sentence where the state of this node is not, or may not be, what it should be; else empty."""
    if checks.divergence is not None:
        why = f"; the last attempt failed: {checks.repair.problem}" if checks.repair.problem else ""
        return f"the state of this node is not that of the majority, and is being replaced by the leader's{why}"
    if checks.alarm:
        return f"no majority of the voters has the same state: {checks.alarm}"
    return ""


def state_check(checks: ReplicaChecks, membership: Membership) -> StateCheck:
    names = {number: member.name for number, member in membership.members.items()}
    return StateCheck(
        passed=checks.passed,
        passed_index=checks.passed_index,
        failed=checks.failed,
        skipped=checks.skipped,
        repairs=checks.repairs,
        diverged=checks.divergence is not None,
        minority=[names[number] for number in sorted(checks.minority) if number in names],
        alarm=checks.alarm or None,
        problem=checks.repair.problem or None,
    )


def role_name(raft: Raft) -> Literal["leader", "follower", "candidate", "pre-candidate"]:
    match raft.role:
        case Leader():
            return "leader"
        case Candidate():
            return "candidate"
        case PreCandidate():
            return "pre-candidate"
        case _:
            return "follower"


def _members(driver: Driver, membership: Membership, refusals: Mapping[int, str]) -> list[MemberStatus]:
    raft = driver.raft
    leader = raft.role if isinstance(raft.role, Leader) else None
    found = []
    for number, member in sorted(membership.members.items()):
        match_index = None
        if number == raft.member_id:
            match_index = raft.log.last_id.index
        elif leader is not None and number in leader.progress:
            match_index = leader.progress[number].match_index
        timeout_s = driver.election_timeouts.of(number)
        found.append(
            MemberStatus(
                id=number,
                name=member.name,
                role=_member_role(membership, number),
                peer=member.addresses.peer,
                client=member.addresses.client,
                store_id=member.store_id,
                match_index=match_index,
                leader=number == raft.leader_id,
                metadata=dict(member.metadata),
                election_timeout_ms=None if timeout_s is None else round(timeout_s * 1000),
                refusal=refusals.get(number),
            )
        )
    return found


def _member_role(membership: Membership, number: int) -> Literal["voter", "learner", "outgoing"]:
    if number in membership.voters:
        return "voter"
    return "outgoing" if number in membership.outgoing_voters else "learner"
