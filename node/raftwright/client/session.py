"""A client's session without I/O: numbers its writes, groups operations into frames, and settles each one once.

`stream.py` drives it. Rule: a group of writes keeps its numbers and its bytes for ever, so that sending it again is
safe; it is sent again only while the cluster surely remembers the session (§6.3).
"""

import secrets
from collections import deque
from collections.abc import Iterator
from typing import NamedTuple

from raftwright.client import models
from raftwright.client.errors import (
    NODE_KINDS,
    RETRIED_KINDS,
    OutcomeUnknown,
    RaftwrightError,
    SessionExpired,
    Timeout,
)
from raftwright.client.groups import FRAME_OVERHEAD_BYTES, WINDOW_BYTES_MAX, Group, Operation, too_large
from raftwright.client.results import Value, copy_of, error_of_problem, kind_of_problem, settle_result
from raftwright.kv.commands import encode_blob

BLOB_BYTES_MAX = 512 * 1024
"""A blob is closed at this size, unless one command is longer: it shares an entry of the log with others."""
READS_PER_FRAME_MAX = 4096
RETENTION_SHARE = 0.9
"""Of the retention that the cluster states, how much this client relies on: clocks drift apart."""
RETRY_AFTER_S = 0.2
MOVES_AT_ONCE = 3
"""So many nodes may refuse a group for what they are before it waits as long as the next one says."""


class Retry(NamedTuple):
    """A group that was refused for now. Give it back with `retry`."""

    group: Group
    after_s: float
    elsewhere: bool
    """Another node may do better."""


