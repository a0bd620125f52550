"""Learners that catch up (§4.2.1), and the changes of membership that the leader makes by itself when they have.

Called by the core's dispatch on replies and with each heartbeat. Its one rule: what it does follows from the committed
membership alone, so that a leader that dies leaves nothing undone that the next one would not do.
"""

from typing import TYPE_CHECKING

from raftwright.raft import intents, membership_changes, transfer
from raftwright.raft.membership import Membership, has_majority
from raftwright.raft.progress import CatchUpRound, Progress

if TYPE_CHECKING:
    from raftwright.raft.raft import Raft
    from raftwright.raft.roles import Leader

HAND_OVERS_MAX = 3
"""So often a leader tries to hand over before it takes part in its own removal (§4.2.2)."""


def on_reply(raft: "Raft", leader: "Leader", peer: int) -> None:
    """A peer confirmed something: its round may be over, and a change that waited for it may begin."""
    progress = leader.progress.get(peer)
    if progress is None:
        return
    if peer not in raft.membership.learners:
        progress.catch_up = None
        return
    if progress.catch_up is None:
        progress.catch_up = CatchUpRound(goal=raft.log.last_index, began_at=raft.now)
    if progress.match_index >= progress.catch_up.goal:
        took_s = raft.now - progress.catch_up.began_at
        progress.catch_up = CatchUpRound(goal=raft.log.last_index, began_at=raft.now, last_s=took_s)
        carry_on(raft, leader)


def has_caught_up(raft: "Raft", progress: Progress) -> bool:
    """The last round took less than an election timeout, and the one under way has not taken longer yet: as a voter it
    would not hold up commits for longer than an election does (§4.2.1)."""
    found, bound_s = progress.catch_up, raft.settings.election_timeout_s
    if found is None or found.last_s is None:
        return False
    return found.last_s < bound_s and raft.now - found.began_at < bound_s


def is_reachable(raft: "Raft", leader: "Leader", member_id: int) -> bool:
    """Whether the member was heard from within an election timeout."""
    if member_id == raft.member_id:
        return True
    progress = leader.progress.get(member_id)
    return progress is not None and raft.now - progress.contact_at <= raft.settings.election_timeout_s


def carry_on(raft: "Raft", leader: "Leader") -> None:
    """Begin the change of the oldest group of intents that is ready, if none is in flight."""
    membership = raft.membership
    if membership.is_joint or not any(member.intent for member in membership.members.values()):
        return
    if raft.commit_index < max(raft.log.membership_index, leader.first_index) or leader.transfer is not None:
        return
    for group in intents.groups(membership):
        target = intents.target_of(membership, group)
        is_forced = intents.is_forced(membership, group)
        if _is_ready(raft, leader, intents.promotions(membership, group), target, is_forced=is_forced):
            _begin(raft, leader, target)
            return


def _is_ready(raft: "Raft", leader: "Leader", promoted: frozenset[int], target: Membership, *, is_forced: bool) -> bool:
    """All have caught up, and a quorum of the new voters is there, for a joint membership without one commits nothing;
    unless somebody said that it comes."""
    if not all(peer in leader.progress and has_caught_up(raft, leader.progress[peer]) for peer in promoted):
        return False
    reachable = {voter for voter in target.voters if is_reachable(raft, leader, voter)}
    return bool(target.voters) and (is_forced or has_majority(target.voters, reachable))


def _begin(raft: "Raft", leader: "Leader", target: Membership) -> None:
    if raft.own_id not in target.voters and leader.hand_overs < HAND_OVERS_MAX:
        successor = _successor(raft, leader, target)
        if successor is not None:
            # The next leader finds the intents and carries them on, without the pause of a leader that goes away.
            leader.hand_overs += 1
            transfer.begin(raft, leader, successor)
            return
    following = membership_changes.next_membership(raft.membership, target)
    raft.append_membership(leader, following, raft.log.last_time_ms)


def _successor(raft: "Raft", leader: "Leader", target: Membership) -> int | None:
    """The best of the voters that stay voters."""
    staying = sorted(raft.membership.voters & target.voters & leader.progress.keys())
    staying = [voter for voter in staying if is_reachable(raft, leader, voter)]
    return max(staying, key=lambda voter: leader.progress[voter].match_index, default=None)
