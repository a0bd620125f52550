"""Simulated clusters by hand: the simulator itself, and faults that it once found, as small as they can be."""

from collections.abc import Callable

from raftwright.kv.commands import Put, encode_blob, encode_command
from raftwright.server.blobs import Blob, Origin
from raftwright.server.writes import Write
from raftwright.sim.clients import Pending
from raftwright.sim.node import SimNode
from raftwright.sim.profile import Profile
from raftwright.sim.simulation import Simulation, run_seed


def founded(snapshot_commands: int = 60) -> Simulation:
    """A cluster without clients and faults, with a leader."""
    simulation = Simulation(1, profile=Profile(snapshot_commands=snapshot_commands))
    simulation.begin()
    wait(simulation, lambda: simulation.faults.leader() is not None)
    return simulation


def wait(simulation: Simulation, done: Callable[[], bool]) -> None:
    assert simulation.world.run_until(simulation.world.now + 5.0, done=done), "it does not come about"


def leader_and_follower(simulation: Simulation) -> tuple[SimNode, SimNode]:
    leader = simulation.faults.leader()
    assert leader is not None
    return leader, next(node for node in simulation.nodes if node is not leader)


def write(simulation: Simulation, node: SimNode, value: str) -> list[bytes | None]:
    """Ask for a put. Its encoded results come into the list, None if it fails."""
    answers: list[bytes | None] = []
    pending = Pending(value, node.place, lambda encoded, _: answers.append(encoded), lambda *_: answers.append(None))
    simulation.clients.expect(pending)
    put = Put("key", value.encode())
    blob = Blob(Origin(count=1, principal=value), encode_blob([encode_command(put)]))
    node.submit(lambda driver: driver.write(Write(blob, [put], pending, node.clock + 1.0)))
    return answers


def test_a_cluster_without_faults_elects_once_and_loses_nothing() -> None:
    result = run_seed(1, profile=Profile(seconds=2.0))
    assert result.ok, result.violation
    assert result.counts["elections"] == 1
    assert result.counts["writes acknowledged"] > 50
    assert result.counts["attempts with outcome none"] == 0


def test_a_follower_that_slept_through_the_log_gets_a_snapshot_and_goes_on_from_it() -> None:
    simulation = founded(snapshot_commands=5)
    leader, follower = leader_and_follower(simulation)
    simulation.network.split({follower.place})
    for number in range(30):
        answers = write(simulation, leader, f"w{number}")
        wait(simulation, lambda answers=answers: bool(answers))  # type: ignore[misc]
    assert leader.driver is not None and follower.driver is not None
    assert follower.driver.raft.log.last_index < leader.driver.raft.log.base.index
    simulation.network.heal()
    wait(simulation, lambda: follower.state.applied_id == leader.state.applied_id)
    assert simulation.world.counts["snapshots installed"] == 1


def forwards_of(simulation: Simulation, node: SimNode, value: str) -> set[int]:
    """The numbers of what this follower forwards when it is asked for a write."""
    wait(simulation, lambda: node.driver is not None and node.driver.raft.leader_id is not None)
    answers = write(simulation, node, value)
    wait(simulation, lambda: node.driver is not None and bool(node.driver.writes.forwards))
    assert node.driver is not None and answers == []
    return set(node.driver.writes.forwards)


def test_an_answer_to_an_earlier_life_is_not_taken_for_one_to_this() -> None:
    simulation = founded()
    _, follower = leader_and_follower(simulation)
    before = forwards_of(simulation, follower, "w1")
    follower.crash()
    follower.start()
    assert not before & forwards_of(simulation, follower, "w2")
