"""Replicas check each other: who is in the minority is found, named, held back and repaired; nothing else is."""

import random
from collections.abc import Iterator
from typing import Any

import msgspec
import pytest

from raftwright.kv.store import KvMachine
from raftwright.server.digests import INTERVAL_ENTRIES
from raftwright.server.machine import Applied, ApplyContext
from raftwright.server.state import DIGEST_SECTION
from raftwright.server.wire import DigestReport, DigestVerdict, StateChunk, StateRequest
from tests.server.drivers import Cluster
from tests.server.replicas import Replicas, sections_of

AT = 100
"""Index of the entry that a wrong machine gets wrong."""


class Wrong(KvMachine):
    """Gets one entry wrong: the revision, and with it the results of all that follows."""

    by = 1
    ignores_context = False

    def apply(self, commands: list[Any], context: ApplyContext) -> Applied:
        applied = super().apply(commands, context)
        if context.index == AT:
            self.revision += self.by
        return applied


def wrong(*members: int, by: int = 1) -> Any:
    def machine(number: int) -> KvMachine:
        if number not in members:
            return KvMachine()
        found = Wrong()
        found.by = by * (1 + members.index(number))
        return found

    return machine


def led_by(cluster: Replicas, number: int) -> Replicas:
    """Make `number` the leader."""
    if cluster.elect() != number:
        (leader,) = [n for n, driver in cluster.drivers.items() if driver.is_leader]
        cluster[leader].transfer_leadership(number, cluster.now)
        cluster.wait(0.5)
    assert cluster[number].is_leader
    return cluster


def checks(cluster: Cluster) -> dict[int, tuple[int, int, int]]:
    return {
        number: (driver.checks.passed, driver.checks.failed, driver.checks.skipped)
        for number, driver in cluster.drivers.items()
    }


def test_replicas_that_agree_pass_every_check() -> None:
    cluster = led_by(Replicas(3, learners=1), 1)
    cluster.writes(600)
    cluster.wait(3.0)
    assert checks(cluster) == {n: (3, 0, 0) for n in range(1, 5)}  # the first entry of a time span, 256 and 512
    assert not any(driver.checks.divergence or driver.checks.alarm for driver in cluster.drivers.values())
    assert cluster.adopted == []


def test_a_follower_in_the_minority_is_named_held_back_and_repaired() -> None:
    cluster = led_by(Replicas(3, machine=wrong(2)), 1)
    cluster.writes(INTERVAL_ENTRIES - 2)
    assert cluster[2].checks.failed == 1, "found at the first agreed index"
    cluster.wait(3.0)
    assert cluster.adopted == [2]
    assert cluster[2].checks.repairs == 1
    assert not cluster[2].is_restoring
    assert not cluster[1].checks.minority, "the leader knows, without another write"
    assert len(set(cluster.states().values())) == 1
    cluster.writes(600)
    cluster.wait(3.0)
    assert len(set(cluster.states().values())) == 1
    assert [driver.checks.failed for driver in cluster.drivers.values()] == [0, 1, 0]
    assert all(not driver.checks.minority for driver in cluster.drivers.values())
    assert cluster[2].checks.passed_index == cluster[1].checks.passed_index


def until_diverged(cluster: Replicas, number: int) -> None:
    """Write until the member knows that it is wrong, and no further."""
    for position in range(INTERVAL_ENTRIES):
        if cluster[number].checks.divergence is not None:
            return
        leader = next(n for n, driver in cluster.drivers.items() if driver.is_leader)
        cluster.write(leader, f"k{position}", f"w{position}")
        for _ in range(40):
            if cluster[number].checks.divergence is not None:
                return
            step(cluster)
    raise AssertionError("nothing was found")


def step(cluster: Replicas) -> None:
    """One message arrives, or one write to disk ends."""
    if cluster.network:
        to, message = cluster.network.popleft()
        cluster[to].receive([message], cluster.now)
        cluster.run(to)
    for number, waiting in cluster.persists.items():
        if waiting:
            cluster.sync(number)
        elif not cluster.network:
            cluster.run(number)


