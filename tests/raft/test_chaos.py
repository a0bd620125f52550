"""Safety and, once calm returns, progress under faults of every kind: seeded, so that a failure repeats."""

import pytest

from tests.raft.chaos import Chaos


@pytest.mark.parametrize("voters", [1, 2, 3, 4, 5])
@pytest.mark.parametrize("seed", range(6))
def test_nothing_committed_is_lost_under_faults(seed: int, voters: int) -> None:
    chaos = Chaos(seed, voters=voters)
    chaos.run(3000)
    chaos.calm()
    assert chaos.cluster.committed > 1


# The last two once had a cluster stand still, where only members being removed had the newest log.
@pytest.mark.parametrize("seed", [*range(12), 1020, 1041])
def test_nothing_committed_is_lost_while_the_membership_changes(seed: int) -> None:
    chaos = Chaos(seed, voters=3, change_members=True)
    chaos.run(5000)
    chaos.calm()


def test_a_seed_repeats_its_run() -> None:
    digests = []
    for _ in range(2):
        chaos = Chaos(1, voters=3, change_members=True)
        chaos.run(2000)
        digests.append(chaos.cluster.digests)
    assert digests[0] == digests[1]
    assert len(digests[0]) > 10
