"""Replicas check each other among faults: nothing false is found, and a state that went wrong once is repaired."""

from dataclasses import replace
from random import Random
from typing import Any

import pytest

from raftwright.kv.store import KvMachine
from raftwright.server.checks import ReplicaChecks
from raftwright.server.machine import Applied, ApplyContext
from raftwright.sim.checkers import MACHINE_SAFETY, ONCE, RESULT, Checker, state_digest
from raftwright.sim.profile import Profile, draw_any, draw_profile
from raftwright.sim.simulation import Simulation, quiet
from raftwright.sim.workload import LINEARIZABLE, KvWorkload
from raftwright.sim.world import Violation

pytestmark = pytest.mark.slow


@pytest.mark.parametrize("seed", range(10))
def test_nothing_false_is_found(seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    judged: list[int] = []
    judge = ReplicaChecks._judge

    def counted(checks: ReplicaChecks, index: int) -> None:
        before = checks.passed
        judge(checks, index)
        judged.append(checks.passed - before)
        assert checks.divergence is None, f"at index {index}"

    def alarmed(_: ReplicaChecks, index: int, text: str) -> None:
        raise AssertionError(f"at index {index}: {text}")

    monkeypatch.setattr(ReplicaChecks, "_judge", counted)
    monkeypatch.setattr(ReplicaChecks, "_raise_alarm", alarmed)
    profile = draw_any(Random(100 + seed))
    profile = replace(profile, voters=max(profile.voters, 2))  # one voter has nobody to compare itself with
    with quiet():
        Simulation(100 + seed, profile=profile).run()
    assert judged


class Unlucky(KvMachine):
    """All nodes' machines together go wrong once."""

    ignores_context = False
    index: int
    is_over: list[bool]

    def apply(self, commands: list[Any], context: ApplyContext) -> Applied:
        applied = super().apply(commands, context)
        if context.index >= self.index and not self.is_over:
            self.is_over.append(True)
            self.revision += 1000
        return applied


class Unchecked(KvWorkload):
    """Clients may well be told what is wrong."""

    def check(self, checker: Checker) -> None:
        pass


class Repaired(Simulation):
    """Recovers only when all nodes hold the same state."""

    def _recover(self, clients: list[Any]) -> None:
        self.world.run_until(self.world.now + 11.0)  # in the next span of log time the next entry is compared
        super()._recover(clients)

    def _is_settled(self) -> bool:
        return super()._is_settled() and len({state_digest(node.state) for node in self.nodes}) == 1


def unchecked(random: Random, profile: Profile) -> KvWorkload:
    return Unchecked(random, profile.keys)


def test_a_state_that_went_wrong_once_is_repaired_whatever_fails() -> None:
    repairs = completed = 0
    for seed in range(8):
        kind = type("Kind", (Unlucky,), {"index": 20 + seed, "is_over": []})
        profile = draw_profile(Random(seed))
        # With an even number of voters there may be no majority, and so no repair.
        faults = tuple(fault for fault in profile.faults if fault != "membership")
        profile = replace(profile, seconds=12.0, voters=3, faults=faults)
        without = frozenset({MACHINE_SAFETY, RESULT, ONCE})
        run = Repaired(seed, profile=profile, without=without, machine=kind, workload=unchecked)
        try:
            with quiet():
                run.run()
            completed += 1
        except Violation as violation:
            if violation.rule != LINEARIZABLE:  # a client met what is wrong before it was found
                raise
        repairs += run.world.counts["states repaired"]
    assert completed >= 6
    assert repairs >= 3, "too seldom to say anything"
