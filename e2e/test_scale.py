"""The number of voters goes up and down while clients write: nothing acknowledged is lost, and writes go on."""

from e2e.raft import Raft
from e2e.workload import Load


def test_one_three_five_three_one(raft: Raft) -> None:
    raft.apply(replicas=1)
    raft.await_settled(1)
    with Load(raft.endpoint()) as load:
        for voters in (3, 5, 3, 1):
            raft.scale(voters)
            raft.await_settled(voters)
            load.await_progress()
        print(load.verdict())
    assert set(raft.claims()) == {f"data-db-{ordinal}" for ordinal in range(5)}, "volumes are retained by default"


def test_volumes_go_with_their_members_where_that_is_asked_for(raft: Raft) -> None:
    raft.apply(replicas=3, storage={"size": "256Mi", "retention": {"onScaleDown": "Delete"}})
    raft.await_settled(3)
    raft.scale(1)
    raft.await_settled(1)
    raft.await_claims({"data-db-0"})


def test_a_target_that_changes_on_the_way_is_taken_up(raft: Raft) -> None:
    raft.apply(replicas=1)
    raft.await_settled(1)
    with Load(raft.endpoint()) as load:
        raft.scale(5)
        raft.await_pods(5)
        raft.scale(3)
        raft.await_settled(3)
        print(load.verdict())
