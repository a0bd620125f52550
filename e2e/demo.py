"""`make kind-demo`: a kind cluster with the operator and a RaftCluster of three, left running, and what to try.

Its one rule: every command that it prints works as it stands.
"""

import os
import sys

from e2e.cluster import Cluster, Tools
from e2e.raft import Raft
from e2e.release import Release

CLUSTER_NAME = "raftwright-demo"
NAMESPACE = "demo"
TO_TRY = """
A RaftCluster of three is up. To try:

  export KUBECONFIG={kubeconfig}
  kubectl get raft -n {namespace} -w                                  # how it is, all the time
  kubectl exec -n {namespace} db-0 -- raftwright put greeting hello
  kubectl exec -n {namespace} db-2 -- raftwright get greeting
  kubectl scale -n {namespace} raft/db --replicas=5                   # and back to 1
  kubectl delete pod -n {namespace} {leader:<32}  # the leader
  kubectl describe raft -n {namespace} db                             # members, conditions, events
  kubectl delete pvc/data-db-1 pod/db-1 -n {namespace}                # lose a volume: the member is replaced

  curl -s {endpoint}/v1/members  # from this machine

When you have seen enough:

  kind delete cluster --name {name}
"""


def main() -> int:
    tools = Tools.found()
    if isinstance(tools, str):
        print(f"there can be no kind cluster: {tools}", file=sys.stderr)
        return 1
    print("building images, making a kind cluster, installing the operator …", flush=True)
    name = os.environ.get("E2E_CLUSTER", CLUSTER_NAME)
    cluster = Cluster.create(tools, name, node_image=os.environ.get("KIND_NODE_IMAGE"))
    Release(cluster).install()
    cluster.new_namespace(NAMESPACE)
    raft = Raft(cluster.kubectl, NAMESPACE, cluster.node_address)
    print("asking for a RaftCluster of three …", flush=True)
    raft.apply(replicas=3)
    raft.await_settled(3)
    names = {"kubeconfig": cluster.kubeconfig, "namespace": NAMESPACE, "name": cluster.name}
    print(TO_TRY.format(leader=raft.await_leader(), endpoint=f"http://{raft.endpoint()}", **names))
    cluster.close()
    return 0


if __name__ == "__main__":
    sys.exit(main())
