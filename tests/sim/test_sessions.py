"""Retries in the simulation, under wall clocks that jump and bounds that are small: within the window they run once, on
every replica alike, whatever crashes or comes back by a snapshot."""

from collections import Counter
from collections.abc import Iterator

import pytest

from raftwright.server import sessions
from raftwright.sim.checkers import MACHINE_SAFETY, ONCE
from raftwright.sim.profile import Profile
from raftwright.sim.session_rules import LOG_TIME, WINDOW
from raftwright.sim.simulation import run_seed
from tests.sim import session_mutants
from tests.sim.mutants import Mutant

SEEDS = 20
PROFILE = Profile(
    clients=10,
    think_time_s=0.05,
    seconds=4.0,
    snapshot_commands=20,
    fault_interval_s=0.12,
    faults=("clock jump", "clock jump", "crash", "crash after a vote", "isolate the leader", "lost streams"),
)

pytestmark = pytest.mark.slow


@pytest.fixture(autouse=True)
def small_bounds(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Each of them is met: clients have five sessions at a time, and new ones whenever one is gone."""
    monkeypatch.setattr(sessions, "RETENTION_MS", 2000)
    monkeypatch.setattr(sessions, "SESSIONS_MAX", 4)
    monkeypatch.setattr(sessions, "BYTES_MAX", 4 * 600)
    monkeypatch.setattr(sessions, "RECORDS_A_SESSION_MAX", 4)
    yield


@pytest.mark.timeout(300)
def test_retries_within_the_window_run_once_whatever_the_clocks_say() -> None:
    counts: Counter[str] = Counter()
    for seed in range(6):
        found = run_seed(seed, profile=PROFILE)
        assert found.ok, f"seed {seed}: {found.violation}"
        counts += found.counts
    must_happen = ("retries within the window", "retries after the window", "snapshots installed", "crashes")
    assert [what for what in must_happen if not counts[what]] == []


@pytest.mark.timeout(300)
@pytest.mark.parametrize(
    ("mutant", "rule"),
    [
        (session_mutants.expire_by_the_own_clock, MACHINE_SAFETY),
        (session_mutants.restart_the_time, MACHINE_SAFETY),
        (session_mutants.believe_each_leaders_clock, LOG_TIME),
        (session_mutants.expire_early, WINDOW),
        (session_mutants.run_what_is_forgotten, ONCE),
    ],
)
def test_a_mistake_in_sessions_is_found(mutant: Mutant, rule: str, monkeypatch: pytest.MonkeyPatch) -> None:
    mutant(monkeypatch)
    for seed in range(SEEDS):
        violation = run_seed(seed, profile=PROFILE).violation
        if violation is not None and violation.rule == rule:
            return
    pytest.fail(f"no seed of {SEEDS} finds {mutant.__name__}")
