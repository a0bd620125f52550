"""Changes of the membership at the worst of times: at an election, at a leader that nobody hears, by two at once.

`faults.py` owns it and has its actions among its own. Its one rule: it asks for nothing that a careless person could
not ask for, and whatever it cuts heals.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from random import Random

from raftwright.raft.errors import Refusal
from raftwright.raft.events import ProposeMembership
from raftwright.raft.membership import Membership
from raftwright.raft.messages import AppendEntries
from raftwright.server.membership_requests import Call, Change
from raftwright.server.wire import PeerMessage
from raftwright.sim.network import Network
from raftwright.sim.node import SimNode
from raftwright.sim.world import World


@dataclass(frozen=True, slots=True)
class _Rival:
    """A leader that was cut off with a change that nobody heard of, and whoever it made a voter."""

    leader: SimNode
    newcomer: SimNode


class MembershipFaults:
    def __init__(
        self, world: World, network: Network, nodes: Sequence[SimNode], leader: Callable[[], SimNode | None]
    ) -> None:
        self.world = world
        self.network = network
        self.nodes = nodes
        self.leader = leader
        self.actions: dict[str, Callable[[], None]] = {
            "membership": self._change,
            "change at an election": self._wait_for_an_election,
            "cut off a removal": self._cut_off_a_removal,
            "two leaders change": self._let_two_change,
        }
        self._after_term: float = math.inf
        """The leader of a later term is asked for a change at once."""
        self._rival: _Rival | None = None

    @property
    def _random(self) -> Random:
        return self.world.random

    def stop(self) -> None:
        self._after_term = math.inf
        self._rival = None

    def sent(self, sender: SimNode, messages: Sequence[PeerMessage]) -> None:
        """The network tells of everything that is sent."""
        if any(isinstance(message, AppendEntries) and message.term > self._after_term for message in messages):
            self._after_term = math.inf
            rival, self._rival = self._rival, None
            if rival is None:
                self.world.after(0.0, self._change)
                self.world.counts["changes at an election"] += 1
            else:
                self._answer(sender, rival)

    # One vote

    def _change(self) -> None:
        """Swap the vote of one member: voters become learners and learners voters."""
        leader = self.leader()
        if leader is not None and leader.driver is not None:
            self._swap(leader, self._random.choice(sorted(leader.driver.raft.membership.members)))

    def _swap(self, leader: SimNode, member: int) -> bool:
        """Whether it is on its way."""
        if leader.driver is None or not leader.is_running or leader.driver.raft.membership.is_joint:
            return False
        current = leader.driver.raft.membership
        target = _swapped(current, member)
        try:
            leader.driver.raft.step(
                ProposeMembership(now=leader.clock, target=target, base_version=current.version, time_ms=leader.wall_ms)
            )
        except Refusal:
            self.world.counts["membership changes refused"] += 1
            return False
        self.world.counts["membership changes begun"] += 1
        leader.poke()
        return True

    # At an election

    def _wait_for_an_election(self) -> None:
        """Cut the leader off. The next one is asked for a change before it can have committed anything."""
        leader = self.leader()
        if leader is not None and leader.driver is not None:
            self._after_term = leader.driver.raft.term
            self._apart({leader.place}, self._random.uniform(0.3, 1.0))

    # By two

    def _let_two_change(self) -> None:
        """The leader makes a learner a voter, and nobody hears of it. The next one takes the first one's vote away as
        soon as it leads, with one other; then all the rest meet the first (§4.1, and the bug found in 2015)."""
        leader = self.leader()
        if leader is None or leader.driver is None:
            return
        raft = leader.driver.raft
        newcomers = [node for node in self.nodes if node.is_running and node.member_id in raft.membership.learners]
        if newcomers and self._swap(leader, newcomers[0].member_id or 0):
            self._rival = _Rival(leader, newcomers[0])
            self._after_term = raft.term
            self._apart({leader.place, newcomers[0].place}, 2.0)

    def _answer(self, sender: SimNode, rival: _Rival) -> None:
        others = [node for node in self.nodes if node not in (sender, rival.leader, rival.newcomer) and node.is_running]
        if not others or sender is rival.leader:
            return
        pair = {sender.place, self._random.choice(others).place}
        self._apart(pair, 2.0)
        self._apart({rival.leader.place, rival.newcomer.place}, 2.0)
        self.world.after(0.0, self._swap, sender, rival.leader.member_id or 0)
        self.world.after(0.2, self._let_in, pair)
        self.world.counts["changes by two leaders"] += 1

    def _let_in(self, pair: set[int]) -> None:
        self.network.heal()
        self._apart(pair, 1.5)

    # Of a member that alone hears of it

    def _cut_off_a_removal(self) -> None:
        """The leader takes a learner out, and no voter hears of it: only the learner can."""
        leader = self.leader()
        if leader is None or leader.driver is None or not leader.is_running:
            return
        membership = leader.driver.raft.membership
        if membership.learners:
            change = Change(remove=[self._random.choice(sorted(membership.learners))])
            leader.submit(lambda driver: driver.ask(Call(kind="change", change=change), None, leader.clock))
            voters = {node.place for node in self.nodes if node.member_id in membership.all_voters}
            self._apart({leader.place}, self._random.uniform(0.3, 1.0), among=voters)
            self.world.counts["removals cut off"] += 1

    def _apart(self, some: set[int], seconds: float, *, among: set[int] | None = None) -> None:
        """Cut machines off from the rest, or from the rest of those `among`, for a while."""
        rest = (among if among is not None else set(self.network.receivers)) - some
        self.network.cut |= {link for one in some for other in rest for link in ((one, other), (other, one))}
        self.world.after(seconds, self.network.heal)


def _swapped(current: Membership, member: int) -> Membership:
    moved = frozenset({member})
    return replace(current, voters=current.voters ^ moved, learners=current.learners ^ moved)
