"""Linearizable reads on their way (§6.4): all that wait share one ReadIndex round, then wait for apply.

The driver calls it. Rule: a read is answered only once the index that its round returned is applied here.
"""

from collections import deque
from typing import Any

from raftwright.raft.ready import ReadAnswer
from raftwright.server.effects import Effects, ReadDone
from raftwright.server.errors import NoLeader, RequestTimeout, TooManyRequests


class _Batch:
    __slots__ = ("deadline", "index", "tokens")

    def __init__(self, deadline: float) -> None:
        self.tokens: list[Any] = []
        self.deadline = deadline
        self.index = 0


class Reads:
    """Reads that wait for a round, for its answer, or for apply; bounded in number."""

    def __init__(self, *, reads_max: int) -> None:
        self.reads_max = reads_max
        self.count = 0
        self.retry_at = 0.0
        """A round failed: the next is asked for at this time, or when a leader is known."""
        self._waiting: list[_Batch] = []
        self._asked: dict[int, list[_Batch]] = {}
        self._confirmed: deque[_Batch] = deque()
        self._context = 0

    def add(self, token: Any, deadline: float) -> None:
        if self.count >= self.reads_max:
            raise TooManyRequests(f"{self.count} reads wait already")
        self.count += 1
        if not self._waiting or self._waiting[-1].deadline != deadline:
            self._waiting.append(_Batch(deadline))
        self._waiting[-1].tokens.append(token)

    def next_context(self, now: float) -> int | None:
        """A context to ask the core about, for all that wait now; None if none does."""
        if not self._waiting or now < self.retry_at:
            return None
        self._context += 1
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
            batch.index = answer.index
        self._confirmed.extend(batches)

    def applied(self, index: int, effects: Effects) -> None:
        """Answer what waited for `index`. Rounds confirm in order, save that of another leader: hence the scan."""
        for _ in range(len(self._confirmed)):
            batch = self._confirmed.popleft()
            if batch.index <= index:
                self.count -= len(batch.tokens)
                effects.reads.append(ReadDone(tokens=batch.tokens, index=index))
            else:
                self._confirmed.append(batch)

    def expire(self, now: float, effects: Effects, *, leader_known: bool) -> None:
        late: list[_Batch] = []
        self._waiting = self._sift(self._waiting, now, late)
        for context in list(self._asked):
            self._asked[context] = self._sift(self._asked[context], now, late)
            if not self._asked[context]:
                del self._asked[context]
        self._confirmed = deque(self._sift(list(self._confirmed), now, late))
        for batch in late:
            self.count -= len(batch.tokens)
            error = RequestTimeout("no quorum confirmed the read in time") if leader_known else NoLeader()
            effects.reads.append(ReadDone(tokens=batch.tokens, error=error))

    @staticmethod
    def _sift(batches: list[_Batch], now: float, late: list[_Batch]) -> list[_Batch]:
        late.extend(batch for batch in batches if batch.deadline <= now)
        return [batch for batch in batches if batch.deadline > now]

    @property
    def is_waiting(self) -> bool:
        return bool(self._waiting)