def test_it_stays_a_full_member_all_the_while() -> None:
    """Its log is right: it votes and acknowledges, and the others may fail."""
    cluster = led_by(Replicas(3, machine=wrong(2)), 1)
    until_diverged(cluster, 2)
    assert cluster[2].is_restoring, "not ready"
    assert cluster[1].checks.minority.keys() == {2}, "the leader names it"
    applied, hard_state = cluster[2].state.applied_index, cluster[2].raft.hard_state
    last = cluster[2].raft.log.last_id
    cluster.network = type(cluster.network)(
        (to, m) for to, m in cluster.network if not isinstance(m, StateRequest | StateChunk)
    )
    cluster.cut = {3}
    cluster.write(1, "more", "while-wrong")
    for _ in range(30):
        if cluster.answer_of("while-wrong") is not None:
            break
        to_drop = [item for item in cluster.network if isinstance(item[1], StateRequest | StateChunk)]
        for item in to_drop:
            cluster.network.remove(item)
        step(cluster)
    answer = cluster.answer_of("while-wrong")
    assert answer is not None and answer.error is None, "committed by the leader and the one whose state is wrong"
    snapshot = cluster.disks[2].meta
    cluster[2].snapshotting.is_wanted = True
    for _ in range(40):
        for item in [item for item in cluster.network if isinstance(item[1], StateRequest | StateChunk)]:
            cluster.network.remove(item)
        cluster.now += 0.005
        step(cluster)
    assert cluster[2].raft.commit_index > applied
    assert cluster[2].state.applied_index == applied, "it applies nothing more to a wrong state"
    assert cluster.disks[2].meta == snapshot, "nor does it take a snapshot of it"
    assert cluster[2].raft.hard_state == hard_state
    assert cluster[2].raft.log.last_id > last
    cluster.cut = set()
    cluster.wait(3.0)
    assert cluster.adopted == [2]
    assert len(set(cluster.states().values())) == 1


def test_its_log_survives_the_repair_and_a_restart_finds_the_repaired_state() -> None:
    cluster = led_by(Replicas(3, machine=wrong(2)), 1)
    cluster.writes(400)
    cluster.wait(3.0)
    assert cluster.adopted == [2]
    entries = dict(cluster.disks[2].entries)
    assert len(entries) > 140, "what it had written before is still in the log"
    cluster.machine = lambda _: KvMachine()
    cluster.restart(2)
    cluster.wait(2.0)
    assert len(set(cluster.states().values())) == 1
    cluster.writes(300)
    cluster.wait(3.0)
    assert cluster[2].checks.failed == 0
    assert cluster[2].checks.passed >= 1


def test_a_leader_in_the_minority_hands_over_before_it_is_repaired() -> None:
    cluster = led_by(Replicas(3, machine=wrong(1)), 1)
    until_diverged(cluster, 1)
    assert cluster.adopted == []
    cluster.wait(5.0)
    assert [number for number, driver in cluster.drivers.items() if driver.is_leader] in ([2], [3])
    assert cluster.adopted == [1]
    requests = [m for m in cluster.sent if isinstance(m, StateRequest)]
    assert {m.from_id for m in requests} == {1}
    assert all(m.to_id != 1 for m in requests)
    cluster.writes(300)
    cluster.wait(3.0)
    assert len(set(cluster.states().values())) == 1
    assert [driver.checks.failed for driver in cluster.drivers.values()] == [1, 0, 0]


def test_a_learner_in_the_minority_is_repaired_and_never_decides() -> None:
    cluster = led_by(Replicas(2, learners=2, machine=wrong(3, 4, by=5)), 1)
    cluster.writes(300)
    cluster.wait(4.0)
    assert sorted(cluster.adopted) == [3, 4]
    assert [driver.checks.failed for driver in cluster.drivers.values()] == [0, 0, 1, 1]
    assert len(set(cluster.states().values())) == 1


