"""Leases in the simulation: leaders that are paused, cut off or hand over all the time, by clocks that run apart."""

from collections import Counter
from dataclasses import replace

import pytest

from raftwright.sim import checkers
from raftwright.sim.profile import Profile
from raftwright.sim.simulation import Run, run_seed
from raftwright.sim.workload import LINEARIZABLE
from tests.sim import mutants

SEEDS = 40

PROFILE = Profile(
    clock_skew=0.2,
    fault_interval_s=0.15,
    think_time_s=0.01,
    clients=5,
    keys=2,
    seconds=4.0,
    faults=("pause", "pause", "transfer", "isolate the leader"),
)
APART = replace(
    PROFILE,
    clock_extremes=True,
    think_time_s=0.1,
    clients=3,
    seconds=8.0,
    fault_interval_s=0.4,
    faults=("isolate the leader",),
)
"""Every clock is as wrong as it may be, so that a lease has no room to spare."""
RESTARTS = replace(
    PROFILE,
    clock_skew=0.05,
    think_time_s=0.5,
    clients=3,
    seconds=8.0,
    fault_interval_s=0.8,
    faults=("restart in a lease",),
)
"""Few writes, so that who did not hear the leader for a while can still win."""
UNEQUAL = replace(
    PROFILE,
    patient=1,
    clock_skew=0.05,
    think_time_s=0.05,
    clients=3,
    seconds=8.0,
    fault_interval_s=0.4,
    faults=("transfer", "isolate the leader"),
)
"""One voter's election timeout is longer, so that where it leads, the others elect another leader before it is over."""


def run(seed: int, without: frozenset[str] = frozenset(), profile: Profile = PROFILE) -> Run:
    return run_seed(seed, profile=profile, without=without)


@pytest.mark.slow
@pytest.mark.timeout(300)
@pytest.mark.parametrize(
    ("first", "profile"),
    [(0, PROFILE), (5, PROFILE), (0, APART), (0, RESTARTS), (0, UNEQUAL)],
    ids=["pauses", "more pauses", "clocks apart", "restarts", "unequal election timeouts"],
)
def test_reads_by_lease_are_linearizable(first: int, profile: Profile) -> None:
    counts: Counter[str] = Counter()
    for seed in range(first, first + 5):
        found = run(seed, profile=profile)
        assert found.ok, f"seed {seed}: {found.violation}"
        counts += found.counts
    assert counts["reads by lease"] > 10
    assert counts["elections"] > 8


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize(
    ("mutant", "profile", "rule", "without"),
    [
        (mutants.outstay_the_lease, PROFILE, checkers.LEASE, frozenset()),
        (mutants.outstay_the_lease, PROFILE, LINEARIZABLE, frozenset(checkers.RULES)),
        (mutants.keep_the_lease_in_a_transfer, PROFILE, checkers.LEASE, frozenset()),
        (mutants.ignore_drift, APART, checkers.LEASE, frozenset()),
        (mutants.vote_at_once_after_a_start, RESTARTS, checkers.LEASE, frozenset()),
        (mutants.assume_equal_timeouts, UNEQUAL, checkers.LEASE, frozenset()),
        (mutants.assume_equal_timeouts, UNEQUAL, LINEARIZABLE, frozenset(checkers.RULES)),
    ],
)
def test_what_makes_a_lease_safe_is_needed(
    mutant: mutants.Mutant, profile: Profile, rule: str, without: frozenset[str]
) -> None:
    with pytest.MonkeyPatch.context() as patch:
        mutant(patch)
        for seed in range(SEEDS):
            violation = run(seed, without, profile).violation
            if violation is not None and violation.rule == rule:
                return
    pytest.fail(f"no seed of {SEEDS} finds {mutant.__name__}")
