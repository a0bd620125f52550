"""What is always true of a server, and of every step it makes (§3.6.3, Figure 3.2).

Called after each step by tests and the simulator, never by the node. Its one rule: it only looks. What is true of a
cluster (one leader a term, equal committed entries) is checked by the simulator, which sees all servers.
"""

from dataclasses import dataclass

from raftwright.raft.entries import EntryId, HardState
from raftwright.raft.progress import Phase
from raftwright.raft.raft import Raft
from raftwright.raft.roles import Candidate, Leader


@dataclass(frozen=True, slots=True, kw_only=True)
class Captured:
    """What `check_delta` compares: cheap to take, even of a long log."""

    hard_state: HardState
    commit_index: int
    applied_index: int
    runs: tuple[EntryId, ...]
    base: EntryId
    last: EntryId
    membership_version: int
    leads: bool


def capture(raft: Raft) -> Captured:
    return Captured(
        hard_state=raft.hard_state,
        commit_index=raft.commit_index,
        applied_index=raft.applied_index,
        runs=raft.log.runs,
        base=raft.log.base,
        last=raft.log.last_id,
        membership_version=raft.committed_membership.version,
        leads=isinstance(raft.role, Leader),
    )


def check(raft: Raft) -> None:
    """Raise AssertionError if the state of `raft` cannot be."""
    log = raft.log
    assert log.base.index <= raft.commit_index <= log.last_index, "base <= commit <= last"
    assert raft.applied_index <= raft.commit_index, "applied <= commit"
    assert raft.durability.persisted_index <= log.last_index, "what is durable is in the log"
    assert raft.durability.first_unwritten <= log.last_index + 1, "nothing beyond the log was written"
    assert raft.term >= log.last_id.term, "the log is never ahead of the own term"
    assert list(log.runs) == sorted(log.runs), "terms rise along the log"
    assert log.tail_first <= max(raft.durability.persisted_index, log.base.index) + 1, "unwritten entries are kept"
    assert raft.snapshot is None or log.base <= raft.snapshot.id, "the log joins up with the snapshot"
    assert raft.snapshot is None or raft.snapshot.id.index <= raft.commit_index, "a snapshot is of what is committed"
    match raft.role:
        case Leader() as leader:
            _check_leader(raft, leader)
        case Candidate():
            assert raft.hard_state.voted_for == raft.member_id, "a candidate votes for itself"


def _check_leader(raft: Raft, leader: Leader) -> None:
    assert raft.hard_state.voted_for == raft.member_id, "a leader voted for itself"
    assert raft.log.term_at(leader.first_index) in (raft.term, None), "a leadership begins with its own no-op"
    assert leader.uncommitted_bytes == sum(size for _, size in leader.uncommitted)
    assert leader.rounds.number >= max((p.confirmed_round for p in leader.progress.values()), default=0)
    for peer, progress in leader.progress.items():
        assert peer != raft.member_id, "a leader does not replicate to itself"
        assert progress.match_index < progress.next_index, "next > match"
        assert progress.match_index <= raft.log.last_index, "a peer holds no more of the log than there is"
        assert progress.next_index <= raft.log.last_index + 1, "nothing beyond the log was sent"
        assert progress.in_flight_bytes == sum(size for _, size in progress.in_flight)
        assert (progress.transfer is not None) == (progress.phase is Phase.SNAPSHOT)
        assert progress.phase is Phase.PIPELINE or not progress.in_flight


def check_delta(before: Captured, raft: Raft) -> None:
    """Raise AssertionError if one step cannot lead from `before` to where `raft` is now."""
    old, new = before.hard_state, raft.hard_state
    assert new.term >= old.term, "terms never regress"
    assert new.term > old.term or old.voted_for in (None, new.voted_for), "one vote a term"
    assert raft.commit_index >= before.commit_index, "what is committed stays so"
    assert raft.applied_index >= before.applied_index, "what is applied stays so"
    assert raft.log.base >= before.base, "the base never goes back"
    assert raft.committed_membership.version >= before.membership_version, "memberships go on"
    for index in _run_boundaries(before):
        then, now = _term_then(before, index), raft.log.term_at(index)
        assert now is None or index <= raft.log.base.index or then == now, "a committed entry never changes"
    if before.leads and isinstance(raft.role, Leader) and new.term == old.term:
        assert raft.log.last_id >= before.last, "a leader only appends"
        if raft.commit_index > before.commit_index:
            assert raft.log.term_at(raft.commit_index) == new.term, "a leader commits by an entry of its own term"


def _run_boundaries(before: Captured) -> list[int]:
    """The committed indexes at which the term may have changed: enough to compare all of them."""
    firsts = [run.index for run in before.runs if before.base.index < run.index <= before.commit_index]
    return [*firsts, *([before.commit_index] if before.commit_index > before.base.index else [])]


def _term_then(before: Captured, index: int) -> int:
    return [run.term for run in before.runs if run.index <= index][-1]
