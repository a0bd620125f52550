"""How writes get into the log: gathered into entries on the leader, forwarded to it by everyone else.

The driver calls it. Rules: what arrives while a round is under way becomes one entry, or a few; a blob goes unchanged
from the client's frame to every log; nothing is forwarded twice.
"""

import logging
import zlib
from typing import Any

from raftwright.kv.commands import InvalidCommand
from raftwright.raft.entries import EntryKind
from raftwright.raft.errors import NotLeader, ProposalDropped, Refusal
from raftwright.raft.events import Propose, TransferLeadership
from raftwright.raft.messages import AppendEntries
from raftwright.raft.raft import Raft
from raftwright.server.blobs import PAYLOAD_VERSION, Blob, InvalidPayload, Origin, decode_payload, encode_payload
from raftwright.server.effects import Answer, Effects
from raftwright.server.errors import (
    ERRORS,
    DiskIsFull,
    InvalidRequest,
    NoLeader,
    ProposalRefused,
    ServiceError,
    ShuttingDown,
)
from raftwright.server.machine import Machine
from raftwright.server.wire import Forward, ForwardReply
from raftwright.server.writes import PeerToken, Write, Writes
from raftwright.storage.records import record_bytes
from raftwright.storage.room import NO_ROOM, Room, sizes_of

_log = logging.getLogger(__name__)

SINGLES_A_BLOB = 8192
ENTRY_SLACK_BYTES = 64
"""An entry's payload is larger by less than this than the sizes of its writes together."""
HOLD_S = 0.025
"""How long writes wait after a node that was asked was not the leader."""
HAND_OVER_INTERVAL_S = 6.0
"""How often a leader with a full disk tries to hand over."""

_ASK_AGAIN = frozenset({NoLeader.kind, ProposalRefused.kind, ShuttingDown.kind})
"""Refusals by the node that a write was forwarded to, after which the next leader is asked."""


