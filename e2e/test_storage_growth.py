"""Storage grows: volumes grow, and the StatefulSet is made anew while its pods run on."""

from e2e.kubectl import until
from e2e.raft import Raft

GROWN = "512Mi"


def test_volumes_grow_under_running_pods(raft: Raft) -> None:
    raft.apply(replicas=3)
    raft.await_settled(3)
    pods, stateful_set = raft.pod_uids(), raft.stateful_set()["metadata"]["uid"]

    raft.patch({"storage": {"size": GROWN}})

    def grown() -> bool:
        claims = raft.claims().values()
        return len(claims) == 3 and all(claim["status"].get("capacity", {}).get("storage") == GROWN for claim in claims)

    until("every volume has grown", grown, within_s=120, last_seen=raft.describe)
    raft.await_settled(3)
    (template,) = raft.stateful_set()["spec"]["volumeClaimTemplates"]
    assert template["spec"]["resources"]["requests"]["storage"] == GROWN
    assert raft.stateful_set()["metadata"]["uid"] != stateful_set
    assert raft.pod_uids() == pods
    raft.scale(5)
    raft.await_settled(5)
    assert grown_of(raft, "data-db-4") == GROWN


def grown_of(raft: Raft, claim: str) -> str:
    storage: str = raft.claims()[claim]["spec"]["resources"]["requests"]["storage"]
    return storage
