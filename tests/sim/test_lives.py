"""Members that come and go in the simulation, by the calls that users have, and a user's machine, under every fault."""

from collections import Counter
from dataclasses import replace
from random import Random

import pytest

from raftwright.sim import checkers
from raftwright.sim.member_rules import ONE_STORE
from raftwright.sim.profile import Profile, draw_lives, draw_profile
from raftwright.sim.simulation import run_seed
from tests.sim import mutants

SEEDS = 15
LIVES = Profile(
    spares=1,
    lives=True,
    clients=3,
    think_time_s=0.1,
    seconds=6.0,
    fault_interval_s=0.4,
    faults=("crash", "isolate the leader", "partition"),
)
MUST_HAPPEN = (
    "additions asked for",
    "bootstraps asked for",
    "crashes on becoming a member",
    "disks lost",
    "members that learned of their removal",
    "removals asked for",
    "replacements asked for",
    "stores adopted",
    "streams refused: not-me",
    "streams refused: removed",
)

pytestmark = pytest.mark.slow


@pytest.mark.timeout(600)
def test_members_come_and_go_and_nothing_breaks() -> None:
    counts: Counter[str] = Counter()
    for seed in range(SEEDS):
        run = run_seed(seed, profile=draw_lives(Random(f"lives {seed}")))
        assert run.ok, f"seed {seed}: {run.violation}"
        counts += run.counts
    assert [what for what in MUST_HAPPEN if not counts[what]] == []


@pytest.mark.timeout(300)
def test_a_users_machine_is_as_safe_as_the_store() -> None:
    counts: Counter[str] = Counter()
    for seed in range(5):
        run = run_seed(seed, profile=replace(draw_profile(Random(f"counters {seed}")), counters=True))
        assert run.ok, f"seed {seed}: {run.violation}"
        counts += run.counts
    assert counts["writes acknowledged"] > 100
    assert counts["entries replayed in groups"] > 10


@pytest.mark.timeout(600)
@pytest.mark.parametrize("mutant", [mutants.keep_the_old_id, mutants.reuse_ids])
def test_an_id_is_of_one_store_for_ever(mutant: mutants.Mutant) -> None:
    with pytest.MonkeyPatch.context() as patch:
        mutant(patch)
        for seed in range(40):
            violation = run_seed(seed, profile=LIVES, without=frozenset(checkers.RULES)).violation
            if violation is not None and violation.rule == ONE_STORE:
                return
    pytest.fail(f"no seed finds {mutant.__name__}")
