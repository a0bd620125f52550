"""A whole cluster of cores in one thread: messages are delivered by hand, time is a number, disks are `store.py`.

Used by the tests of the core. Its one rule: after everything that happens, Raft's safety properties are checked
(Figure 3.2), from outside of all members.
"""

from collections.abc import Iterable, Mapping
from dataclasses import replace

from raftwright.raft.entries import EntryKind
from raftwright.raft.events import (
    AnyEvent,
    Propose,
    ProposeMembership,
    Receive,
    RequestRead,
    Tick,
)
from raftwright.raft.membership import Addresses, Member, Membership, first_membership
from raftwright.raft.messages import AppendReply, PreVoteReply, RaftMessage, RequestPreVote, RequestVote, VoteReply
from raftwright.raft.raft import RaftSettings
from raftwright.raft.roles import Leader
from tests.raft.store import Disk, Store


def member(number: int) -> Member:
    return Member(name=f"n{number}", store_id=f"{number:032x}", addresses=Addresses(peer="", client=""))


def membership_of(voters: Iterable[int], learners: Iterable[int] = ()) -> Membership:
    """The first membership, of members 1, 2, 3…"""
    voters, learners = set(voters), set(learners)
    return first_membership([(member(number), number in voters) for number in sorted(voters | learners)])