def test_learners_that_agree_with_each_other_do_not_outvote_the_voter() -> None:
    cluster = led_by(Replicas(1, learners=2, machine=wrong(2, 3, by=0)), 1)
    cluster[2].state.machine.by = cluster[3].state.machine.by = 7  # type: ignore[attr-defined]
    cluster.writes(300)
    cluster.wait(20.0)
    assert sorted(cluster.adopted) == [2, 3]
    assert cluster[1].checks.failed == 0
    assert len(set(cluster.states().values())) == 1


def test_two_voters_that_disagree_raise_an_alarm_and_nothing_is_repaired() -> None:
    cluster = led_by(Replicas(2, machine=wrong(2)), 1)
    cluster.writes(300)
    cluster.wait(5.0)
    for driver in cluster.drivers.values():
        assert "n1" in driver.checks.alarm and "n2" in driver.checks.alarm
        assert driver.checks.divergence is None
        assert driver.checks.failed == 1
    assert cluster.adopted == []
    assert not any(isinstance(m, StateRequest) for m in cluster.sent)
    cluster.writes(10)  # it still serves: neither is known to be wrong


def test_three_different_states_raise_an_alarm_and_nothing_is_repaired() -> None:
    cluster = led_by(Replicas(3, machine=wrong(2, 3)), 1)
    cluster.writes(300)
    cluster.wait(5.0)
    assert all(driver.checks.alarm for driver in cluster.drivers.values())
    assert [driver.checks.failed for driver in cluster.drivers.values()] == [1, 1, 1]
    assert cluster.adopted == []


def test_two_that_disagree_while_the_third_is_away_are_an_alarm_until_it_decides() -> None:
    cluster = led_by(Replicas(3, machine=wrong(2)), 1)
    cluster.cut = {3}
    cluster.writes(300)
    cluster.wait(4.0)
    assert cluster[1].checks.alarm
    assert cluster.adopted == []
    cluster.cut = set()
    cluster.wait(8.0)
    assert cluster.adopted == [2]
    assert not cluster[1].checks.alarm
    assert len(set(cluster.states().values())) == 1


def test_unequal_versions_are_not_compared() -> None:
    class OtherVersion(Wrong):
        version = 2

    cluster = led_by(Replicas(3, machine=lambda n: OtherVersion() if n == 2 else KvMachine()), 1)
    cluster.writes(300)
    cluster.wait(20.0)
    assert cluster[2].checks.failed == cluster[2].checks.passed == 0
    assert cluster[2].checks.skipped == 2
    assert checks(cluster)[1] == checks(cluster)[3] == (2, 0, 0)
    assert cluster.adopted == []
    assert not any(driver.checks.minority for driver in cluster.drivers.values())


def test_two_voters_of_unequal_versions_are_no_alarm() -> None:
    class OtherVersion(Wrong):
        version = 2

    cluster = led_by(Replicas(2, machine=lambda n: OtherVersion() if n == 2 else KvMachine()), 1)
    cluster.writes(300)
    cluster.wait(20.0)
    assert checks(cluster) == {1: (0, 0, 2), 2: (0, 0, 2)}
    assert not any(driver.checks.alarm for driver in cluster.drivers.values())


def test_a_member_that_cannot_go_on_with_its_chain_passes_nothing() -> None:
    cluster = led_by(Replicas(3), 1)
    disk = cluster.disks[2]
    disk.snapshot = msgspec.msgpack.encode([each for each in sections_of(disk.snapshot) if each[0] != DIGEST_SECTION])
    cluster.restart(2)
    cluster.writes(600)
    cluster.wait(20.0)
    passed, failed, skipped = checks(cluster)[2]
    assert (passed, failed) == (0, 0)
    assert skipped >= 2
    assert all(cluster[number].checks.passed >= 2 for number in (1, 3))


