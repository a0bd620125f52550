"""Reads on their way (§6.4): all that wait share one ReadIndex round, then wait for apply.

The driver calls it. Rule: a read is answered only once the index that its round returned, and the one that it asked
for, are applied here.
"""

from heapq import heapify, heappop, heappush
from typing import Any

from raftwright.raft.ready import ReadAnswer
from raftwright.server.effects import Effects, ReadDone
from raftwright.server.errors import NoLeader, RequestTimeout, ServiceError, TooManyRequests

NEVER = float("-inf")


class _Batch:
    """Reads with the same deadline and the same wish."""

    __slots__ = ("asked_at", "confirmed", "deadline", "index", "tokens")

    def __init__(self, deadline: float, index: int) -> None:
        self.tokens: list[Any] = []
        self.deadline = deadline
        self.index = index
        """What must be applied: as far as was asked for, and once there is an answer what the round returned."""
        self.asked_at = NEVER
        """When its round was asked for; minus infinity without one."""
        self.confirmed = False
        """Nothing but apply is missing."""


class Reads:
    """Reads that wait for a round, for its answer, or for apply; bounded in number."""

    def __init__(self, *, reads_max: int) -> None:
        self.reads_max = reads_max
        self.count = 0
        self.retry_at = 0.0
        """A round failed: the next is asked for at this time, or when a leader is known."""
        self.fresh_at = NEVER
        """What is applied has everything that was acknowledged before this time: the begin of the newest round whose
        index is applied, on this node's own clock."""
        self._waiting: list[_Batch] = []
        self._asked: dict[int, list[_Batch]] = {}
        self._unapplied: list[tuple[int, int, _Batch]] = []
        """A heap: the lowest index first."""
        self._context = 0
        self._confirmations = 0

    def add(self, token: Any, deadline: float, min_index: int = 0) -> None:
        """A linearizable read. Raises TooManyRequests."""
        self._count()
        last = self._waiting[-1] if self._waiting else None
        if last is None or last.deadline != deadline or last.index != min_index:
            last = _Batch(deadline, min_index)
            self._waiting.append(last)
        last.tokens.append(token)

    def add_without_round(self, token: Any, deadline: float, min_index: int) -> None:
        """A read that only waits until `min_index` is applied. Raises TooManyRequests."""
        self._count()
        batch = _Batch(deadline, min_index)
        batch.tokens.append(token)
        self._confirm(batch)

    def _count(self) -> None:
        if self.count >= self.reads_max:
            raise TooManyRequests(f"{self.count} reads wait already")
        self.count += 1

    def next_context(self, now: float) -> int | None:
        """A context to ask the core about, for all that wait now; None if none does."""
        if not self._waiting or now < self.retry_at:
            return None
        self._context += 1
        for batch in self._waiting:
            batch.asked_at = now
        self._asked[self._context] = self._waiting
        self._waiting = []
        return self._context

    def answered(self, answer: ReadAnswer, retry_at: float) -> None:
        batches = self._asked.pop(answer.context, [])
        if answer.index is None:
            self._waiting = batches + self._waiting
            self.retry_at = retry_at
            return
        for batch in batches:
            batch.index = max(batch.index, answer.index)
            self._confirm(batch)

    def _confirm(self, batch: _Batch) -> None:
        batch.confirmed = True
        self._confirmations += 1
        heappush(self._unapplied, (batch.index, self._confirmations, batch))

    def applied(self, index: int, effects: Effects) -> None:
        """Answer what waited for `index`."""
        while self._unapplied and self._unapplied[0][0] <= index:
            _, _, batch = heappop(self._unapplied)
            self.fresh_at = max(self.fresh_at, batch.asked_at)
            self.count -= len(batch.tokens)
            effects.reads.append(ReadDone(tokens=batch.tokens, index=index))

    def expire(self, now: float, effects: Effects, *, leader_known: bool) -> None:
        late: list[_Batch] = []
        self._waiting = self._sift(self._waiting, now, late)
        for context in list(self._asked):
            self._asked[context] = self._sift(self._asked[context], now, late)
            if not self._asked[context]:
                del self._asked[context]
        late.extend(batch for _, _, batch in self._unapplied if batch.deadline <= now)
        if any(batch.confirmed for batch in late):
            self._unapplied = [entry for entry in self._unapplied if entry[2].deadline > now]
            heapify(self._unapplied)
        for batch in late:
            self.count -= len(batch.tokens)
            error: ServiceError
            if batch.confirmed:
                error = RequestTimeout(f"index {batch.index} was not applied here in time", outcome="none")
            elif leader_known:
                error = RequestTimeout("no quorum confirmed the read in time", outcome="none")
            else:
                error = NoLeader()
            effects.reads.append(ReadDone(tokens=batch.tokens, error=error))

    def fail(self, error: ServiceError, effects: Effects) -> None:
        """Answer all of them so: nothing here may be read."""
        if self.count:
            asked = (batch for batches in self._asked.values() for batch in batches)
            for batch in [*self._waiting, *asked, *(entry[2] for entry in self._unapplied)]:
                effects.reads.append(ReadDone(tokens=batch.tokens, error=error))
            self._waiting, self._unapplied = [], []
            self._asked.clear()
            self.count = 0

    @staticmethod
    def _sift(batches: list[_Batch], now: float, late: list[_Batch]) -> list[_Batch]:
        late.extend(batch for batch in batches if batch.deadline <= now)
        return [batch for batch in batches if batch.deadline > now]

    @property
    def is_waiting(self) -> bool:
        return bool(self._waiting)