class Cluster:
    def __init__(
        self,
        voters: int = 3,
        *,
        learners: int = 0,
        settings: RaftSettings | None = None,
        seed: int = 0,
        instant_disk: bool = True,
        tail_entries: int = 1000,
        election_timeouts_s: Mapping[int, float] | None = None,
    ) -> None:
        """`election_timeouts_s` is by member, where it has another than the settings'."""
        self.settings = settings or RaftSettings()
        self.election_timeouts_s = dict(election_timeouts_s or {})
        self.instant_disk = instant_disk
        self.tail_entries = tail_entries
        self.now = 0.0
        self.network: list[RaftMessage] = []
        self.cuts: set[tuple[int, int]] = set()
        self.stores: dict[int, Store] = {}
        self.disks: dict[int, Disk] = {}
        self.leaders: dict[int, int] = {}
        """By term: election safety."""
        self.digests: dict[int, int] = {}
        """By applied index: state machine safety."""
        self.committed = 0
        self._seed = seed
        membership = membership_of(range(1, voters + 1), range(voters + 1, voters + learners + 1))
        for number in membership.members:
            self.start(number, Disk.founded(membership))

    # -- stores -------------------------------------------------------------------------------------------------

    def start(self, member_id: int, disk: Disk | None = None) -> Store:
        """Start a member from a disk: the given one, the one it crashed with, or an empty one."""
        self._seed += 1
        self.disks[member_id] = disk or self.disks.get(member_id) or Disk()
        store = self.stores[member_id] = Store(
            member_id,
            self.disks[member_id],
            settings=replace(
                self.settings,
                election_timeout_s=self.election_timeouts_s.get(member_id, self.settings.election_timeout_s),
            ),
            now=self.now,
            seed=self._seed,
            send=self._send,
            observe=self._observe,
            committed=self._committed,
            tail_entries=self.tail_entries,
        )
        return store

    def crash(self, member_id: int) -> None:
        """Everything in memory is gone, and what was not written."""
        store = self.stores.pop(member_id)
        store.disk.receiving.clear()

    def __getitem__(self, member_id: int) -> Store:
        return self.stores[member_id]

    @property
    def leader(self) -> Store:
        """The one leader of the newest term."""
        leading = [store for store in self.stores.values() if isinstance(store.raft.role, Leader)]
        assert leading, "there is no leader"
        return max(leading, key=lambda store: store.raft.term)

    # -- one thing at a time ------------------------------------------------------------------------------------

    def step(self, member_id: int, event: AnyEvent) -> None:
        store = self.stores[member_id]
        store.step(event)
        self._check(store)

    def settle(self, member_id: int) -> None:
        """Take Readys, and with an instant disk write and apply, until the member is quiet."""
        store = self.stores[member_id]
        store.now = self.now
        while store.raft.has_ready or store.answers or (self.instant_disk and store.writing):
            if store.raft.has_ready:
                store.collect()
            while store.answers:
                store.step(store.answers.popleft())
            while self.instant_disk and store.writing:
                store.finish_write()
            store.apply()
            self._check(store)

    def deliver(self, message: RaftMessage) -> None:
        """Hand one message to its receiver, if the way is open and the receiver runs."""
        if message.to_id in self.stores and (message.from_id, message.to_id) not in self.cuts:
            self.step(message.to_id, Receive(now=self.now, message=message))

    def deliver_all(self) -> None:
        """Until nobody has anything to say: every message in the order sent."""
        for _ in range(100_000):
            for member_id in sorted(self.stores):
                self.settle(member_id)
            if not self.network:
                return
            waiting, self.network = self.network, []
            for message in waiting:
                self.deliver(message)
        raise AssertionError("the cluster does not come to rest")

    def tick(self, member_id: int) -> None:
        """Let one member's deadline pass."""
        self.now = max(self.now, self.stores[member_id].raft.next_deadline)
        self.step(member_id, Tick(now=self.now))

    # -- until something ----------------------------------------------------------------------------------------

    def run(self, seconds: float) -> None:
        """Let time pass, and everything happen that is due, with an instant network."""
        end = self.now + seconds
        self.deliver_all()
        while True:
            due = min(((store.raft.next_deadline, key) for key, store in self.stores.items()), default=(end, 0))
            if due[0] >= end:
                self.now = end
                return
            self.tick(due[1])
            self.deliver_all()

    def elect(self, member_id: int) -> None:
        """Make this member the leader: the others' timers stand still meanwhile."""
        self.now += 2 * self.settings.election_timeout_s
        self.tick(member_id)
        self.deliver_all()
        assert self.leader.member_id == member_id, "it cannot win"

    def cut_off(self, member_id: int) -> None:
        """Neither send to it nor hear from it."""
        for other in {*self.stores, *self.disks} - {member_id}:
            self.cuts |= {(member_id, other), (other, member_id)}

    def heal(self) -> None:
        self.cuts.clear()

    # -- requests -----------------------------------------------------------------------------------------------

    def propose(self, payload: bytes = b"", *, at: int | None = None, time_ms: int = 0) -> int:
        """Propose at the leader, or at that member; the entry's index."""
        store = self.leader if at is None else self.stores[at]
        self.step(
            store.member_id,
            Propose(now=self.now, kind=EntryKind.COMMANDS, version=1, time_ms=time_ms, payload=payload, checksum=0),
        )
        return store.raft.log.last_index

    def change(self, voters: Iterable[int], learners: Iterable[int] = (), *, at: int | None = None) -> None:
        """Propose that membership at the leader. Ids not known yet become new members."""
        store = self.leader if at is None else self.stores[at]
        current = store.raft.membership
        voters, learners = frozenset(voters), frozenset(learners)
        target = replace(
            current,
            members={key: current.members.get(key) or member(key) for key in sorted(voters | learners)},
            voters=voters,
            learners=learners,
            last_member_id=max(current.last_member_id, *voters, *learners),
        )
        self.step(
            store.member_id,
            ProposeMembership(now=self.now, target=target, base_version=current.version, time_ms=0),
        )

    def read(self, member_id: int, context: int) -> None:
        self.step(member_id, RequestRead(now=self.now, context=context))

    # -- checks -------------------------------------------------------------------------------------------------

    def _send(self, message: RaftMessage) -> None:
        """Nothing leaves before what it promises is durable."""
        disk = self.disks[message.from_id]
        hard_state = disk.hard_state
        if not isinstance(message, RequestPreVote | PreVoteReply):
            assert message.term <= hard_state.term, "a term leaves before it is durable"
        if message.term == hard_state.term:
            match message:
                case RequestVote():
                    assert hard_state.voted_for == message.from_id, "a candidate asks before its own vote is durable"
                case VoteReply(granted=True):
                    assert hard_state.voted_for == message.to_id, "a vote leaves before it is durable"
                case AppendReply(success=True, match_index=index):
                    assert index <= disk.last_index, "an acknowledgement leaves before the entries are durable"
        self.network.append(message)

    def _committed(self, store: Store, membership: Membership) -> None:
        """What a leader commits is on the disks of a majority, of each half of its membership."""
        entry_id = store.raft.log.id_at(store.raft.commit_index)
        assert entry_id is not None
        holding = {number for number, disk in self.disks.items() if disk.holds(entry_id)}
        for half in filter(None, (membership.voters, membership.outgoing_voters)):
            assert 2 * len(half & holding) > len(half), f"{entry_id} is committed, and durable on {holding} only"

    def _observe(self, store: Store, index: int, digest: int) -> None:
        """State machine safety: whoever applies an index applies the same there, with the same before it."""
        assert self.digests.setdefault(index, digest) == digest, f"member {store.member_id} applied another {index}"
        self.committed = max(self.committed, index)

    def _check(self, store: Store) -> None:
        raft = store.raft
        if isinstance(raft.role, Leader):
            leader = self.leaders.setdefault(raft.term, store.member_id)
            assert leader == store.member_id, f"members {leader} and {store.member_id} both lead term {raft.term}"
            if raft.term == max(self.leaders):
                assert raft.log.last_index >= self.committed, "leader completeness"

    def check_logs_match(self) -> None:
        """Log matching: two logs with the same id at an index agree on everything before it."""
        stores = list(self.stores.values())
        for position, one in enumerate(stores):
            for other in stores[position + 1 :]:
                a, b = one.raft.log, other.raft.log
                shared = range(max(a.base.index, b.base.index), min(a.last_index, b.last_index) + 1)
                agree = [a.term_at(index) == b.term_at(index) for index in shared]
                assert agree == sorted(agree, reverse=True), f"{one.member_id} and {other.member_id} diverge and meet"
