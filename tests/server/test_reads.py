"""Reads of whole drivers on virtual time: leases, staleness, and indexes that are waited for (§6.4)."""

from typing import Any

import pytest

from raftwright.raft.raft import RaftSettings
from raftwright.raft.ready import ReadAnswer
from raftwright.server.effects import Effects, ReadDone
from raftwright.server.errors import NoLeader, RequestTimeout, TooManyRequests
from raftwright.server.reads import Reads
from tests.server.drivers import Cluster

T = RaftSettings().election_timeout_s


def other_than(cluster: Cluster, *numbers: int) -> int:
    return next(number for number in cluster.drivers if number not in numbers)


def done(cluster: Cluster, token: Any) -> ReadDone | None:
    return next((found for found in cluster.reads if token in found.tokens), None)


# -- lease ------------------------------------------------------------------------------------------------------


def test_a_leader_holds_a_lease_and_nobody_else_does() -> None:
    cluster = Cluster(3)
    leader = cluster.elect()
    assert [number for number, driver in cluster.drivers.items() if driver.holds_lease(cluster.clock(number))] == [
        leader
    ]


@pytest.mark.parametrize("size", [3, 5])
def test_a_leader_that_is_cut_off_reads_by_its_lease_until_it_ends_and_never_beside_another_leader(size: int) -> None:
    cluster = Cluster(size)
    leader = cluster.elect()
    cluster.cut = {leader}
    held_for = 0.0
    for _ in range(400):
        cluster.wait(0.01)
        leads = [number for number, driver in cluster.drivers.items() if driver.is_leader and number != leader]
        if cluster[leader].holds_lease(cluster.clock(leader)):
            held_for += 0.01
            assert not leads
    assert leads, "the others elect a leader: else this tests nothing"
    assert T / 2 < held_for < T


def test_two_leaders_are_never_within_a_lease_while_clocks_keep_to_the_bound() -> None:
    """The leader's clock is slow and those of the others are fast, as far as the bound allows."""
    for seed in range(20):
        cluster = Cluster(3, seed=seed)
        leader = cluster.elect()
        cluster.skew({number: 1.0 if number == leader else 1.11 for number in cluster.drivers})
        cluster.wait(0.5)
        cluster.cut = {leader}
        for _ in range(300):
            cluster.wait(0.01)
            if cluster[leader].holds_lease(cluster.clock(leader)):
                assert not any(driver.is_leader for number, driver in cluster.drivers.items() if number != leader)
        assert any(driver.is_leader for number, driver in cluster.drivers.items() if number != leader)


def test_the_clock_that_counts_is_that_of_the_moment_after_the_answer() -> None:
    """A process that is stopped wakes up with a core that still believes what it did before."""
    cluster = Cluster(3)
    leader = cluster.elect()
    assert cluster[leader].holds_lease(cluster.clock(leader))
    cluster.now += T
    assert cluster[leader].is_leader
    assert not cluster[leader].holds_lease(cluster.clock(leader))


def test_what_is_committed_and_not_applied_yet_keeps_a_leader_from_reading_by_its_lease() -> None:
    cluster = Cluster(3)
    leader = cluster.elect()
    driver = cluster[leader]
    driver.raft.commit_index += 1
    assert not driver.holds_lease(cluster.clock(leader))


def test_a_leader_that_hands_over_reads_by_its_lease_no_more() -> None:
    cluster = Cluster(3)
    leader = cluster.elect()
    driver = cluster[leader]
    cluster.cut = {other_than(cluster, leader)}
    target = other_than(cluster, leader, *cluster.cut)
    driver.transfer_leadership(target, cluster.clock(leader))
    assert not driver.holds_lease(cluster.clock(leader))
    cluster.wait(0.2)
    assert cluster[target].is_leader


# -- staleness --------------------------------------------------------------------------------------------------


def test_staleness_counts_from_the_begin_of_the_newest_round_that_is_applied() -> None:
    cluster = Cluster(3)
    leader = cluster.elect()
    follower = other_than(cluster, leader)
    driver = cluster[follower]
    assert driver.staleness_s(cluster.now) == float("inf")
    driver.read("read", cluster.now)
    cluster.run(follower)
    begun_at = cluster.now
    cluster.now += 0.05
    assert driver.staleness_s(cluster.now) == float("inf"), "its answer is not here yet"
    cluster.settle()
    assert done(cluster, "read") is not None
    assert driver.staleness_s(cluster.now) == pytest.approx(cluster.now - begun_at)
    assert driver.staleness_s(cluster.now) > 0.049


