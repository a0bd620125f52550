"""The operator is killed in the middle of each operation, again and again: the end is the same."""

import random
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from e2e.cluster import Cluster
from e2e.kubectl import until
from e2e.raft import Raft
from e2e.release import Release
from e2e.workload import Load

KILLS = 3
"""In one operation; the first early in it, each later one at some moment after the next operator has begun."""


@pytest.fixture
def alone(release: Release) -> Iterator[Release]:
    """An operator without a Lease, so that the next one begins at once."""
    with release.without_lease():
        yield release


@contextmanager
def killing(release: Release, seed: int) -> Iterator[None]:
    """Kills while the block runs, `KILLS` times at most."""
    chance, stopping, killed = random.Random(seed), threading.Event(), []

    def run() -> None:
        for number in range(KILLS):
            # A scale down is over within a second or two.
            if stopping.wait(chance.uniform(0.1, 0.5) if number == 0 else chance.uniform(0.2, 1.5 + number)):
                return
            release.kill()
            killed.append(time.monotonic())
            release.await_ready()

    thread = threading.Thread(target=run)
    thread.start()
    try:
        yield
    finally:
        stopping.set()
        thread.join()
    assert killed, "the operation was over before the operator was killed"


def test_every_operation_comes_to_its_end(raft: Raft, alone: Release, cluster: Cluster) -> None:
    with killing(alone, 1):
        raft.apply(replicas=3, storage={"size": "256Mi", "retention": {"onDeletion": "Delete"}})
        raft.await_settled(3)
    cluster_id, first = raft.status()["cluster"]["id"], raft.member_ids()
    assert sorted(first.values()) == [1, 2, 3], "the cluster was founded once"

    with Load(raft.endpoint()) as load:
        with killing(alone, 2):
            raft.scale(1)
            raft.await_settled(1)
        with killing(alone, 3):
            raft.scale(3)
            raft.await_settled(3)
        with killing(alone, 4):
            raft.patch({"image": cluster.images.other_node})
            raft.await_image(cluster.images.other_node)
            raft.await_settled(3)
        print(load.verdict())
    assert raft.status()["cluster"]["id"] == cluster_id
    assert raft.member_ids()["db-0"] == first["db-0"]

    with killing(alone, 5):
        raft.delete(wait=False)
        until("all is gone", lambda: not (raft.resource() or raft.pods() or raft.claims()), within_s=120)