class Proposer:
    def __init__(
        self, *, raft: Raft, machine: Machine, writes: Writes, entry_bytes_max: int, request_timeout_s: float
    ) -> None:
        self._raft = raft
        self._machine = machine
        self._writes = writes
        self._entry_bytes_max = entry_bytes_max
        self._request_timeout_s = request_timeout_s
        self.room = Room(1 << 62)
        """What the log can still take beside what is on its way to it. The driver keeps it up to date."""
        self.taken: list[int] = []
        """Sizes of the records that were let in since the last run ended."""
        self.wanted: list[int] = []
        """Sizes of records for which there was no room in this run."""
        self.disk_is_full = False
        """Room is missing for want of space. If not, it is being made: writes wait for it."""
        self.is_full = False
        """Entries of clients' were refused for want of disk space when the last ones came."""
        self.is_closing = False
        self.commands_proposed = 0
        self.commands_forwarded = 0
        self._handed_over_at = float("-inf")
        self.away: set[int] = set()
        """Peers to which there was no stream, and that were not heard of since. Nothing is forwarded to them: it would
        be dropped on the way, and its caller would wait for the time-out instead of the next leader."""
        self._encoded: list[bytes] = []
        self._commands: list[Any] = []
        self._tokens: list[Any] = []

    # In

    def write(self, write: Write) -> None:
        """Queue a blob. Raises TooManyRequests or ShuttingDown."""
        if self.is_closing:
            raise ShuttingDown
        self._writes.admit(write)

    def write_one(self, command: Any, encoded: bytes, token: Any) -> None:
        """Queue one command without a session; those of a run share a blob. Raises as `write` does."""
        if self.is_closing:
            raise ShuttingDown
        self._writes.admit_one(len(encoded))
        self._commands.append(command)
        self._encoded.append(encoded)
        self._tokens.append(token)

    def has_room_for(self, message: AppendEntries) -> bool:
        """Whether the disk takes a leader's entries; those that are not of clients have the reserve."""
        sizes = sizes_of(message.entries)
        room = self.room.after(sizes)
        if room is not None:
            self._let_in(sizes, room)
            return True
        if all(entry.kind != EntryKind.COMMANDS for entry in message.entries):
            return True
        self.wanted = self.wanted or sizes
        self.is_full = self.disk_is_full
        return False

    def _let_in(self, sizes: list[int], room: Room) -> None:
        self.room = room
        self.taken += sizes
        self.is_full = False

    # Out

    def run(self, now: float, wall_ms: int, effects: Effects, *, round_under_way: bool) -> None:
        """Propose what waits (leader), hand it to the leader (others), or keep it until there is one."""
        self._gather_singles(now)
        if not self._writes.queue:
            return
        if self._raft.leader_role is not None:
            if not round_under_way:
                self._propose_all(now, wall_ms, effects)
        elif now >= self._writes.held_until:
            leader = self._raft.leader_id
            if leader is not None and leader not in self.away:
                self._forward_all(leader, effects)
        if self.is_closing and self._raft.leader_role is None:
            self._writes.fail_queued(effects, ShuttingDown())

    def _gather_singles(self, now: float) -> None:
        if not self._tokens:
            return
        tokens, commands, encoded = self._tokens, self._commands, self._encoded
        self._tokens, self._commands, self._encoded = [], [], []
        deadline = now + self._request_timeout_s
        start = size = 0
        for position, command in enumerate(encoded):
            is_full = size + len(command) > self._entry_bytes_max or position - start >= SINGLES_A_BLOB
            if is_full and position > start:
                self._queue_singles(tokens[start:position], commands[start:position], encoded[start:position], deadline)
                start, size = position, 0
            size += len(command)
        self._queue_singles(tokens[start:], commands[start:], encoded[start:], deadline)

    def _queue_singles(self, tokens: list[Any], commands: list[Any], encoded: list[bytes], deadline: float) -> None:
        blob = Blob(origin=Origin(count=len(tokens)), data=self._machine.join(encoded))
        self._writes.queue_admitted(Write(blob, commands, tokens, deadline), admitted_bytes=sum(map(len, encoded)))

    def _propose_all(self, now: float, wall_ms: int, effects: Effects) -> None:
        while self._writes.queue:
            largest = record_bytes(max(self._entry_bytes_max, self._writes.queue[0].size) + ENTRY_SLACK_BYTES)
            if self.room.after((largest,)) is None:
                self.wanted = [largest]
                if self.disk_is_full:
                    self._refuse_full(now, effects)
                return
            writes = self._writes.take(self._entry_bytes_max)
            payload = encode_payload([write.blob for write in writes])
            event = Propose(
                now=now,
                kind=EntryKind.COMMANDS,
                version=PAYLOAD_VERSION,
                time_ms=wall_ms,
                payload=payload,
                checksum=zlib.crc32(payload),
            )
            try:
                self._raft.step(event)
            except (ProposalDropped, NotLeader):
                self._writes.put_back(writes)  # a transfer is under way, or the window is full: it stays queued
                return
            sizes = [record_bytes(len(payload))]
            self._let_in(sizes, self.room.after(sizes) or NO_ROOM)
            self.commands_proposed += sum(write.blob.origin.count for write in writes)
            self._writes.propose(self._raft.log.last_id, writes, now)

    def _refuse_full(self, now: float, effects: Effects) -> None:
        self.is_full = True
        self._writes.fail_queued(effects, DiskIsFull("the leader's disk is full; free space or add a larger volume"))
        if now - self._handed_over_at > HAND_OVER_INTERVAL_S:
            self._handed_over_at = now
            try:
                self._raft.step(TransferLeadership(now=now, target=None))
            except Refusal as refusal:
                _log.warning("the disk is full and leadership cannot be handed over: %s", refusal)

    def _forward_all(self, leader: int, effects: Effects) -> None:
        while self._writes.queue:
            batch: list[Write] = []
            for write in self._writes.take(self._entry_bytes_max):
                if write.forwarded:
                    # Never forwarded twice: who sent it here finds the leader itself.
                    self._writes.fail(write, effects, NoLeader("this node is not the leader"))
                else:
                    batch.append(write)
            if batch:
                self.commands_forwarded += sum(write.blob.origin.count for write in batch)
                number = self._writes.forward(batch, leader)
                blobs = encode_payload([write.blob for write in batch])
                effects.send([Forward(from_id=self._raft.own_id, to_id=leader, id=number, blobs=blobs)])

    # Between nodes

    def take_forward(self, message: Forward, now: float, effects: Effects) -> None:
        """Queue another node's blobs, once they are found right; refuse each that is not, or all if not the leader."""
        deadline = now + self._request_timeout_s
        blobs = decode_payload(message.blobs)
        if isinstance(blobs, InvalidPayload):
            _log.warning("member %d forwarded what is no payload: %s", message.from_id, blobs.reason)
            return
        for position, blob in enumerate(blobs):
            token = PeerToken(message.from_id, message.id, position)
            try:
                if self._raft.leader_role is None:
                    raise NoLeader("this node is not the leader")
                commands = self._machine.decode(blob.data)
                if len(commands) != blob.origin.count:
                    raise InvalidRequest("a blob's count is not that of its commands")
                self.write(Write(blob, commands, token, deadline))
            except InvalidCommand as error:
                self._writes.refuse(token, effects, InvalidRequest(str(error)))
            except ServiceError as error:
                self._writes.refuse(token, effects, error)

    def take_reply(self, reply: ForwardReply, now: float, effects: Effects) -> None:
        write = self._writes.replied(reply)
        if write is None or write.token is None:
            return
        if reply.results is not None:
            self._writes.answer(write, effects, Answer(token=None, index=reply.index, encoded=reply.results))
            return
        if reply.error in _ASK_AGAIN and reply.outcome == "none":
            self._writes.put_back([write])
            self._writes.held_until = now + HOLD_S
            return
        error = ERRORS.get(reply.error or "", ServiceError)(reply.detail)
        error.outcome = "none" if reply.outcome == "none" else "unknown"
        self._writes.fail(write, effects, error)
