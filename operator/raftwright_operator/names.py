"""Names, labels, ports and limits that several modules share. Called by everyone; imports nothing of ours."""

from typing import Literal

GROUP, VERSION, PLURAL, KIND = "raftwright.io", "v1alpha1", "raftclusters", "RaftCluster"
FIELD_MANAGER = "raftwright-operator"
FINALIZER = "raftwright.io/operator"

SetKind = Literal["voters", "non-voting"]
"""Which of a cluster's two StatefulSets."""
SET_KINDS: tuple[SetKind, ...] = ("voters", "non-voting")

CLIENT_PORT, PEER_PORT = 7001, 8001
CONTAINER = "node"
DATA_VOLUME = "data"
"""Of the claim template: the claim of pod P is `data-P`."""

LABEL_CLUSTER = "raftwright.io/cluster"
LABEL_MANAGED_BY = "app.kubernetes.io/managed-by"
LABEL_SET = "raftwright.io/set"
LABEL_VOTER = "raftwright.io/voter"
"""`true` on pods that have a vote, or are about to get one: what the PodDisruptionBudget selects."""
LABEL_LEADER = "raftwright.io/leader"
"""`true` on the leader's pod: what the Service of the leader selects."""

NON_VOTING_SUFFIX = "-nonvoting"
STATEFUL_SET_NAME_MAX = 52
CLUSTER_NAME_MAX = STATEFUL_SET_NAME_MAX - len(NON_VOTING_SUFFIX)


def set_name(cluster: str, kind: SetKind) -> str:
    return cluster if kind == "voters" else cluster + NON_VOTING_SUFFIX


def pod_name(cluster: str, kind: SetKind, ordinal: int) -> str:
    """Also the name of its member."""
    return f"{set_name(cluster, kind)}-{ordinal}"


def claim_name(pod: str) -> str:
    return f"{DATA_VOLUME}-{pod}"


def position(cluster: str, pod: str) -> tuple[SetKind, int] | None:
    """The set and ordinal of a pod or member by its name; None for a name that is not of this cluster's pods."""
    for kind in SET_KINDS:
        base, dash, ordinal = pod.rpartition("-")
        if dash and base == set_name(cluster, kind) and ordinal.isdecimal() and str(int(ordinal)) == ordinal:
            return kind, int(ordinal)
    return None


def peers_service(cluster: str) -> str:
    return f"{cluster}-peers"


def leader_service(cluster: str) -> str:
    return f"{cluster}-leader"


def budget_key(cluster: str) -> str:
    """The PodDisruptionBudget, as `Kind/name`."""
    return f"PodDisruptionBudget/{cluster}"


def peer_address(cluster: str, namespace: str, pod: str) -> str:
    """`host:port` by the headless Service, the same for as long as the pod's name lives."""
    return f"{pod}.{peers_service(cluster)}.{namespace}.svc:{PEER_PORT}"


def client_address(cluster: str, namespace: str, pod: str) -> str:
    return f"{pod}.{peers_service(cluster)}.{namespace}.svc:{CLIENT_PORT}"
