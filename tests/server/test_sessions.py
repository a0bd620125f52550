"""Exactly once within the window (§6.3): the sessions against a dumb twin, and each bound of the window."""

from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from raftwright.server import sessions as module
from raftwright.server.blobs import Origin
from raftwright.server.machine import InvalidSnapshot
from raftwright.server.sessions import RETENTION_MS, Sessions, Verdict, size_of

FRESH, CONFLICT, EXPIRED = Verdict.FRESH, Verdict.CONFLICT, Verdict.EXPIRED


def origin(session: str, first_seq: int, count: int = 1, *, acked_below: int = 0, opens: bool = False) -> Origin:
    return Origin(session.encode(), first_seq, count, acked_below, opens)


def ran(
    sessions: Sessions, session: str, first_seq: int, count: int = 1, *, time_ms: int = 0, acked_below: int = 0
) -> None:
    """A blob that runs, whose fingerprint and results name it."""
    where = origin(session, first_seq, count, acked_below=acked_below, opens=True)
    assert sessions.seen(where, b"print") is FRESH
    sessions.record(where, b"print", f"{session}{first_seq}".encode(), time_ms)


def test_a_retry_gets_the_first_results() -> None:
    sessions = Sessions()
    ran(sessions, "s", 5, 3)
    for opens in (True, False):
        assert sessions.seen(origin("s", 5, 3, opens=opens), b"print") == b"s5"


def test_another_request_under_the_same_numbers_conflicts() -> None:
    sessions = Sessions()
    ran(sessions, "s", 5, 3)
    ran(sessions, "s", 10, 2)
    assert sessions.seen(origin("s", 5, 3), b"other") is CONFLICT
    for first_seq, count in [(5, 2), (5, 4), (6, 1), (7, 3), (4, 2), (1, 20), (8, 3), (11, 1), (9, 2)]:
        assert sessions.seen(origin("s", first_seq, count), b"print") is CONFLICT, (first_seq, count)
    for first_seq, count in [(1, 4), (8, 2), (12, 5)]:
        assert sessions.seen(origin("s", first_seq, count), b"print") is FRESH, (first_seq, count)


def test_an_unknown_session_runs_only_what_may_open_it() -> None:
    sessions = Sessions()
    assert sessions.seen(origin("s", 2), b"") is EXPIRED
    assert sessions.seen(origin("s", 1, opens=True), b"") is FRESH


def test_sessions_do_not_see_each_other() -> None:
    sessions = Sessions()
    ran(sessions, "s", 1)
    assert sessions.seen(origin("t", 1, opens=True), b"other") is FRESH


def test_what_is_acknowledged_is_forgotten_and_never_runs_again() -> None:
    sessions = Sessions()
    for first_seq in (1, 3, 5):
        ran(sessions, "s", first_seq, 2)
    before = sessions.bytes
    ran(sessions, "s", 7, 2, acked_below=4)
    assert sessions.seen(origin("s", 1, 2, opens=True), b"print") is EXPIRED
    assert sessions.seen(origin("s", 3, 2), b"print") == b"s3"  # only half of it is acknowledged
    assert sessions.bytes == before
    sessions.touch(origin("s", 7, 2, acked_below=7), 0)
    assert sessions.seen(origin("s", 5, 2), b"print") is EXPIRED
    assert sessions.seen(origin("s", 7, 2), b"print") == b"s7"


def test_a_blob_cannot_acknowledge_itself() -> None:
    sessions = Sessions()
    ran(sessions, "s", 3, acked_below=2**63 - 1)
    assert sessions.seen(origin("s", 3), b"print") == b"s3"
    assert sessions.seen(origin("s", 2), b"print") is EXPIRED
    assert sessions.seen(origin("s", 4), b"print") is FRESH


def test_a_session_is_forgotten_ten_minutes_of_log_time_after_its_last_use() -> None:
    sessions = Sessions()
    ran(sessions, "s", 1, time_ms=1000)
    ran(sessions, "t", 1, time_ms=1000)
    sessions.touch(origin("s", 1), 2000)
    sessions.expire(1000 + RETENTION_MS)
    assert len(sessions) == 2
    sessions.expire(1001 + RETENTION_MS)
    assert sessions.seen(origin("t", 1), b"print") is EXPIRED
    assert sessions.seen(origin("s", 1), b"print") == b"s1"
    sessions.expire(2001 + RETENTION_MS)
    assert (len(sessions), sessions.bytes) == (0, 0)


