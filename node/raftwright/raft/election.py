"""Elections: pre-vote (§9.6), votes (§3.4), check-quorum, and the check for a live leader (§4.2.3).

Called by the core's dispatch. Its one rule: a vote is given once a term, to a log at least as up to date as the
own one, and leaves only after it is durable.
"""

from typing import TYPE_CHECKING

from raftwright.raft.messages import PreVoteReply, RequestPreVote, RequestVote, TimeoutNow, VoteReply
from raftwright.raft.roles import Candidate, Leader, PreCandidate

if TYPE_CHECKING:
    from raftwright.raft.raft import Raft


def withholds_votes(raft: "Raft") -> bool:
    """Whether this server may neither vote nor take a candidate's term (§4.2.3).

    So while it is the leader, or heard from one within the shortest election timeout, or has just started and so
    forgot whether it did. A leader that lost its quorum steps down by itself.
    """
    timeout = raft.settings.election_timeout_s
    return isinstance(raft.role, Leader) or raft.now < max(raft.quiet_until, raft.leader_heard_at + timeout)


def may_campaign(raft: "Raft") -> bool:
    """A voter of the newest membership, or of one before it while the newest is not known to be committed.

    A server that is being removed may be the only one with a log that can win, and is needed until then; it does
    not count its own vote (§4.2.2).
    """
    return raft.member_id is not None and raft.log.gives_vote_to(raft.member_id)


def on_election_timeout(raft: "Raft") -> None:
    """Nothing was heard from a leader for an election timeout (§3.4)."""
    if may_campaign(raft):
        start_pre_vote(raft)
    else:
        raft.become_follower(raft.term, leader_id=None)


def start_pre_vote(raft: "Raft") -> None:
    raft.become_pre_candidate()
    for voter in _other_voters(raft):
        raft.send(
            RequestPreVote(from_id=raft.own_id, to_id=voter, term=raft.term + 1, last=raft.log.last_id),
            promises=False,
        )
    _count_pre_votes(raft)


def start_election(raft: "Raft", *, transfer: bool) -> None:
    """Take a new term, vote for oneself and ask the others. The request leaves only after the own vote is durable."""
    raft.become_candidate()
    for voter in _other_voters(raft):
        raft.send(
            RequestVote(from_id=raft.own_id, to_id=voter, term=raft.term, last=raft.log.last_id, transfer=transfer),
            promises=True,
        )
    _count_votes(raft)


def on_request_pre_vote(raft: "Raft", message: RequestPreVote) -> None:
    """Grant if a vote would be granted were the election held now. Changes nothing here."""
    fits_term = message.term > raft.term or (message.term == raft.term and _is_free_to_vote_for(raft, message.from_id))
    granted = fits_term and not withholds_votes(raft) and message.last >= raft.log.last_id
    term = message.term if granted else raft.term
    raft.send(PreVoteReply(from_id=raft.own_id, to_id=message.from_id, term=term, granted=granted), promises=False)


def on_pre_vote_reply(raft: "Raft", message: PreVoteReply) -> None:
    if isinstance(raft.role, PreCandidate) and message.granted and message.term == raft.term + 1:
        raft.role.granted.add(message.from_id)
        _count_pre_votes(raft)


def on_request_vote(raft: "Raft", message: RequestVote) -> None:
    """The request is of the own term: whoever may not take its term was answered before (`refuse_vote`)."""
    may_vote = message.transfer or not withholds_votes(raft)
    if raft.now < raft.quiet_until:
        may_vote = False
    granted = may_vote and _is_free_to_vote_for(raft, message.from_id) and message.last >= raft.log.last_id
    if granted:
        raft.vote_for(message.from_id)
        raft.restart_election_timer()
    raft.send(VoteReply(from_id=raft.own_id, to_id=message.from_id, term=raft.term, granted=granted), promises=True)


def refuse_vote(raft: "Raft", message: RequestVote) -> None:
    raft.send(VoteReply(from_id=raft.own_id, to_id=message.from_id, term=raft.term, granted=False), promises=False)


def on_vote_reply(raft: "Raft", message: VoteReply) -> None:
    if isinstance(raft.role, Candidate) and message.granted:
        raft.role.granted.add(message.from_id)
        _count_votes(raft)


def on_timeout_now(raft: "Raft", message: TimeoutNow) -> None:
    """The leader hands over: campaign at once and without pre-vote, which its own heartbeats would defeat (§3.10)."""
    follower = raft.follower_role
    if follower is None or follower.leader_id not in (None, message.from_id):
        return
    if may_campaign(raft) and raft.now >= raft.quiet_until:
        start_election(raft, transfer=True)


def check_quorum(raft: "Raft", leader: Leader) -> bool:
    """Step down if no quorum was heard from for an election timeout. True if still the leader.

    A cut-off leader so stops taking proposals it can never commit, and stops refusing votes.
    """
    heard_at = raft.membership.quorum_time(
        lambda voter: raft.now if voter == raft.member_id else _contact_at(leader, voter)
    )
    if raft.now - heard_at > raft.settings.election_timeout_s:
        raft.become_follower(raft.term, leader_id=None)
        return False
    return True


def _contact_at(leader: Leader, voter: int) -> float:
    progress = leader.progress.get(voter)
    return float("-inf") if progress is None else progress.contact_at


def _is_free_to_vote_for(raft: "Raft", candidate: int) -> bool:
    voted_for = raft.hard_state.voted_for
    return voted_for == candidate or (voted_for is None and raft.leader_id is None)


def _other_voters(raft: "Raft") -> list[int]:
    return sorted(raft.membership.all_voters - {raft.own_id})


def _count_pre_votes(raft: "Raft") -> None:
    if isinstance(raft.role, PreCandidate) and raft.membership.has_quorum(raft.role.granted):
        start_election(raft, transfer=False)


def _count_votes(raft: "Raft") -> None:
    if isinstance(raft.role, Candidate) and raft.membership.has_quorum(raft.role.granted):
        raft.become_leader()
