"""The sans-I/O driver: it turns what arrives into events of the core, and the core's Readys into effects.

The glue runs it on a real machine, the simulator on a simulated one, unchanged. Rules: everything that is queued is
stepped at once, then one Ready is taken; one write to disk is under way at a time, and what arrives meanwhile becomes
the next; nothing is answered before its entry is committed and applied here (design §3).
"""

import logging
import zlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from raftwright.kv.commands import InvalidCommand, encode_blob
from raftwright.raft.entries import Entry, EntryId, EntryKind, SnapshotMeta
from raftwright.raft.errors import NotLeader, ProposalDropped, Refusal
from raftwright.raft.events import (
    AnyEvent,
    Applied,
    Persisted,
    Propose,
    Receive,
    RequestRead,
    SnapshotReceived,
    SnapshotTaken,
    StreamLost,
    Tick,
    TransferLeadership,
)
from raftwright.raft.membership import Membership
from raftwright.raft.messages import AppendEntries
from raftwright.raft.raft import Raft
from raftwright.raft.ready import Ready
from raftwright.raft.roles import Leader
from raftwright.server.blobs import Blob, InvalidPayload, Origin, decode_payload, encode_payload
from raftwright.server.effects import Answer, Effects, Persist, SnapshotJob
from raftwright.server.errors import (
    ERRORS,
    DiskIsFull,
    IdempotencyConflict,
    InvalidRequest,
    NoLeader,
    ProposalRefused,
    ServiceError,
    SessionExpired,
    ShuttingDown,
)
from raftwright.server.reads import Reads
from raftwright.server.state import BlobOutcome, ReplicatedState, Status
from raftwright.server.wire import Forward, ForwardReply, PeerMessage
from raftwright.server.writes import PeerToken, Write, Writes

_log = logging.getLogger(__name__)

APPLY_COMMANDS_A_RUN = 8192
"""So many commands are applied before other work has its turn; about ten milliseconds."""
APPLY_BYTES_A_RUN = 4 << 20
SINGLES_A_BLOB = 8192
SWEEP_INTERVAL_S = 0.05
"""How often deadlines are looked at, while anything waits."""


_ASK_AGAIN = frozenset({NoLeader.kind, ProposalRefused.kind, ShuttingDown.kind})
"""Refusals by the node that a write was forwarded to, after which the next leader is asked."""


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


