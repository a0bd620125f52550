"""What is kept of a failure: resources, events and logs, as files in a folder whose path is printed.

Called by conftest.py when a test failed. Its one rule: it never fails itself; what cannot be had is left out.
"""

import os
import tempfile
from functools import cache
from pathlib import Path

from e2e.cluster import Cluster
from e2e.kubectl import Kubectl
from e2e.programs import ProgramError
from e2e.release import NAMESPACE as OPERATOR_NAMESPACE
from e2e.release import SELECTOR

KINDS = "raftclusters,statefulsets,pods,persistentvolumeclaims,poddisruptionbudgets,services,configmaps"


@cache
def folder() -> Path:
    """`E2E_ARTEFACTS`, or one of its own for this run."""
    if named := os.environ.get("E2E_ARTEFACTS"):
        path = Path(named)
        path.mkdir(parents=True, exist_ok=True)
        return path
    return Path(tempfile.mkdtemp(prefix="raftwright-e2e-"))


def keep(cluster: Cluster, namespace: str) -> Path:
    """All of one test's namespace, and what the operator said."""
    path = folder() / namespace
    path.mkdir(exist_ok=True)
    kubectl = cluster.kubectl
    _write(path / "resources.yaml", kubectl, "--namespace", namespace, "get", KINDS, "-o", "yaml")
    _write(path / "overview.txt", kubectl, "--namespace", namespace, "get", KINDS, "-o", "wide")
    _write(path / "events.txt", kubectl, "--namespace", namespace, "get", "events", "--sort-by=.lastTimestamp")
    everything = ("--prefix", "--tail=-1", "--ignore-errors", "--timestamps")
    nodes = ("logs", "--selector=app.kubernetes.io/name=raftwright", "--max-log-requests=20", *everything)
    _write(path / "nodes.log", kubectl, "--namespace", namespace, *nodes)
    operator = ("logs", f"--selector={SELECTOR}", *everything)
    _write(path / "operator.log", kubectl, "--namespace", OPERATOR_NAMESPACE, *operator)
    _write(path / "operator-before.log", kubectl, "--namespace", OPERATOR_NAMESPACE, *operator, "--previous")
    return path


def keep_logs_of_kind(cluster: Cluster) -> Path:
    path = folder() / "kind"
    try:
        cluster.export_logs(path)
    except ProgramError as error:
        path.mkdir(exist_ok=True)
        (path / "failed.txt").write_text(str(error))
    return path


def _write(path: Path, kubectl: Kubectl, *words: str) -> None:
    try:
        path.write_text(kubectl.run(*words))
    except ProgramError as error:
        path.write_text(str(error))
