"""`make e2e-report`: how long things take on a kind cluster, as a table with the conditions that it was measured under.

The tests bound none of this, since it depends on the machine. Its one rule: each figure is of real clients, or of the
condition that `kubectl wait` would wait for.
"""

import argparse
import os
import platform
import statistics
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from e2e.cluster import CLUSTER_NAME, Cluster, Tools
from e2e.raft import Raft
from e2e.release import Release
from e2e.workload import Load, Verdict

IDLE_S = 30
"""About as long as a rolling change takes."""


@dataclass(frozen=True, slots=True)
class Figure:
    """One row. The target is that of the most that is wanted, in seconds."""

    what: str
    target_s: float
    measured_s: list[float] = field(default_factory=list)

    def row(self) -> tuple[str, ...]:
        """Asked for as soon as it is measured: it has the load of the machine then."""
        median, worst = statistics.median(self.measured_s), max(self.measured_s)
        runs, load = len(self.measured_s), os.getloadavg()[0]
        return self.what, f"{self.target_s:g} s", f"{median:.2f} s", f"{worst:.2f} s", str(runs), f"{load:.1f}"


class Report:
    def __init__(self, cluster: Cluster, repetitions: int) -> None:
        self._cluster, self._repetitions = cluster, repetitions
        self._release = Release(cluster)

    def figures(self) -> Iterator[Figure]:
        yield self._repeated("helm install → operator ready", 15, self._install)
        yield self._repeated("kubectl apply of three voters → Ready", 30, self._found)
        with self._raft("scaled", 1) as raft:
            figure = Figure("1 → 3 → 5 → 3 → 1 under load: longest pause of writes", 3)
            for _ in range(min(self._repetitions, 2)):
                figure.measured_s.append(self._scaled(raft).longest_pause_s)
            yield figure
        with self._raft("killed", 3) as raft:
            yield self._repeated(
                "leader's pod killed under load: longest pause of writes", 3, lambda: self._killed(raft).longest_pause_s
            )
            yield self._repeated(
                "rolling image change of three under load: pauses in all", 1, lambda: self._rolled(raft).paused_s
            )
            yield self._repeated(
                f"nothing done to three for {IDLE_S} s under load: pauses in all", 1, lambda: self._idle(raft).paused_s
            )

    def _repeated(self, what: str, target_s: float, measure: Callable[[], float]) -> Figure:
        figure = Figure(what, target_s)
        for _ in range(self._repetitions):
            figure.measured_s.append(measure())
            print(f"{what}: {figure.measured_s[-1]:.2f} s", file=sys.stderr, flush=True)
        return figure

    def _install(self) -> float:
        if self._release.is_installed():
            self._release.uninstall()
            self._release.await_gone()
        begin = time.monotonic()
        self._release.install()
        return time.monotonic() - begin

    def _found(self) -> float:
        begin = time.monotonic()
        with self._raft("founded", 3):
            return time.monotonic() - begin

    @contextmanager
    def _raft(self, namespace: str, voters: int) -> Iterator[Raft]:
        """A RaftCluster that is ready; gone when the block ends."""
        self._cluster.new_namespace(namespace)
        raft = Raft(self._cluster.kubectl, namespace, self._cluster.node_address)
        raft.apply(replicas=voters)
        raft.await_condition("Ready")
        yield raft
        self._cluster.kubectl.run("delete", "raftclusters", "--all", f"--namespace={namespace}")
        self._cluster.kubectl.run("delete", "namespace", namespace)

    def _scaled(self, raft: Raft) -> Verdict:
        with Load(raft.endpoint()) as load:
            for voters in (3, 5, 3, 1):
                raft.scale(voters)
                raft.await_settled(voters)
            return load.verdict()

    def _killed(self, raft: Raft) -> Verdict:
        raft.await_settled(3)
        with Load(raft.endpoint()) as load:
            leader = raft.await_leader()
            uid = raft.pod_uids()[leader]
            raft.delete_pod(leader, now=True)
            raft.await_replaced(leader, uid)
            raft.await_settled(3)
            return load.verdict()

    def _idle(self, raft: Raft) -> Verdict:
        """What the machine itself adds to the figure before: it is no quieter while pods roll."""
        raft.await_settled(3)
        with Load(raft.endpoint()) as load:
            time.sleep(IDLE_S)
            return load.verdict()

    def _rolled(self, raft: Raft) -> Verdict:
        raft.await_settled(3)
        images = self._cluster.images
        (current, *_) = (pod["spec"]["containers"][0]["image"] for pod in raft.pods().values())
        wanted = images.node if current == images.other_node else images.other_node
        with Load(raft.endpoint()) as load:
            raft.patch({"image": wanted})
            raft.await_image(wanted)
            raft.await_settled(3)
            return load.verdict()


def conditions() -> str:
    return (
        f"{os.cpu_count()} cores ({platform.machine()}) for Kubernetes' control plane, the operator, every node and "
        "the clients together"
    )


def main() -> int:
    parser = argparse.ArgumentParser(description="Measure Raftwright on a kind cluster.")
    parser.add_argument("--repetitions", type=int, default=5, help="of each measurement (5)")
    parser.add_argument("--keep", action="store_true", help="leave the cluster up")
    options = parser.parse_args()
    tools = Tools.found()
    if isinstance(tools, str):
        print(f"there can be no kind cluster: {tools}", file=sys.stderr)
        return 1
    name = os.environ.get("E2E_CLUSTER", CLUSTER_NAME)
    cluster = Cluster.create(tools, name, node_image=os.environ.get("KIND_NODE_IMAGE"))
    try:
        rows: list[tuple[str, ...]] = [("what", "target", "median", "worst", "runs", "load")]
        for figure in Report(cluster, options.repetitions).figures():
            rows.append(figure.row())
            print("  ".join(rows[-1]), file=sys.stderr, flush=True)
        widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
        for row in rows:
            print("  ".join(text.ljust(width) for text, width in zip(row, widths, strict=True)).rstrip())
        print(conditions())
    finally:
        if options.keep:
            cluster.close()
        else:
            cluster.delete()
    return 0


if __name__ == "__main__":
    sys.exit(main())
