"""The schema of RaftCluster, as the chart ships it. Called by tests that give it to an API server."""

from pathlib import Path
from typing import Any

import yaml

CHART = Path(__file__).parents[2] / "charts" / "raftwright"
DEFINITION = CHART / "crd" / "raftclusters.yaml"
API_VERSION, KIND = "raftwright.io/v1alpha1", "RaftCluster"


def definition() -> dict[str, Any]:
    """The CustomResourceDefinition; a new dict each time."""
    loaded: dict[str, Any] = yaml.safe_load(DEFINITION.read_text())
    return loaded


def raft_cluster(name: str, namespace: str, spec: dict[str, Any] | None = None) -> dict[str, Any]:
    made: dict[str, Any] = {
        "apiVersion": API_VERSION,
        "kind": KIND,
        "metadata": {"name": name, "namespace": namespace},
    }
    return made if spec is None else {**made, "spec": spec}
