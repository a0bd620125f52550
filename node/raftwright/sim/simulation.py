"""One run: a whole cluster on virtual time, from its founding through faults to the proof that it recovered.

`python -m raftwright.sim`, tests and users call `run_seed`, or build a `Simulation` of their own. Its one rule: the
seed and the profile decide everything.
"""

import logging
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from random import Random
from typing import Any

from raftwright.kv.store import KvMachine
from raftwright.raft.membership import Addresses, Member, Membership, first_membership
from raftwright.server.wire import PeerMessage
from raftwright.sim.checkers import Checker, state_digest
from raftwright.sim.clients import Client, Clients
from raftwright.sim.faults import Faults
from raftwright.sim.network import Network
from raftwright.sim.node import SimNode
from raftwright.sim.profile import Profile, draw_profile
from raftwright.sim.workload import ClientWrite, KvWorkload
from raftwright.sim.world import Violation, World

LIVENESS = "liveness: without faults the cluster takes writes and all nodes come to the same state"
RECOVERY_S = 20.0
"""Virtual time that the cluster has to recover once the faults have stopped."""


@dataclass(slots=True)
class Run:
    """What came of a seed."""

    seed: int
    digest: str = ""
    events: int = 0
    seconds: float = 0.0
    """Virtual."""
    counts: Counter[str] = field(default_factory=Counter)
    violation: Violation | None = None
    lines: list[str] = field(default_factory=list)
    """The end of the trace."""

    @property
    def ok(self) -> bool:
        return self.violation is None


class Simulation:
    """A cluster with its clients and faults. `machine` makes the state machine of a node: a user's own, say, with a
    `workload` that knows it."""

    def __init__(
        self,
        seed: int,
        *,
        profile: Profile | None = None,
        say: Callable[[str], None] | None = None,
        without: frozenset[str] = frozenset(),
        machine: Callable[[], Any] = KvMachine,
        workload: Callable[[Random, Profile], KvWorkload] | None = None,
    ) -> None:
        world = self.world = World(seed, say=say)
        self.profile = profile or draw_profile(world.random)
        self.checker = Checker(world, without)
        self.network = Network(world, self.profile.network)
        self.network.on_send = self._sent
        self.nodes = [
            SimNode(
                world=world,
                network=self.network,
                watcher=self.checker,
                profile=self.profile,
                member_id=member_id,
                machine=machine,
            )
            for member_id in range(1, self.profile.voters + self.profile.learners + 1)
        ]
        self.network.receivers = {node.member_id: node for node in self.nodes}
        self.workload = (
            workload(world.random, self.profile) if workload else KvWorkload(world.random, self.profile.keys)
        )
        self.clients = Clients(
            world, self.nodes, self.checker, self.workload, request_timeout_s=self.profile.request_timeout_s
        )
        self.faults = Faults(world, self.network, self.nodes, self.profile)

    def run(self) -> None:
        """Raises Violation."""
        world, profile = self.world, self.profile
        world.trace(f"seed {world.seed}: {profile}")
        membership = self._membership()
        for node in self.nodes:
            node.found(membership)
        for node in self.nodes:
            node.start()
        clients = [self._client(number) for number in range(profile.clients)]
        for client in clients:
            client.start()
        self.faults.start()
        world.run_until(profile.seconds)
        world.trace("no more faults")
        self.faults.stop()
        world.run_until(world.now + 0.5)
        for client in clients:
            client.stopped = True
        self._recover(clients)
        self.workload.check(self.checker)

    def _client(self, number: int) -> Client:
        return Client(
            self.clients,
            think_time_s=self.profile.think_time_s,
            with_session=number % 2 == 1,
            window=3 if number % 3 == 1 else 1,
        )

    def _membership(self) -> Membership:
        return first_membership(
            (
                Member(
                    name=f"n{node.member_id}",
                    store_id=node.store_id,
                    addresses=Addresses(peer=f"n{node.member_id}:1", client=f"n{node.member_id}:2"),
                ),
                node.member_id <= self.profile.voters,
            )
            for node in self.nodes
        )

    def _sent(self, sender: int, messages: Sequence[PeerMessage]) -> None:
        self.checker.sent(sender, messages)
        self.faults.sent(sender, messages)

    # The end of a run

    def _recover(self, clients: list[Client]) -> None:
        """A write must succeed at every node, and every node must come to the same state."""
        world = self.world
        deadline = world.now + RECOVERY_S
        client = Client(self.clients, think_time_s=1.0, with_session=True, window=0)
        done: list[ClientWrite] = []
        for node in self.nodes:
            client.write(self.workload.probe(self.clients.next_name("probe")), node, done.append)
        ended = world.run_until(
            deadline, done=lambda: len(done) == len(self.nodes) and not any(client.busy for client in clients)
        )
        if not ended or any(write.outcome != "ok" for write in done):
            raise Violation(LIVENESS, f"{[(write.name, write.outcome) for write in done]}, {self._positions()}")
        if not world.run_until(world.now + RECOVERY_S, done=self._is_settled):
            raise Violation(LIVENESS, f"the nodes do not come to the same index: {self._positions()}")
        if len({state_digest(node.state) for node in self.nodes}) > 1:
            raise Violation(LIVENESS, f"the nodes are at the same index in different states: {self._positions()}")

    def _is_settled(self) -> bool:
        return len({node.state.applied_id for node in self.nodes}) == 1

    def _positions(self) -> str:
        return ", ".join(
            f"{node}: {type(node.driver.raft.role).__name__} of term {node.driver.raft.term},"
            f" applied {node.state.applied_index} of {node.driver.raft.log.last_index}"
            if node.driver
            else f"{node}: down"
            for node in self.nodes
        )


@contextmanager
def quiet() -> Iterator[None]:
    """What nodes log about faults is no news here."""
    logger = logging.getLogger("raftwright")
    level = logger.level
    logger.setLevel(logging.CRITICAL + 1)
    try:
        yield
    finally:
        logger.setLevel(level)


def run_seed(
    seed: int,
    *,
    profile: Profile | None = None,
    say: Callable[[str], None] | None = None,
    without: frozenset[str] = frozenset(),
) -> Run:
    """One run. A violation is in the result and not raised; neither is an exception of what is tested."""
    run = Run(seed)
    with quiet():
        simulation = Simulation(seed, profile=profile, say=say, without=without)
        world = simulation.world
        try:
            simulation.run()
        except Violation as violation:
            run.violation = violation
        except Exception as error:
            run.violation = Violation("exception", f"{type(error).__name__}: {error}")
            run.violation.__cause__ = error
    run.digest, run.events, run.seconds = world.digest, world.events, world.now
    run.counts, run.lines = world.counts, list(world.lines)
    return run
