"""Linearizable reads by ReadIndex (§6.4): a read is as good as logged once a quorum confirms the leader after it came.

Called by the core's dispatch and by replication. Its one rule: a read is answered with a commit index only when a
round of heartbeats that *began after* the read was answered by a quorum, and the leader has committed an entry of
its own term. All reads that wait share one round.
"""

from collections import deque
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple

from raftwright.raft.messages import ReadIndexReply, ReadIndexRequest

if TYPE_CHECKING:
    from raftwright.raft.raft import Raft
    from raftwright.raft.roles import Follower, Leader


SENT_ROUNDS_KEPT = 1024
"""An answer to an older round promises nothing any more: the lease is then the shorter for it."""


class WaitingRead(NamedTuple):
    from_id: int | None
    """The member that forwarded it; None: asked here."""
    context: int


class Round(NamedTuple):
    """A round of heartbeats that no quorum has answered yet."""

    number: int
    read_index: int
    reads: tuple[WaitingRead, ...]


@dataclass(slots=True)
class ReadRounds:
    """The leader's side."""

    number: int = 0
    """The newest round; every append carries it."""
    waiting: list[WaitingRead] = field(default_factory=list)
    open: deque[Round] = field(default_factory=deque)
    sent: deque[float] = field(default_factory=lambda: deque(maxlen=SENT_ROUNDS_KEPT))
    """When each of the newest rounds was sent: what promises of voters are counted from (§6.4.1)."""

    def sent_at(self, number: int) -> float:
        """When that round was sent, on the leader's clock; minus infinity if it is too long ago, or none."""
        back = self.number - number
        return self.sent[-1 - back] if 0 <= back < len(self.sent) else float("-inf")

    @property
    def carries_reads(self) -> bool:
        return any(round_.reads for round_ in self.open)


@dataclass(slots=True)
class ForwardedReads:
    """The side of a follower or learner: reads waiting for, and reads sent to, the leader."""

    waiting: list[int] = field(default_factory=list)
    sent: dict[int, tuple[float, tuple[int, ...]]] = field(default_factory=dict)
    """By the number of the request, in the order sent: when to give up, and the contexts that share it."""

    @property
    def give_up_at(self) -> float:
        return next(iter(self.sent.values()))[0] if self.sent else float("inf")


def on_request_read(raft: "Raft", context: int) -> None:
    """A read asked for here."""
    leader, follower = raft.leader_role, raft.follower_role
    if leader is not None:
        leader.rounds.waiting.append(WaitingRead(None, context))
        leader.must_send = True
    elif follower is not None and follower.leader_id is not None:
        follower.reads.waiting.append(context)
    else:
        raft.answer_read(context, None)


def on_read_index_request(raft: "Raft", message: ReadIndexRequest) -> None:
    """Reads that a follower or learner forwards."""
    leader = raft.leader_role
    if leader is None:
        _reply(raft, WaitingRead(message.from_id, message.context), None)
    else:
        leader.rounds.waiting.append(WaitingRead(message.from_id, message.context))
        leader.must_send = True


def on_read_index_reply(raft: "Raft", message: ReadIndexReply) -> None:
    follower = raft.follower_role
    if follower is not None and (found := follower.reads.sent.pop(message.context, None)):
        for context in found[1]:
            raft.answer_read(context, message.index)


def open_round(raft: "Raft", leader: "Leader") -> None:
    """A new round begins now, and takes along every read that waits, if the leader may serve reads yet."""
    rounds = leader.rounds
    rounds.number += 1
    rounds.sent.append(raft.now)
    taken: tuple[WaitingRead, ...] = ()
    if raft.commit_index >= leader.first_index:
        taken = tuple(rounds.waiting)
        rounds.waiting.clear()
        raft.read_rounds += bool(taken)
    rounds.open.append(Round(rounds.number, raft.commit_index, taken))


def wants_round(raft: "Raft", leader: "Leader") -> bool:
    """Whether reads wait, may be served and have no round to wait for."""
    rounds = leader.rounds
    return bool(rounds.waiting) and raft.commit_index >= leader.first_index and not rounds.carries_reads


def on_confirmation(raft: "Raft", leader: "Leader") -> None:
    """A peer answered a round: close those that a quorum has answered by now."""
    rounds = leader.rounds
    if not rounds.open:
        return
    confirmed = raft.membership.committed_index(
        lambda voter: rounds.number if voter == raft.member_id else _confirmed_round(leader, voter)
    )
    while rounds.open and rounds.open[0].number <= confirmed:
        closed = rounds.open.popleft()
        for read in closed.reads:
            _reply(raft, read, closed.read_index)
    if rounds.waiting:
        leader.must_send = True


def forward(raft: "Raft", follower: "Follower") -> None:
    """Send the waiting reads to the leader, all in one request."""
    reads = follower.reads
    if not reads.waiting or follower.leader_id is None:
        return
    raft.read_request_number += 1
    number = raft.read_request_number
    reads.sent[number] = (raft.now + raft.settings.election_timeout_s, tuple(reads.waiting))
    reads.waiting.clear()
    raft.send(
        ReadIndexRequest(from_id=raft.own_id, to_id=follower.leader_id, term=raft.term, context=number),
        promises=False,
    )


def give_up_late(raft: "Raft", follower: "Follower") -> None:
    """Fail the forwarded reads that waited for an election timeout."""
    while follower.reads.give_up_at <= raft.now:
        number = next(iter(follower.reads.sent))
        for context in follower.reads.sent.pop(number)[1]:
            raft.answer_read(context, None)


def fail_all(raft: "Raft") -> None:
    """The role that held the reads ends: nobody can confirm them any more."""
    leader, follower = raft.leader_role, raft.follower_role
    if leader is not None:
        for read in [*(read for round_ in leader.rounds.open for read in round_.reads), *leader.rounds.waiting]:
            _reply(raft, read, None)
    elif follower is not None:
        sent = (context for _, contexts in follower.reads.sent.values() for context in contexts)
        for context in [*sent, *follower.reads.waiting]:
            raft.answer_read(context, None)


def _confirmed_round(leader: "Leader", voter: int) -> int:
    progress = leader.progress.get(voter)
    return 0 if progress is None else progress.confirmed_round


def _reply(raft: "Raft", read: WaitingRead, index: int | None) -> None:
    if read.from_id is None:
        raft.answer_read(read.context, index)
    else:
        raft.send(
            ReadIndexReply(from_id=raft.own_id, to_id=read.from_id, term=raft.term, context=read.context, index=index),
            promises=False,
        )