def test_a_lone_voter_passes_nothing() -> None:
    cluster = led_by(Replicas(1), 1)
    cluster.writes(300)
    cluster.wait(20.0)
    assert checks(cluster) == {1: (0, 0, 2)}


def test_a_check_that_nobody_answers_is_not_passed() -> None:
    cluster = led_by(Replicas(3), 1)
    before = checks(cluster)
    for number in (2, 3):
        cluster[number].checks.run = lambda now, effects: None  # type: ignore[method-assign]
    cluster.writes(300)
    cluster.wait(20.0)
    passed, failed, skipped = (after - now for now, after in zip(before[1], checks(cluster)[1], strict=True))
    assert (passed, failed) == (0, 0)
    assert skipped >= 1


def test_reports_and_verdicts_that_are_lost_are_said_again() -> None:
    cluster = led_by(Replicas(3), 1)
    chance = random.Random(1)
    for number in cluster.drivers:
        original = cluster[number].checks.receive

        def receive(message: Any, original: Any = original) -> None:
            if chance.random() < 0.5:
                original(message)

        cluster[number].checks.receive = receive  # type: ignore[method-assign]
    cluster.writes(600)
    cluster.wait(14.0)
    assert all(driver.checks.failed == 0 for driver in cluster.drivers.values())
    assert all(driver.checks.passed >= 2 for driver in cluster.drivers.values())


def test_a_new_leader_goes_on_with_what_was_not_decided() -> None:
    cluster = led_by(Replicas(3, machine=wrong(3)), 1)
    for number in cluster.drivers:
        cluster[number].checks.receive = lambda message: None  # type: ignore[method-assign]
    cluster.writes(300)
    for number in cluster.drivers:
        del cluster[number].checks.receive
    cluster[1].transfer_leadership(2, cluster.now)
    cluster.wait(4.0)
    assert cluster[2].is_leader
    assert cluster.adopted == [3]
    assert len(set(cluster.states().values())) == 1


@pytest.mark.parametrize("seed", range(6))
def test_nothing_false_is_found_in_long_random_runs(seed: int) -> None:
    chance = random.Random(seed)
    cluster = Replicas(3, learners=1, snapshot_commands=97)
    cluster.elect()
    for round_ in range(12):
        cut = chance.choice([0, 0, 1, 2, 3, 4])
        cluster.cut = {cut} if cut else set()
        cluster.wait(2.0 * chance.random())
        leaders = [n for n, d in cluster.drivers.items() if d.is_leader and n not in cluster.cut]
        for position in range(chance.randrange(80) if leaders else 0):
            cluster.write(leaders[0], f"k{chance.randrange(30)}", (round_, position), session=bytes([round_]) * 16,
                          first_seq=position // 2 + 1) if chance.random() < 0.3 else cluster.write(
                leaders[0], f"k{chance.randrange(30)}", (round_, position)
            )  # fmt: skip
            cluster.settle()
        if chance.random() < 0.3:
            cluster.cut = set()
            cluster.restart(chance.randrange(1, 5))
    cluster.cut = set()
    cluster.wait(20.0)
    assert all(driver.checks.failed == 0 for driver in cluster.drivers.values())
    assert sum(driver.checks.passed for driver in cluster.drivers.values()) > 4
    assert cluster.adopted == []
    assert len(set(cluster.states().values())) == 1


def messages_of(cluster: Cluster, kind: type) -> Iterator[Any]:
    return (message for message in cluster.sent if isinstance(message, kind))


def test_what_it_costs_between_members_is_a_few_messages_a_check() -> None:
    cluster = led_by(Replicas(3), 1)
    before = len(list(messages_of(cluster, DigestReport))), len(list(messages_of(cluster, DigestVerdict)))
    cluster.writes(4 * INTERVAL_ENTRIES)
    reports = len(list(messages_of(cluster, DigestReport))) - before[0]
    verdicts = len(list(messages_of(cluster, DigestVerdict))) - before[1]
    assert reports <= 2 * 6
    assert verdicts <= 4 * 6
