"""The leader's lease (§6.4.1): until when no other leader can exist, so that a read needs no round of its own.

Asked through `Raft.lease_until`. Its one rule: a lease is counted from when the leader *sent* a round that a quorum of
voters answered, on the leader's clock, and is never longer than the shortest time for which they withhold their votes.

Why it holds. Whoever answered a round heard the leader after the round was sent at `t`, and from then on gives no vote
for an election timeout on its own clock (§4.2.3); if it restarts, it gives none for an election timeout after that.
Another leader needs the vote of one of them, for both halves of a joint membership were asked, and learners count in
none. While the slower of two clocks measures at least `1 - lease_clock_drift` of what the faster one does, the
leader's clock shows no more than `t + election_timeout * (1 - lease_clock_drift)` before such a vote is given. Three
things are assumed: that bound, clocks that count the time that a machine is suspended, and the same election timeout at
every voter.
"""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from raftwright.raft.raft import Raft

NEVER = float("-inf")


def until(raft: "Raft") -> float:
    """When the lease ends, on the clock of `now`: before that time, what is applied up to the commit index is all that
    any client was told of. Minus infinity without a lease."""
    leader = raft.leader_role
    if leader is None or raft.commit_index < leader.first_index:
        return NEVER  # it may not know yet what is committed (§6.4)
    if leader.transfer is not None or leader.told_to_campaign:
        return NEVER
    settings = raft.settings
    return leader.rounds.confirmed_sent_at + settings.election_timeout_s * (1.0 - settings.lease_clock_drift)