class Driver:
    """One node's driver. Inputs queue; `run` does the work and returns what is wanted of the outside."""

    def __init__(self, *, raft: Raft, state: ReplicatedState, membership: Membership, settings: DriverSettings) -> None:
        self.raft = raft
        self.state = state
        self.settings = settings
        self.writes = Writes(
            member_id=raft.member_id,
            commands_max=settings.pending_commands_max,
            bytes_max=settings.pending_bytes_max,
            first_forward=raft.read_request_number,
        )
        self.reads = Reads(reads_max=settings.reads_max)
        self.applied_membership = membership
        """As of the applied index: what a snapshot carries."""
        self.room_bytes = 1 << 62
        """What the log can still take without its reserve. The glue keeps it up to date."""
        self.closing = False
        self.restoring: SnapshotMeta | None = None
        """The leader's snapshot that takes the place of the state machine; nothing is applied until it did."""
        self.snapshot_running = False
        self.snapshot_retry_at = 0.0
        self.rounds = 0
        self.commands_proposed = 0
        self.commands_forwarded = 0
        self.commands_applied = 0
        self.entries_applied = 0
        self.read_rounds = 0
        self.is_full = False
        """Client writes were refused for want of disk space when last one came."""
        self._since_snapshot_commands = 0
        self._since_snapshot_bytes = 0
        self._last_snapshot_index = state.applied_index
        self._previous_snapshot_index = state.applied_index
        self._inbox: list[AnyEvent] = []
        self._forwarded: list[Forward | ForwardReply] = []
        self._singles_encoded: list[bytes] = []
        self._singles_commands: list[Any] = []
        self._singles_tokens: list[Any] = []
        self._persist: Persist | None = None
        self._next: Persist | None = None
        self._apply_loading = False
        self._apply_loaded: Sequence[Entry] = ()
        self._restorable: SnapshotMeta | None = None
        """A received snapshot that is durable and not loaded yet."""
        self._restore_running = False
        self._lost_peers: list[int] = []
        self._handed_over_at = float("-inf")
        self._seen_leader: tuple[int, int | None, bool] = (0, None, False)
        self._seen_membership = -1
        self._sweep_at = 0.0

    # Inputs: cheap, they only queue

    def receive(self, messages: Sequence[PeerMessage], now: float) -> None:
        for message in messages:
            if isinstance(message, Forward | ForwardReply):
                self._forwarded.append(message)
                continue
            if isinstance(message, AppendEntries) and message.entries and not self._has_room_for(message):
                # As if the entries were lost on the way: the core must not take what the disk cannot.
                message = replace(message, entries=())
            self._inbox.append(Receive(now=now, message=message))

    def step(self, event: AnyEvent) -> None:
        self._inbox.append(event)

    def write(self, write: Write) -> None:
        """Queue a blob. Raises TooManyRequests or ShuttingDown."""
        if self.closing:
            raise ShuttingDown
        self.writes.admit(write)

    def write_one(self, command: Any, encoded: bytes, token: Any) -> None:
        """Queue one command without a session; those of a run share a blob. Raises as `write` does."""
        if self.closing:
            raise ShuttingDown
        self.writes.admit_one(len(encoded))
        self._singles_commands.append(command)
        self._singles_encoded.append(encoded)
        self._singles_tokens.append(token)

    def read(self, token: Any, now: float) -> None:
        """Ask for a linearizable read. Raises TooManyRequests."""
        self.reads.add(token, now + self.settings.request_timeout_s)

    def stream_lost(self, peer: int, now: float) -> None:
        self._lost_peers.append(peer)
        self._inbox.append(StreamLost(now=now, peer=peer))

    def persisted(self, received: tuple[SnapshotMeta, bool] | None, now: float) -> None:
        """The write under way is durable. `received`: the snapshot whose last chunk was in it, and if it is right."""
        assert self._persist is not None
        self._inbox.append(Persisted(now=now, ready=self._persist.ready))
        if received is not None:
            self._inbox.append(SnapshotReceived(now=now, meta=received[0], ok=received[1]))

    def entries_for_apply(self, entries: Sequence[Entry]) -> None:
        self._apply_loading = False
        self._apply_loaded = entries

    def snapshot_taken(self, job: SnapshotJob, meta: SnapshotMeta | None, now: float) -> None:
        """The job is done, or failed (None) and is tried again later."""
        self.snapshot_running = False
        if meta is None:
            self.snapshot_retry_at = now + 5.0
            return
        if meta.id.index <= self._last_snapshot_index:
            return  # a newer one arrived from the leader meanwhile
        self._previous_snapshot_index = self._last_snapshot_index
        self._last_snapshot_index = meta.id.index
        self._inbox.append(SnapshotTaken(now=now, meta=meta, keep_from=job.keep_from))

    def restored(self, meta: SnapshotMeta) -> None:
        """The state machine is that of the snapshot now."""
        self._restore_running = False
        if meta != self.restoring:
            return  # a newer one has come meanwhile, and is restored next
        self.restoring = None
        self.applied_membership = meta.membership
        self._last_snapshot_index = self._previous_snapshot_index = meta.id.index
        self._since_snapshot_commands = self._since_snapshot_bytes = 0

    def transfer_leadership(self, target: int | None, now: float) -> None:
        """Raises NotLeader or TransferImpossible."""
        self.raft.step(TransferLeadership(now=now, target=target))

    # What is there to see

    @property
    def is_leader(self) -> bool:
        return isinstance(self.raft.role, Leader)

    @property
    def has_work(self) -> bool:
        """Whether `run` would do something now."""
        return bool(self._inbox or self._forwarded or self._singles_tokens or self.raft.has_ready or self._lost_peers)

    def next_deadline(self) -> float:
        """When to `run` with a Tick at the latest."""
        deadline = self.raft.next_deadline
        if self.writes.is_waiting or self.reads.count:
            deadline = min(deadline, self._sweep_at)
        if self.reads.is_waiting:
            deadline = min(deadline, max(self.reads.retry_at, self._sweep_at - SWEEP_INTERVAL_S))
        return deadline

    # The run

    def run(self, now: float, wall_ms: int) -> Effects:
        """Step all that is queued, take one Ready, apply what is committed, and say what is wanted."""
        effects = Effects()
        self._step_all(now, effects)
        if now >= self.raft.next_deadline:
            self.raft.step(Tick(now=now))
        self._notice_leader(now, effects)
        self._take_forwarded(now, effects)
        self._move_writes(now, wall_ms, effects)
        context = self.reads.next_context(now)
        if context is not None:
            self.read_rounds += 1
            self.raft.step(RequestRead(now=now, context=context))
        self._take_ready(now, effects)
        self._apply(now, effects)
        self._start_persist(effects)
        if now >= self._sweep_at:
            self._sweep_at = now + SWEEP_INTERVAL_S
            self.writes.expire(now, effects)
            self.reads.expire(now, effects, leader_known=self.raft.leader_id is not None)
        self._consider_snapshot(now, effects)
        self._notice_leader(now, effects)
        self._notice_membership(effects)
        effects.again = effects.again or self.raft.has_ready
        return effects

    def _step_all(self, now: float, effects: Effects) -> None:
        inbox, self._inbox = self._inbox, []
        for event in inbox:
            if isinstance(event, Persisted):
                self._persist_done(effects)
            try:
                self.raft.step(event)
            except Refusal as refusal:
                _log.info("refused: %s", refusal)
            if isinstance(event, SnapshotTaken):
                effects.compact = self.raft.log.first_index
        for peer in self._lost_peers:
            self.writes.stream_lost(peer, effects)
        self._lost_peers.clear()

    def _persist_done(self, effects: Effects) -> None:
        assert self._persist is not None
        for message in self._persist.messages_after:
            effects.sends.setdefault(message.to_id, []).append(message)
        if self._persist.snapshot is not None:
            self._restorable = self._persist.snapshot
        self._persist = None

    # Writes

    def _move_writes(self, now: float, wall_ms: int, effects: Effects) -> None:
        """Propose what waits (leader), hand it to the leader (others), or keep it until there is one."""
        self._gather_singles(now)
        if not self.writes.queue:
            return
        if self.is_leader:
            # What arrives while a write is under way becomes one entry of the next round: group commit.
            if self._persist is None:
                self._propose_all(now, wall_ms, effects)
        elif self.raft.leader_id is not None and now >= self.writes.held_until:
            self._forward_all(self.raft.leader_id, effects)
        if self.closing and self.writes.queue and not self.is_leader:
            self.writes.fail_queued(effects, ShuttingDown())

    def _gather_singles(self, now: float) -> None:
        if not self._singles_tokens:
            return
        tokens, commands, encoded = self._singles_tokens, self._singles_commands, self._singles_encoded
        self._singles_tokens, self._singles_commands, self._singles_encoded = [], [], []
        deadline = now + self.settings.request_timeout_s
        start = size = 0
        for position, command in enumerate(encoded):
            if position > start and (
                size + len(command) > self.settings.entry_bytes_max or position - start >= SINGLES_A_BLOB
            ):
                self._queue_singles(tokens[start:position], commands[start:position], encoded[start:position], deadline)
                start, size = position, 0
            size += len(command)
        self._queue_singles(tokens[start:], commands[start:], encoded[start:], deadline)

    def _queue_singles(self, tokens: list[Any], commands: list[Any], encoded: list[bytes], deadline: float) -> None:
        blob = Blob(origin=Origin(count=len(tokens)), data=encode_blob(encoded))
        self.writes.queue_admitted(Write(blob, commands, tokens, deadline), admitted_bytes=sum(map(len, encoded)))

    def _propose_all(self, now: float, wall_ms: int, effects: Effects) -> None:
        while self.writes.queue:
            if self.room_bytes <= 2 * self.settings.entry_bytes_max + self.writes.queue[0].size:
                self._refuse_full(now, effects)
                return
            writes = self.writes.take(self.settings.entry_bytes_max)
            payload = encode_payload([write.blob for write in writes])
            event = Propose(
                now=now,
                kind=EntryKind.COMMANDS,
                version=1,
                time_ms=wall_ms,
                payload=payload,
                checksum=zlib.crc32(payload),
            )
            try:
                self.raft.step(event)
            except (ProposalDropped, NotLeader):
                self.writes.put_back(writes)  # a transfer is under way, or the window is full: it stays queued
                return
            self.room_bytes -= len(payload)
            self.is_full = False
            self.commands_proposed += sum(write.blob.origin.count for write in writes)
            self.writes.propose(self.raft.log.last_id, writes)

    def _refuse_full(self, now: float, effects: Effects) -> None:
        self.is_full = True
        self.writes.fail_queued(effects, DiskIsFull("the leader's disk is full; free space or add a larger volume"))
        if now - self._handed_over_at > 10 * self.settings.election_timeout_s:
            self._handed_over_at = now
            try:
                self.raft.step(TransferLeadership(now=now, target=None))
            except Refusal as refusal:
                _log.warning("the disk is full and leadership cannot be handed over: %s", refusal)

    def _has_room_for(self, message: AppendEntries) -> bool:
        size = sum(entry.size for entry in message.entries)
        return self.room_bytes > size or all(entry.kind != EntryKind.COMMANDS for entry in message.entries)

    # Forwarding

    def _forward_all(self, leader: int, effects: Effects) -> None:
        while self.writes.queue:
            batch: list[Write] = []
            for write in self.writes.take(self.settings.entry_bytes_max):
                if write.forwarded:
                    # Never forwarded twice: who sent it here finds the leader itself.
                    self.writes.fail(write, effects, NoLeader("this node is not the leader"))
                else:
                    batch.append(write)
            if not batch:
                continue
            self.commands_forwarded += sum(write.blob.origin.count for write in batch)
            number = self.writes.forward(batch, leader)
            blobs = encode_payload([write.blob for write in batch])
            forward = Forward(from_id=self.raft.member_id or 0, to_id=leader, id=number, blobs=blobs)
            effects.sends.setdefault(leader, []).append(forward)

    def _take_forwarded(self, now: float, effects: Effects) -> None:
        forwarded, self._forwarded = self._forwarded, []
        for message in forwarded:
            if isinstance(message, Forward):
                self._take_forward(message, now, effects)
            else:
                self._take_reply(message, now, effects)

    def _take_forward(self, message: Forward, now: float, effects: Effects) -> None:
        """Queue another node's blobs, once they are found right; refuse each that is not, or all if not the leader."""
        deadline = now + self.settings.request_timeout_s
        blobs = decode_payload(message.blobs)
        if isinstance(blobs, InvalidPayload):
            _log.warning("member %d forwarded what is no payload: %s", message.from_id, blobs.reason)
            return
        for position, blob in enumerate(blobs):
            token = PeerToken(message.from_id, message.id, position)
            try:
                if not self.is_leader:
                    raise NoLeader("this node is not the leader")
                commands = self.state.machine.decode(blob.data)
                if len(commands) != blob.origin.count:
                    raise InvalidRequest("a blob's count is not that of its commands")
                self.write(Write(blob, commands, token, deadline))
            except InvalidCommand as error:
                self.writes.refuse(token, effects, InvalidRequest(str(error)))
            except ServiceError as error:
                self.writes.refuse(token, effects, error)

    def _take_reply(self, reply: ForwardReply, now: float, effects: Effects) -> None:
        write = self.writes.replied(reply)
        if write is None or write.token is None:
            return
        if reply.results is not None:
            self.writes.answer(write, effects, Answer(token=None, index=reply.index, encoded=reply.results))
            return
        if reply.error in _ASK_AGAIN and reply.outcome == "none":
            self.writes.put_back([write])
            self.writes.held_until = now + SWEEP_INTERVAL_S / 2
            return
        error = ERRORS.get(reply.error or "", ServiceError)(reply.detail)
        error.outcome = "none" if reply.outcome == "none" else "unknown"
        self.writes.fail(write, effects, error)

    # Ready

    def _take_ready(self, now: float, effects: Effects) -> None:
        while self.raft.has_ready:
            ready = self.raft.ready()
            for message in ready.messages:
                effects.sends.setdefault(message.to_id, []).append(message)
            effects.loads.extend(ready.loads)
            for answer in ready.reads:
                self.reads.answered(answer, retry_at=now + SWEEP_INTERVAL_S / 2)
            if ready.snapshot is not None:
                self._replaced(ready.snapshot, effects)
            self._accumulate(ready, effects)

    def _accumulate(self, ready: Ready, effects: Effects) -> None:
        """Add what must be persisted to the next round. A Ready that has nothing to persist may still have messages
        that wait for what earlier ones have."""
        if not ready.must_persist:
            batch = self._next or self._persist
            if batch is not None:
                batch.messages_after.extend(ready.messages_after)
                return
            for message in ready.messages_after:
                effects.sends.setdefault(message.to_id, []).append(message)
            return
        batch = self._next = self._next or Persist(ready=ready.number)
        batch.ready = ready.number
        batch.hard_state = ready.hard_state or batch.hard_state
        if ready.snapshot is not None:
            batch.snapshot = ready.snapshot
            batch.entries.clear()
        batch.chunks.extend(ready.chunks)
        if ready.entries:
            first = ready.entries[0].index
            while batch.entries and batch.entries[-1].index >= first:
                batch.entries.pop()
            batch.entries.extend(ready.entries)
        batch.messages_after.extend(ready.messages_after)

    def _replaced(self, meta: SnapshotMeta, effects: Effects) -> None:
        self.restoring = meta
        self._apply_loaded = ()
        self.writes.jumped(meta.id.index, effects)

    def _start_persist(self, effects: Effects) -> None:
        if self._persist is None and self._next is not None:
            self._persist, self._next = self._next, None
            self.rounds += 1
            effects.persist = self._persist

    # Apply

    def _apply(self, now: float, effects: Effects) -> None:
        if self.restoring is not None:
            if self._restorable is not None and not self._restore_running:
                effects.restore, self._restorable = self._restorable, None
                self._restore_running = True
            return
        commands_before = self.commands_applied
        size = 0
        while (applied := self.state.applied_index) < self.raft.commit_index:
            entries = self._entries_after(applied, effects)
            if not entries:
                break
            for entry in entries:
                self._apply_entry(entry, effects)
                size += entry.size
            if self.commands_applied - commands_before >= APPLY_COMMANDS_A_RUN or size >= APPLY_BYTES_A_RUN:
                effects.again = self.state.applied_index < self.raft.commit_index
                break
        if self.raft.applied_index < self.state.applied_index:
            self.raft.step(Applied(now=now, index=self.state.applied_index))
        self.reads.applied(self.state.applied_index, effects)

    def _entries_after(self, applied: int, effects: Effects) -> Sequence[Entry]:
        """The next committed entries: from the cache, from what was loaded, or none yet and a load is asked for."""
        entries = self.raft.log.entries(applied + 1, self.raft.commit_index, 1 << 20)
        if entries:
            return entries
        loaded, self._apply_loaded = self._apply_loaded, ()
        if loaded and loaded[0].index == applied + 1:
            last = self.raft.commit_index
            return [entry for entry in loaded if entry.index <= last]
        if not self._apply_loading:
            self._apply_loading = True
            effects.apply_load = (applied + 1, self.raft.commit_index)
        return ()

    def _apply_entry(self, entry: Entry, effects: Effects) -> None:
        writes = self.writes.match(EntryId(entry.term, entry.index), effects) if self.writes.proposed else None
        decoded = [write.commands for write in writes] if writes else None
        outcomes = self.state.apply(entry, decoded)
        if entry.kind == EntryKind.MEMBERSHIP:
            self.applied_membership = Membership.decode(entry.payload)
        self.entries_applied += 1
        self._since_snapshot_bytes += entry.size
        for outcome in outcomes:
            self.commands_applied += outcome.origin.count
            self._since_snapshot_commands += outcome.origin.count
        if writes:
            for write, outcome in zip(writes, outcomes, strict=True):
                if write.token is not None:
                    self.writes.answer(write, effects, self._answer(write, outcome, entry.index))

    def _answer(self, write: Write, outcome: BlobOutcome, index: int) -> Answer:
        if outcome.status is Status.CONFLICT:
            return Answer(token=None, error=IdempotencyConflict())
        if outcome.status is Status.EXPIRED:
            return Answer(token=None, error=SessionExpired())
        if type(write.token) is list:
            return Answer(token=None, index=index, results=outcome.results)
        return Answer(token=None, index=index, encoded=outcome.encoded(self.state.machine))

    # Snapshots, leadership, membership

    def _consider_snapshot(self, now: float, effects: Effects) -> None:
        if (
            self._since_snapshot_commands < self.settings.snapshot_commands
            and self._since_snapshot_bytes < self.settings.snapshot_log_bytes
        ):
            return
        self.take_snapshot(now, effects)

    def take_snapshot(self, now: float, effects: Effects) -> None:
        """Begin a snapshot of what is applied now, unless one is under way or there is nothing new."""
        applied = self.state.applied_id
        if (
            self.snapshot_running
            or self.restoring is not None
            or now < self.snapshot_retry_at
            or applied.index <= self._last_snapshot_index
        ):
            return
        self.snapshot_running = True
        self._since_snapshot_commands = self._since_snapshot_bytes = 0
        effects.snapshot = SnapshotJob(
            id=applied,
            time_ms=self.state.time_ms,
            membership=self.applied_membership,
            sections=self.state.sections(),
            # One snapshot's worth of entries stays for followers that are a little behind.
            keep_from=self._last_snapshot_index + 1,
        )

    def _notice_leader(self, now: float, effects: Effects) -> None:
        seen = (self.raft.term, self.raft.leader_id, self.is_leader)
        if seen == self._seen_leader:
            return
        before, self._seen_leader = self._seen_leader, seen
        effects.leader_changed = True
        if before[2] and not seen[2]:
            self.writes.leadership_lost(now + 2 * self.settings.election_timeout_s)
        if seen[1] is not None:
            self.reads.retry_at = self.writes.held_until = 0.0
            _log.info("term %d: the leader is member %d%s", seen[0], seen[1], " (this node)" if seen[2] else "")

    def _notice_membership(self, effects: Effects) -> None:
        if self.raft.membership.version != self._seen_membership:
            self._seen_membership = self.raft.membership.version
            effects.membership = self.raft.membership
