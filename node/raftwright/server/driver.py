"""The sans-I/O driver: it turns what arrives into events of the core, and the core's Readys into effects.

The glue runs it on a real machine, the simulator on a simulated one, unchanged. Rules: everything that is queued is
stepped at once, then one Ready is taken; one round is under way at a time, and what arrives meanwhile becomes the next;
nothing is answered before its entry is committed and applied here. The rooms are rounds, proposing, applying, reads.
"""

import logging
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from raftwright.raft.entries import Entry, SnapshotMeta
from raftwright.raft.events import (
    AnyEvent,
    Applied,
    ChunkLoaded,
    Persisted,
    Receive,
    RequestRead,
    SnapshotReceived,
    SnapshotTaken,
    StreamLost,
    Tick,
    TransferLeadership,
)
from raftwright.raft.membership import Membership
from raftwright.raft.messages import AppendEntries, AppendReply
from raftwright.raft.raft import Raft
from raftwright.raft.roles import Candidate
from raftwright.server.applying import Applier
from raftwright.server.checks import ReplicaChecks
from raftwright.server.control import Control
from raftwright.server.effects import Effects, SnapshotJob
from raftwright.server.election_timeouts import ElectionTimeouts
from raftwright.server.errors import StateDiverged
from raftwright.server.membership_requests import Call
from raftwright.server.policies import SnapshotPolicy
from raftwright.server.proposing import Proposer
from raftwright.server.reads import Reads
from raftwright.server.rounds import Rounds
from raftwright.server.snapshotting import RETRY_S, Snapshotting
from raftwright.server.state import ReplicatedState
from raftwright.server.wire import CheckMessage, ControlReply, ControlRequest, Forward, ForwardReply, PeerMessage
from raftwright.server.writes import Write, Writes
from raftwright.storage.room import NO_ROOM, Room

_log = logging.getLogger(__name__)

SWEEP_INTERVAL_S = 0.05
"""How often deadlines are looked at, while anything waits."""
READ_RETRY_S = 0.025


@dataclass(frozen=True, slots=True, kw_only=True)
class DriverSettings:
    request_timeout_s: float = 5.0
    entry_bytes_max: int = 1 << 20
    pending_commands_max: int = 100_000
    pending_bytes_max: int = 64 << 20
    reads_max: int = 50_000
    election_timeout_s: float = 0.6
    snapshot_commands: int = 1_000_000
    """Take a snapshot when so many commands were applied since the last one…"""
    snapshot_log_bytes: int = 64 << 20
    """…or when so many bytes of entries were."""
    snapshot_policy: SnapshotPolicy | None = None
    """In place of these two."""

    @property
    def policy(self) -> SnapshotPolicy:
        counts = SnapshotPolicy.commands(self.snapshot_commands) | SnapshotPolicy.log_bytes(self.snapshot_log_bytes)
        return counts if self.snapshot_policy is None else self.snapshot_policy


