"""The leader's lease (§6.4.1): until when no other leader can exist, so that a read needs no round of its own.

Asked through `Raft.lease_until`; replication tells it of each answer. Its one rule: a lease ends with the promises of
a quorum, each counted on the leader's clock from when it *sent* the round that the voter answered.

Why it holds. Whoever answers a round heard the leader after the round was sent at `t`, and its answer says for how long
it gives no vote from then on, on its own clock (§4.2.3): its election timeout. Voters need not have the same one. If it
restarts, it gives no vote for an election timeout after that; one that is set to a shorter one waits first until the
longer one, which its store remembers, is over. Another leader needs the vote of one of them, for both halves of a joint
membership were asked, and learners count in none. While the slower of two clocks measures at least
`1 - lease_clock_drift` of what the faster one does, the leader's clock shows no more than
`t + promised * (1 - lease_clock_drift)` before such a vote is given. Two things are assumed: that bound, and clocks
that count the time that a machine is suspended. A voter that promises nothing counts in no lease.
"""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from raftwright.raft.messages import AppendReply
    from raftwright.raft.progress import Progress
    from raftwright.raft.raft import Raft, RaftSettings
    from raftwright.raft.roles import Leader

NEVER = float("-inf")


def until(raft: "Raft") -> float:
    """When the lease ends, on the clock of `now`: before that time, what is applied up to the commit index is all that
    any client was told of. Minus infinity without a lease."""
    leader = raft.leader_role
    if leader is None or raft.commit_index < leader.first_index:
        return NEVER  # it may not know yet what is committed (§6.4)
    if leader.transfer is not None or leader.told_to_campaign:
        return NEVER
    return promised_until(raft, leader)


def promised_until(raft: "Raft", leader: "Leader") -> float:
    """Until when a quorum of the voters gives no vote. The leader itself votes for nobody while it leads."""
    rounds, settings = leader.rounds, raft.settings
    own = rounds.sent_at(rounds.number) + counted_s(settings, settings.election_timeout_s)
    return raft.membership.quorum_time(lambda voter: own if voter == raft.member_id else _promise_of(leader, voter))


def on_answer(raft: "Raft", leader: "Leader", progress: "Progress", message: "AppendReply") -> None:
    """A peer answered a round, and says for how long it gives no vote from when that arrived."""
    if message.withholds_s > 0:
        promised = leader.rounds.sent_at(message.round) + counted_s(raft.settings, message.withholds_s)
        progress.promised_until = max(progress.promised_until, promised)


def counted_s(settings: "RaftSettings", promised_s: float) -> float:
    """How much of a promise of that length the leader counts on, by its own clock."""
    return promised_s * (1.0 - settings.lease_clock_drift)


def _promise_of(leader: "Leader", voter: int) -> float:
    progress = leader.progress.get(voter)
    return NEVER if progress is None else progress.promised_until
