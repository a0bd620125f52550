"""The roles of a server, each holding only the volatile state of that role.

Used by the core. Their one rule: a role is changed only in `Raft.become_…`, by putting a new one in its place, so
that nothing of an old role is ever left over.
"""

from collections import deque
from dataclasses import dataclass, field

from raftwright.raft.progress import Progress
from raftwright.raft.reads import ForwardedReads, ReadRounds


@dataclass(slots=True)
class Follower:
    """Also what learners, and servers that are no member yet or no longer, are."""

    leader_id: int | None = None
    answered_round: int = 0
    """The newest round of this leader's heartbeats that was answered with success."""
    reads: ForwardedReads = field(default_factory=ForwardedReads)


@dataclass(slots=True)
class PreCandidate:
    """Asks whether an election could be won, before it disturbs anyone by a new term (§9.6)."""

    granted: set[int]


@dataclass(slots=True)
class Candidate:
    granted: set[int]


@dataclass(slots=True)
class Transfer:
    """Leadership is being handed over (§3.10)."""

    target: int
    give_up_at: float


@dataclass(slots=True)
class Leader:
    first_index: int
    """Index of the no-op that began this leadership: from it on, entries are of the own term (§3.6.2)."""
    heartbeat_at: float
    """When the next heartbeat is due."""
    progress: dict[int, Progress]
    """By member id, without the leader itself; kept sorted."""
    rounds: ReadRounds = field(default_factory=ReadRounds)
    transfer: Transfer | None = None
    told_to_campaign: bool = False
    """A voter was told to campaign at once. That may still arrive at any later time and then wins votes from those who
    heard this leader a moment ago, so in this term it has no lease any more (§6.4.1)."""
    must_send: bool = True
    """Whether there may be something to send to peers at the next Ready."""
    uncommitted: deque[tuple[int, int]] = field(default_factory=deque)
    """Index and bytes of each entry proposed in this term and not yet committed."""
    uncommitted_bytes: int = 0
    hand_overs: int = 0
    """How often it tried to hand over in order to be removed."""


Role = Follower | PreCandidate | Candidate | Leader
