"""The session without I/O: grouping, numbering, sending again, and what each failure says of a write's outcome."""

import asyncio
from typing import Any

import pytest

from raftwright.client import models
from raftwright.client.errors import (
    NODE_KINDS,
    ClientClosed,
    InvalidRequest,
    NotFound,
    OutcomeUnknown,
    PreconditionFailed,
    RaftwrightError,
    SessionExpired,
    Timeout,
    TooLarge,
    TooManyRequests,
    Unavailable,
)
from raftwright.client.groups import WINDOW_BYTES_A_GROUP, WINDOW_BYTES_MAX, Operation
from raftwright.client.session import MOVES_AT_ONCE, Session
from raftwright.kv.commands import Delete, Put, decode_blob, encode_command

RETENTION_S = 600.0


def welcome(**changed: Any) -> models.Welcome:
    limits: dict[str, Any] = {
        "protocol": 1,
        "node": "n1",
        "cluster_id": "c",
        "frame_bytes_max": 1 << 22,
        "blob_commands_max": 4096,
        "key_bytes_max": 64,
        "value_bytes_max": 1 << 20,
        "session_retention_s": RETENTION_S,
    }
    return models.Welcome(**(limits | changed))


class Harness:
    """A session, its clock, and what it says, decoded."""

    def __init__(self, **limits: Any) -> None:
        self.session = Session()
        self.session.limits = welcome(**limits)
        self.now = 0.0

    def put(self, key: str, value: bytes = b"v", timeout_s: float = 10.0) -> "asyncio.Future[Any]":
        future: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        encoded = encode_command(Put(key, value))
        self.session.submit(Operation(future, self.now + timeout_s, key, encoded, len(value)))
        return future

    def get(self, key: str, timeout_s: float = 10.0) -> "asyncio.Future[Any]":
        future: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        self.session.submit(Operation(future, self.now + timeout_s, key, b""))
        return future

    def frame(self) -> models.RequestFrame | None:
        data = self.session.next_frame(self.now)
        if data is None:
            return None
        frame = models.decode_client_frame(data)
        assert isinstance(frame, models.RequestFrame)
        return frame

    def frames(self) -> list[models.RequestFrame]:
        frames = []
        while frame := self.frame():
            frames.append(frame)
        return frames

    def writes(self) -> models.Writes:
        frame = self.frame()
        assert frame and frame.writes
        self.last_id = frame.id
        return frame.writes

    def answer(self, frame_id: int, *results: models.Result) -> None:
        self.reply(models.WriteReply(frame_id, models.encode_results(list(results))))

    def problem(self, frame_id: int, kind: str, outcome: Any = "none", part: Any = "writes", **more: Any) -> list[Any]:
        problem = models.Problem(type=f"https://x/{kind}", title=kind, status=503, outcome=outcome, **more)
        return self.reply(models.ProblemReply(frame_id, part, problem))

    def reply(self, reply: models.WriteReply | models.ReadReply | models.ProblemReply) -> list[Any]:
        return list(self.session.on_reply(models.ReplyFrame([reply], 1, 1)))

    def assert_idle(self) -> None:
        session = self.session
        assert (session.outstanding, session.outstanding_bytes, session.has_work, session.is_flying) == (
            0,
            0,
            False,
            False,
        )


def error_of(future: "asyncio.Future[Any]") -> RaftwrightError:
    error = future.exception()
    assert isinstance(error, RaftwrightError)
    return error


def keys_of(writes: models.Writes) -> list[str]:
    return [command.key for command in decode_blob(writes.blob) if isinstance(command, Put | Delete)]


async def test_what_is_called_in_one_turn_leaves_in_one_frame_and_is_answered_in_order() -> None:
    harness = Harness()
    futures = [harness.put(key) for key in "abc"]
    read = harness.get("z")
    frame = harness.frame()
    assert frame and frame.writes and frame.reads
    assert (keys_of(frame.writes), frame.writes.first_seq, frame.writes.count) == (["a", "b", "c"], 1, 3)
    harness.answer(frame.id, 7, models.NotFound(), models.PreconditionFailed(None))
    assert not read.done()
    harness.reply(models.ReadReply(frame.id, [(5, b"x")]))
    assert (futures[0].result(), read.result()) == (7, (b"x", 5))
    assert isinstance(error_of(futures[1]), NotFound)
    failed = error_of(futures[2])
    assert isinstance(failed, PreconditionFailed) and failed.revision is None and failed.outcome == "none"
    harness.assert_idle()


async def test_what_is_unanswered_goes_again_in_the_same_groups_under_the_same_numbers() -> None:
    harness = Harness()
    futures = [harness.put("a"), harness.put("b")]
    first = harness.writes()
    futures.append(harness.put("c"))
    second = harness.writes()
    harness.session.on_lost()
    harness.put("d")
    again = [harness.writes() for _ in range(3)]
    assert [(one.first_seq, one.count, one.blob) for one in again[:2]] == [
        (first.first_seq, first.count, first.blob),
        (second.first_seq, second.count, second.blob),
    ]
    assert (keys_of(again[2]), again[2].first_seq) == (["d"], 4)
    assert not any(future.done() for future in futures)