def test_of_too_many_sessions_the_least_recently_used_goes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "SESSIONS_MAX", 3)
    sessions = Sessions()
    for name in "abc":
        ran(sessions, name, 1)
    sessions.touch(origin("a", 1), 0)
    ran(sessions, "d", 1)
    assert [sessions.seen(origin(name, 1), b"print") for name in "abcd"] == [b"a1", EXPIRED, b"c1", b"d1"]


def test_of_too_many_bytes_the_least_recently_used_sessions_go(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "BYTES_MAX", 3 * size_of(()) + 3 * module.RECORD_BYTES + 10)
    sessions = Sessions()
    for name in "abc":
        ran(sessions, name, 1)
    sessions.record(origin("a", 2), b"print", bytes(20), 0)
    assert [sessions.seen(origin(name, 1), b"print") for name in "abc"] == [b"a1", EXPIRED, b"c1"]
    sessions.record(origin("c", 2), b"print", bytes(5000), 0)
    assert sessions.seen(origin("a", 1), b"print") is EXPIRED
    assert sessions.seen(origin("c", 2), b"print") == bytes(5000)  # the newest stays, whatever it takes


def test_of_too_many_records_of_a_session_the_oldest_go_and_never_run_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "RECORDS_A_SESSION_MAX", 3)
    sessions = Sessions()
    for first_seq in (2, 4, 6, 8, 10):
        ran(sessions, "s", first_seq, 2)
    asked = [sessions.seen(origin("s", first_seq, 2), b"print") for first_seq in (2, 4, 6, 8, 10)]
    assert asked == [EXPIRED, EXPIRED, b"s6", b"s8", b"s10"]
    assert sessions.seen(origin("s", 1), b"new") is EXPIRED
    assert sessions.bytes == size_of(sessions._sessions[b"s"].records)


def test_of_too_many_bytes_of_a_session_its_oldest_records_go(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "BYTES_A_SESSION_MAX", size_of(()) + 2 * module.RECORD_BYTES + 10)
    sessions = Sessions()
    ran(sessions, "other", 1)
    for first_seq in (1, 2, 3):
        ran(sessions, "s", first_seq)
    assert [sessions.seen(origin("s", number), b"print") for number in (1, 2, 3)] == [EXPIRED, b"s2", b"s3"]
    sessions.record(origin("s", 4), b"print", bytes(5000), 0)
    assert [sessions.seen(origin("s", number), b"print") for number in (3, 4)] == [EXPIRED, bytes(5000)]
    assert sessions.seen(origin("other", 1), b"print") == b"other1"


class Twin:
    """Remembers every blob that ever ran, and for each session what the rules say is left of it."""

    def __init__(self) -> None:
        self.sessions: dict[bytes, dict[int, tuple[int, bytes, bytes]]] = {}
        self.forgotten_below: dict[bytes, int] = {}
        self.used: dict[bytes, int] = {}
        self.order: list[bytes] = []

    def seen(self, asked: Origin, fingerprint: bytes) -> Verdict | bytes:
        if asked.session not in self.sessions:
            return FRESH if asked.opens else EXPIRED
        wanted = set(range(asked.first_seq, asked.first_seq + asked.count))
        for first_seq, (count, known, results) in self.sessions[asked.session].items():
            if (first_seq, count, known) == (asked.first_seq, asked.count, fingerprint):
                return results
            if wanted & set(range(first_seq, first_seq + count)):
                return CONFLICT
        return EXPIRED if asked.first_seq < self.forgotten_below[asked.session] else FRESH

    def use(self, asked: Origin, time_ms: int, ran: tuple[bytes, bytes] | None) -> None:
        name = asked.session
        if name not in self.sessions:
            if ran is None:
                return
            self.sessions[name], self.forgotten_below[name] = {}, 0
        self.forgotten_below[name] = max(self.forgotten_below[name], min(asked.acked_below, asked.first_seq))
        if ran is not None:
            self.sessions[name][asked.first_seq] = (asked.count, *ran)
        kept = self.sessions[name]
        for first_seq in sorted(kept):
            end = first_seq + kept[first_seq][0]
            if end <= self.forgotten_below[name] or len(kept) > module.RECORDS_A_SESSION_MAX:
                del kept[first_seq]
                self.forgotten_below[name] = max(self.forgotten_below[name], end)
        self.used[name] = time_ms
        self.order = [*(other for other in self.order if other != name), name]
        while len(self.order) > module.SESSIONS_MAX:
            del self.sessions[self.order.pop(0)]

    def expire(self, time_ms: int) -> None:
        for name in [name for name in self.order if time_ms - self.used[name] > RETENTION_MS]:
            self.order.remove(name)
            del self.sessions[name]


