"""A seeded run of one cluster in which everything may go wrong: loss, delay, reordering, duplication, partitions,
crashes that forget what was not written, slow disks, changes of membership, transfers and snapshots.

Used by `test_chaos.py`. Its one rule: all choices come from one seeded random, so that a seed repeats its run.
"""

from collections.abc import Callable
from contextlib import suppress
from random import Random

from raftwright.raft.errors import Refusal
from raftwright.raft.events import StreamLost, Tick, TransferLeadership
from raftwright.raft.raft import RaftSettings
from tests.raft.cluster import Cluster
from tests.raft.store import Store

SETTINGS = RaftSettings(
    append_bytes_max=200,
    inflight_appends_max=4,
    inflight_bytes_max=1000,
    tail_bytes_max=600,
    chunk_bytes=40,
    uncommitted_bytes_max=5000,
)


class Chaos:
    def __init__(self, seed: int, *, voters: int, change_members: bool = False) -> None:
        self.random = Random(seed)
        self.cluster = Cluster(voters, settings=SETTINGS, seed=seed, instant_disk=False, tail_entries=3)
        self.change_members = change_members
        self.proposals = 0
        self.read_floor: dict[int, int] = {}
        """By context: what was committed somewhere when the read was asked for."""
        self.reads_answered = 0

    def run(self, steps: int) -> None:
        actions = [
            (self.deliver, 80),
            (self.write, 40),
            (self.tick, 12),
            (self.propose, 10),
            (self.read, 4),
            (self.lose, 3),
            (self.repeat, 2),
            (self.answer_load, 20),
            (self.snapshot, 1),
            (self.crash, 0.5),
            (self.start, 4),
            (self.cut, 0.4),
            (self.heal, 2),
            (self.transfer, 0.5),
            (self.break_stream, 0.5),
            (self.change, 2 if self.change_members else 0),
        ]
        chosen = self.random.choices([a for a, _ in actions], [w for _, w in actions], k=steps)
        for action in chosen:
            action()
            for member_id in sorted(self.cluster.stores):
                self.take(self.cluster[member_id])

    def take(self, store: Store) -> None:
        """Take the member's Ready now or, as a busy shell would, later."""
        if store.raft.has_ready and self.random.random() < 0.7:
            store.now = self.cluster.now
            store.collect()
        for answer in store.reads:
            floor = self.read_floor.pop(answer.context)
            if answer.index is not None:
                self.reads_answered += 1
                assert answer.index >= floor, "a read saw less than what was committed when it was asked for"
        store.reads.clear()

    def anyone(self) -> Store | None:
        return self.random.choice([store for _, store in sorted(self.cluster.stores.items())] or [None])

    def deliver(self) -> None:
        network = self.cluster.network
        for _ in range(min(len(network), self.random.randrange(1, 4))):
            # Mostly in order, as streams are; now and then any message overtakes.
            late = self.random.random() < 0.15
            self.cluster.deliver(network.pop(self.random.randrange(len(network)) if late else 0))

    def lose(self) -> None:
        if self.cluster.network:
            self.cluster.network.pop(self.random.randrange(len(self.cluster.network)))

    def repeat(self) -> None:
        if self.cluster.network:
            self.cluster.network.append(self.random.choice(self.cluster.network))

    def write(self) -> None:
        store = self.anyone()
        if store is not None:
            store.now = self.cluster.now
            for _ in range(self.random.randrange(1, 4)):
                if store.writing:
                    store.finish_write()
            store.apply()

    def answer_load(self) -> None:
        store = self.anyone()
        if store is not None and store.answers:
            store.now = self.cluster.now
            store.step(store.answers.popleft())

    def tick(self) -> None:
        """Time passes; whoever is due then, is told, or told late."""
        self.cluster.now += self.random.random() * 0.06
        for member_id, store in sorted(self.cluster.stores.items()):
            if store.raft.next_deadline <= self.cluster.now and self.random.random() < 0.8:
                self.cluster.step(member_id, Tick(now=self.cluster.now))

    def propose(self) -> None:
        store = self.anyone()
        if store is not None and store.raft.leader_role is not None:
            self.proposals += 1
            self.attempt(lambda: self.cluster.propose(b"%d" % self.proposals, at=store.member_id))

    def attempt(self, action: Callable[[], object]) -> None:
        with suppress(Refusal):
            action()

    def read(self) -> None:
        store = self.anyone()
        if store is not None:
            context = len(self.read_floor) + self.reads_answered * 1000 + self.random.randrange(1 << 40)
            self.read_floor[context] = max(other.commit_index for other in self.cluster.stores.values())
            self.cluster.read(store.member_id, context)

    def snapshot(self) -> None:
        store = self.anyone()
        if store is not None:
            store.now = self.cluster.now
            store.take_snapshot(keep=self.random.randrange(0, 10))

    def crash(self) -> None:
        store = self.anyone()
        if store is not None:
            # A write that was on its way may have reached the disk, and its messages may not have left.
            for _ in range(self.random.randrange(0, 1 + len(store.writing))):
                store.disk.write(store.writing.popleft())
            self.cluster.crash(store.member_id)

    def start(self) -> None:
        down = sorted(set(self.cluster.disks) - set(self.cluster.stores))
        if down:
            self.cluster.start(self.random.choice(down))

    def cut(self) -> None:
        numbers = sorted(self.cluster.disks)
        side = {number for number in numbers if self.random.random() < 0.5}
        self.cluster.cuts |= {
            (a, b) for a in numbers for b in numbers if (a in side) != (b in side) and self.random.random() < 0.9
        }

    def heal(self) -> None:
        self.cluster.heal()

    def transfer(self) -> None:
        store = self.anyone()
        if store is not None and store.raft.leader_role is not None:
            event = TransferLeadership(now=self.cluster.now, target=None)
            self.attempt(lambda: self.cluster.step(store.member_id, event))

    def break_stream(self) -> None:
        store = self.anyone()
        if store is not None:
            peer = self.random.choice(sorted(self.cluster.disks))
            self.cluster.step(store.member_id, StreamLost(now=self.cluster.now, peer=peer))

    def change(self) -> None:
        """Any membership of old and new members; a new member starts with an empty disk."""
        store = self.anyone()
        if store is None or store.raft.leader_role is None:
            return
        membership = store.raft.membership
        known = sorted(membership.members)
        if len(known) < 6:
            known.append(max(membership.last_member_id, *self.cluster.disks) + 1)
        chosen = self.random.sample(known, self.random.randrange(1, min(5, len(known)) + 1))
        voters = chosen[: max(1, len(chosen) - self.random.randrange(0, 2))]
        learners = [number for number in chosen if number not in voters]
        self.attempt(lambda: self.cluster.change(voters, learners, at=store.member_id))
        for number in chosen:
            if number not in self.cluster.disks:
                self.cluster.start(number)

    def calm(self) -> None:
        """Everything is repaired: now the cluster must come to agree and go on."""
        cluster = self.cluster
        cluster.heal()
        for member_id in sorted(set(cluster.disks) - set(cluster.stores)):
            cluster.start(member_id)
        cluster.instant_disk = True
        cluster.run(20.0)
        index = cluster.propose(b"at last")
        cluster.run(1.0)
        leader = cluster.leader
        for member_id in leader.raft.membership.members:
            store = cluster[member_id]
            assert store.raft.commit_index >= index, f"member {member_id} did not catch up"
            assert store.digest == leader.digest
        cluster.check_logs_match()