async def test_an_answer_from_before_the_loss_of_the_connection_is_not_taken_for_another_frame() -> None:
    harness = Harness()
    future = harness.put("a")
    harness.writes()
    lost_id = harness.last_id
    harness.session.on_lost()
    harness.writes()
    harness.answer(lost_id, 3)
    assert not future.done()
    harness.answer(harness.last_id, 4)
    assert future.result() == 4


async def test_the_session_opens_until_a_write_was_acknowledged_and_says_what_it_has_received() -> None:
    harness = Harness()
    harness.put("a")
    first = harness.writes()
    first_id = harness.last_id
    harness.put("b")
    second = harness.writes()
    assert (first.opens, second.opens) == (True, True)
    harness.answer(harness.last_id, 2)
    harness.put("c")
    third = harness.writes()
    assert (third.opens, third.acked_below) == (False, 1)
    harness.answer(first_id, 1)
    harness.put("d")
    assert harness.writes().acked_below == 3


async def test_a_refusal_is_tried_again_and_then_says_that_it_never_happened() -> None:
    harness = Harness()
    future = harness.put("a")
    first = harness.writes()
    [retry] = harness.problem(harness.last_id, "too-many-requests", retry_after_s=0.5)
    assert (retry.after_s, harness.session.has_work) == (0.5, False)
    harness.session.retry(retry.group)
    again = harness.writes()
    assert (again.first_seq, again.blob) == (first.first_seq, first.blob)
    [retry] = harness.problem(harness.last_id, "too-many-requests")
    harness.session.expire(10.0, None)
    assert isinstance(error_of(future), TooManyRequests) and error_of(future).outcome == "none"
    harness.session.retry(retry.group)
    harness.assert_idle()


@pytest.mark.parametrize("kind", NODE_KINDS)
async def test_what_a_node_refuses_for_what_it_is_goes_to_the_next_one_without_a_wait(kind: str) -> None:
    harness = Harness()
    harness.put("a")
    waits = []
    for _ in range(MOVES_AT_ONCE + 1):
        harness.writes()
        [retry] = harness.problem(harness.last_id, kind, retry_after_s=0.5)
        assert retry.elsewhere
        waits.append(retry.after_s)
        harness.session.on_lost()
        harness.session.retry(retry.group)
    assert waits == [0.0] * MOVES_AT_ONCE + [0.5], "where every node refuses, no client may ask without a pause"


@pytest.mark.parametrize("how", ["in flight", "lost before", "unknown before"])
async def test_a_write_out_of_time_that_was_sent_is_unknown(how: str) -> None:
    harness = Harness()
    future = harness.put("a")
    harness.writes()
    if how == "lost before":
        harness.session.on_lost()
    if how == "unknown before":
        [retry] = harness.problem(harness.last_id, "outcome-unknown", outcome="unknown")
        harness.session.retry(retry.group)
        harness.writes()
        harness.problem(harness.last_id, "no-leader", outcome="none")
    assert harness.session.expire(9.9, None) == 10.0
    assert harness.session.expire(10.0, None) is None
    assert error_of(future).outcome == "unknown"
    harness.assert_idle()


async def test_a_write_that_never_left_says_so_and_why() -> None:
    harness = Harness()
    silent, refused = harness.put("a", timeout_s=1.0), harness.put("b", timeout_s=2.0)
    assert harness.session.expire(1.0, None) == 2.0
    harness.session.expire(2.0, Unavailable("refused"))
    assert isinstance(error_of(silent), Timeout) and error_of(silent).outcome == "none"
    assert isinstance(error_of(refused), Unavailable) and error_of(refused).outcome == "none"
    harness.assert_idle()


async def test_each_operation_of_a_group_has_its_own_deadline() -> None:
    harness = Harness()
    soon, late = harness.put("a", timeout_s=1.0), harness.put("b", timeout_s=5.0)
    harness.writes()
    assert harness.session.expire(1.0, None) == 5.0
    assert isinstance(error_of(soon), Timeout) and not late.done()
    harness.answer(harness.last_id, 1, 2)
    assert late.result() == 2
    harness.assert_idle()


async def test_nothing_is_sent_again_once_the_cluster_may_have_forgotten_the_session() -> None:
    harness = Harness()
    early, late = harness.put("a", timeout_s=1e6), harness.put("b", timeout_s=1e6)
    harness.writes()
    harness.session.on_lost()
    harness.now = RETENTION_S * 0.89
    assert harness.writes().first_seq == 1
    harness.session.on_lost()
    harness.now = RETENTION_S * 0.91
    assert harness.frame() is None
    assert isinstance(error_of(early), OutcomeUnknown) and isinstance(error_of(late), OutcomeUnknown)
    harness.assert_idle()


