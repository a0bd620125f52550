"""Two operators act at once, as they may when a Lease runs out: the end is the same as with one."""

from collections.abc import Iterator

import pytest

from e2e.cluster import Cluster
from e2e.raft import Raft
from e2e.release import Release
from e2e.workload import Load


@pytest.fixture
def both(release: Release) -> Iterator[Release]:
    with release.without_lease(replicas=2):
        release.await_ready(count=2)
        yield release


def test_they_do_not_undo_each_other(raft: Raft, both: Release, cluster: Cluster) -> None:
    raft.apply(replicas=3)
    raft.await_settled(3)
    first = raft.member_ids()
    assert sorted(first.values()) == [1, 2, 3], "the cluster was founded once"
    with Load(raft.endpoint()) as load:
        raft.scale(1)
        raft.await_settled(1)
        raft.scale(3)
        raft.await_settled(3)
        raft.patch({"image": cluster.images.other_node})
        raft.await_image(cluster.images.other_node)
        raft.await_settled(3)
        print(load.verdict())
    assert raft.member_ids()["db-0"] == first["db-0"]


def test_of_two_with_a_lease_one_acts_and_the_other_takes_over(raft: Raft, release: Release) -> None:
    with release.changed("replicas=2"):
        raft.apply(replicas=1)
        raft.await_settled(1)
        holder = release.lease_holder()
        assert holder is not None
        release.kill_pod(holder)
        release.await_lease(other_than=holder)
        raft.scale(3)
        raft.await_settled(3)
