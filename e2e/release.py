"""The Helm release of the operator, and the operator's pods: installing, changing, killing.

Used by conftest.py, the tests that meddle with the operator, the report and the demo. Its one rule: a change of values
is waited for, so that the next test meets one operator of known settings.
"""

from collections.abc import Iterator
from contextlib import contextmanager

from e2e.cluster import ROOT, Cluster
from e2e.kubectl import Object, until
from e2e.programs import run

RELEASE, NAMESPACE = "raftwright", "raftwright-system"
CHART = ROOT / "charts" / "raftwright"
LEASE = "raftwright-operator"
SELECTOR = "app.kubernetes.io/component=operator"
WAIT_S = 120


class Release:
    """The operator in a cluster."""

    def __init__(self, cluster: Cluster) -> None:
        self.cluster, self.kubectl = cluster, cluster.kubectl

    def install(self, *settings: str) -> str:
        """Or upgrade to these `--set` values, upon those that name this tree's images. Waits until it is ready."""
        self.cluster.new_namespace(NAMESPACE)
        sets = [word for setting in (*self._images(), *settings) for word in ("--set", setting)]
        words = ("--install", RELEASE, str(CHART), "--reset-values", "--wait", f"--timeout={WAIT_S}s")
        return self.helm("upgrade", *words, *sets)

    def is_installed(self) -> bool:
        return RELEASE in self.helm("list", "--short").split()

    def uninstall(self) -> str:
        return self.helm("uninstall", RELEASE, "--wait")

    def test(self) -> str:
        return self.helm("test", RELEASE, f"--timeout={WAIT_S}s")

    def _images(self) -> tuple[str, ...]:
        images = self.cluster.images
        node_repository, node_tag = images.node.split(":")
        repository, tag = images.operator.split(":")
        return (
            f"image.repository={repository}",
            f"image.tag={tag}",
            f"nodeImage.repository={node_repository}",
            f"nodeImage.tag={node_tag}",
        )

    def helm(self, *words: str) -> str:
        """What it prints. ProgramError if it fails."""
        environment = {"KUBECONFIG": str(self.cluster.kubeconfig)}
        where = ("--namespace", NAMESPACE)
        return run(self.cluster.tools.helm, *where, *words, environment=environment, timeout_s=WAIT_S + 60)

    @contextmanager
    def changed(self, *settings: str) -> Iterator[None]:
        """With other values for as long as the block lasts."""
        self.install(*settings)
        try:
            yield
        finally:
            self.install()

    @contextmanager
    def without_lease(self, replicas: int = 1) -> Iterator[None]:
        """Each of the operators acts, for as long as the block lasts. The chart has no value for that, rightly."""
        with self.changed(f"replicas={replicas}"):
            on_deployment = ("--namespace", NAMESPACE, "--selector", SELECTOR)
            self.kubectl.run("set", "env", "deployment", *on_deployment, "RAFTWRIGHT_OPERATOR_LEADER_ELECTION=false")
            wait = f"--timeout={WAIT_S}s"
            self.kubectl.run("rollout", "status", "deployment", *on_deployment, wait, timeout_s=WAIT_S + 10)
            yield

    # The operator's pods

    def pods(self) -> list[Object]:
        """Those that run, and are not on their way out."""
        found = self.kubectl.items("pods", NAMESPACE, SELECTOR)
        return [pod for pod in found if "deletionTimestamp" not in pod["metadata"]]

    def scale(self, replicas: int) -> None:
        """Of the deployment itself; waits until as many pods are there."""
        (deployment,) = self.kubectl.items("deployments", NAMESPACE, SELECTOR)
        name = deployment["metadata"]["name"]
        self.kubectl.run("--namespace", NAMESPACE, "scale", "deployment", name, f"--replicas={replicas}")

        def scaled() -> bool:
            pods = self.kubectl.items("pods", NAMESPACE, SELECTOR)
            return len(pods) == replicas == len([pod for pod in pods if _is_ready(pod)])

        until(f"{replicas} operators are ready", scaled, within_s=WAIT_S)

    def kill(self) -> None:
        """Every operator at once, without a word to it. Others start by themselves."""
        for pod in self.kubectl.items("pods", NAMESPACE, SELECTOR):
            self.kill_pod(pod["metadata"]["name"])

    def kill_pod(self, name: str) -> None:
        words = ("delete", "pod", name, "--grace-period=0", "--force", "--wait=false", "--ignore-not-found")
        self.kubectl.run("--namespace", NAMESPACE, *words)

    def lease_holder(self) -> str | None:
        """The pod of the active operator."""
        lease = self.kubectl.get("leases", LEASE, NAMESPACE)
        holder: str | None = lease["spec"].get("holderIdentity") if lease else None
        return holder or None

    def await_lease(self, *, other_than: str) -> str:
        def found() -> str | None:
            holder = self.lease_holder()
            return holder if holder != other_than else None

        return until(f"an operator other than {other_than} is active", found, within_s=WAIT_S)

    def await_ready(self, *, count: int | None = None) -> None:
        """All that run, `count` of them."""

        def ready() -> bool:
            pods = self.pods()
            return bool(pods) and len(pods) == (count or len(pods)) and all(_is_ready(pod) for pod in pods)

        until("the operator is ready", ready, within_s=WAIT_S)

    def await_gone(self) -> None:
        until("no operator is left", lambda: not self.kubectl.items("pods", NAMESPACE, SELECTOR), within_s=WAIT_S)


def _is_ready(pod: Object) -> bool:
    conditions = pod["status"].get("conditions", ())
    return any(condition["type"] == "Ready" and condition["status"] == "True" for condition in conditions)
