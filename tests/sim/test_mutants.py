"""Wrong versions of the node are found: a simulation that finds nothing in them would prove nothing.

The first tests leave out the rules that look inside, so that what fails is a property that users rely on.
"""

import pytest

from raftwright.sim import checkers
from raftwright.sim.simulation import run_seed
from raftwright.sim.workload import LINEARIZABLE
from raftwright.sim.world import Violation
from tests.sim import mutants

SEEDS = 100
LOSS = {checkers.COMPLETENESS, checkers.NOT_LOST, checkers.MACHINE_SAFETY, checkers.ELECTION_SAFETY}


def find(mutant: mutants.Mutant, *, without: frozenset[str], wanted: set[str]) -> Violation:
    """The first violation of a rule that is wanted, of the first hundred seeds."""
    with pytest.MonkeyPatch.context() as patch:
        mutant(patch)
        for seed in range(SEEDS):
            violation = run_seed(seed, without=without).violation
            if violation is not None and violation.rule in wanted:
                return violation
    pytest.fail(f"no seed of {SEEDS} finds {mutant.__name__}")


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize(
    ("mutant", "wanted"),
    [
        (mutants.acknowledge_before_fsync, LOSS),
        (mutants.send_promises_at_once, LOSS),
        (mutants.vote_before_fsync, {checkers.ELECTION_SAFETY, checkers.COMPLETENESS}),
        (mutants.decide_by_half, LOSS),
        (mutants.apply_uncommitted, LOSS),
        (mutants.forget_sessions, {checkers.MACHINE_SAFETY}),
        (mutants.read_without_a_round, {LINEARIZABLE}),
    ],
)
def test_it_breaks_a_property(mutant: mutants.Mutant, wanted: set[str]) -> None:
    find(mutant, without=frozenset(checkers.RULES), wanted=wanted)


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize(
    ("mutant", "rule"),
    [
        # Commit by half loses nothing as long as elections take a majority: any two such quorums still overlap. So
        # here the rule itself must speak; `decide_by_half` above is what breaks properties.
        (mutants.commit_by_half, checkers.COMMIT_QUORUM),
        (mutants.count_learners, checkers.COMMIT_QUORUM),
        (mutants.forget_vote, checkers.VOTE_ONCE),
    ],
)
def test_it_breaks_a_rule(mutant: mutants.Mutant, rule: str) -> None:
    find(mutant, without=frozenset(), wanted={rule})
