"""What must be true of log time and of retries, whatever the wall clocks of successive leaders say.

`checkers.py` tells it of each entry that is applied for the first time. Rule: it counts by itself what was promised, in
log time, sessions and bytes (see `server/sessions.py`), and generously, so that what it calls a retry within the window
is one.
"""

from collections.abc import Callable
from dataclasses import dataclass, field

from raftwright.raft.entries import Entry
from raftwright.server import sessions
from raftwright.server.blobs import Origin
from raftwright.server.state import Status

LOG_TIME = "log time never goes back, and no entry is older than the one before it"
WINDOW = "a retry within the window gets the first run's results"


@dataclass(slots=True)
class _Used:
    """A session that somebody used. Its peaks since it was new stand for what it took at any time."""

    order: int = 0
    time_ms: int = 0
    peak_bytes: int = sessions.SESSION_BYTES
    peak_records: int = 0
    records: dict[int, tuple[int, int]] = field(default_factory=dict)
    """By first number of what ran and is not known to be received: the end of its numbers, and its size."""

    def use(self, origin: Origin, size: int | None) -> None:
        """`size` of what ran now; None: nothing did."""
        if size is not None:
            self.records[origin.first_seq] = origin.first_seq + origin.count, size
        self.records = {first: kept for first, kept in self.records.items() if kept[0] > origin.acked_below}
        held = sessions.SESSION_BYTES + sum(size for _, size in self.records.values())
        self.peak_bytes = max(self.peak_bytes, held)
        self.peak_records = max(self.peak_records, len(self.records))


@dataclass(slots=True)
class SessionRules:
    fail: Callable[[str, str], None]
    time_ms: int = 0
    """Log time of the newest entry applied."""
    retries: int = 0
    """That were within the window."""
    expired: int = 0
    """That were not, and were refused."""
    _used: dict[bytes, _Used] = field(default_factory=dict)
    _order: int = 0

    def applied(self, entry: Entry) -> None:
        if entry.time_ms < self.time_ms:
            self.fail(LOG_TIME, f"entry {entry.index} is of {entry.time_ms}, after one of {self.time_ms}")
        self.time_ms = max(self.time_ms, entry.time_ms)

    def met(self, name: str, origin: Origin, status: Status, results: bytes, *, ran_before: bool) -> None:
        """A blob of a session was applied, with these results if it ran now."""
        session = self._used.setdefault(origin.session, _Used())
        if not self._is_within(session):
            self._used[origin.session] = session = _Used()
        if ran_before and status is Status.REPLAYED:
            self.retries += 1
        elif ran_before and status is Status.EXPIRED:
            self.expired += 1
            if origin.first_seq in session.records:
                self.fail(WINDOW, f"{name} is refused as expired at {self.time_ms}; last used at {session.time_ms}")
        self._order += 1
        session.order, session.time_ms = self._order, self.time_ms
        session.use(origin, sessions.RECORD_BYTES + len(results) if status is Status.APPLIED else None)

    def _is_within(self, session: _Used) -> bool:
        since = [used for used in self._used.values() if used.order > session.order]
        return (
            self.time_ms - session.time_ms <= sessions.RETENTION_MS
            and len(since) < sessions.SESSIONS_MAX
            and sum(used.peak_bytes for used in since) + session.peak_bytes <= sessions.BYTES_MAX
            and session.peak_records <= sessions.RECORDS_A_SESSION_MAX
            and session.peak_bytes <= sessions.BYTES_A_SESSION_MAX
        )
