"""What a leader knows of one peer (§3.5: nextIndex and matchIndex), and how fast it may send to it.

Used by the leader's side of replication and of snapshots. Its one rule: `next_index` is always above `match_index`.
"""

from collections import deque
from dataclasses import dataclass, field
from enum import Enum

from raftwright.raft.entries import SnapshotMeta


class Phase(Enum):
    PROBE = "probe"
    """It is not known where the peer's log agrees: one message, then wait for the answer or a heartbeat."""
    PIPELINE = "pipeline"
    """The logs agree: entries are sent ahead of the answers, as far as the window allows."""
    SNAPSHOT = "snapshot"
    """The peer needs entries that the log no longer has."""


@dataclass(slots=True)
class SnapshotTransfer:
    """A snapshot on its way to one peer, a chunk at a time."""

    retry_at: float
    retry_after_s: float
    meta: SnapshotMeta | None = None
    """None until the first chunk was read: the shell chooses which snapshot."""
    offset: int = 0
    """How much of it the peer has."""
    loading: bool = False
    """Whether a chunk is being read just now."""


@dataclass(slots=True, kw_only=True)
class CatchUpRound:
    """One round of replication to a learner: all that was in the log when it began (§4.2.1)."""

    goal: int
    """The log's last index then."""
    began_at: float
    last_s: float | None = None
    """How long the round before it took; None in the first."""


@dataclass(slots=True)
class Progress:
    next_index: int
    contact_at: float
    """When the peer was last heard from in this term; at first, when leadership began (a grace)."""
    match_index: int = 0
    confirmed_round: int = 0
    """The newest round of heartbeats that the peer answered."""
    promised_until: float = float("-inf")
    """Until when it surely gives no vote to anybody, on the leader's clock (`lease.py`)."""
    commit_sent: int = 0
    """The highest commit index that the peer was sent and could use."""
    phase: Phase = Phase.PROBE
    probe_sent: bool = False
    loading_first: int | None = None
    """The first entry that is being read from disk for this peer."""
    transfer: SnapshotTransfer | None = None
    in_flight: deque[tuple[int, int]] = field(default_factory=deque)
    """Last index and bytes of each append sent and not yet acknowledged."""
    in_flight_bytes: int = 0
    catch_up: CatchUpRound | None = None
    """Of a learner, once it was heard from."""

    def become_probe(self, next_index: int) -> None:
        self._leave(Phase.PROBE)
        self.next_index = max(next_index, self.match_index + 1)

    def become_snapshot(self, transfer: SnapshotTransfer) -> None:
        self._leave(Phase.SNAPSHOT)
        self.next_index = self.match_index + 1
        self.transfer = transfer

    def _leave(self, phase: Phase) -> None:
        self.phase = phase
        self.probe_sent = False
        self.transfer = None
        self.in_flight.clear()
        self.in_flight_bytes = 0

    def sent(self, last_index: int, size: int) -> None:
        """An append that ends at `last_index` is on its way: go on behind it without waiting."""
        self.next_index = last_index + 1
        self.in_flight.append((last_index, size))
        self.in_flight_bytes += size

    def acknowledge(self, match_index: int) -> bool:
        """The peer has everything up to `match_index`. True if that is more than was known."""
        advanced = match_index > self.match_index
        if advanced:
            self.match_index = match_index
            self.next_index = max(self.next_index, match_index + 1)
        while self.in_flight and self.in_flight[0][0] <= match_index:
            self.in_flight_bytes -= self.in_flight.popleft()[1]
        return advanced

    def found_agreement(self) -> None:
        """The peer accepted an append: from here on entries are pipelined."""
        if self.phase is Phase.PROBE:
            self._leave(Phase.PIPELINE)

    def window_is_open(self, appends_max: int, bytes_max: int) -> bool:
        return len(self.in_flight) < appends_max and self.in_flight_bytes < bytes_max
