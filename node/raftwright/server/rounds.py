"""Rounds of persisting: what one write and one sync make durable, and the messages that wait for it.

The driver calls it. Rule: one round is under way at a time; everything that comes meanwhile is the next one, in order,
and a message that promises something leaves when every round that it may depend on is durable.
"""

from raftwright.raft.ready import Ready, SnapshotChunk
from raftwright.server.effects import Effects, Persist
from raftwright.storage.room import sizes_of


class Rounds:
    def __init__(self) -> None:
        self.current: Persist | None = None
        """Under way."""
        self.count = 0
        self._next: Persist | None = None
        self._newest = 0
        """Number of the newest Ready."""

    def add(self, ready: Ready, effects: Effects) -> None:
        """Take what a Ready wants persisted into the next round, and its messages that wait for that. A Ready without
        anything to persist may still have messages that wait for what earlier ones had."""
        self._newest = ready.number
        if not ready.must_persist:
            batch = self._next or self.current
            if batch is None:
                effects.send(ready.messages_after)
            else:
                batch.messages_after.extend(ready.messages_after)
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

    def add_chunk(self, chunk: SnapshotChunk) -> None:
        """A chunk that came past the core (`server/repairing.py`). Earlier Readys are in this round, or before."""
        self._next = self._next or Persist(ready=self._newest)
        self._next.chunks.append(chunk)

    def sizes(self) -> list[int]:
        """Of the records of all entries that are not known to be durable yet."""
        return [size for batch in (self.current, self._next) if batch for size in sizes_of(batch.entries)]

    def start(self, effects: Effects) -> None:
        if self.current is None and self._next is not None:
            self.current, self._next = self._next, None
            self.count += 1
            effects.persist = self.current

    def done(self, effects: Effects) -> Persist:
        """The round under way is durable: what waited for it leaves."""
        assert self.current is not None
        batch, self.current = self.current, None
        effects.send(batch.messages_after)
        return batch
