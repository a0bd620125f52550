"""The operator outside of the cluster, by the commands of the docs: it reaches nodes through the API server."""

import os
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

import pytest

from e2e.cluster import Cluster
from e2e.raft import Raft
from e2e.release import Release
from e2e.workload import Load

PROGRAMS = Path(sys.executable).parent
KOPF = (PROGRAMS / "kopf", "run", "-m", "raftwright_operator.handlers", "--standalone", "-A")
MODULE = (sys.executable, "-m", "raftwright_operator")
STOP_S = 30


@pytest.fixture
def none_inside(release: Release) -> Iterator[None]:
    release.scale(0)
    yield
    release.scale(1)


@pytest.fixture
def environment(cluster: Cluster, namespace: str) -> dict[str, str]:
    """The Lease is in the test's own namespace."""
    settings = {"NODE_IMAGE": cluster.images.node, "HEALTH_PORT": "0", "METRICS_PORT": "0"}
    given = {f"RAFTWRIGHT_OPERATOR_{name}": text for name, text in settings.items()}
    return {**os.environ, **given, "KUBECONFIG": str(cluster.kubeconfig), "POD_NAMESPACE": namespace}


@contextmanager
def running(command: Sequence[str | Path], environment: Mapping[str, str], log: Path) -> Iterator[None]:
    """An operator until the block is left. It must end well, and have met no bug."""
    with log.open("wb") as output:
        process = subprocess.Popen([str(word) for word in command], env=environment, stdout=output, stderr=output)
    try:
        yield
        assert process.poll() is None, log.read_text()
        process.terminate()
        assert process.wait(STOP_S) == 0, log.read_text()
        assert "Traceback" not in log.read_text(), log.read_text()
    finally:
        process.kill()
        process.wait()


@pytest.mark.usefixtures("none_inside")
def test_both_commands_of_the_docs_found_and_scale(raft: Raft, environment: dict[str, str], tmp_path: Path) -> None:
    with running(KOPF, environment, tmp_path / "kopf.log"):
        raft.apply(replicas=1)
        raft.await_settled(1)
    with Load(raft.endpoint()) as load:
        with running(MODULE, environment, tmp_path / "module.log"):
            raft.scale(3)
            raft.await_settled(3)
            raft.scale(1)
            raft.await_settled(1)
        print(load.verdict())
