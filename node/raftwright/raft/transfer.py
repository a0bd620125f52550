"""Leadership transfer (§3.10), the leader's part: let the target catch up, then tell it to campaign.

Called by the core's dispatch. Its one rule: while leadership is on its way nothing is proposed, and if the target
does not take over within an election timeout, everything is as before.
"""

from typing import TYPE_CHECKING

from raftwright.raft.commitment import most_up_to_date
from raftwright.raft.errors import TransferImpossible
from raftwright.raft.messages import TimeoutNow
from raftwright.raft.roles import Transfer

if TYPE_CHECKING:
    from raftwright.raft.raft import Raft
    from raftwright.raft.roles import Leader


def begin(raft: "Raft", leader: "Leader", target: int | None) -> None:
    if target is None:
        target = most_up_to_date(raft, leader)
        if target is None:
            raise TransferImpossible("there is no other voter")
    if target == raft.member_id or target not in raft.membership.voters or target not in leader.progress:
        raise TransferImpossible(f"member {target} is not another voter")
    if leader.transfer is not None:
        if leader.transfer.target == target:
            return
        raise TransferImpossible(f"leadership is already being transferred to member {leader.transfer.target}")
    leader.transfer = Transfer(target, give_up_at=raft.now + raft.settings.election_timeout_s)
    advance(raft, leader)


def advance(raft: "Raft", leader: "Leader") -> None:
    """Tell the target to campaign if it holds the whole log. Told again with each heartbeat, if it was lost."""
    transfer = leader.transfer
    if transfer is None:
        return
    progress = leader.progress.get(transfer.target)
    if progress is None or transfer.target not in raft.membership.voters:
        leader.transfer = None  # a change of membership took the target away
    elif progress.match_index == raft.log.last_index:
        leader.told_to_campaign = True
        raft.send(TimeoutNow(from_id=raft.own_id, to_id=transfer.target, term=raft.term), promises=False)


def on_tick(raft: "Raft", leader: "Leader") -> None:
    if leader.transfer is not None and raft.now >= leader.transfer.give_up_at:
        leader.transfer = None
