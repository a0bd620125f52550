"""A hundred seeds of faults: nothing may break, and the search must not be empty."""

from collections import Counter
from functools import cache

import pytest

from raftwright.sim.simulation import Run, run_seed

SEEDS = 100
BATCH = 10

MUST_HAPPEN = (
    "candidacies",
    "client gave up waiting",
    "crashed after a vote",
    "crashes in recovery",
    "disk-full, outcome none",
    "elections",
    "ended by a failed sync",
    "entries loaded for a peer",
    "entries loaded for apply",
    "frames duplicated",
    "frames held back",
    "frames lost",
    "leaders crashed",
    "leaders deposed",
    "membership changes begun",
    "outcome-unknown, outcome unknown",
    "reads answered",
    "reads by lease",
    "replays",
    "retries under a session",
    "segments not prepared: disk full",
    "snapshots installed",
    "snapshots not taken: disk full",
    "snapshots taken",
    "timeout, outcome none",
    "timeout, outcome unknown",
    "transfers begun",
    "truncations",
    "writes acknowledged",
)


@cache
def run(seed: int) -> Run:
    return run_seed(seed)


@pytest.mark.slow
@pytest.mark.timeout(300)
@pytest.mark.parametrize("first", range(0, SEEDS, BATCH))
def test_nothing_breaks(first: int) -> None:
    for seed in range(first, first + BATCH):
        result = run(seed)
        assert result.ok, f"{result.violation}\npython -m raftwright.sim --seed {seed} --trace"


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_the_search_meets_what_is_rare() -> None:
    counts: Counter[str] = Counter()
    for seed in range(SEEDS):
        counts += run(seed).counts
    assert [what for what in MUST_HAPPEN if not counts[what]] == []
    share = counts["crashes that dropped un-synced bytes"] / counts["crashes"]
    assert share >= 1 / 3, f"only {share:.0%} of {counts['crashes']} crashes dropped un-synced bytes"
