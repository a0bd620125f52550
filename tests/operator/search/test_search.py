"""The real `plan` breaks no rule in any world that can be reached within the bounds of the scenarios."""

import sys
import time

import pytest

from raftwright_operator.actions import Wait
from raftwright_operator.plan import plan
from tests.operator.search.__main__ import told
from tests.operator.search.exploring import explore
from tests.operator.search.rules import NO_END
from tests.operator.search.scenarios import SCENARIOS, named

WORLDS_MIN = 200_000


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_no_rule_is_broken(capsys: pytest.CaptureFixture[str]) -> None:
    seen: set[int] = set()
    for scenario in SCENARIOS:
        began = time.monotonic()
        result = explore(scenario, plan, seen=seen)
        with capsys.disabled():
            sys.stdout.write(told(result, time.monotonic() - began))
        assert result.found is None, str(result.found)
        assert result.is_whole
    with capsys.disabled():
        sys.stdout.write(f"{len(seen):,} distinct worlds\n")
    assert len(seen) >= WORLDS_MIN


def test_the_same_search_finds_the_same_worlds() -> None:
    first, second = set[int](), set[int]()
    for seen in (first, second):
        assert explore(named("rolling to what never starts"), plan, seen=seen).found is None
    assert first == second


def test_a_counterexample_is_a_readable_trace() -> None:
    found = explore(named("founding one"), lambda *_: Wait(reason="Never", message="")).found
    assert found is not None
    assert found.rule == NO_END
    assert str(found).startswith(f"{NO_END}\n  1. when all goes on by itself from here\n  => ")
