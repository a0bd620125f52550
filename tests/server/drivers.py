"""Whole drivers on virtual time, with the disk and the network in the test's hands."""

import random
from collections import deque
from collections.abc import Callable
from typing import Any

from raftwright.kv.commands import Put, encode_blob, encode_command
from raftwright.kv.store import KvMachine
from raftwright.raft.entries import EntryId, HardState, Recovered, SnapshotMeta
from raftwright.raft.membership import Addresses, Member, first_membership
from raftwright.raft.raft import Raft, RaftSettings
from raftwright.server.blobs import Blob, Origin
from raftwright.server.driver import Driver, DriverSettings
from raftwright.server.effects import Answer, ControlDone, Effects, Persist, ReadDone
from raftwright.server.machine import Machine
from raftwright.server.membership_requests import Call
from raftwright.server.state import ReplicatedState
from raftwright.server.wire import PeerMessage, decode_frame, encode_frame
from raftwright.server.writes import Write

FOUNDING = EntryId(1, 1)


def put(key: str, value: bytes = b"v") -> tuple[Put, bytes]:
    command = Put(key, value)
    return command, encode_command(command)


def blob_of(*commands: Put, session: bytes = b"", first_seq: int = 0) -> Blob:
    encoded = [encode_command(command) for command in commands]
    origin = Origin(session=session, first_seq=first_seq, count=len(commands), opens=bool(session))
    return Blob(origin=origin, data=encode_blob(encoded))


class Cluster:
    """Drivers of founding members 1 to `size`. Nothing moves unless a test moves it."""

    def __init__(
        self,
        size: int = 3,
        learners: int = 0,
        machine: Callable[[int], Machine] = lambda _: KvMachine(),
        seed: int = 0,
        **settings: Any,
    ) -> None:
        membership = first_membership(
            (Member(name=f"n{n}", store_id=f"{n:032x}", addresses=Addresses(peer="p:1", client="c:1")), n <= size)
            for n in range(1, size + learners + 1)
        )
        self.now = 100.0
        self.seed = seed
        self.rates: dict[int, float] = {}
        """How fast the clocks of members run; set by `skew`."""
        self._skewed_at = self.now
        self.answers: list[Answer] = []
        self.reads: list[ReadDone] = []
        self.controls: list[ControlDone] = []
        self.settings = settings
        self.machine = machine
        self.membership = membership
        self.persists: dict[int, deque[Persist]] = {}
        self.network: deque[tuple[int, PeerMessage]] = deque()
        self.sent: list[PeerMessage] = []
        """Everything that was ever sent."""
        self.cut: set[int] = set()
        """Members that no message reaches or leaves."""
        self.effects: dict[int, Effects] = {}
        self.drivers: dict[int, Driver] = {}
        for number in membership.members:
            self.start(number)

    def start(self, number: int) -> None:
        """Start a member, from the first snapshot, whether or not it was a founding one."""
        meta = SnapshotMeta(id=FOUNDING, time_ms=0, membership=self.membership)
        recovered = Recovered(hard_state=HardState(term=1), snapshot=meta, base=FOUNDING, last=FOUNDING)
        raft = Raft(
            member_id=number,
            settings=RaftSettings(),
            recovered=recovered,
            random=random.Random(number + 1000 * self.seed),
            now=self.clock(number),
        )
        state = ReplicatedState(self.machine(number), applied=FOUNDING)
        self.persists[number] = deque()
        self.drivers[number] = Driver(
            raft=raft, state=state, membership=self.membership, settings=DriverSettings(**self.settings)
        )

    def __getitem__(self, number: int) -> Driver:
        return self.drivers[number]

    def clock(self, number: int) -> float:
        """A member's own clock."""
        if number not in self.rates:
            return self.now
        return self._skewed_at + (self.now - self._skewed_at) * self.rates[number]

    def skew(self, rates: dict[int, float]) -> None:
        """From now on clocks run at these rates."""
        self.rates, self._skewed_at = rates, self.now

    def run(self, number: int) -> Effects:
        """One run of a driver. Its messages wait in `network`, its write to disk in `persists`."""
        effects = self.drivers[number].run(self.clock(number), int(self.now * 1000))
        self.effects[number] = effects
        for peer, messages in effects.sends.items():
            for message in decode_frame(encode_frame(messages)):
                self.sent.append(message)
                if number not in self.cut and peer not in self.cut:
                    self.network.append((peer, message))
        if effects.persist is not None:
            self.persists[number].append(effects.persist)
        self.answers += effects.answers
        self.reads += effects.reads
        self.controls += effects.controls
        return effects

    def sync(self, number: int) -> None:
        """The disk of a member is done with what it was given."""
        self.persists[number].popleft()
        self.drivers[number].persisted(None, self.clock(number))
        self.run(number)

    def deliver(self) -> None:
        """Everything that is on its way arrives, and what follows from it, but no disk moves."""
        while self.network:
            to, message = self.network.popleft()
            if to not in self.cut and to in self.drivers:
                self.drivers[to].receive([message], self.clock(to))
                self.run(to)

    def settle(self) -> None:
        """Network and disks move until nothing does."""
        for number in self.drivers:
            self.run(number)
        while self.network or any(self.persists.values()) or any(e.again for e in self.effects.values()):
            self.deliver()
            for number, waiting in self.persists.items():
                if waiting:
                    self.sync(number)
                elif self.effects[number].again:
                    self.run(number)

    def settle_without_answers_to(self, number: int) -> None:
        """Network and disks move, but nothing reaches `number`."""
        self.cut.add(number)
        self.settle()
        self.cut.discard(number)

    def wait(self, seconds: float, *, settle: bool = True) -> None:
        end = self.now + seconds
        while self.now < end:
            self.now = min(end, self.now + 0.01)
            for number in self.drivers:
                self.run(number)
            if settle:
                self.settle()

    def elect(self) -> int:
        """Let time pass until there is a leader that everyone knows and whose no-op is applied everywhere."""
        for _ in range(500):
            self.wait(0.01)
            leaders = {n for n, d in self.drivers.items() if d.is_leader and n not in self.cut}
            others = [d for n, d in self.drivers.items() if n not in self.cut]
            if len(leaders) == 1:
                (leader,) = leaders
                if all(d.raft.leader_id == leader and d.reads.count == 0 for d in others):
                    self.wait(0.15)
                    return leader
        raise AssertionError("no leader was elected")

    def write(self, number: int, key: str, token: Any, *, session: bytes = b"", first_seq: int = 0) -> None:
        command, _ = put(key)
        blob = blob_of(command, session=session, first_seq=first_seq)
        deadline = self.now + self.drivers[number].settings.request_timeout_s
        self.drivers[number].write(Write(blob, [command], token, deadline))

    def ask(self, number: int, call: Call, *, wait_s: float = 3.0) -> ControlDone:
        """Call a member and let time pass until it answers."""
        token = object()
        self.drivers[number].ask(call, token, self.now)
        end = self.now + wait_s
        while self.now < end:
            self.wait(0.01)
            for done in self.controls:
                if done.token is token:
                    return done
        raise AssertionError(f"no answer in {wait_s} s")

    def answer_of(self, token: Any) -> Answer | None:
        found = [answer for answer in self.answers if answer.token == token]
        assert len(found) <= 1, f"{token!r} was answered {len(found)} times"
        return found[0] if found else None