class Session:
    """The state of a session over all its connections. Times are of the loop's clock, in seconds."""

    def __init__(self) -> None:
        self.id = secrets.token_bytes(models.SESSION_ID_BYTES)
        self.limits: models.Welcome | None = None
        self.outstanding = 0
        """Operations without an answer."""
        self.outstanding_bytes = 0
        self.last_index = 0
        """The newest log entry that an answer came from."""
        self._opened = False
        """A write of this session was acknowledged."""
        self._next_seq = 1
        self._next_frame_id = 1
        self._last_used_at = float("-inf")
        """The cluster used the session at this time or later."""
        self._queued: dict[bool, deque[Operation]] = {True: deque(), False: deque()}
        """Not sent yet; writes and reads, as in `_resend`."""
        self._resend: dict[bool, deque[Group]] = {True: deque(), False: deque()}
        self._unsettled: dict[int, Group] = {}
        """Groups of writes by first sequence number, ascending."""
        self._window_end = 0
        self._in_flight: dict[tuple[int, bool], Group] = {}
        """By frame and whether they are writes, on the present connection."""
        self._held: dict[Group, None] = {}
        """Refused for now; `retry` brings them back."""

    # In

    def submit(self, operation: Operation) -> None:
        """Queue an operation; it leaves with the next frame."""
        self.outstanding += 1
        self.outstanding_bytes += operation.value_bytes
        self._queued[bool(operation.encoded)].append(operation)

    @property
    def has_work(self) -> bool:
        """Whether `next_frame` has something."""
        return (
            bool(self._queued[False]) or any(self._resend.values()) or (bool(self._queued[True]) and self._has_window)
        )

    @property
    def _has_window(self) -> bool:
        """The cluster knows so many of a session's newest writes again; beyond them no retry would be safe."""
        oldest = next(iter(self._unsettled.values()), None)
        return oldest is None or self._window_end - oldest.window_begin < WINDOW_BYTES_MAX

    @property
    def is_idle(self) -> bool:
        return self.outstanding == 0

    @property
    def is_flying(self) -> bool:
        """Whether answers are expected on the present connection."""
        return bool(self._in_flight)

    def on_connecting(self, now: float) -> None:
        """A connection is about to say Hello. A session that was idle for long is left for a new one in time."""
        if self.needs_renewal(now):
            self._renew()

    def on_lost(self) -> None:
        """The connection is gone: what was in flight on it goes first on the next one, in the same order and groups."""
        lost = list(self._in_flight.values())
        self._in_flight.clear()
        for group in reversed(lost):
            group.frame_id = None
            group.uncertain = group.is_writes
            self._resend[group.is_writes].appendleft(group)

    def retry(self, group: Group) -> None:
        """Send a group again that was refused a while ago."""
        if group in self._held:
            del self._held[group]
            self._resend[group.is_writes].append(group)

    # Out

    def needs_renewal(self, now: float) -> bool:
        """Whether the next write should go under a new session, which takes a new connection."""
        return self._opened and not self._unsettled and self._is_forgotten(self._last_used_at, now)

    def next_frame(self, now: float) -> bytes | None:
        """The next frame to send: at most one group of writes and one of reads."""
        writes = self._take_resend(now, is_writes=True) or self._new_writes()
        reads = self._take_resend(now, is_writes=False) or self._new_reads()
        if not writes and not reads:
            return None
        frame_id = self._next_frame_id
        self._next_frame_id += 1
        for group in (writes, reads):
            if group:
                self._in_flight[frame_id, group.is_writes] = group
                group.frame_id = frame_id
                group.first_sent_at = min(group.first_sent_at, now)
        asked = [_as_read(operation) for operation in reads.operations] if reads else None
        return models.encode_frame(models.RequestFrame(frame_id, self._as_writes(writes) if writes else None, asked))

    def on_reply(self, frame: models.ReplyFrame) -> Iterator[Retry]:
        """Settle what a frame of replies answers; yields the groups to be tried again later."""
        for reply in frame.replies:
            match reply:
                case models.WriteReply(id=frame_id, results=results, index=index):
                    self.last_index = max(self.last_index, index)
                    if group := self._in_flight.get((frame_id, True)):
                        self._on_results(group, models.decode_results(results))
                case models.ReadReply(id=frame_id, values=values, index=index):
                    self.last_index = max(self.last_index, index)
                    if group := self._in_flight.get((frame_id, False)):
                        self._on_values(group, values)
                case models.ProblemReply(id=frame_id, part=part, problem=problem):
                    for is_writes in (True, False):
                        group = self._in_flight.get((frame_id, is_writes))
                        if group and part in ("frame", "writes" if is_writes else "reads"):
                            yield from self._on_problem(group, problem)

    def expire(self, now: float, trouble: RaftwrightError | None) -> float | None:
        """Fail every operation whose time is up; `trouble` is what keeps this client from a connection. Returns when
        to call again: the earliest deadline left."""
        earliest = float("inf")
        for is_writes, queue in self._queued.items():
            kept: deque[Operation] = deque()
            for operation in queue:
                if not operation.future.done() and operation.deadline > now:
                    kept.append(operation)
                    earliest = min(earliest, operation.deadline)
                    continue
                self._forget([operation])
                if not operation.future.done():
                    late = Timeout("it could not be sent in time", outcome="none")
                    operation.future.set_exception(copy_of(trouble) if trouble else late)
            self._queued[is_writes] = kept
        for group in self._groups():
            for operation in group.operations:
                if operation.future.done():
                    continue
                if operation.deadline <= now:
                    operation.future.set_exception(group.out_of_time(trouble))
                else:
                    earliest = min(earliest, operation.deadline)
            if not group.is_wanted:
                self._settle(group)
        return earliest if earliest != float("inf") else None

    def fail_all(self, error: RaftwrightError) -> None:
        """Fail everything that is unanswered; what was sent is `unknown`."""
        for queue in self._queued.values():
            for operation in queue:
                if not operation.future.done():
                    operation.future.set_exception(copy_of(error))
            self._forget(list(queue))
            queue.clear()
        for group in self._groups():
            group.fail(OutcomeUnknown(f"{error}; the write had been sent") if group.may_have_happened else error)
            self._settle(group)

    # Groups

    def _groups(self) -> list[Group]:
        places = (self._unsettled.values(), self._in_flight.values(), *self._resend.values(), self._held)
        return list(dict.fromkeys(group for place in places for group in place))

    def _take_resend(self, now: float, *, is_writes: bool) -> Group | None:
        """The next group to send again. What the cluster may have forgotten is not: it could happen twice (§6.3)."""
        while self._resend[is_writes]:
            group = self._resend[is_writes].popleft()
            known_at = max(self._last_used_at, min(group.first_sent_at, now))
            if group.uncertain and self._is_forgotten(known_at, now):
                group.fail(OutcomeUnknown("no answer came while the cluster surely remembered this client's session"))
            if group.is_wanted:
                return group
            self._settle(group)
        return None

    def _new_writes(self) -> Group | None:
        if not self._has_window:
            return None
        limits = self._known_limits
        bytes_max = min(BLOB_BYTES_MAX, limits.frame_bytes_max - FRAME_OVERHEAD_BYTES)
        taken = self._take_queued(is_writes=True, count_max=limits.blob_commands_max, bytes_max=bytes_max)
        if not taken:
            return None
        group = Group(taken, is_writes=True)
        group.first_seq = self._next_seq
        group.blob = encode_blob([operation.encoded for operation in taken])
        group.window_begin = self._window_end
        self._window_end += group.window_cost
        self._next_seq += len(taken)
        self._unsettled[group.first_seq] = group
        return group

    def _new_reads(self) -> Group | None:
        taken = self._take_queued(is_writes=False, count_max=READS_PER_FRAME_MAX, bytes_max=BLOB_BYTES_MAX)
        return Group(taken, is_writes=False) if taken else None

    def _take_queued(self, *, is_writes: bool, count_max: int, bytes_max: int) -> list[Operation]:
        queue = self._queued[is_writes]
        taken: list[Operation] = []
        size = 0
        while queue and len(taken) < count_max:
            operation = queue[0]
            size += len(operation.encoded) or len(operation.key)
            if taken and (size > bytes_max or self._waits_apart(operation, taken[0])):
                break
            queue.popleft()
            if not operation.future.done() and (error := too_large(operation, self._known_limits)):
                operation.future.set_exception(error)
            if operation.future.done():
                self._forget([operation])
            else:
                taken.append(operation)
        return taken

    def _waits_apart(self, operation: Operation, first: Operation) -> bool:
        """Reads of a frame are answered together: none should wait for an entry of another's that may never come."""
        indexes = (operation.min_index, first.min_index)
        return indexes[0] != indexes[1] and max(indexes) > self.last_index

    def _as_writes(self, group: Group) -> models.Writes:
        return models.Writes(
            first_seq=group.first_seq,
            count=len(group.operations),
            acked_below=next(iter(self._unsettled)),
            opens=not self._opened,
            blob=group.blob,
        )

    @property
    def _known_limits(self) -> models.Welcome:
        if self.limits is None:
            raise RuntimeError("a frame was asked for before the first Welcome")
        return self.limits

    # Answers

    def _on_results(self, group: Group, results: list[models.Result]) -> None:
        self._opened = True
        self._last_used_at = max(self._last_used_at, group.first_sent_at)
        self._settle(group)
        for operation, result in zip(group.operations, results, strict=True):
            if not operation.future.done():
                settle_result(operation.future, operation.key, result)

    def _on_values(self, group: Group, values: list[tuple[int, bytes] | None]) -> None:
        self._settle(group)
        for operation, value in zip(group.operations, values, strict=True):
            if not operation.future.done():
                operation.future.set_result(None if value is None else Value(value[1], value[0]))

    def _on_problem(self, group: Group, problem: models.Problem) -> Iterator[Retry]:
        kind = kind_of_problem(problem)
        error = error_of_problem(problem)
        if kind == SessionExpired.kind and group.is_writes:
            self._on_expired(group, error)
        elif kind in RETRIED_KINDS:
            self._release(group)
            group.uncertain |= group.is_writes and problem.outcome != "none"
            group.trouble = error
            self._held[group] = None
            after_s = RETRY_AFTER_S if problem.retry_after_s is None else problem.retry_after_s
            elsewhere = kind in NODE_KINDS
            group.moves += elsewhere
            if elsewhere and group.moves <= MOVES_AT_ONCE:
                after_s = 0.0
            yield Retry(group, after_s, elsewhere)
        else:
            self._settle(group)
            if group.uncertain:
                error.outcome = "unknown"
            elif group.is_writes and problem.position is not None and problem.position < len(group.operations) > 1:
                # One command was bad, so none happened: the others go again, under new numbers.
                bad = group.operations.pop(problem.position)
                if not bad.future.done():
                    bad.future.set_exception(error)
                return self._requeue(group)
            group.fail(error)

    def _on_expired(self, group: Group, error: RaftwrightError) -> None:
        """The cluster forgot the session, so it took nothing of this group: go on under a new one. What was sent
        before under the old one may have happened, and cannot be sent again."""
        self._settle(group)
        if group.uncertain:
            group.fail(error)
        else:
            self._requeue(group)
        for other in list(self._unsettled.values()):
            other.fail(error)
            self._settle(other)
        self._renew()

    def _requeue(self, group: Group) -> None:
        self._queued[group.is_writes].extendleft(reversed(group.operations))
        self.outstanding += len(group.operations)
        self.outstanding_bytes += sum(operation.value_bytes for operation in group.operations)

    def _is_forgotten(self, used_at: float, now: float) -> bool:
        """Whether the cluster may have forgotten a session that it last used at `used_at`."""
        return self.limits is not None and now - used_at >= self.limits.session_retention_s * RETENTION_SHARE

    def _renew(self) -> None:
        self.id = secrets.token_bytes(models.SESSION_ID_BYTES)
        self._opened = False
        self._last_used_at = float("-inf")

    def _release(self, group: Group) -> None:
        """Take a group off the present connection."""
        if group.frame_id is not None:
            self._in_flight.pop((group.frame_id, group.is_writes), None)
            group.frame_id = None

    def _settle(self, group: Group) -> None:
        """Done with a group, one way or the other."""
        self._release(group)
        if group.is_writes:
            self._unsettled.pop(group.first_seq, None)
        self._held.pop(group, None)
        if group in self._resend[group.is_writes]:
            self._resend[group.is_writes].remove(group)
        self._forget(group.operations)

    def _forget(self, operations: list[Operation]) -> None:
        self.outstanding -= len(operations)
        self.outstanding_bytes -= sum(operation.value_bytes for operation in operations)


def _as_read(operation: Operation) -> models.Read:
    return models.Read(operation.key, operation.consistency, operation.max_staleness_s, operation.min_index)