class Driver:
    """One node's driver. Inputs queue; `run` does the work and returns what is wanted of the outside."""

    def __init__(self, *, raft: Raft, state: ReplicatedState, membership: Membership, settings: DriverSettings) -> None:
        self.raft = raft
        self.state = state
        self.settings = settings
        self.rounds = Rounds()
        self.writes = Writes(
            member_id=raft.member_id,
            commands_max=settings.pending_commands_max,
            bytes_max=settings.pending_bytes_max,
            first_forward=raft.read_request_number,
        )
        self.reads = Reads(reads_max=settings.reads_max)
        self.snapshotting = Snapshotting(state, settings.policy)
        self.proposer = Proposer(
            raft=raft,
            machine=state.machine,
            writes=self.writes,
            entry_bytes_max=settings.entry_bytes_max,
            request_timeout_s=settings.request_timeout_s,
        )
        self.applier = Applier(
            raft=raft, state=state, membership=membership, writes=self.writes, snapshotting=self.snapshotting
        )
        self.control = Control(raft=raft, lags=self.applier.lags, first_request=raft.read_request_number)
        self.checks = ReplicaChecks(
            raft=raft, state=state, applier=self.applier, snapshotting=self.snapshotting, rounds=self.rounds
        )
        self.election_timeouts = ElectionTimeouts(raft)
        self.elections = 0
        """That this node began."""
        self._inbox: list[AnyEvent] = []
        self._forwarded: list[Forward | ForwardReply | ControlRequest | ControlReply] = []
        self._lost_peers: list[int] = []
        self._unsent: list[int] = []
        self._seen_leader: tuple[int, int | None, bool] = (0, None, False)
        self._seen_membership = -1
        self._seen_removed = False
        self._sweep_at = 0.0
        self._room = self.proposer.room
        self._room_is_new = False

    # Inputs: cheap, they only queue

    def receive(self, messages: Sequence[PeerMessage], now: float) -> None:
        for message in messages:
            self.proposer.away.discard(message.from_id)
            if isinstance(message, Forward | ForwardReply | ControlRequest | ControlReply):
                self._forwarded.append(message)
                continue
            if isinstance(message, CheckMessage):
                self.checks.receive(message)
                continue
            if isinstance(message, AppendReply):
                self.election_timeouts.note(message)
            elif isinstance(message, AppendEntries) and message.entries and not self.proposer.has_room_for(message):
                # As if the entries were lost on the way: the core must not take what the disk cannot.
                message = replace(message, entries=())
            self._inbox.append(Receive(now=now, message=message))

    def step(self, event: AnyEvent) -> None:
        self._inbox.append(event)

    def write(self, write: Write) -> None:
        """Queue a blob. Raises TooManyRequests or ShuttingDown."""
        self.proposer.write(write)

    def write_one(self, command: Any, encoded: bytes, token: Any) -> None:
        """Queue one command without a session; those of a run share a blob. Raises as `write` does."""
        self.proposer.write_one(command, encoded, token)

    def read(self, token: Any, now: float, min_index: int = 0) -> None:
        """Ask for a linearizable read, of a state that has `min_index` applied. Raises TooManyRequests."""
        self.reads.add(token, now + self.settings.request_timeout_s, min_index)

    def read_applied(self, token: Any, now: float, min_index: int) -> None:
        """Ask for a read, however old, of a state that has `min_index` applied. Raises TooManyRequests."""
        self.reads.add_without_round(token, now + self.settings.request_timeout_s, min_index)

    def ask(self, call: Call, token: Any, now: float) -> None:
        """A call about members or the leader, for `Effects.controls` to answer. Raises TooManyRequests."""
        self.control.ask(call, token, now + self.settings.request_timeout_s)

    def stream_lost(self, peer: int, now: float) -> None:
        self.proposer.away.add(peer)
        self._lost_peers.append(peer)
        self._inbox.append(StreamLost(now=now, peer=peer))

    def unsent(self, peer: int, forwards: Sequence[int]) -> None:
        """Forwards that never left this node, since there is no stream to `peer` yet, or none any more."""
        self.proposer.away.add(peer)
        self._unsent.extend(forwards)

    def persisted(self, received: tuple[SnapshotMeta, bool] | None, now: float) -> None:
        """The round under way is durable. `received`: the snapshot whose last chunk was in it, and if it is right."""
        assert self.rounds.current is not None
        self._inbox.append(Persisted(now=now, ready=self.rounds.current.ready))
        if received is not None:
            self.received(*received, now)

    def received(self, meta: SnapshotMeta, ok: bool, now: float) -> None:
        """The last chunk of this snapshot was durable, and it is right, or it is to be sent again."""
        self._inbox.append(SnapshotReceived(now=now, meta=meta, ok=ok))
        self.checks.repair.received(meta, ok, now)

    def entries_for_apply(self, entries: Sequence[Entry]) -> None:
        self.applier.loaded(entries)

    def snapshot_taken(self, job: SnapshotJob, meta: SnapshotMeta | None, now: float, retry_s: float = RETRY_S) -> None:
        """The job is done, or failed (None) and is tried again after `retry_s`."""
        if self.snapshotting.taken(meta, now, retry_s) and meta is not None:
            self._inbox.append(SnapshotTaken(now=now, meta=meta, keep_from=job.keep_from))

    def restored(self, meta: SnapshotMeta) -> None:
        """The state machine is that of the snapshot now."""
        self.applier.restored(meta)
        if self.applier.restoring is None:
            self.checks.restored()

    def adopted(self, meta: SnapshotMeta, now: float, *, problem: str = "", durable: bool = True) -> None:
        """The state machine is that of the snapshot now, which is the store's newest if `durable`, or a `problem` came
        between, and it is as before."""
        if not problem:
            self.restored(meta)
            if durable:
                self._inbox.append(SnapshotTaken(now=now, meta=meta, keep_from=self.raft.log.first_index))
        self.checks.adopted(meta, now, problem=problem)

    def transfer_leadership(self, target: int | None, now: float) -> None:
        """Raises NotLeader or TransferImpossible."""
        self.raft.step(TransferLeadership(now=now, target=target))

    def set_room(self, room: Room, *, disk_is_full: bool) -> None:
        """What the log can take, of which what is on its way is not deducted; and whether no more could be prepared for
        want of space."""
        self._room = room
        self._room_is_new = True
        self.proposer.disk_is_full = disk_is_full
        self.proposer.is_full = self.proposer.is_full and disk_is_full

    def close(self) -> None:
        """Take no more writes; what is under way is finished."""
        self.proposer.is_closing = True
        self.control.close()

    # What is there to see

    @property
    def is_leader(self) -> bool:
        return self.raft.leader_role is not None

    @property
    def is_transferring(self) -> bool:
        """Whether this leader is handing over, and has neither succeeded nor given up yet."""
        leader = self.raft.leader_role
        return leader is not None and leader.transfer is not None

    @property
    def is_restoring(self) -> bool:
        """Or about to: what it was is wrong (`server/checks.py`)."""
        return self.applier.restoring is not None or self.checks.divergence is not None

    def holds_lease(self, now: float) -> bool:
        """Whether what is applied here is linearizable at `now` without a round (§6.4.1). To be asked after an answer
        was computed, with the clock read anew: a pause before that ends the lease, and a later one does no harm."""
        if self.is_restoring or self.state.applied_index < self.raft.commit_index:
            return False
        return now < self.raft.lease_until

    def wrong_state(self) -> StateDiverged | None:
        """What a read is answered while the state here is known not to be that of the majority."""
        if self.checks.divergence is None:
            return None
        raft = self.raft
        leader = None if self.is_leader else raft.membership.members.get(raft.leader_id or 0)
        address = None if leader is None else leader.addresses.client
        text = "its state is being replaced by the leader's; until then it answers no reads, and forwards writes"
        return StateDiverged(text, leader=address)

    def staleness_s(self, now: float) -> float:
        """How long ago at most what is applied here was up to date; infinity if that is not known."""
        return float("inf") if self.is_restoring else now - self.reads.fresh_at

    def next_deadline(self) -> float:
        """When to `run` with a Tick at the latest."""
        deadline = self.raft.next_deadline
        if self.writes.is_waiting or self.reads.count or self.control.is_waiting:
            deadline = min(deadline, self._sweep_at)
        if self.reads.is_waiting:
            deadline = min(deadline, max(self.reads.retry_at, self._sweep_at - SWEEP_INTERVAL_S))
        return deadline

    # The run

    def run(self, now: float, wall_ms: int) -> Effects:
        """Step all that is queued, take one Ready, apply what is committed, and say what is wanted."""
        effects = Effects()
        self._step_all(now, effects)
        if self._room_is_new:
            self._measure()
        self._notice_leader(now, effects)
        forwarded, self._forwarded = self._forwarded, []
        for message in forwarded:
            match message:
                case Forward():
                    self.proposer.take_forward(message, now, effects)
                case ForwardReply():
                    self.proposer.take_reply(message, now, effects)
                case _:
                    self.control.receive(message, now, effects)
        self.control.run(now, wall_ms, effects)
        self.proposer.run(now, wall_ms, effects, round_under_way=self.rounds.current is not None)
        self._ask_for_reads(now)
        self._take_ready(now, effects)
        self._apply(now, effects)
        self.checks.run(now, effects)
        if (wrong := self.wrong_state()) is not None:
            self.reads.fail(wrong, effects)
        self.control.settle(now, wall_ms, effects)
        self.rounds.start(effects)
        self._settle_room(effects)
        self._sweep(now, effects)
        self.snapshotting.must_free = self.proposer.is_full
        if self.proposer.is_full:
            self._cut_log(now, effects)
        effects.snapshot = None if self.is_restoring else self.snapshotting.job(now, self.applier.membership)
        self._notice_leader(now, effects)
        self._notice_membership(effects)
        effects.again = effects.again or self.raft.has_ready
        return effects

    def _step_all(self, now: float, effects: Effects) -> None:
        """What was queued goes before time: a late tick must not count against messages that were there."""
        inbox, self._inbox = self._inbox, []
        for event in inbox:
            if isinstance(event, Persisted):
                batch = self.rounds.done(effects)
                if batch.snapshot is not None:
                    self.applier.durable(batch.snapshot)
            if isinstance(event, ChunkLoaded) and self.checks.repair.loaded(event, effects):
                continue
            self.raft.step(event)
            if isinstance(event, SnapshotTaken):
                effects.compact = self.raft.log.first_index
        for number in reversed(self._unsent):
            self.writes.unsent(number)
        self._unsent.clear()
        for peer in self._lost_peers:
            self.writes.stream_lost(peer, effects)
        self._lost_peers.clear()
        if now >= self.raft.next_deadline:
            self.raft.step(Tick(now=now))

    def _measure(self) -> None:
        """Deduct from the room what is on its way: in a round, or let in and not in one yet."""
        self._room_is_new = False
        self.proposer.room = self._room.after([*self.rounds.sizes(), *self.proposer.taken]) or NO_ROOM

    def _settle_room(self, effects: Effects) -> None:
        """What was let in is in a round now, unless the core did not want it."""
        proposer = self.proposer
        proposer.taken.clear()
        if proposer.wanted:
            effects.prepare = (*self.rounds.sizes(), *proposer.wanted)
            proposer.wanted = []
        if effects.persist is not None or self.rounds.current is None:
            self._measure()

    def _cut_log(self, now: float, effects: Effects) -> None:
        """The disk is full: no log stays before the newest snapshot for followers. To let go of it takes no space."""
        newest, log = self.raft.snapshot, self.raft.log
        if newest is None or min(newest.id.index, self.raft.durability.persisted_index) <= log.base.index:
            return
        self._inbox.append(SnapshotTaken(now=now, meta=newest, keep_from=newest.id.index + 1))
        effects.again = True

    def _ask_for_reads(self, now: float) -> None:
        context = self.reads.next_context(now)
        if context is not None:
            self.raft.step(RequestRead(now=now, context=context))

    def _take_ready(self, now: float, effects: Effects) -> None:
        while self.raft.has_ready:
            ready = self.raft.ready()
            effects.send(ready.messages)
            effects.loads.extend(ready.loads)
            for answer in ready.reads:
                self.reads.answered(answer, retry_at=now + READ_RETRY_S)
            if ready.snapshot is not None:
                self.applier.replaced(ready.snapshot, effects)
            self.rounds.add(ready, effects)

    def _apply(self, now: float, effects: Effects) -> None:
        self.applier.run(now, effects)
        if self.is_restoring:
            return
        if self.raft.applied_index < self.state.applied_index:
            self.raft.step(Applied(now=now, index=self.state.applied_index))
        self.reads.applied(self.state.applied_index, effects)

    def _sweep(self, now: float, effects: Effects) -> None:
        if now >= self._sweep_at:
            self._sweep_at = now + SWEEP_INTERVAL_S
            self.writes.expire(now, effects)
            self.reads.expire(now, effects, leader_known=self.raft.leader_id is not None)

    def _notice_leader(self, now: float, effects: Effects) -> None:
        seen = (self.raft.term, self.raft.leader_id, self.is_leader)
        if seen == self._seen_leader:
            return
        before, self._seen_leader = self._seen_leader, seen
        self.checks.leader_changed()
        effects.leader_changed = True
        self.elections += isinstance(self.raft.role, Candidate) and seen[0] != before[0]
        decided_at = now + 2 * self.settings.election_timeout_s
        if before[2] and not seen[2]:
            self.writes.leadership_lost(decided_at)
        if seen[1] is not None:
            self.writes.leader_changed(seen[1], decided_at)
            self.reads.retry_at = self.writes.held_until = 0.0
            _log.info("term %d: the leader is member %d%s", seen[0], seen[1], " (this node)" if seen[2] else "")

    def _notice_membership(self, effects: Effects) -> None:
        if self.raft.membership.version != self._seen_membership:
            self._seen_membership = self.raft.membership.version
            effects.membership = self.raft.membership
        if not self._seen_removed and self.raft.committed_membership.was_removed(self.raft.own_id):
            self._seen_removed = effects.removed = True
