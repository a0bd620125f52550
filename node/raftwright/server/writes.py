"""Writes on their way: queued, proposed, forwarded, and answered exactly once.

The driver calls it. Rule: a write leaves with one answer, and the answer says `none` only when the write can never
happen: it was never proposed, or an entry of a later term is committed at its index.
"""

from collections import deque
from collections.abc import Callable, Iterable
from typing import Any

from raftwright.raft.entries import EntryId
from raftwright.server.blobs import Blob
from raftwright.server.effects import Answer, Effects
from raftwright.server.errors import OutcomeUnknown, ProposalRefused, RequestTimeout, ServiceError, TooManyRequests
from raftwright.server.wire import ForwardReply

WRITES_AN_ENTRY = 4096


class PeerToken:
    """Who asked, when a write was forwarded to this node: one blob of a Forward."""

    __slots__ = ("id", "peer", "position")

    def __init__(self, peer: int, forward_id: int, position: int) -> None:
        self.peer = peer
        self.id = forward_id
        self.position = position


class Write:
    """One blob of commands with who waits for it. `commands` is kept decoded for this node's own apply."""

    __slots__ = ("blob", "commands", "deadline", "forwarded", "size", "token", "uncertain")

    def __init__(self, blob: Blob, commands: list[Any] | None, token: Any, deadline: float) -> None:
        self.blob = blob
        self.commands = commands
        self.token = token
        self.deadline = deadline
        self.size = len(blob.data) + 64
        self.forwarded = isinstance(token, PeerToken)
        self.uncertain = False
        """An earlier attempt may have happened (it is repeated under its session): no failure is `none` any more."""


class Proposed:
    """The writes of one entry of this leader's."""

    __slots__ = ("at", "id", "writes")

    def __init__(self, entry_id: EntryId, writes: list[Write], at: float) -> None:
        self.id = entry_id
        self.at = at
        """When it was proposed."""
        self.writes = writes


