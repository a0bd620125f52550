"""Changes of the membership at the worst of times, in the simulation, and the known mistakes in making them.

Each mistake is found within sixty seeds, most within a few. The first tests leave out the rules that look inside, as in
`test_mutants.py`.
"""

from collections import Counter
from dataclasses import replace

import pytest

from raftwright.sim import checkers
from raftwright.sim.member_rules import NOT_A_MEMBER, OWN_TERM, TOLD_EARLY
from raftwright.sim.profile import Profile
from raftwright.sim.simulation import run_seed
from tests.sim import member_mutants
from tests.sim.mutants import Mutant

SEEDS = 60
RIVALS = Profile(
    voters=4,
    learners=1,
    clients=2,
    think_time_s=0.2,
    seconds=8.0,
    fault_interval_s=3.0,
    faults=("two leaders change",),
)
"""Room for two leaders that change the membership, one after the other, and for what follows."""
ELECTIONS = replace(RIVALS, seconds=4.0, fault_interval_s=0.4, faults=("change at an election", "membership"))
REMOVALS = Profile(
    learners=1,
    spares=1,
    lives=True,
    clients=2,
    think_time_s=0.1,
    seconds=5.0,
    fault_interval_s=0.4,
    faults=("cut off a removal", "cut off a removal", "crash"),
)

pytestmark = pytest.mark.slow


@pytest.mark.timeout(300)
@pytest.mark.parametrize(
    ("profile", "must_happen"),
    [
        (RIVALS, "changes by two leaders"),
        (ELECTIONS, "changes at an election"),
        (REMOVALS, "removals cut off"),
    ],
    ids=["rivals", "elections", "removals"],
)
def test_a_change_at_the_worst_of_times_breaks_nothing(profile: Profile, must_happen: str) -> None:
    counts: Counter[str] = Counter()
    for seed in range(2):
        found = run_seed(seed, profile=profile)
        assert found.ok, f"seed {seed}: {found.violation}"
        counts += found.counts
    assert counts[must_happen] > 1


@pytest.mark.timeout(300)
@pytest.mark.parametrize(
    ("mutant", "profile", "rule", "without"),
    [
        (member_mutants.change_one_server_at_a_time, RIVALS, checkers.COMPLETENESS, frozenset(checkers.RULES)),
        (member_mutants.tell_of_a_removal_at_once, REMOVALS, NOT_A_MEMBER, frozenset(checkers.RULES)),
        (member_mutants.tell_of_a_removal_at_once, REMOVALS, TOLD_EARLY, frozenset()),
        # By joint consensus it breaks no property, see tests/paper/test_4_1_single_server.py: the rule must speak.
        (member_mutants.change_before_own_commit, ELECTIONS, OWN_TERM, frozenset()),
    ],
)
def test_a_mistake_in_changes_is_found(mutant: Mutant, profile: Profile, rule: str, without: frozenset[str]) -> None:
    with pytest.MonkeyPatch.context() as patch:
        mutant(patch)
        for seed in range(SEEDS):
            violation = run_seed(seed, profile=profile, without=without).violation
            if violation is not None and violation.rule == rule:
                return
    pytest.fail(f"no seed of {SEEDS} finds {mutant.__name__}")
