"""The core: one server's part in Raft, as a pure state machine. One way in, `step`; one way out, `ready`.

The shell (and the simulator) owns time, disk and network; this class owns the rules that all share: terms, roles,
what is committed, and what may leave before the disk is done. Its one rule: roles change only in `become_…`, and
hard state only there and in `vote_for`.
"""

import random as random_module
import zlib
from dataclasses import dataclass

from raftwright.raft import commitment, dispatch, election, lease, reads, replication
from raftwright.raft.durability import Durability
from raftwright.raft.entries import Entry, EntryKind, HardState, Recovered, SnapshotMeta
from raftwright.raft.errors import NotLeader, ProposalDropped
from raftwright.raft.events import AnyEvent, Propose
from raftwright.raft.log import Log
from raftwright.raft.membership import Membership
from raftwright.raft.messages import RaftMessage
from raftwright.raft.ready import LoadChunk, LoadEntries, ReadAnswer, Ready, SnapshotChunk
from raftwright.raft.roles import Candidate, Follower, Leader, PreCandidate, Role
from raftwright.raft.snapshots import Incoming

_MEBIBYTE = 1 << 20


@dataclass(frozen=True, slots=True, kw_only=True)
class RaftSettings:
    """What a person may set about the core. Defaults suit a LAN."""

    election_timeout_s: float = 0.6
    """The shortest; the actual ones are random up to twice as long (§3.4)."""
    heartbeat_interval_s: float = 0.1
    lease_clock_drift: float = 0.1
    """Bound on the error of clocks' rates (§6.4.1): over any time, the slowest clock of a voter measures at least
    `1 - lease_clock_drift` of what the fastest one does. For clocks that are each right up to a share e of the time,
    that is 2e / (1 + e). The leader's lease is shorter than an election timeout by this share."""
    append_bytes_max: int = _MEBIBYTE
    """Of the entries in one AppendEntries; a larger entry goes alone."""
    inflight_appends_max: int = 64
    """Appends on their way to one peer without an answer."""
    inflight_bytes_max: int = 8 * _MEBIBYTE
    tail_bytes_max: int = 16 * _MEBIBYTE
    """Recent entries kept in memory, so that replication does not read the disk."""
    chunk_bytes: int = 256 * 1024
    """Of a snapshot, in one InstallSnapshot."""
    uncommitted_bytes_max: int = 64 * _MEBIBYTE
    """Proposals beyond this are dropped until some are committed."""


