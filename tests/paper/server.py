"""One server of a cluster, spoken to message by message: what the tests of this folder hold in their hands.

Its one rule: it does nothing by itself. Time is handed in, the disk is done when `take` says so, and the other
members exist only as what the test lets them say.
"""

from random import Random

from raftwright.raft import invariants
from raftwright.raft.entries import Entry, EntryId, EntryKind, HardState, Recovered, SnapshotMeta
from raftwright.raft.events import AnyEvent, Persisted, Propose, Receive, Tick
from raftwright.raft.membership import Membership
from raftwright.raft.messages import (
    AppendEntries,
    AppendReply,
    PreVoteReply,
    RaftMessage,
    RequestPreVote,
    RequestVote,
    VoteReply,
)
from raftwright.raft.raft import Raft, RaftSettings
from raftwright.raft.ready import Ready
from tests.raft.cluster import membership_of

T = RaftSettings().election_timeout_s
START = EntryId(1, 1)


def log_of(*terms: int) -> tuple[Entry, ...]:
    """Entries of these terms, from index 2 on."""
    return tuple(Entry(term, index, EntryKind.COMMANDS, 1, 0, b"", 0) for index, term in enumerate(terms, 2))


class Server:
    """Member 1 of `voters`, with a log of these terms behind the founding snapshot at `START`."""

    def __init__(
        self,
        voters: int = 3,
        *,
        terms: tuple[int, ...] = (),
        term: int = 1,
        voted_for: int | None = None,
        membership: Membership | None = None,
        rested: bool = True,
        settings: RaftSettings | None = None,
        seed: int = 1,
    ) -> None:
        entries = log_of(*terms)
        self.now = 0.0
        self.raft = Raft(
            member_id=1,
            settings=settings or RaftSettings(),
            recovered=Recovered(
                hard_state=HardState(max(term, *terms, 1), voted_for),
                snapshot=SnapshotMeta(
                    id=START, time_ms=0, membership=membership or membership_of(range(1, voters + 1))
                ),
                base=START,
                terms=tuple(entry.id for i, entry in enumerate(entries) if i == 0 or entries[i - 1].term != entry.term),
                last=entries[-1].id if entries else START,
                tail=entries,
            ),
            random=Random(seed),
            now=0.0,
        )
        if rested:
            self.now = T  # what a server forgot in its restart is over by now

    # -- events -------------------------------------------------------------------------------------------------

    def step(self, event: AnyEvent) -> None:
        before = invariants.capture(self.raft)
        self.raft.step(event)
        invariants.check_delta(before, self.raft)
        invariants.check(self.raft)

    def receive(self, message: RaftMessage) -> None:
        self.step(Receive(now=self.now, message=message))

    def time_out(self) -> None:
        """Let whatever is due next be due."""
        self.now = max(self.now, self.raft.next_deadline)
        self.step(Tick(now=self.now))

    def propose(self, payload: bytes = b"") -> None:
        self.step(Propose(now=self.now, kind=EntryKind.COMMANDS, version=1, time_ms=0, payload=payload, checksum=0))

    def take(self, *, persist: bool = True) -> Ready:
        """The next Ready; by default its write is done at once."""
        ready = self.raft.ready()
        if persist and ready.must_persist:
            self.persist(ready)
        return ready

    def persist(self, ready: Ready) -> None:
        self.step(Persisted(now=self.now, ready=ready.number))

    def said(self) -> list[RaftMessage]:
        """Every message since the last look, whether or not it had to wait for the disk."""
        ready = self.take()
        return [*ready.messages, *ready.messages_after]

    # -- roles --------------------------------------------------------------------------------------------------

    def campaign(self) -> None:
        """Time out and win the pre-vote, so that the election itself begins."""
        self.time_out()
        for voter in sorted(self.raft.membership.all_voters - {1}):
            self.receive(PreVoteReply(from_id=voter, to_id=1, term=self.raft.term + 1, granted=True))
            if self.raft.hard_state.voted_for == 1:
                break

    def lead(self) -> None:
        """Win an election; what was said on the way is forgotten."""
        self.campaign()
        for voter in sorted(self.raft.membership.all_voters - {1}):
            if self.raft.leader_role is None:
                self.receive(VoteReply(from_id=voter, to_id=1, term=self.raft.term, granted=True))
        assert self.raft.leader_role is not None
        self.said()

    def matched(self, peer: int, index: int) -> None:
        """The peer says that it has everything up to `index`."""
        self.receive(AppendReply(from_id=peer, to_id=1, term=self.raft.term, round=0, success=True, match_index=index))


# -- what others say --------------------------------------------------------------------------------------------


def request_vote(term: int, last: EntryId = START, *, of: int = 2, transfer: bool = False) -> RequestVote:
    return RequestVote(from_id=of, to_id=1, term=term, last=last, transfer=transfer)


def request_pre_vote(term: int, last: EntryId = START, *, of: int = 2) -> RequestPreVote:
    return RequestPreVote(from_id=of, to_id=1, term=term, last=last)


def append(
    term: int,
    prev: EntryId = START,
    entries: tuple[Entry, ...] = (),
    *,
    commit_index: int = 1,
    of: int = 2,
    number: int = 1,
) -> AppendEntries:
    return AppendEntries(
        from_id=of, to_id=1, term=term, prev=prev, entries=entries, commit_index=commit_index, round=number
    )


def entry(term: int, index: int, payload: bytes = b"") -> Entry:
    return Entry(term, index, EntryKind.COMMANDS, 1, 0, payload, 0)