@contextmanager
def small_bounds() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "SESSIONS_MAX", 2)
        patch.setattr(module, "RECORDS_A_SESSION_MAX", 3)
        yield


asked = st.builds(
    origin,
    st.sampled_from(["s", "t", "u"]),
    st.integers(1, 12),
    st.integers(1, 3),
    acked_below=st.just(0) | st.integers(0, 12),
    opens=st.booleans(),
)
steps = st.tuples(
    asked, st.sampled_from([b"x", b"x", b"y"]), st.sampled_from([0, 1, RETENTION_MS, RETENTION_MS + 1]), st.booleans()
)


@small_bounds()
@settings(max_examples=400)
@given(st.lists(steps, max_size=40))
def test_every_verdict_is_that_of_the_twin(some: list[tuple[Origin, bytes, int, bool]]) -> None:
    sessions, twin = Sessions(), Twin()
    time_ms = 0
    for number, (where, fingerprint, pause_ms, through_snapshot) in enumerate(some):
        time_ms += pause_ms
        sessions.expire(time_ms)
        twin.expire(time_ms)
        seen = sessions.seen(where, fingerprint)
        assert seen == twin.seen(where, fingerprint)
        if seen is FRESH:
            results = b"%d" % number
            sessions.record(where, fingerprint, results, time_ms)
            twin.use(where, time_ms, (fingerprint, results))
        else:
            sessions.touch(where, time_ms)
            twin.use(where, time_ms, None)
        if through_snapshot:
            before = b"".join(sessions.snapshot())
            sessions = Sessions.restored([before])
            assert b"".join(sessions.snapshot()) == before
        assert sessions.bytes == sum(size_of(session.records) for session in sessions._sessions.values())


@given(st.lists(asked, max_size=40))
def test_within_the_window_nothing_runs_twice(some: list[Origin]) -> None:
    """Without bounds that bite, a number runs at most once, whatever is repeated and in whatever order."""
    sessions = Sessions()
    done: set[tuple[bytes, int]] = set()
    for where in some:
        if sessions.seen(where, b"x") is FRESH:
            numbers = {(where.session, where.first_seq + offset) for offset in range(where.count)}
            assert not numbers & done
            done |= numbers
            sessions.record(where, b"x", b"", 0)
        else:
            sessions.touch(where, 0)


def test_a_snapshot_holds_its_moment_though_sessions_go_on(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "SLICE_SESSIONS", 2)
    sessions = Sessions()
    for name in "abcde":
        ran(sessions, name, 1)
    expected = b"".join(sessions.snapshot())
    snapshot = sessions.snapshot()
    parts = [next(snapshot), next(snapshot)]
    ran(sessions, "e", 2)
    ran(sessions, "f", 1)
    sessions.touch(origin("a", 1, acked_below=1), 10)
    sessions.expire(RETENTION_MS + 5)
    assert b"".join([*parts, *snapshot]) == expected


def test_a_snapshot_that_is_damaged_is_refused_or_consistent() -> None:
    sessions = Sessions()
    for name, first_seq in [("a", 1), ("b", 1), ("a", 3), ("a", 5)]:
        ran(sessions, name, first_seq, 2)
    data = b"".join(sessions.snapshot())
    for length in range(len(data)):
        with pytest.raises(InvalidSnapshot):
            Sessions.restored([data[:length]])
    for position in range(len(data)):
        for bit in range(8):
            flipped = bytearray(data)
            flipped[position] ^= 1 << bit
            try:
                restored = Sessions.restored([bytes(flipped)])
            except InvalidSnapshot:
                continue
            assert restored.bytes == sum(size_of(session.records) for session in restored._sessions.values())