class Writes:
    """All writes that are not answered yet, bounded in commands and bytes."""

    def __init__(self, *, member_id: int | None, commands_max: int, bytes_max: int, first_forward: int = 0) -> None:
        self.member_id = member_id
        self.commands_max = commands_max
        self.bytes_max = bytes_max
        self.commands = 0
        self.bytes = 0
        self.dropped = 0
        """Writes whose place in the log another leader's entry took."""
        self.queue: deque[Write] = deque()
        self.proposed: deque[Proposed] = deque()
        self.forwards: dict[int, list[Write | None]] = {}
        self.forward_peer: dict[int, int] = {}
        self.forward_count = first_forward
        """Begins at a random number, so that no answer to an earlier process of this member fits a new forward."""
        self.held_until = 0.0
        """No forwarding before this time: the node asked last was not the leader."""

    # In

    def admit(self, write: Write) -> None:
        """Queue a write. Raises TooManyRequests where the queue is full."""
        count = write.blob.origin.count
        if self.commands + count > self.commands_max or self.bytes + write.size > self.bytes_max:
            raise TooManyRequests(f"{self.commands} commands ({self.bytes} bytes) wait already")
        self.commands += count
        self.bytes += write.size
        self.queue.append(write)

    def admit_one(self, size: int) -> None:
        """Make room for one command of `size` bytes; `queue_admitted` queues it, with others. Raises as `admit`."""
        if self.commands >= self.commands_max or self.bytes + size > self.bytes_max:
            raise TooManyRequests(f"{self.commands} commands ({self.bytes} bytes) wait already")
        self.commands += 1
        self.bytes += size

    def queue_admitted(self, write: Write, admitted_bytes: int) -> None:
        self.bytes += write.size - admitted_bytes
        self.queue.append(write)

    def take(self, bytes_max: int) -> list[Write]:
        """The oldest queued writes that fit one entry: at most `bytes_max` bytes, or one larger write."""
        taken: list[Write] = []
        size = 0
        queue = self.queue
        while queue and (not taken or (size + queue[0].size <= bytes_max and len(taken) < WRITES_AN_ENTRY)):
            write = queue.popleft()
            size += write.size
            taken.append(write)
        return taken

    def put_back(self, writes: Iterable[Write]) -> None:
        self.queue.extendleft(reversed(list(writes)))

    # Out

    def answer(self, write: Write, effects: Effects, answer: Answer) -> None:
        """Answer once; a write that was answered already (by its deadline) is passed over."""
        if write.token is None:
            return
        token, write.token = write.token, None
        self.commands -= write.blob.origin.count
        self.bytes -= write.size
        if isinstance(token, PeerToken):
            effects.send([self._reply(token, answer)])
        else:
            answer.token = token
            effects.answers.append(answer)

    def _reply(self, token: PeerToken, answer: Answer) -> ForwardReply:
        error = answer.error
        return ForwardReply(
            from_id=self.member_id or 0,
            to_id=token.peer,
            id=token.id,
            position=token.position,
            index=answer.index,
            results=answer.encoded,
            error=error.kind if error else None,
            detail=error.detail if error else "",
            outcome=error.outcome if error else "unknown",
        )

    def fail(self, write: Write, effects: Effects, error: ServiceError) -> None:
        if write.uncertain:
            error.outcome = "unknown"
        self.answer(write, effects, Answer(token=None, error=error))

    def refuse(self, token: PeerToken, effects: Effects, error: ServiceError) -> None:
        """Answer another node's write that was never admitted."""
        effects.send([self._reply(token, Answer(token=None, error=error))])

    def fail_queued(self, effects: Effects, error: ServiceError) -> None:
        """Refuse everything that was not proposed yet; it never happens."""
        while self.queue:
            self.fail(self.queue.popleft(), effects, error)

    @property
    def is_waiting(self) -> bool:
        return bool(self.commands)

    # Proposed entries

    def propose(self, entry_id: EntryId, writes: list[Write], now: float) -> None:
        self.proposed.append(Proposed(entry_id, writes, now))

    def match(self, entry_id: EntryId, effects: Effects) -> Proposed | None:
        """An entry is committed at this id: what it answers, if it is one of ours; any others that were
        proposed at or before its index can never happen (another entry is committed there)."""
        proposed = self.proposed
        while proposed and proposed[0].id.index <= entry_id.index:
            head = proposed.popleft()
            if head.id == entry_id:
                return head
            self.dropped += len(head.writes)
            for write in head.writes:
                self.fail(write, effects, ProposalRefused("another leader's entry took its place"))
        return None

    def jumped(self, index: int, effects: Effects) -> None:
        """A snapshot took the place of entries up to `index`: what was proposed there is unknown."""
        while self.proposed and self.proposed[0].id.index <= index:
            for write in self.proposed.popleft().writes:
                self.fail(write, effects, OutcomeUnknown("the log was replaced by a snapshot"))

    def leadership_lost(self, deadline: float) -> None:
        """The next leader usually decides what was proposed within moments: wait for it no longer than that."""
        for proposed in self.proposed:
            for write in proposed.writes:
                write.deadline = min(write.deadline, deadline)

    # Forwards

    def forward(self, writes: list[Write], peer: int) -> int:
        self.forward_count += 1
        self.forwards[self.forward_count] = list(writes)
        self.forward_peer[self.forward_count] = peer
        return self.forward_count

    def replied(self, reply: ForwardReply) -> Write | None:
        """The write that a reply answers; None if it was answered already."""
        writes = self.forwards.get(reply.id)
        if writes is None or not 0 <= reply.position < len(writes):
            return None
        write, writes[reply.position] = writes[reply.position], None
        if not any(writes):
            self._forget(reply.id)
        return write

    def unsent(self, number: int) -> None:
        """A forward never left this node: its writes wait again, as if nobody had been asked."""
        self.put_back(write for write in self.forwards.get(number, ()) if write is not None and write.token is not None)
        self._forget(number)

    def stream_lost(self, peer: int, effects: Effects) -> None:
        """Forwards to `peer` may or may not have arrived: what has no session to be sent again under is unknown."""
        for number in self._forwards_to(lambda to: to == peer):
            for write in self._send_again(number):
                self.fail(write, effects, OutcomeUnknown("the connection to the leader was lost"))
            self._forget(number)

    def leader_changed(self, leader: int, deadline: float) -> None:
        """Whoever was asked before may be gone without a word, and its stream ends only when a heartbeat fails. What
        has no session to be sent again under is waited for no longer than `deadline`."""
        for number in self._forwards_to(lambda to: to != leader):
            left = self._send_again(number)
            for write in left:
                write.deadline = min(write.deadline, deadline)
            if not left:
                self._forget(number)

    def _forwards_to(self, is_meant: Callable[[int], bool]) -> list[int]:
        """The newest first: what is put back at the front of the queue is in the order in which it came."""
        return [number for number, to in reversed(self.forward_peer.items()) if is_meant(to)]

    def _send_again(self, number: int) -> list[Write]:
        """Queue its writes with sessions again, since a session makes a write happen once; the others."""
        left, again = [], []
        writes = self.forwards[number]
        for position, write in enumerate(writes):
            if write is None or write.token is None:
                continue
            if write.blob.origin.session:
                write.uncertain, writes[position] = True, None
                again.append(write)
            else:
                left.append(write)
        self.put_back(again)
        return left

    def _forget(self, number: int) -> None:
        self.forwards.pop(number, None)
        self.forward_peer.pop(number, None)

    # Time

    def expire(self, now: float, effects: Effects) -> None:
        """Answer what is over its deadline. Nothing waits longer, whatever the log does."""
        late = "no leader took it in time"
        if any(write.deadline <= now for write in self.queue):
            waiting = list(self.queue)
            self.queue.clear()
            for write in waiting:
                if write.deadline <= now:
                    self.fail(write, effects, RequestTimeout(late, outcome="none"))
                else:
                    self.queue.append(write)
        for proposed in self.proposed:
            for write in proposed.writes:
                if write.deadline <= now:
                    self.fail(write, effects, RequestTimeout("no quorum confirmed it in time", outcome="unknown"))
        for number in list(self.forwards):
            writes = self.forwards[number]
            for position, forwarded in enumerate(writes):
                if forwarded is not None and forwarded.deadline <= now:
                    self.fail(forwarded, effects, RequestTimeout("the leader did not answer in time"))
                    writes[position] = None
            if not any(writes):
                self._forget(number)