class Raft:
    """`member_id` is None on a store that has not joined a cluster yet; such a server takes part in nothing."""

    def __init__(
        self,
        *,
        member_id: int | None,
        settings: RaftSettings,
        recovered: Recovered,
        random: random_module.Random,
        now: float,
    ) -> None:
        self.member_id = member_id
        self.settings = settings
        self.now = now
        self.hard_state = recovered.hard_state
        self.log = Log(recovered, tail_bytes_max=settings.tail_bytes_max)
        assert self.hard_state.term >= self.log.last_id.term, "the log is ahead of the hard state"
        self.snapshot = recovered.snapshot
        """The newest of this server's own."""
        assert self.snapshot is None or self.log.holds(self.snapshot.id), "the log leads up to the snapshot"
        self.commit_index = self.log.base.index if self.snapshot is None else self.snapshot.id.index
        self.applied_index = self.commit_index
        self.incoming: Incoming | None = None
        self.durability = Durability(persisted_index=self.log.last_index)
        self.role: Role = Follower()
        self.leader_heard_at = float("-inf")
        """When a leader of any term was last heard from. Kept over terms: it is a promise to that leader (§6.4.1)."""
        self.read_request_number = random.getrandbits(48)  # so that no answer from before a restart fits a new read
        self.read_rounds = 0
        """Rounds of heartbeats that reads waited for, while this server led."""
        self._random = random
        self._election_timeout_s = self._random_timeout_s()
        self.quiet_until = now + settings.election_timeout_s
        self.election_deadline = now + self._election_timeout_s
        is_settled = self.log.membership_index <= self.commit_index
        if member_id is not None and is_settled and self.membership.all_voters == {member_id}:
            self.quiet_until = self.election_deadline = now  # nobody else can be the leader that it may have heard

        self._ready_number = 0
        self._commit_told = self.commit_index
        self._messages: list[RaftMessage] = []
        self._messages_after: list[RaftMessage] = []
        self._reads: list[ReadAnswer] = []
        self._installed: SnapshotMeta | None = None
        self.chunks: list[SnapshotChunk] = []
        self.loads: list[LoadEntries | LoadChunk] = []

    # -- what the shell may ask ---------------------------------------------------------------------------------

    @property
    def term(self) -> int:
        return self.hard_state.term

    @property
    def own_id(self) -> int:
        assert self.member_id is not None, "a server that has not joined says nothing"
        return self.member_id

    @property
    def membership(self) -> Membership:
        """The newest in the log, committed or not: the one in force (§4.1)."""
        return self.log.membership

    @property
    def committed_membership(self) -> Membership:
        return self.log.committed_membership

    @property
    def leader_role(self) -> Leader | None:
        return self.role if isinstance(self.role, Leader) else None

    @property
    def follower_role(self) -> Follower | None:
        return self.role if isinstance(self.role, Follower) else None

    @property
    def leader_id(self) -> int | None:
        """The leader of the current term, as far as this server knows."""
        match self.role:
            case Leader():
                return self.member_id
            case Follower(leader_id=leader_id):
                return leader_id
            case _:
                return None

    @property
    def lease_until(self) -> float:
        """Until when this server is surely the only leader, on the clock of `now`; minus infinity if it has no lease.

        Before that time a read of the state that has everything up to `commit_index` applied is linearizable."""
        return lease.until(self)

    @property
    def next_deadline(self) -> float:
        """When a Tick is due; infinity if time changes nothing."""
        match self.role:
            case Leader(heartbeat_at=heartbeat_at, transfer=transfer):
                return heartbeat_at if transfer is None else min(heartbeat_at, transfer.give_up_at)
            case Follower(leader_id=leader_id, reads=forwarded):
                idle = leader_id is None and not election.may_campaign(self)
                return min(float("inf") if idle else self.election_deadline, forwarded.give_up_at)
            case _:
                return self.election_deadline

    @property
    def has_ready(self) -> bool:
        """Whether `ready()` would say anything."""
        return bool(
            self._messages
            or self._messages_after
            or self._reads
            or self.chunks
            or self.loads
            or self._installed
            or self.durability.hard_state_changed
            or self.durability.first_unwritten <= self.log.last_index
            or self._commit_told != self.commit_index
            or self._has_unsent()
        )

    def _has_unsent(self) -> bool:
        match self.role:
            case Leader(must_send=must_send):
                return must_send
            case Follower(reads=forwarded):
                return bool(forwarded.waiting)
            case _:
                return False

    # -- in and out ---------------------------------------------------------------------------------------------

    def step(self, event: AnyEvent) -> None:
        """Let `event` happen. Raises a Refusal of `errors.py`, having changed nothing, for Propose,
        ProposeMembership and TransferLeadership only. A clock that goes back is taken to stand still."""
        self.now = max(self.now, event.now)
        dispatch.step(self, event)

    def ready(self) -> Ready:
        """All that is to be done since the last call; see Ready for the order that is safe."""
        match self.role:
            case Leader(must_send=True) as leader:
                replication.flush(self, leader)
            case Follower() as follower:
                reads.forward(self, follower)
        self._ready_number += 1
        durability = self.durability
        entries = self.log.entries(durability.first_unwritten, self.log.last_index, 1 << 62)
        assert entries is not None, "what is not on disk stays in memory"
        ready = Ready(
            number=self._ready_number,
            hard_state=self.hard_state if durability.hard_state_changed else None,
            snapshot=self._installed,
            chunks=tuple(self.chunks),
            entries=entries,
            messages=tuple(self._messages),
            messages_after=tuple(self._messages_after),
            commit_index=self.commit_index,
            reads=tuple(self._reads),
            loads=tuple(self.loads),
        )
        if ready.must_persist:
            durability.handed_out(self._ready_number, self.log.last_index)
        self._messages, self._messages_after, self._reads = [], [], []
        self.chunks, self.loads = [], []
        self._installed = None
        self._commit_told = self.commit_index
        return ready

    def learn_member_id(self, member_id: int) -> None:
        """This store was added to a cluster under this id, and from now on takes part."""
        assert self.member_id in (None, member_id), "a store is one member for ever"
        self.member_id = member_id
        self.restart_election_timer()

    # -- what the rooms of the core share -----------------------------------------------------------------------

    def send(self, message: RaftMessage, *, promises: bool) -> None:
        """Hand out a message; after the disk if it `promises` something, or says a term that is not durable yet."""
        if promises or not self.durability.hard_state_durable:
            self._messages_after.append(message)
        else:
            self._messages.append(message)

    def answer_read(self, context: int, index: int | None) -> None:
        self._reads.append(ReadAnswer(context=context, index=index))

    def commit_to(self, index: int) -> None:
        """Entries up to `index` are committed. Never goes back."""
        if index > self.commit_index:
            assert index <= self.log.last_index, "what is committed is in the log"
            self.commit_index = index
            self.log.settle_memberships(index)

    def truncate_from(self, first: int) -> None:
        """Drop entries that a leader contradicts."""
        assert first > self.commit_index, "a committed entry never changes"
        self.log.truncate_from(first)
        self.durability.truncated(first)

    def install(self, snapshot: SnapshotMeta) -> None:
        """Start anew from a leader's snapshot."""
        assert not isinstance(self.role, Leader), "a leader holds all that is committed"
        self.log.reset(snapshot)
        self.durability.reset(snapshot.id.index)
        self.snapshot = self._installed = snapshot
        self.commit_index = self.applied_index = snapshot.id.index

    def propose(self, leader: Leader, event: Propose) -> None:
        size = len(event.payload)
        if leader.transfer is not None:
            raise ProposalDropped("leadership is being transferred")
        if leader.uncommitted_bytes and leader.uncommitted_bytes + size > self.settings.uncommitted_bytes_max:
            raise ProposalDropped("too much is proposed and not committed yet")
        assert event.kind != EntryKind.MEMBERSHIP, "a membership is changed by ProposeMembership"
        self._append(leader, event.kind, event.version, event.time_ms, event.payload, event.checksum)

    def append_membership(self, leader: Leader, membership: Membership, time_ms: int) -> None:
        """It is in force at once (§4.1): new members are replicated to, and quorums counted by it."""
        payload = membership.encode()
        self._append(leader, EntryKind.MEMBERSHIP, 1, time_ms, payload, zlib.crc32(payload))
        replication.start_progress(self, leader)

    def _append(self, leader: Leader, kind: int, version: int, time_ms: int, payload: bytes, checksum: int) -> None:
        time_ms = max(time_ms, self.log.last_time_ms)
        entry = Entry(self.term, self.log.last_index + 1, kind, version, time_ms, payload, checksum)
        self.log.append(entry)
        leader.uncommitted.append((entry.index, len(payload)))
        leader.uncommitted_bytes += len(payload)
        leader.must_send = True

    def require_leader(self) -> Leader:
        """The own role as leader; raises NotLeader."""
        if isinstance(self.role, Leader):
            return self.role
        raise NotLeader(self.leader_id)

    # -- roles and hard state -----------------------------------------------------------------------------------

    def become_follower(self, term: int, leader_id: int | None) -> None:
        """Of a newly seen term, of a leader just heard of, or of nobody."""
        assert term >= self.term
        if term > self.term:
            self._set_hard_state(HardState(term, None))
        reads.fail_all(self)
        self.role = Follower(leader_id)
        self.restart_election_timer()

    def become_pre_candidate(self) -> None:
        assert not isinstance(self.role, Leader)
        reads.fail_all(self)
        self.role = PreCandidate({self.own_id})
        self.restart_election_timer()

    def become_candidate(self) -> None:
        """Begin a new term and vote for oneself in it (§3.4)."""
        assert not isinstance(self.role, Leader)
        reads.fail_all(self)
        self._set_hard_state(HardState(self.term + 1, self.own_id))
        self.role = Candidate({self.own_id})
        self.restart_election_timer()

    def become_leader(self) -> None:
        """Begin to lead with a no-op of the own term, through which what came before is committed (§3.6.2)."""
        assert isinstance(self.role, Candidate)
        leader = Leader(
            first_index=self.log.last_index + 1,
            heartbeat_at=self.now + self.settings.heartbeat_interval_s,
            progress={},
        )
        self.role = leader
        replication.start_progress(self, leader)
        self._append(leader, EntryKind.NOOP, 1, 0, b"", 0)
        reads.open_round(self, leader)
        commitment.advance(self, leader)

    def vote_for(self, candidate: int) -> None:
        assert self.hard_state.voted_for in (None, candidate), "one vote a term"
        self._set_hard_state(HardState(self.term, candidate))

    def _set_hard_state(self, hard_state: HardState) -> None:
        if hard_state != self.hard_state:
            self.hard_state = hard_state
            self.durability.hard_state_changed = True

    def restart_election_timer(self) -> None:
        """A new random timeout, counted from now (§3.4)."""
        self._election_timeout_s = self._random_timeout_s()
        self.election_deadline = self.now + self._election_timeout_s

    def hear_leader(self) -> None:
        """The leader of the current term spoke."""
        self.leader_heard_at = self.now
        self.election_deadline = self.now + self._election_timeout_s

    def _random_timeout_s(self) -> float:
        return self.settings.election_timeout_s * (1.0 + self._random.random())
