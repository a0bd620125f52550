"""The three Services: of all pods for each other, of ready nodes for clients, and of the leader. Called by `build`.

Rule: only the headless one publishes pods that are not ready; a new member must be reachable before it is one.
"""

from typing import Any

from raftwright_operator.manifests.metadata import Manifest, owned, selector
from raftwright_operator.names import CLIENT_PORT, LABEL_LEADER, PEER_PORT, leader_service, peers_service
from raftwright_operator.observed import Observed
from raftwright_operator.spec import Spec

CLIENT = {"name": "client", "port": CLIENT_PORT, "targetPort": "client", "protocol": "TCP"}
PEER = {"name": "peer", "port": PEER_PORT, "targetPort": "peer", "protocol": "TCP"}


def services(spec: Spec, observed: Observed) -> list[Manifest]:
    peers: dict[str, Any] = {
        "clusterIP": "None",
        "publishNotReadyAddresses": True,
        "selector": selector(observed),
        "ports": [CLIENT, PEER],
    }
    clients: dict[str, Any] = {"type": spec.service_type, "selector": selector(observed), "ports": [CLIENT]}
    leader: dict[str, Any] = {"selector": selector(observed, **{LABEL_LEADER: "true"}), "ports": [CLIENT]}
    return [
        owned(observed, "v1", "Service", peers_service(observed.name), {"spec": peers}),
        owned(observed, "v1", "Service", observed.name, {"spec": clients}, annotations=spec.service_annotations),
        owned(observed, "v1", "Service", leader_service(observed.name), {"spec": leader}),
    ]
