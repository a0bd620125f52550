"""Reads at a node whose state is not that of the majority: none is answered while that is known."""

from typing import Any

from raftwright.server.errors import StateDiverged
from tests.server.drivers import Cluster
from tests.server.replicas import Replicas
from tests.server.test_checks import led_by, until_diverged, wrong


def answers(cluster: Cluster, token: str) -> list[Any]:
    """The errors with which that read was answered; None for an answer."""
    return [done.error for done in cluster.reads for each in done.tokens if each == token]


def test_reads_that_wait_when_a_node_is_found_to_be_wrong_are_refused_and_later_ones_too() -> None:
    cluster = led_by(Replicas(3, machine=wrong(2)), 1)
    cluster[2].read_applied("far", cluster.now, min_index=10_000)
    until_diverged(cluster, 2)
    assert cluster[2].checks.divergence is not None
    (error,) = answers(cluster, "far")
    assert isinstance(error, StateDiverged)
    assert (error.outcome, error.leader) == ("none", cluster[2].raft.membership.members[1].addresses.client)
    for token, ask in (("round", cluster[2].read), ("applied", cluster[2].read_applied)):
        ask(token, cluster.now, min_index=0)
    cluster.run(2)
    assert [type(answers(cluster, token)[0]) for token in ("round", "applied")] == [StateDiverged] * 2
    assert cluster[2].reads.count == 0
    cluster[1].read("elsewhere", cluster.now)
    cluster.run(1)
    cluster.wait(3.0)
    assert answers(cluster, "elsewhere") == [None]
    assert cluster[2].wrong_state() is None, "it is repaired"
    cluster[2].read("again", cluster.now)
    cluster.run(2)
    cluster.wait(0.5)
    assert answers(cluster, "again") == [None]


def test_a_leader_in_the_minority_names_nobody_to_go_to() -> None:
    cluster = led_by(Replicas(3, machine=wrong(1)), 1)
    until_diverged(cluster, 1)
    error = cluster[1].wrong_state()
    assert error is not None
    assert (error.leader is None) == cluster[1].is_leader