def test_a_round_whose_index_is_not_applied_makes_nothing_fresher() -> None:
    reads, effects = Reads(reads_max=10), Effects()
    reads.add("read", deadline=9.0)
    context = reads.next_context(now=1.0)
    assert context is not None
    reads.answered(ReadAnswer(context=context, index=7), retry_at=1.0)
    reads.applied(6, effects)
    assert reads.fresh_at == float("-inf")
    reads.applied(7, effects)
    assert reads.fresh_at == 1.0


def test_a_wait_for_an_index_makes_nothing_fresher() -> None:
    """It says nothing about how much more the leader has committed."""
    reads, effects = Reads(reads_max=10), Effects()
    reads.add_without_round("read", deadline=9.0, min_index=3)
    reads.applied(3, effects)
    assert [found.tokens for found in effects.reads] == [["read"]]
    assert reads.fresh_at == float("-inf")


def test_a_follower_that_is_cut_off_grows_stale() -> None:
    cluster = Cluster(3)
    leader = cluster.elect()
    follower = other_than(cluster, leader)
    cluster[follower].read("before", cluster.now)
    cluster.settle()
    begun_at = cluster.now
    cluster.cut = {follower}
    cluster.wait(2.0)
    assert cluster[follower].staleness_s(cluster.now) == pytest.approx(cluster.now - begun_at)
    cluster[follower].read("after", cluster.now)
    cluster.wait(5.2)
    found = done(cluster, "after")
    assert found is not None
    assert isinstance(found.error, NoLeader | RequestTimeout)
    assert cluster[follower].staleness_s(cluster.now) > 7.0


# -- an index that is waited for --------------------------------------------------------------------------------


def test_a_read_at_a_follower_waits_for_the_index_of_a_write_that_it_has_not_applied() -> None:
    cluster = Cluster(3)
    leader = cluster.elect()
    follower = other_than(cluster, leader)
    cluster.cut = {follower}
    cluster.write(leader, "k", "write")
    cluster.wait(0.1)
    written = cluster.answer_of("write")
    assert written is not None
    assert written.index > cluster[follower].state.applied_index
    cluster[follower].read_applied("read", cluster.now, written.index)
    cluster.run(follower)
    assert done(cluster, "read") is None
    cluster.cut = set()
    cluster.wait(0.3)
    found = done(cluster, "read")
    assert found is not None
    assert found.index >= written.index
    assert cluster[follower].state.machine.get("k") is not None  # type: ignore[attr-defined]


def test_an_index_that_never_comes_is_told_in_time() -> None:
    cluster = Cluster(3)
    leader = cluster.elect()
    cluster[leader].read_applied("stale", cluster.now, 1000)
    cluster[leader].read("linearizable", cluster.now, 1000)
    cluster.wait(4.9)
    assert not cluster.reads
    cluster.wait(0.2)
    for token in ("stale", "linearizable"):
        found = done(cluster, token)
        assert found is not None
        assert isinstance(found.error, RequestTimeout)
        assert "1000" in found.error.detail
    assert cluster[leader].reads.count == 0


def test_reads_that_wait_for_different_indexes_are_answered_as_they_come() -> None:
    reads, effects = Reads(reads_max=10), Effects()
    for index in (5, 3, 4, 3):
        reads.add_without_round(index, deadline=9.0, min_index=index)
    reads.applied(2, effects)
    assert not effects.reads
    reads.applied(4, effects)
    assert [found.tokens for found in effects.reads] == [[3], [3], [4]]
    reads.expire(9.0, effects, leader_known=True)
    assert effects.reads[-1].tokens == [5]
    assert reads.count == 0


def test_reads_that_wait_for_an_index_are_bounded_with_all_others() -> None:
    reads = Reads(reads_max=2)
    reads.add_without_round(1, deadline=9.0, min_index=5)
    reads.add(2, deadline=9.0)
    with pytest.raises(TooManyRequests):
        reads.add_without_round(3, deadline=9.0, min_index=5)


# -- what it costs ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("at", ["leader", "follower"])
def test_64_reads_at_once_cost_less_than_two_rounds(at: str) -> None:
    cluster = Cluster(3)
    leader = cluster.elect()
    node = leader if at == "leader" else other_than(cluster, leader)
    role = cluster[leader].raft.leader_role
    assert role is not None
    before = role.rounds.number
    for number in range(64):
        cluster[node].read(number, cluster.now)
    cluster.settle()
    assert sum(len(found.tokens) for found in cluster.reads) == 64
    assert role.rounds.number == before + 1
