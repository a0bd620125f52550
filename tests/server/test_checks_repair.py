"""Repairs of a wrong state that meet snapshots, restarts and crashes."""

from typing import Any

from raftwright.kv.store import KvMachine
from raftwright.server.digests import INTERVAL_ENTRIES
from tests.server.replicas import Replicas
from tests.server.test_checks import AT, led_by, step, until_diverged, wrong


def test_a_snapshot_that_was_taken_of_a_wrong_state_is_replaced_too() -> None:
    cluster = led_by(Replicas(3, machine=wrong(2), snapshot_commands=60), 1)
    cluster.writes(INTERVAL_ENTRIES + 20)
    cluster.wait(4.0)
    assert cluster.adopted == [2]
    assert len(set(cluster.states().values())) == 1
    cluster.machine = lambda _: KvMachine()
    cluster.restart(2)
    cluster.wait(1.0)
    assert len(set(cluster.states().values())) == 1


def test_a_restart_from_a_wrong_snapshot_is_found_at_the_next_check() -> None:
    cluster = led_by(Replicas(3, machine=wrong(2), snapshot_commands=60), 1)
    cluster.writes(180)
    assert cluster.disks[2].meta.id.index > AT
    cluster.machine = lambda _: KvMachine()  # the fault is gone, what it did is not
    cluster.restart(2)
    cluster.wait(1.0)
    cluster.writes(100)
    cluster.wait(4.0)
    assert cluster.adopted == [2]
    assert len(set(cluster.states().values())) == 1


def test_a_wrong_snapshot_repairs_nothing() -> None:
    """The leader's snapshot is checked against the verdict before it is taken."""
    cluster = led_by(Replicas(3, machine=wrong(2)), 1)
    until_diverged(cluster, 2)
    real = cluster[1].state.sections
    other = cluster[2].state.sections

    def sections() -> Any:
        system, *_ = real()
        return [system, *other()[1:]]

    cluster[1].state.sections = sections  # type: ignore[method-assign]
    cluster.wait(3.0)
    assert cluster.adopted == []
    assert "majority" in cluster[2].checks.repair.problem
    assert cluster[2].checks.divergence is not None
    assert cluster[2].checks.failed >= 2
    cluster[1].state.sections = real  # type: ignore[method-assign]
    cluster.writes(3)
    cluster[1].snapshotting.is_wanted = True
    cluster.wait(10.0)
    assert cluster.adopted == [2]
    assert len(set(cluster.states().values())) == 1


def test_a_leader_that_dies_in_the_middle_of_a_repair_is_followed_by_the_next() -> None:
    cluster = led_by(Replicas(3, machine=wrong(2)), 1)
    until_diverged(cluster, 2)
    for _ in range(2000):
        if cluster.disks[2].received:
            break
        step(cluster)
        cluster.now += 0.002
    assert cluster.disks[2].received, "the transfer is under way"
    cluster.cut = {1}
    cluster.network.clear()
    cluster.wait(8.0)
    assert cluster.adopted == [2]
    cluster.cut = set()
    cluster.wait(3.0)
    assert len(set(cluster.states().values())) == 1


def test_one_that_is_far_behind_gets_its_state_with_its_log() -> None:
    cluster = led_by(Replicas(3, machine=wrong(2), snapshot_commands=150), 1)
    until_diverged(cluster, 2)
    cluster.cut = {2}
    cluster.network.clear()
    cluster.writes(600)
    cluster.cut = set()
    cluster.wait(6.0)
    assert cluster[2].checks.divergence is None
    assert len(set(cluster.states().values())) == 1
