"""What the leader commits (§3.6.2), and what follows from it: changes of membership carried on, members let go.

Called by the core whenever a match index may have moved. Its one rule: an entry is committed by counting only if it
is of the leader's own term, and the leader counts itself only as far as its own disk is (§10.2.1).
"""

from typing import TYPE_CHECKING

from raftwright.raft import membership_changes, replication
from raftwright.raft.messages import TimeoutNow

if TYPE_CHECKING:
    from raftwright.raft.raft import Raft
    from raftwright.raft.roles import Leader


def advance(raft: "Raft", leader: "Leader") -> None:
    """Commit what a quorum holds by now."""
    index = raft.membership.committed_index(lambda voter: match_index(raft, leader, voter))
    # From `first_index` on every entry is of the own term. Earlier ones are committed with it, never by counting:
    # a quorum that holds them might still be outvoted (Figure 3.7).
    if index <= raft.commit_index or index < leader.first_index:
        return
    raft.commit_to(index)
    while leader.uncommitted and leader.uncommitted[0][0] <= index:
        leader.uncommitted_bytes -= leader.uncommitted.popleft()[1]
    leader.must_send = True
    membership_changes.on_committed(raft, leader)
    if not raft.membership.is_joint and raft.log.membership_index <= raft.commit_index:
        _let_go(raft, leader)


def match_index(raft: "Raft", leader: "Leader", voter: int) -> int:
    if voter == raft.member_id:
        return raft.durability.persisted_index
    progress = leader.progress.get(voter)
    return 0 if progress is None else progress.match_index


def _let_go(raft: "Raft", leader: "Leader") -> None:
    """The newest membership is committed: members that it has not any more hear so once, and then nothing."""
    members = raft.membership.members
    for peer in [peer for peer in leader.progress if peer not in members]:
        replication.send_commit_index(raft, leader, peer)
        del leader.progress[peer]
    if raft.own_id not in raft.membership.voters:
        _step_down(raft, leader)


def _step_down(raft: "Raft", leader: "Leader") -> None:
    """A leader that is no voter any more ends its leadership (§4.2.2), and lets the best voter follow at once."""
    for peer in leader.progress:
        replication.send_commit_index(raft, leader, peer)
    successor = most_up_to_date(raft, leader)
    if successor is not None:
        raft.send(TimeoutNow(from_id=raft.own_id, to_id=successor, term=raft.term), promises=False)
    raft.become_follower(raft.term, leader_id=None)


def most_up_to_date(raft: "Raft", leader: "Leader") -> int | None:
    """The voter, other than this server, that holds most of the log; of several the lowest id."""
    voters = [voter for voter in sorted(raft.membership.voters) if voter in leader.progress]
    return max(voters, key=lambda voter: leader.progress[voter].match_index, default=None)
