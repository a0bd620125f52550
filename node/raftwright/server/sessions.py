"""Exactly once: which blobs of which sessions have run, and with what results (§6.3).

`server/state.py` asks and records in apply, so all of this is replicated state. Its one rule: everything here,
the bounds too, depends on entries alone. The bounds are constants of the snapshot's format, not settings.

**The window.** A retry of a blob, byte by byte under the same session and numbers, gets the first run's results as
long as all of this holds:

- the session was last used no more than 10 minutes of log time before the retry is applied;
- fewer than 65,536 other sessions were used since then, and they, their results and this one's take at most 32 MiB
  (320 bytes a session, 144 a blob and its results' length);
- the blob is among the newest 4,096 of its session, with no more than 4 MiB of results, and the session has not
  said that it received the answer.

Outside the window a retry is refused as expired and never run again, with one exception: a blob that may open its
session is run if the session is unknown, and none of the session's later numbers count as run then. So whoever retries
such a blob must stop within the window, and so must all retries of its session.
"""

from collections import OrderedDict
from collections.abc import Iterable, Iterator
from enum import Enum
from hashlib import blake2b
from typing import Annotated

import msgspec
from msgspec import Meta

from raftwright.server.blobs import SESSION_ID_BYTES, Origin, SequenceNumber
from raftwright.server.machine import InvalidSnapshot

VERSION = 1
"""Of the section of snapshots, and of the bounds below."""
RETENTION_MS = 10 * 60 * 1000
SESSIONS_MAX = 65_536
BYTES_MAX = 32 << 20
RECORDS_A_SESSION_MAX = 4096
BYTES_A_SESSION_MAX = 4 << 20
SESSION_BYTES = 320
"""What a session is taken to cost beside its records; about what it takes in memory."""
RECORD_BYTES = 144
"""What a record is taken to cost beside its results."""

FINGERPRINT_BYTES = 8
SLICE_SESSIONS = 512
SLICE_RECORDS = 2048
_SECTION_BYTES_MAX = 1 << 30


class Record(msgspec.Struct, array_like=True, frozen=True, gc=False, forbid_unknown_fields=True):
    """A blob that has run. Its numbers are `first_seq` up to `first_seq + count - 1`."""

    first_seq: SequenceNumber
    count: Annotated[int, Meta(ge=1)]
    fingerprint: bytes
    results: bytes

    @property
    def end(self) -> int:
        return self.first_seq + self.count

    @property
    def size(self) -> int:
        return RECORD_BYTES + len(self.results)


class Session(msgspec.Struct, array_like=True, frozen=True, gc=False, forbid_unknown_fields=True):
    """Immutable, so that a snapshot holds it as it is while apply goes on."""

    last_time_ms: int
    """Log time of the last blob that named it."""
    forgotten_below: int
    """A blob that begins below and has no record may have run: it never runs again."""
    size: int
    """`size_of(records)`, kept since it is asked for with each blob."""
    records: tuple[Record, ...]
    """Ascending by `first_seq`, and none overlaps another."""


class Verdict(Enum):
    """What to do with a blob that has no recorded results."""

    FRESH = "run it"
    CONFLICT = "another request has its numbers, or some of them"
    EXPIRED = "whether it ran is forgotten"


def size_of(records: tuple[Record, ...]) -> int:
    """What a session with these records counts for."""
    return SESSION_BYTES + sum(record.size for record in records)


def fingerprint_of(blob: bytes) -> bytes:
    """Tells another request under the same numbers. Guards against mistakes; an attacker would fool only himself."""
    return blake2b(blob, digest_size=FINGERPRINT_BYTES).digest()


