"""Members without a vote come and go; they have the data, and the budget for disruptions does not count them."""

import json

from e2e.raft import Raft


def test_they_join_serve_and_leave(raft: Raft) -> None:
    raft.apply(replicas=1, nonVoting={"replicas": 2})
    raft.await_settled(1, non_voting=2)
    raft.put("shared", b"seen by all")
    for pod in ("db-nonvoting-0", "db-nonvoting-1"):
        path = f"/api/v1/namespaces/{raft.namespace}/pods/{pod}:7001/proxy/v1/kv/shared"
        assert raft.kubectl.run("get", "--raw", path) == "seen by all"
    budget = raft.kubectl.get("poddisruptionbudgets", "db", raft.namespace)
    assert budget is not None
    assert (budget["spec"]["minAvailable"], budget["status"]["expectedPods"]) == (1, 1), json.dumps(budget)

    raft.patch({"nonVoting": {"replicas": 0}})
    raft.await_settled(1)
    raft.await_pods(1)
    assert set(raft.pods()) == {"db-0"}
    assert raft.status()["nonVoting"] == "0/0"
