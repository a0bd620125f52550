"""People, or a controller, who run a simulated cluster: they found it, add and remove members, and replace lost disks.

`simulation.py` starts them where the profile has lives. Rules: what they ask for goes through the calls that users
have, to any node, by what is committed as far as they know; they never destroy by a lost disk what the cluster needs to
go on, but they know nothing of what else goes wrong.
"""

from collections.abc import Callable, Iterator, Sequence
from functools import partial

from raftwright.client.member_models import BootstrapRequest, FirstMember, MemberAddresses, NewMember
from raftwright.raft import intents
from raftwright.raft.membership import Membership
from raftwright.server.admission import founding_of
from raftwright.server.driver import Driver
from raftwright.server.effects import ControlDone
from raftwright.server.errors import ServiceError
from raftwright.server.founding import Founding
from raftwright.server.membership_requests import Addition, Call, Change
from raftwright.sim.node import SimNode
from raftwright.sim.profile import Profile
from raftwright.sim.world import World

INTERVAL_S = 0.25
AFTER_A_REMOVAL_S = 1.5
"""So long after somebody asked to take votes away no disk is lost: by then it happened, or never will."""
CLUSTER_ID = "5" * 32


class Operators:
    def __init__(
        self, world: World, nodes: Sequence[SimNode], profile: Profile, committed: Callable[[], Membership | None]
    ) -> None:
        self.world = world
        self.nodes = nodes
        self.profile = profile
        self.committed = committed
        """The membership as it is for sure, as a linearizable read would tell it."""
        self.is_finishing = False
        self._founding: BootstrapRequest | None = None
        self._votes_taken_at = float("-inf")
        for node in nodes:
            node.on_control = self._on_control

    # Founding

    def founding(self) -> list[Founding]:
        """What every founding node has on its disk in a static cluster, by place."""
        request = self._request(self.nodes[: self.profile.voters + self.profile.learners])
        return [founding_of(request, node.identity) for node in self.nodes[: len(request.members)]]

    def _request(self, nodes: Sequence[SimNode]) -> BootstrapRequest:
        members = [
            FirstMember(
                name=repr(node),
                store_id=node.store_id,
                addresses=_addresses(node),
                role="voter" if node.place <= self.profile.voters else "learner",
            )
            for node in nodes
        ]
        return BootstrapRequest(cluster_id=CLUSTER_ID, members=members)

    def start(self) -> None:
        self.world.after(self.world.random.uniform(0, 2 * INTERVAL_S), self._act)

    def _bootstrap(self) -> None:
        """The same request to the same node, until it is a member."""
        if self._founding is None:
            self._founding = self._request(self.nodes[: self.profile.voters + self.profile.learners])
        first = self.nodes[0]
        if first.phase == "waiting":
            self.world.counts["bootstraps asked for"] += 1
            first.when_running(partial(first.bootstrap, founding_of(self._founding, first.identity)))

    # What they do

    def _act(self) -> None:
        self.start()
        membership = self.committed()
        if self.profile.managed and self.nodes[0].member_id is None and membership is None:
            self._bootstrap()
        if membership is None:
            return
        if self.is_finishing:
            self._mend(membership)
            return
        chance = self.world.random.random()
        if chance < 0.3:
            self._add(membership)
        elif chance < 0.5:
            self._mend(membership)
        elif chance < 0.58:
            self._remove(membership)
        elif chance < 0.65:
            self._change_votes(membership)
        elif chance < 0.9:
            self._lose_disk()
        else:
            self._discard()

    def _add(self, membership: Membership) -> None:
        """A machine that waits becomes a member: as a voter once it has caught up, or a learner."""
        stores = {member.store_id for member in membership.members.values()}
        names = {member.name for member in membership.members.values()}
        free = [node for node in self._waiting() if node.store_id not in stores and repr(node) not in names]
        if free:
            node = self.world.random.choice(free)
            self._ask(Change(add=[Addition(member=self._as_new(node))]), "additions asked for")

    def _as_new(self, node: SimNode, *, role: str = "") -> NewMember:
        chosen = role or self.world.random.choice(("voter", "voter", "learner"))
        return NewMember(
            name=repr(node),
            store_id=node.store_id,
            addresses=_addresses(node),
            role="voter" if chosen == "voter" else "learner",
            promote=self.world.chance(0.8),
        )

    def _mend(self, membership: Membership) -> None:
        """Whoever lost a disk is replaced by who came back in its place, or taken out."""
        lost = self.lost(membership)
        if not lost:
            return
        member_id = self.world.random.choice(lost)
        member = membership.members[member_id]
        namesakes = [key for key, each in membership.members.items() if each.name == member.name and key in lost]
        if len(namesakes) > 1:  # who was to replace it has lost its disk too: that comes off first
            self._ask(Change(remove=[max(namesakes)]), "removals asked for")
            return
        stores = {each.store_id for each in membership.members.values()}
        heirs = [node for node in self._waiting() if repr(node) == member.name and node.store_id not in stores]
        pending = any(each.intent.get(intents.REPLACES) == member_id for each in membership.members.values())
        if heirs and not pending:
            role = "voter" if member_id in membership.voters else "learner"
            new = self._as_new(heirs[0], role=role)
            self._ask(Change(add=[Addition(member=new, replaces=member_id, only_dead=True)]), "replacements asked for")
        elif self.is_finishing or self.world.chance(0.3):
            self._ask(Change(remove=[member_id]), "removals asked for")

    def _remove(self, membership: Membership) -> None:
        if not self.lost(membership):
            member_id = self.world.random.choice(sorted(membership.members))
            self._votes_taken_at = self.world.now
            self._ask(Change(remove=[member_id]), "removals asked for")

    def _change_votes(self, membership: Membership) -> None:
        if self.lost(membership):
            return
        learners, voters = sorted(membership.learners), sorted(membership.voters)
        down = [self.world.random.choice(voters)] if self.world.chance(0.6) else []
        up = [self.world.random.choice(learners)] if learners and self.world.chance(0.8) else []
        if up or down:
            self._votes_taken_at = self.world.now
            self._ask(Change(promote=list(up), demote=list(down)), "changes of votes asked for")

    def _discard(self) -> None:
        """A removed node's data is put aside, and its machine waits for something new to do."""
        removed = [node for node in self.nodes if node.phase == "removed"]
        if removed:
            node = self.world.random.choice(removed)
            node.lose_disk()
            self.world.after(0.1, node.start)

    def _lose_disk(self) -> None:
        if self.world.now < self._votes_taken_at + AFTER_A_REMOVAL_S:
            return
        victims = [node for node in self.members() if self._can_spare(node)]
        if not victims:
            return
        victim = self.world.random.choice(victims)
        self.world.counts["disks lost"] += 1
        self.world.counts["disks lost: of a leader"] += victim.driver is not None and victim.driver.is_leader
        victim.lose_disk()
        self.world.after(self.world.random.choice((0.02, 0.5)), victim.start)

    def _can_spare(self, victim: SimNode) -> bool:
        """Every half of every membership that may be in force keeps a majority of whole disks."""
        drivers = [node.driver for node in self.nodes if node.phase not in ("waiting", "removed")]
        whole = {node.member_id for node in self.nodes if node is not victim and _has_log(node)}
        for driver in drivers:
            if driver is None:
                return False  # nobody knows what is on the disk of a machine that is down
            for half in _halves(driver):
                if 2 * len(half & whole) <= len(half):
                    return False
        return True

    # What there is to see

    def lost(self, membership: Membership) -> list[int]:
        """Members whose disk is in no machine any more."""
        stores = {node.store_id for node in self.nodes}
        return [key for key, member in sorted(membership.members.items()) if member.store_id not in stores]

    def is_settled(self) -> bool:
        """Nothing is left to be mended, and all members serve."""
        membership = self.committed()
        if membership is None or membership.is_joint or self.lost(membership):
            return False
        if intents.groups(membership):
            return False
        return {node.member_id for node in self.members()} == set(membership.members)

    def members(self) -> list[SimNode]:
        """The nodes that are members by what is committed, and serve."""
        membership = self.committed()
        ids = membership.members.keys() if membership is not None else set()
        return [node for node in self.nodes if node.driver is not None and node.member_id in ids]

    def can_learn(self, node: SimNode) -> bool:
        """Whether a former member knows anyone who could tell it that it is one no more."""
        known = {member.store_id for member in node.streams.transport.membership.members.values()}
        return any(member.store_id in known for member in self.members())

    def _waiting(self) -> list[SimNode]:
        return [node for node in self.nodes if node.phase == "waiting"]

    # Calls

    def _ask(self, change: Change, what: str) -> None:
        up = [node for node in self.nodes if node.is_running]
        if not up:
            return
        self.world.counts[what] += 1
        node = self.world.random.choice(up)
        membership = self.committed()
        by_version = membership is not None and self.world.chance(0.3)
        call = Call(kind="change", change=change, if_match=membership.version if membership and by_version else None)
        self.world.trace(f"{node} is asked for {change}")
        clock = node.clock
        node.submit(lambda driver: self._submit(driver, call, clock))

    def _submit(self, driver: Driver, call: Call, clock: float) -> None:
        try:
            driver.ask(call, self, clock)
        except ServiceError as error:
            self.world.counts[f"calls refused: {error.kind}"] += 1

    def _on_control(self, done: ControlDone) -> None:
        if done.token is self:
            self.world.trace(f"a call ends: {done.status} {done.error!r}")
            self.world.counts["calls done" if done.error is None else f"calls refused: {done.error.kind}"] += 1


def _addresses(node: SimNode) -> MemberAddresses:
    return MemberAddresses(peer=f"{node}:1", client=f"{node}:2")


def _has_log(node: SimNode) -> bool:
    return node.driver is not None and not node.identity.removed and node.driver.raft.commit_index > 0


def _halves(driver: Driver) -> Iterator[frozenset[int]]:
    raft = driver.raft
    for membership in (raft.membership, raft.committed_membership):
        yield from (half for half in (membership.voters, membership.outgoing_voters) if half)
        for group in intents.groups(membership):
            yield intents.target_of(membership, group).voters