class Sessions:
    """Every known session, the least recently used first."""

    def __init__(self) -> None:
        self._sessions: OrderedDict[bytes, Session] = OrderedDict()
        self.bytes = 0
        """The sum of `Session.size`."""
        self._expires_after_ms = 0
        """Up to this log time surely nothing expires."""

    def __len__(self) -> int:
        return len(self._sessions)

    def __contains__(self, session_id: object) -> bool:
        return session_id in self._sessions

    def seen(self, origin: Origin, fingerprint: bytes) -> Verdict | bytes:
        """The results that the blob had when it ran, or what to do with it. Changes nothing."""
        session = self._sessions.get(origin.session)
        if session is None:
            return Verdict.FRESH if origin.opens else Verdict.EXPIRED
        records = session.records
        if not records or records[-1].first_seq + records[-1].count <= origin.first_seq:
            return Verdict.FRESH if origin.first_seq >= session.forgotten_below else Verdict.EXPIRED
        position = _position(records, origin.first_seq)
        if position < len(records):
            record = records[position]
            if record.first_seq == origin.first_seq:
                same = record.count == origin.count and record.fingerprint == fingerprint
                return record.results if same else Verdict.CONFLICT
            if record.first_seq < origin.first_seq + origin.count:
                return Verdict.CONFLICT
        if position > 0 and records[position - 1].end > origin.first_seq:
            return Verdict.CONFLICT
        return Verdict.FRESH if origin.first_seq >= session.forgotten_below else Verdict.EXPIRED

    def record(self, origin: Origin, fingerprint: bytes, results: bytes, time_ms: int) -> None:
        """A blob that was FRESH has run."""
        first_seq = origin.first_seq
        record = Record(first_seq, origin.count, fingerprint, results)
        session = self._sessions.get(origin.session)
        if session is None:  # as `_use` has it, and much of a replay is this
            size = SESSION_BYTES + RECORD_BYTES + len(results)
            self._put(origin.session, Session(time_ms, min(origin.acked_below, first_seq), size, (record,)))
            self._keep_within_bounds()
        else:
            self._use(origin, session, time_ms, record)

    def touch(self, origin: Origin, time_ms: int) -> None:
        """A blob that was not FRESH was met: its session, if known, is in use, and may have said what it received."""
        session = self._sessions.get(origin.session)
        if session is not None:
            self._use(origin, session, time_ms, None)

    def may_expire(self, time_ms: int) -> bool:
        """False if `expire` would surely forget nothing."""
        return time_ms > self._expires_after_ms

    def expire(self, time_ms: int) -> None:
        """Forget sessions last used more than `RETENTION_MS` before `time_ms`."""
        if not self.may_expire(time_ms):
            return
        sessions = self._sessions
        oldest_ms = time_ms
        while sessions:
            oldest_ms = next(iter(sessions.values())).last_time_ms
            if oldest_ms >= time_ms - RETENTION_MS:
                break
            self._forget_oldest()
            oldest_ms = time_ms
        self._expires_after_ms = oldest_ms + RETENTION_MS  # who is used later goes later, and log time only rises

    def _use(self, origin: Origin, session: Session, time_ms: int, record: Record | None) -> None:
        records = session.records
        size = session.size
        # What a blob says of itself cannot be acknowledged yet.
        acked_below = origin.acked_below if origin.acked_below < origin.first_seq else origin.first_seq
        forgotten_below = acked_below if acked_below > session.forgotten_below else session.forgotten_below
        if record is not None:
            if records and records[-1].first_seq > record.first_seq:
                position = _position(records, record.first_seq)
                records = (*records[:position], record, *records[position:])
            else:
                records = (*records, record)
            size += RECORD_BYTES + len(record.results)
        drop = 0
        over = len(records) - RECORDS_A_SESSION_MAX
        for old in records:  # ends ascend, so what goes is the beginning
            end = old.first_seq + old.count
            too_large = size > BYTES_A_SESSION_MAX and drop < len(records) - 1
            if end > forgotten_below and drop >= over and not too_large:
                break
            forgotten_below = max(forgotten_below, end)
            size -= RECORD_BYTES + len(old.results)
            drop += 1
        if drop:
            records = records[drop:]
        self._put(origin.session, Session(time_ms, forgotten_below, size, records))
        self._keep_within_bounds()

    def _keep_within_bounds(self) -> None:
        while (self.bytes > BYTES_MAX or len(self._sessions) > SESSIONS_MAX) and len(self._sessions) > 1:
            self._forget_oldest()

    def _put(self, session_id: bytes, session: Session) -> None:
        before = self._sessions.get(session_id)
        self._sessions[session_id] = session
        if before is None:
            self.bytes += session.size  # and it is the newest by being new
        else:
            self.bytes += session.size - before.size
            self._sessions.move_to_end(session_id)

    def _forget_oldest(self) -> None:
        _, session = self._sessions.popitem(last=False)
        self.bytes -= session.size

    # --- snapshots

    def snapshot(self) -> Iterator[bytes]:
        """Freezes the sessions at once (a list of as many pointers) and encodes them slice by slice."""
        return _slices(list(self._sessions.items()))

    @staticmethod
    def restored(chunks: Iterable[bytes]) -> "Sessions":
        """The sessions of a snapshot. Raises InvalidSnapshot."""
        sessions = Sessions()
        last_time_ms = 0
        for session_id, session in _decode(chunks):
            ordered = all(a.end <= b.first_seq for a, b in zip(session.records, session.records[1:], strict=False))
            consistent = ordered and session.size == size_of(session.records)
            if session_id in sessions._sessions or not consistent or session.last_time_ms < last_time_ms:
                raise InvalidSnapshot("the sessions contradict themselves")
            last_time_ms = session.last_time_ms
            sessions._put(session_id, session)
        return sessions


def _position(records: tuple[Record, ...], first_seq: int) -> int:
    """Where a record that begins at `first_seq` is, or belongs."""
    low, high = 0, len(records)
    if high and records[-1].first_seq < first_seq:
        return high
    while low < high:
        middle = (low + high) // 2
        if records[middle].first_seq < first_seq:
            low = middle + 1
        else:
            high = middle
    return low


_Id = Annotated[bytes, Meta(min_length=1, max_length=SESSION_ID_BYTES)]
_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder(list[tuple[_Id, Session]])


def _slices(sessions: list[tuple[bytes, Session]]) -> Iterator[bytes]:
    """One MessagePack array over all slices: its head, then the sessions."""
    yield b"\xdd" + len(sessions).to_bytes(4, "big")
    slice_: list[bytes] = []
    records = 0
    for pair in sessions:
        slice_.append(_encoder.encode(pair))
        records += len(pair[1].records)
        if len(slice_) >= SLICE_SESSIONS or records >= SLICE_RECORDS:
            yield b"".join(slice_)
            slice_ = []
            records = 0
    if slice_:
        yield b"".join(slice_)


def _decode(chunks: Iterable[bytes]) -> list[tuple[bytes, Session]]:
    parts: list[bytes] = []
    size = 0
    for chunk in chunks:
        size += len(chunk)
        if size > _SECTION_BYTES_MAX:
            raise InvalidSnapshot(f"the sessions take more than {_SECTION_BYTES_MAX:,} bytes")
        parts.append(chunk)
    try:
        sessions: list[tuple[bytes, Session]] = _decoder.decode(b"".join(parts))
        return sessions
    except ValueError as error:
        raise InvalidSnapshot(f"the sessions cannot be decoded: {error}") from error
