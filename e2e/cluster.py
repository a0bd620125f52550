"""A kind cluster with this tree's images and chart: made by pytest-kind, so that it is reused where it exists.

Used by conftest.py, the report and the demo. Its one rule: every program and image is named, so that nothing is
downloaded on the way.
"""

import contextlib
import hashlib
import os
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from pytest_kind import KindCluster  # type: ignore[import-untyped]

from e2e.kubectl import Kubectl, until
from e2e.programs import run

ROOT = Path(__file__).resolve().parents[1]
CLUSTER_NAME = "raftwright-e2e"
BUILT_FROM = ("Dockerfile", ".dockerignore", "pyproject.toml", "README.md", "LICENSE", "deploy", "node", "operator")
"""What the images are made of."""


@dataclass(frozen=True, slots=True)
class Tools:
    """Absolute paths of the programs that this needs."""

    kind: Path
    kubectl: Path
    helm: Path
    docker: Path

    @classmethod
    def found(cls) -> Self | str:
        """Or why there can be no cluster on this machine."""
        paths: dict[str, Path] = {}
        for name in ("docker", "kind", "kubectl", "helm"):
            path = os.environ.get(f"{name.upper()}_BIN") or shutil.which(name)
            if path is None:
                return f"{name} is not on this machine"
            paths[name] = Path(path).resolve()
        if subprocess.run([str(paths["docker"]), "version"], capture_output=True, check=False, timeout=30).returncode:
            return "Docker does not answer"
        return cls(**paths)


@dataclass(frozen=True, slots=True)
class Images:
    """Names with tags, and a second name of the node's image, to change to."""

    node: str
    operator: str
    other_node: str

    @classmethod
    def built(cls, tools: Tools) -> Self:
        """Of this tree; what was built from the same files before is used again."""
        tag = f"e2e-{_digest_of_tree()}"
        images = cls(f"raftwright/node:{tag}", f"raftwright/operator:{tag}", f"raftwright/node:{tag}-other")
        inspect = [str(tools.docker), "image", "inspect", images.node, images.operator]
        if subprocess.run(inspect, capture_output=True, check=False).returncode:
            run("make", "--no-print-directory", "--directory", ROOT, "images", f"IMAGE_TAG={tag}", timeout_s=900)
        run(tools.docker, "tag", images.node, images.other_node)
        return images


class Cluster:
    """One node, ready, with the images loaded."""

    def __init__(self, tools: Tools, kind: KindCluster, images: Images) -> None:
        self.tools, self.kind, self.images = tools, kind, images
        self.name: str = kind.name
        self.kubeconfig: Path = kind.kubeconfig_path
        self.kubectl = Kubectl(tools.kubectl, self.kubeconfig, kind.api)
        self.node_address = ""

    @classmethod
    def create(cls, tools: Tools, name: str = CLUSTER_NAME, *, node_image: str | None = None) -> Self:
        """Or take the one that is there."""
        images = Images.built(tools)
        state = ROOT / ".pytest-kind" / name
        # pytest-kind makes its directory where one stands.
        with contextlib.chdir(ROOT):
            kind = KindCluster(name, state / "kubeconfig", node_image, tools.kind, tools.kubectl)
            state.mkdir(parents=True, exist_ok=True)
            if name in run(tools.kind, "get", "clusters").splitlines():
                # It takes a kubeconfig that it finds, be it empty or of an older cluster of this name.
                run(tools.kind, "export", "kubeconfig", "--name", name, "--kubeconfig", state / "kubeconfig")
            kind.create(config_file=os.environ.get("KIND_CONFIG"))
        cluster = cls(tools, kind, images)
        cluster._await_ready()
        every = (images.node, images.operator, images.other_node)
        run(tools.kind, "load", "docker-image", "--name", name, *every, timeout_s=300)
        return cluster

    def _await_ready(self) -> None:
        """The node, and the account which pods of a namespace run under: kind does not wait for either."""

        def ready() -> bool:
            nodes = self.kubectl.items("nodes")
            conditions = [condition for node in nodes for condition in node["status"].get("conditions", ())]
            is_up = any(condition["type"] == "Ready" and condition["status"] == "True" for condition in conditions)
            return is_up and self.kubectl.get("serviceaccounts", "default", "default") is not None

        until("the cluster is ready", ready, within_s=180)
        (node, *_) = self.kubectl.items("nodes")
        addresses = {address["type"]: address["address"] for address in node["status"]["addresses"]}
        self.node_address = addresses["InternalIP"]

    def new_namespace(self, name: str) -> str:
        """Pods in it must keep to the Pod Security standard `restricted`."""
        labels = {"pod-security.kubernetes.io/enforce": "restricted"}
        self.kubectl.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "labels": labels}})
        return name

    def export_logs(self, directory: Path) -> None:
        run(self.tools.kind, "export", "logs", "--name", self.name, directory)

    def close(self) -> None:
        self.kind.api.session.close()

    def delete(self) -> None:
        self.close()
        self.kind.delete()


def _digest_of_tree() -> str:
    digest = hashlib.sha256(os.environ.get("BASE_IMAGE", "").encode())
    for name in BUILT_FROM:
        top = ROOT / name
        for path in sorted(top.rglob("*")) if top.is_dir() else (top,):
            if path.is_file() and "__pycache__" not in path.parts:
                digest.update(f"{path.relative_to(ROOT)}\0".encode() + path.read_bytes() + b"\0")
    return digest.hexdigest()[:12]
