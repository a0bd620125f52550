"""What goes wrong in a run: crashes, partitions, bad disks, pauses, and changes that people make.

`simulation.py` starts it. Its one rule: everything that it breaks it can mend, so that in the end the cluster must
recover by itself.
"""

import errno
from collections.abc import Callable, Sequence
from dataclasses import replace
from random import Random

from raftwright.raft.errors import Refusal
from raftwright.raft.messages import RequestVote, VoteReply
from raftwright.server import sessions
from raftwright.server.wire import PeerMessage
from raftwright.sim.changes import MembershipFaults
from raftwright.sim.network import Network, NetworkSettings
from raftwright.sim.node import SimNode
from raftwright.sim.profile import CLOCK_JUMP, Profile
from raftwright.sim.world import World


def failing_sync(name: str, path: str) -> OSError | None:
    return OSError(errno.EIO, "simulated: the sync failed", path) if name == "sync" else None


class Faults:
    def __init__(self, world: World, network: Network, nodes: Sequence[SimNode], profile: Profile) -> None:
        self.world = world
        self.network = network
        self.nodes = nodes
        self.profile = profile
        self.stopped = False
        self.changes = MembershipFaults(world, network, nodes, self.leader)
        self._trap_set = False
        self._trapped: dict[int, int] = {}
        """By candidate, the one voter that its request reaches."""
        self._kind_network: NetworkSettings = replace(profile.network)
        self._actions: dict[str, Callable[[], None]] = {
            "crash": self._crash_one,
            "crash in a write": self._crash_in_a_write,
            "crash several": self._crash_several,
            "crash all": self._crash_all,
            "partition": self._partition,
            "isolate the leader": self._isolate_leader,
            "split vote": self._split_vote,
            "crash after a vote": self._set_trap,
            "one way": self._cut_one_way,
            "cut links": self._cut_links,
            "slow disk": self._slow_disk,
            "full disk": self._fill_disk,
            "failed sync": self._fail_sync,
            "pause": self._pause,
            "transfer": self._transfer,
            "bad network": self._worsen_network,
            "lost streams": self._lose_streams,
            "restart in a lease": self._restart_in_a_lease,
            CLOCK_JUMP: self._let_a_clock_jump,
            **self.changes.actions,
        }

    @property
    def _random(self) -> Random:
        return self.world.random

    def start(self) -> None:
        if self.profile.faults:
            self.world.after(self._random.expovariate(1 / self.profile.fault_interval_s), self._act)

    def _act(self) -> None:
        if self.stopped:
            return
        fault = self._random.choice(self.profile.faults)
        self.world.counts[f"fault: {fault}"] += 1
        self.world.trace(f"fault: {fault}")
        self._actions[fault]()
        self.start()

    def stop(self) -> None:
        """Mend everything: from now on the cluster has no excuse."""
        self.stopped = True
        self._trap_set = False
        self._trapped.clear()
        self.changes.stop()
        self.network.heal()
        self.network.settings = NetworkSettings(delay_s=0.001, jitter_s=0.0005)
        for node in self.nodes:
            self._mend(node)
            node.resume()
            node.start()

    def _mend(self, node: SimNode) -> None:
        node.disk_slowness = 1.0
        node.disk_delay_s = min(node.disk_delay_s, 0.005)
        node.disk.capacity_bytes = 1 << 30
        node.disk.fault = None
        node.crash_at_write = False

    # Who and for how long

    def _up(self) -> list[SimNode]:
        return [node for node in self.nodes if node.is_up]

    def leader(self) -> SimNode | None:
        """The one of the highest term that believes to be it."""
        leaders = [node for node in self._up() if node.driver is not None and node.driver.is_leader]
        return max(leaders, key=lambda node: node.driver.raft.term if node.driver else 0, default=None)

    def _victim(self) -> SimNode | None:
        """The leader rather than another one, and one that is writing rather than one that is not."""
        up = self._up()
        writing = [node for node in up if node.has_unwritten]
        leader = self.leader()
        if leader is not None and self.world.chance(0.3):
            return leader
        return self._random.choice(writing or up) if up else None

    def _soon(self, action: Callable[[], None], *, longest: float = 1.0) -> None:
        self.world.after(self._random.choice((0.02, 0.3, longest)) * self._random.random(), action)

    # Crashes

    def _crash(self, node: SimNode) -> None:
        if node.phase != "down":
            waits = node.is_up and not node.has_unwritten
            if waits and self.world.chance(self.profile.crashes_that_wait):
                node.crash_at_write = True  # a moment later, when there is something to lose
                return
            if node is self.leader():
                self.world.counts["leaders crashed"] += 1
            node.crash()
        self._soon(node.start)

    def _crash_one(self) -> None:
        node = self._victim()
        if node is not None:
            self._crash(node)

    def _crash_in_a_write(self) -> None:
        node = self._victim()
        if node is not None:
            node.crash_at_write = True

    def _crash_several(self) -> None:
        up = self._up()
        for node in self._random.sample(up, self._random.randint(min(1, len(up)), len(up))):
            self._crash(node)

    def _crash_all(self) -> None:
        for node in self.nodes:
            self._crash(node)

    # Network

    def _places(self, count: int) -> set[int]:
        return {node.place for node in self._random.sample(list(self.nodes), count)}

    def _partition(self) -> None:
        if len(self.nodes) > 1:
            self.network.split(self._places(self._random.randint(1, len(self.nodes) - 1)))
            self._soon(self.network.heal)

    def _isolate_leader(self) -> None:
        leader = self.leader()
        if leader is not None:
            self.network.split({leader.place})
            self._soon(self.network.heal)

    def _split_vote(self) -> None:
        """Cut the leader off as soon as there is a new one, and crash one that may just have voted for it."""
        leader = self.leader()
        if leader is None or leader.driver is None:
            self._crash_one()
            return
        self.network.split({leader.place})
        others = [node for node in self._up() if node is not leader]
        if others:
            self._random.choice(others).crash_at_write = True
        self.world.after(self._random.uniform(0.2, 0.6), self.network.heal)

    def _set_trap(self) -> None:
        """The next candidate reaches only as many voters as it needs, and one of them crashes as soon as it has voted.
        Then the candidate, who may be the leader now, is cut off, and that voter meets those who know of nothing."""
        self._trap_set = True
        leader = self.leader()
        if leader is not None:
            leader.crash()
            self.world.after(self._random.uniform(0.4, 0.6), leader.start)

    def sent(self, sender: SimNode, messages: Sequence[PeerMessage]) -> None:
        """The network tells of everything that is sent."""
        self.changes.sent(sender, messages)
        for message in messages:
            match message:
                case RequestVote(to_id=voter) if self._trap_set:
                    found = self._running(voter)
                    if found is not None:
                        self._trap_set = False
                        self._trapped[message.from_id] = voter
                        self._close_trap(sender, found)
                case VoteReply(granted=True, to_id=candidate) if self._trapped.get(candidate) == message.from_id:
                    del self._trapped[candidate]
                    self.world.after(0.001 * self._random.random(), self._crash_now, sender)
                    found = self._running(candidate)
                    if found is not None:
                        self.world.after(0.03, self._cut_off, found.place)
                    self.world.after(self._random.uniform(0.7, 2.0), self.network.heal)

    def _running(self, member_id: int) -> SimNode | None:
        return next((node for node in self.nodes if node.is_running and node.member_id == member_id), None)

    def _close_trap(self, candidate: SimNode, voter: SimNode) -> None:
        up = [node.place for node in self._up() if node not in (candidate, voter)]
        needed = self.profile.voters // 2 - 1
        self._cut({(candidate.place, each) for each in up[needed:]})

    def _crash_now(self, node: SimNode) -> None:
        if node.is_up and not self.stopped:
            self.world.counts["crashed after a vote"] += 1
            node.crash()
            self.world.after(self._random.uniform(0.03, 0.15), node.start)

    def _cut_off(self, place: int) -> None:
        if not self.stopped:
            self.network.split({place})

    def _cut(self, links: set[tuple[int, int]]) -> None:
        self.network.cut |= {link for one, other in links for link in ((one, other), (other, one))}

    def _cut_links(self) -> None:
        """Some pairs do not hear each other, though both hear others."""
        places = [node.place for node in self.nodes]
        self._cut({(one, other) for one in places for other in places if one < other and self.world.chance(0.4)})
        self._soon(self.network.heal)

    def _cut_one_way(self) -> None:
        if len(self.nodes) > 1:
            self.network.split(self._places(self._random.randint(1, len(self.nodes) - 1)), one_way=True)
            self._soon(self.network.heal)

    def _worsen_network(self) -> None:
        self.network.settings = replace(self._kind_network, loss=0.2, duplication=0.1, reordering=0.3)
        self._soon(self._improve_network)

    def _improve_network(self) -> None:
        if not self.stopped:
            self.network.settings = self._kind_network

    def _lose_streams(self) -> None:
        node = self._random.choice(list(self.nodes))
        for other in self.nodes:
            if other is not node and other.member_id is not None and node.member_id is not None:
                node.stream_lost(other.member_id)
                other.stream_lost(node.member_id)

    def _restart_in_a_lease(self) -> None:
        """One voter has not heard the leader for long. The others have, and answered; they start anew at once, hear it
        no more, and are asked for their votes while the leader reads by the lease that their answers gave it."""
        leader, up = self.leader(), self._up()
        if leader is None or len(up) < 3:
            return
        deaf, *others = self._random.sample([node for node in up if node is not leader], len(up) - 1)
        self._cut({(leader.place, deaf.place)})
        self.world.after(2.3 * self.profile.election_timeout_s, self._restart_at_once, leader, others)
        self.world.after(5 * self.profile.election_timeout_s, self.network.heal)

    def _restart_at_once(self, leader: SimNode, others: Sequence[SimNode]) -> None:
        if self.stopped:
            return
        self._cut({(leader.place, other.place) for other in others})
        for other in others:
            if other.is_up:
                other.crash()
                self.world.after(0.005, other.start)

    # Disks and processes

    def _slow_disk(self) -> None:
        node = self._random.choice(list(self.nodes))
        node.disk_slowness = self._random.choice((5.0, 30.0, 100.0))
        self._soon(lambda: setattr(node, "disk_slowness", 1.0))

    def _fill_disk(self) -> None:
        node = self.leader() if self.world.chance(0.7) else None
        node = node or self._random.choice(list(self.nodes))
        node.disk.capacity_bytes = node.disk.used_bytes() + self._random.choice((0, 5000))
        self.world.after(self._random.uniform(0.3, 2.5), setattr, node.disk, "capacity_bytes", 1 << 30)

    def _fail_sync(self) -> None:
        node = self._victim()
        if node is not None:
            node.disk.fault = failing_sync

    def _pause(self) -> None:
        node = self._victim()
        if node is not None and node.is_running:
            node.pause()
            incarnation = node.incarnation
            self._soon(lambda: node.resume() if node.incarnation == incarnation else None)

    def _let_a_clock_jump(self) -> None:
        """By less than a session is kept without use, or by more."""
        node = self._random.choice(list(self.nodes))
        node.wall_offset_ms += round(self._random.choice((-1.1, -0.1, 0.1, 0.7, 1.1, 2.2)) * sessions.RETENTION_MS)

    # What people do

    def _transfer(self) -> None:
        leader = self.leader()
        if leader is not None and leader.is_running and leader.driver is not None:
            try:
                leader.driver.transfer_leadership(None, leader.clock)
                self.world.counts["transfers begun"] += 1
            except Refusal:
                self.world.counts["transfers refused"] += 1
            leader.poke()
