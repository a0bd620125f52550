"""Membership calls in the simulation: intents, joint changes and hand-overs, at any node, under every fault."""

from random import Random

import pytest

from raftwright.client.member_models import MemberAddresses, NewMember
from raftwright.raft.membership import Membership
from raftwright.server.driver import Driver
from raftwright.server.errors import ServiceError
from raftwright.server.membership_requests import Addition, Call, Change
from raftwright.sim.profile import draw_profile
from raftwright.sim.simulation import Simulation

PAUSE_S = 0.3


class Controllers:
    """People who change the membership all the time, each at a node of their choice and from what it knows."""

    def __init__(self, simulation: Simulation) -> None:
        self._simulation = simulation
        self._random = Random(simulation.world.seed)
        self.asked = 0
        simulation.world.after(PAUSE_S, self._act)

    def _act(self) -> None:
        world = self._simulation.world
        world.after(self._random.uniform(0.0, 2 * PAUSE_S), self._act)
        node = self._random.choice(self._simulation.nodes)
        if node.driver is None or not node.is_running or world.now > self._simulation.profile.seconds:
            return
        clock = node.clock
        node.submit(lambda driver: self._ask(driver, clock))

    def _ask(self, driver: Driver, now: float) -> None:
        membership = driver.raft.membership
        call = Call(
            kind="change",
            change=self._change(membership),
            if_match=membership.version if self._random.random() < 0.5 else None,
            force=self._random.random() < 0.2,
        )
        try:
            driver.ask(call, None, now)
            self.asked += 1
        except ServiceError:
            pass

    def _change(self, membership: Membership) -> Change:
        """Learners become voters when they have caught up, and voters learners in the same change; or at once."""
        learners, voters = sorted(membership.learners), sorted(membership.voters)
        up = self._random.sample(learners, min(len(learners), self._random.choice((0, 1, 2))))
        down = self._random.sample(voters, min(len(voters), self._random.choice((0, 1, 1, 2))))
        if self._random.random() < 0.3:
            return Change(promote=list(up), demote=list(down))
        return Change(add=[Addition(member=_as_voter(membership, key)) for key in up], demote=list(down))


def _as_voter(membership: Membership, key: int) -> NewMember:
    member = membership.members[key]
    return NewMember(
        name=member.name,
        store_id=member.store_id,
        addresses=MemberAddresses(peer=member.addresses.peer, client=member.addresses.client),
    )


def run(seed: int) -> tuple[Simulation, Controllers, set[frozenset[int]]]:
    """One seed; Violation where a rule of Raft was broken, or the cluster does not recover."""
    simulation = Simulation(seed, profile=draw_profile(Random(f"members {seed}")))
    controllers = Controllers(simulation)
    seen: set[frozenset[int]] = set()

    def look() -> None:
        simulation.world.after(0.05, look)
        for node in simulation.nodes:
            if node.driver is not None:
                seen.add(node.driver.raft.committed_membership.voters)

    look()
    simulation.run()
    return simulation, controllers, seen


@pytest.mark.parametrize("first", range(0, 30, 6))
def test_calls_about_members_break_nothing_and_the_cluster_recovers(first: int) -> None:
    asked = changes = 0
    for seed in range(first, first + 6):
        _, controllers, seen = run(seed)
        asked += controllers.asked
        changes += len(seen) - 1
    assert asked > 30
    assert changes > 6, "the voters did change"
