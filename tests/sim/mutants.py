"""Wrong versions of the node, each of which the simulation must catch. Used by `test_mutants.py`.

Each is put in place by a `pytest.MonkeyPatch` for one test. Their one rule: each is a mistake that a real
implementation has made or could make, as small as it can be.
"""

from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import Any

import pytest

from raftwright.raft import commitment, lease, membership, membership_changes, reads
from raftwright.raft.membership import Membership
from raftwright.raft.messages import RaftMessage, RequestVote, VoteReply
from raftwright.raft.raft import Raft
from raftwright.raft.ready import Ready
from raftwright.server import membership_plans
from raftwright.server.effects import Effects, Persist
from raftwright.server.peers import LocalIdentity, PeerTransport
from raftwright.server.rounds import Rounds
from raftwright.server.sessions import Sessions
from raftwright.server.wire import PeerHello
from raftwright.sim import node as sim_node
from raftwright.sim.glue import SimGlue
from raftwright.storage.storage import Storage

Mutant = Callable[[pytest.MonkeyPatch], None]


def acknowledge_before_fsync(patch: pytest.MonkeyPatch) -> None:
    """What a write promises is told before it is on disk."""
    persist = SimGlue.persist

    def hasty(glue: SimGlue, batch: Persist) -> None:
        if batch.chunks or batch.snapshot:
            persist(glue, batch)
            return
        glue.workers.on_disk(lambda: glue.write(batch), lambda _: None)
        glue.persisted(None)
        glue.outside.poke()

    patch.setattr(SimGlue, "persist", hasty)


def vote_before_fsync(patch: pytest.MonkeyPatch) -> None:
    """Votes, for others and for oneself, leave at once."""
    send = Raft.send

    def hasty(raft: Raft, message: RaftMessage, *, promises: bool) -> None:
        if isinstance(message, VoteReply | RequestVote):
            raft._messages.append(message)
        else:
            send(raft, message, promises=promises)

    patch.setattr(Raft, "send", hasty)


def send_promises_at_once(patch: pytest.MonkeyPatch) -> None:
    """The driver does not wait with what must wait for the disk."""
    add = Rounds.add

    def hasty(rounds: Rounds, ready: Ready, effects: Effects) -> None:
        effects.send(ready.messages_after)
        add(rounds, replace(ready, messages_after=()), effects)

    patch.setattr(Rounds, "add", hasty)


def commit_by_half(patch: pytest.MonkeyPatch) -> None:
    """In an even cluster, half of the voters are enough to commit."""

    def half_value(values: Iterable[Any]) -> Any:
        ordered = sorted(values)
        return ordered[len(ordered) // 2]

    patch.setattr(membership, "quorum_value", half_value)


def decide_by_half(patch: pytest.MonkeyPatch) -> None:
    """In an even cluster, half of the voters are enough for everything: to commit and to elect."""
    commit_by_half(patch)
    patch.setattr(
        membership, "has_majority", lambda voters, agreeing: 2 * sum(v in agreeing for v in voters) >= len(voters)
    )


def count_learners(patch: pytest.MonkeyPatch) -> None:
    """Learners count in quorums like voters."""
    patch.setattr(
        Membership,
        "committed_index",
        lambda self, match_index: membership.quorum_value(
            match_index(each) for each in self.all_voters | self.learners
        ),
    )
    patch.setattr(Membership, "has_quorum", lambda self, agreeing: membership.has_majority(self.all_voters, agreeing))


def forget_sessions(patch: pytest.MonkeyPatch) -> None:
    """A snapshot does not hold what makes retries safe."""
    patch.setattr(Sessions, "restored", staticmethod(lambda chunks: (list(chunks), Sessions())[1]))


def read_without_a_round(patch: pytest.MonkeyPatch) -> None:
    """A leader answers reads without asking whether it still is the leader."""

    def hasty(raft: Raft, context: int) -> None:
        raft.answer_read(context, raft.commit_index if raft.leader_role or raft.follower_role else None)

    patch.setattr(reads, "on_request_read", hasty)


def keep_the_lease_in_a_transfer(patch: pytest.MonkeyPatch) -> None:
    """A leader that told another to campaign goes on reading by its lease."""

    def careless(raft: Raft) -> float:
        leader = raft.leader_role
        if leader is None or raft.commit_index < leader.first_index:
            return lease.NEVER
        return lease.promised_until(raft, leader)

    patch.setattr(lease, "until", careless)


def outstay_the_lease(patch: pytest.MonkeyPatch) -> None:
    """A leader reads by its lease for some election timeouts, rather than for less than one."""
    until = lease.until

    def careless(raft: Raft) -> float:
        return until(raft) + 4 * raft.settings.election_timeout_s

    patch.setattr(lease, "until", careless)


def apply_uncommitted(patch: pytest.MonkeyPatch) -> None:
    """Entries are applied as soon as they are in the log."""
    advance = commitment.advance

    def hasty(raft: Raft, leader: Any) -> None:
        raft.commit_to(raft.log.last_index)
        advance(raft, leader)

    patch.setattr(commitment, "advance", hasty)


def forget_vote(patch: pytest.MonkeyPatch) -> None:
    """The vote is kept in memory only; the term is on disk."""
    write = Storage.write

    def careless(storage: Storage, **what: Any) -> None:
        if what.get("hard_state") is not None:
            what["hard_state"] = replace(what["hard_state"], voted_for=None)
        write(storage, **what)

    patch.setattr(Storage, "write", careless)


# Who is a member


def keep_the_old_id(patch: pytest.MonkeyPatch) -> None:
    """A node whose disk came back empty takes its old id from whoever calls it by it: store ids are not looked at."""

    def careless(hello: PeerHello, identity: LocalIdentity) -> bool:
        return identity.cluster_id is None and hello.to_member_id > 0 and hello.settled

    def without_stores(transport: PeerTransport, hello: PeerHello) -> str:
        mine = transport.identity
        if mine.removed or mine.cluster_id != hello.cluster_id or mine.member_id != hello.to_member_id:
            return "not-me: it is somebody else"
        return "removed: long ago" if transport.is_removed(hello.member_id) else ""

    patch.setattr(sim_node, "is_adopted_by", careless)
    patch.setattr(PeerTransport, "why_refused", without_stores)


def reuse_ids(patch: pytest.MonkeyPatch) -> None:
    """A new member gets the lowest id above those that are there."""
    new = membership_plans._Draft._new

    def careless(draft: Any, *what: Any) -> int:
        draft.last_member_id = max(draft.members)
        return new(draft, *what)

    patch.setattr(membership_plans._Draft, "_new", careless)
    patch.setattr(membership_changes, "check_target", lambda current, target: None)


# Leases


def ignore_drift(patch: pytest.MonkeyPatch) -> None:
    """The lease is as long as the others' election timeouts, by clocks that run apart."""

    patch.setattr(lease, "counted_s", lambda settings, promised_s: promised_s)


def assume_equal_timeouts(patch: pytest.MonkeyPatch) -> None:
    """The lease is as long as if every voter had the leader's election timeout."""
    counted = lease.counted_s
    patch.setattr(lease, "counted_s", lambda settings, promised_s: counted(settings, settings.election_timeout_s))


def vote_at_once_after_a_start(patch: pytest.MonkeyPatch) -> None:
    """A voter that has just started votes, though it may have heard a leader a moment ago."""
    init = Raft.__init__

    def hasty(raft: Raft, **what: Any) -> None:
        init(raft, **what)
        raft.quiet_until = float("-inf")

    patch.setattr(Raft, "__init__", hasty)
