"""Leases in the simulation: leaders that are paused, cut off or hand over all the time, by clocks that run apart."""

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


def run(seed: int, without: frozenset[str] = frozenset()) -> Run:
    return run_seed(seed, profile=PROFILE, without=without)


@pytest.mark.slow
@pytest.mark.timeout(300)
@pytest.mark.parametrize("first", range(0, 20, 5))
def test_reads_by_lease_are_linearizable(first: int) -> None:
    for seed in range(first, first + 5):
        found = run(seed)
        assert found.ok, f"seed {seed}: {found.violation}"
        assert found.counts["reads by lease"] > 10
        assert found.counts["elections"] > 1


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize(
    ("mutant", "rule", "without"),
    [
        (mutants.outstay_the_lease, checkers.LEASE, frozenset()),
        (mutants.outstay_the_lease, LINEARIZABLE, frozenset(checkers.RULES)),
        (mutants.keep_the_lease_in_a_transfer, checkers.LEASE, frozenset()),
    ],
)
def test_what_makes_a_lease_safe_is_needed(mutant: mutants.Mutant, rule: str, without: frozenset[str]) -> None:
    with pytest.MonkeyPatch.context() as patch:
        mutant(patch)
        for seed in range(SEEDS):
            violation = run(seed, without).violation
            if violation is not None and violation.rule == rule:
                return
    pytest.fail(f"no seed of {SEEDS} finds {mutant.__name__}")
