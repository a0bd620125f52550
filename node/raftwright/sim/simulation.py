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
from raftwright.server.wire import PeerMessage
from raftwright.sim.checkers import Checker, state_digest
from raftwright.sim.clients import Client, Clients
from raftwright.sim.counters import CounterWorkload, counters
from raftwright.sim.faults import Faults
from raftwright.sim.network import Network
from raftwright.sim.node import SimNode
from raftwright.sim.operators import Operators
from raftwright.sim.profile import CLOCK_JUMP, Profile, draw_any
from raftwright.sim.workload import ClientWrite, KvWorkload, Workload
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
        machine: Callable[[], Any] | None = None,
        workload: Callable[[Random, Profile], Workload] | None = None,
    ) -> None:
        world = self.world = World(seed, say=say)
        self.profile = profile or draw_any(world.random)
        if machine is None:
            machine = counters if self.profile.counters else KvMachine
            workload = workload or (_counting if self.profile.counters else None)
        self.checker = Checker(world, without, machine)
        self.network = Network(world, self.profile.network)
        self.network.on_send = self._sent
        self.nodes = [
            SimNode(
                world=world,
                network=self.network,
                watcher=self.checker,
                profile=self.profile,
                place=place,
                machine=machine,
            )
            for place in range(1, self.profile.voters + self.profile.learners + self.profile.spares + 1)
        ]
        self.network.receivers = {node.place: node for node in self.nodes}
        self.workload = (workload or _storing)(world.random, self.profile)
        self.clients = Clients(
            world,
            self.nodes,
            self.checker,
            self.workload,
            request_timeout_s=self.profile.request_timeout_s,
            clocks_jump=CLOCK_JUMP in self.profile.faults,
        )
        self.faults = Faults(world, self.network, self.nodes, self.profile)
        self.operators = Operators(world, self.nodes, self.profile, lambda: self.checker.members.committed)

    def begin(self) -> None:
        """Found the cluster, unless the operators do, and start every node."""
        if not self.profile.managed:
            foundings = self.operators.founding()
            for node, founding in zip(self.nodes, foundings, strict=False):  # spares are founded by nobody
                node.found(founding)
        for node in self.nodes:
            node.start()

    def run(self) -> None:
        """Raises Violation."""
        world, profile = self.world, self.profile
        world.trace(f"seed {world.seed}: {profile}")
        self.begin()
        if profile.lives:
            self.operators.start()
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

    def _sent(self, sender: int, messages: Sequence[PeerMessage]) -> None:
        node = self.nodes[sender - 1]
        self.checker.sent(node, messages)
        self.faults.sent(node, messages)

    # The end of a run

    def _recover(self, clients: list[Client]) -> None:
        """A write must succeed at every node, and every node must come to the same state."""
        world = self.world
        self.operators.is_finishing = True
        if not world.run_until(world.now + RECOVERY_S, done=self.operators.is_settled):
            self.checker.members.ended()  # who was told something wrong of itself may be why
            raise Violation(LIVENESS, f"{self.operators.committed()} does not settle: {self._positions()}")
        deadline = world.now + RECOVERY_S
        client = Client(self.clients, think_time_s=1.0, with_session=True, window=0)
        done: list[ClientWrite] = []
        members = self.operators.members()
        for node in members:
            client.write(self.workload.probe(self.clients.next_name("probe")), node, done.append)
        ended = world.run_until(
            deadline, done=lambda: len(done) == len(members) and not any(client.busy for client in clients)
        )
        if not ended or any(write.outcome != "ok" for write in done):
            raise Violation(LIVENESS, f"{[(write.name, write.outcome) for write in done]}, {self._positions()}")
        if not world.run_until(world.now + RECOVERY_S, done=self._is_settled):
            raise Violation(LIVENESS, f"the nodes do not come to the same index: {self._positions()}")
        if len({state_digest(node.state) for node in self.operators.members()}) > 1:
            raise Violation(LIVENESS, f"the nodes are at the same index in different states: {self._positions()}")
        self.checker.members.ended()
        world.counts["retries within the window"] += self.checker.sessions.retries
        world.counts["retries after the window"] += self.checker.sessions.expired

    def _is_settled(self) -> bool:
        """All members have come to the same index, and whoever is none knows that."""
        members = self.operators.members()
        others = [node for node in self.nodes if node not in members]
        in_step = len({node.state.applied_id for node in members}) == 1
        return in_step and not any(node.phase == "serving" and self.operators.can_learn(node) for node in others)

    def _positions(self) -> str:
        return ", ".join(
            f"{node}: {type(node.driver.raft.role).__name__} of term {node.driver.raft.term},"
            f" applied {node.state.applied_index} of {node.driver.raft.log.last_index}"
            if node.driver
            else f"{node}: {node.phase}"
            for node in self.nodes
        )


def _storing(random: Random, profile: Profile) -> Workload:
    return KvWorkload(random, profile.keys)


def _counting(random: Random, profile: Profile) -> Workload:
    return CounterWorkload(random, profile.keys)


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