async def test_a_session_left_idle_for_long_is_left_for_a_new_one_before_it_is_forgotten() -> None:
    harness = Harness()
    harness.put("a")
    harness.writes()
    harness.answer(harness.last_id, 1)
    before = harness.session.id
    harness.session.on_connecting(RETENTION_S / 2)
    assert harness.session.id == before
    assert harness.session.needs_renewal(RETENTION_S)
    harness.session.on_connecting(RETENTION_S)
    assert harness.session.id != before
    harness.put("b")
    assert harness.writes().opens


async def test_a_forgotten_session_goes_on_under_a_new_id_with_what_surely_did_not_happen() -> None:
    harness = Harness()
    harness.put("a")
    harness.writes()
    harness.answer(harness.last_id, 1)
    before = harness.session.id
    fresh = harness.put("b")
    harness.writes()
    assert harness.problem(harness.last_id, "session-expired", outcome="unknown") == []
    assert harness.session.id != before
    again = harness.writes()
    assert (keys_of(again), again.opens) == (["b"], True)
    harness.answer(harness.last_id, 2)
    assert fresh.result() == 2


async def test_a_forgotten_session_leaves_what_was_sent_before_unknown() -> None:
    harness = Harness()
    first, second = harness.put("a"), None
    harness.writes()
    harness.session.on_lost()
    harness.writes()
    second = harness.put("b")
    second_id = harness.last_id
    harness.writes()
    harness.problem(second_id, "session-expired", outcome="unknown")
    for future in (first, second):
        assert isinstance(error_of(future), SessionExpired) and error_of(future).outcome == "unknown"
    harness.assert_idle()


async def test_one_bad_command_does_not_harm_the_others_of_its_frame() -> None:
    harness = Harness()
    good, bad, fine = harness.put("a"), harness.put("b"), harness.put("c")
    first = harness.writes()
    harness.problem(harness.last_id, "invalid-request", position=1, detail="command 1: no")
    assert isinstance(error_of(bad), InvalidRequest)
    again = harness.writes()
    assert keys_of(again) == ["a", "c"] and again.first_seq >= first.first_seq + first.count
    harness.answer(harness.last_id, 1, 2)
    assert (good.result(), fine.result()) == (1, 2)
    harness.assert_idle()


async def test_a_bad_command_in_a_group_that_may_have_happened_leaves_all_of_it_unknown() -> None:
    harness = Harness()
    futures = [harness.put("a"), harness.put("b")]
    harness.writes()
    harness.session.on_lost()
    harness.writes()
    harness.problem(harness.last_id, "invalid-request", position=1)
    assert [error_of(future).outcome for future in futures] == ["unknown", "unknown"]
    harness.assert_idle()


async def test_what_is_too_large_for_the_node_is_refused_alone() -> None:
    harness = Harness(key_bytes_max=3, value_bytes_max=5)
    futures = [harness.put("ää"), harness.put("k", b"123456"), harness.put("k", b"12345"), harness.get("long")]
    frame = harness.frame()
    assert frame and frame.writes and frame.writes.count == 1 and frame.reads is None
    assert [isinstance(futures[place].exception(), TooLarge) for place in (0, 1, 3)] == [True, True, True]
    harness.answer(frame.id, 1)
    assert futures[2].result() == 1
    harness.assert_idle()


async def test_frames_are_bounded_in_commands_and_bytes() -> None:
    harness = Harness(blob_commands_max=3)
    for number in range(7):
        harness.put(f"k{number}")
    assert [frame.writes.count for frame in harness.frames() if frame.writes] == [3, 3, 1]
    large = Harness()
    for number in range(3):
        large.put(f"k{number}", bytes(300_000))
    assert [frame.writes.count for frame in large.frames() if frame.writes] == [1, 1, 1]


async def test_a_session_does_not_run_away_from_its_oldest_unanswered_write() -> None:
    harness = Harness(blob_commands_max=1)
    total = WINDOW_BYTES_MAX // WINDOW_BYTES_A_GROUP + 10
    for number in range(total):
        harness.put(f"k{number}")
    sent = harness.frames()
    assert len(sent) < total and not harness.session.has_work
    for frame in sent[1:]:
        harness.answer(frame.id, 1)
    assert harness.frames() == []
    harness.answer(sent[0].id, 1)
    assert len(harness.frames()) == total - len(sent)


async def test_who_gave_up_before_sending_is_not_sent() -> None:
    harness = Harness()
    gone, there = harness.put("a"), harness.put("b")
    gone.cancel()
    assert keys_of(harness.writes()) == ["b"]
    harness.answer(harness.last_id, 1)
    assert there.result() == 1
    harness.assert_idle()


async def test_closing_says_what_was_sent() -> None:
    harness = Harness()
    sent = harness.put("a")
    harness.writes()
    queued, read = harness.put("b"), harness.get("c")
    harness.session.fail_all(ClientClosed("closed"))
    assert isinstance(error_of(sent), OutcomeUnknown)
    assert isinstance(error_of(queued), ClientClosed) and isinstance(error_of(read), ClientClosed)
    harness.assert_idle()
