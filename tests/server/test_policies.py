"""Snapshot policies: when each is due, and what their text means."""

import contextlib
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from raftwright.server.policies import FALLBACK_LOG_BYTES, Progress, SnapshotPolicy, parse_policy

PROGRESS = st.builds(
    Progress, st.integers(0, 10**9), st.integers(0, 1 << 40), st.floats(0, 1e7, allow_nan=False, allow_infinity=False)
)


@given(progress=PROGRESS)
def test_each_part_is_due_when_its_bounds_are_reached_and_a_combination_when_any_is(progress: Progress) -> None:
    one = SnapshotPolicy.after(seconds=900, changes=1)
    two = SnapshotPolicy.after(seconds=60, changes=10_000)
    expected = (progress.seconds >= 900 and progress.changes >= 1) or (
        progress.seconds >= 60 and progress.changes >= 10_000
    )
    assert (one | two).is_due(progress) is expected
    assert SnapshotPolicy.log_bytes(4096).is_due(progress) is (progress.log_bytes >= 4096)
    assert SnapshotPolicy.every("hour").is_due(progress) is (progress.seconds >= 3600)
    assert not SnapshotPolicy.never().is_due(progress)


@pytest.mark.parametrize(
    ("text", "policy"),
    [
        ("never", SnapshotPolicy.never()),
        ("every second", SnapshotPolicy.every("second")),
        (" every  day ", SnapshotPolicy.every("day")),
        ("after 900s 1", SnapshotPolicy.after(seconds=900, changes=1)),
        ("after 15m 1, after 1h 0", SnapshotPolicy.after(seconds=900, changes=1) | SnapshotPolicy.every("hour")),
        ("commands 10,log 64MiB", SnapshotPolicy.commands(10) | SnapshotPolicy.log_bytes(64 << 20)),
        ("log 5000", SnapshotPolicy.log_bytes(5000)),
    ],
)
def test_text_of_a_policy(text: str, policy: SnapshotPolicy) -> None:
    assert parse_policy(text) == policy


@pytest.mark.parametrize(
    "text",
    ["", "always", "every", "every week", "never, every day", "after 5 5", "log 0", "commands 0", "log 1TiB", ","],
)
def test_what_is_no_policy_is_refused_with_the_forms_there_are(text: str) -> None:
    with pytest.raises(ValueError, match="after 900s 1"):
        parse_policy(text)


@given(text=st.text(max_size=40))
def test_any_text_is_a_policy_or_a_value_error(text: str) -> None:
    with contextlib.suppress(ValueError):
        assert isinstance(parse_policy(text), SnapshotPolicy)


def test_a_policy_of_ones_own_is_asked_ten_times_a_second_at_most() -> None:
    asked: list[Progress] = []

    def wanted(progress: Progress) -> bool:
        asked.append(progress)
        return progress.changes == 3

    policy = SnapshotPolicy.custom(wanted)
    for hundredths in range(100):
        assert not policy.is_due(Progress(0, 0, hundredths / 100))
    assert 8 <= len(asked) <= 10
    assert policy.is_due(Progress(3, 0, 5.0))


def test_a_policy_that_raises_is_replaced_by_one_of_log_bytes() -> None:
    calls = []

    def broken(progress: Progress) -> bool:
        calls.append(progress)
        raise RuntimeError("broken")

    policy = SnapshotPolicy.custom(broken)
    assert [policy.is_due(Progress(1, size, seconds)) for size, seconds in ((1, 1.0), (2, 2.0))] == [False, False]
    assert policy.is_due(Progress(1, FALLBACK_LOG_BYTES, 3.0))
    assert len(calls) == 1


def test_what_makes_no_sense_is_refused() -> None:
    makes: tuple[Callable[[], SnapshotPolicy], ...] = (
        lambda: SnapshotPolicy.every("week"),
        lambda: SnapshotPolicy.commands(0),
        lambda: SnapshotPolicy.log_bytes(0),
        lambda: SnapshotPolicy.after(seconds=-1, changes=0),
    )
    for make in makes:
        with pytest.raises(ValueError, match=r"."):
            make()
