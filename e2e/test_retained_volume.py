"""A volume that was kept of a removed member is mounted again: its data is set aside, and a new member begun."""

from e2e.raft import Raft


def test_a_removed_member_never_returns_as_itself(raft: Raft) -> None:
    raft.apply(replicas=3)
    raft.await_settled(3)
    before = raft.member_ids()
    stores = {pod: raft.node_status(pod)["store_id"] for pod in raft.pods()}
    raft.scale(1)
    raft.await_settled(1)
    volumes = {name: claim["metadata"]["uid"] for name, claim in raft.claims().items()}
    assert set(volumes) == {"data-db-0", "data-db-1", "data-db-2"}
    raft.put("meanwhile", b"written")

    raft.scale(3)
    raft.await_settled(3)
    after = raft.member_ids()
    assert {name: claim["metadata"]["uid"] for name, claim in raft.claims().items()} == volumes
    assert after["db-0"] == before["db-0"]
    for pod in ("db-1", "db-2"):
        assert after[pod] > max(before.values())
        assert raft.node_status(pod)["store_id"] != stores[pod]
    assert raft.read("meanwhile") == b"written"
