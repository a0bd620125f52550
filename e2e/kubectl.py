"""What tests do with a cluster: `kubectl`, as a person would type it, and cheap reads of its API for waiting.

Used by everything in e2e. Its one rule: whatever waits has a deadline, and says what it last saw.
"""

import json
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

from e2e.programs import run

T = TypeVar("T")
Object = dict[str, Any]
POLL_S = 0.25

GROUPS = {
    "raftclusters": "raftwright.io/v1alpha1",
    "statefulsets": "apps/v1",
    "deployments": "apps/v1",
    "poddisruptionbudgets": "policy/v1",
    "leases": "coordination.k8s.io/v1",
    "customresourcedefinitions": "apiextensions.k8s.io/v1",
}
"""API group and version of a kind, by its plural; all others are of the core group."""


class Kubectl:
    """One cluster. `api` is a pykube.HTTPClient."""

    def __init__(self, binary: Path, kubeconfig: Path, api: Any) -> None:
        self.binary, self.kubeconfig, self._api = binary, kubeconfig, api

    def run(self, *arguments: str, stdin: str | None = None, timeout_s: float = 90.0) -> str:
        """What it prints, warnings included. ProgramError if it fails."""
        return run(self.binary, f"--kubeconfig={self.kubeconfig}", *arguments, stdin=stdin, timeout_s=timeout_s)

    def apply(self, *objects: Mapping[str, Any]) -> str:
        return self.run("apply", "-f", "-", stdin=json.dumps({"apiVersion": "v1", "kind": "List", "items": objects}))

    def get(self, plural: str, name: str, namespace: str | None = None) -> Object | None:
        """An object, or None if there is none."""
        return self._read(plural, f"/{name}", namespace)

    def items(self, plural: str, namespace: str | None = None, selector: str = "") -> list[Object]:
        """Those that match a selector of labels."""
        found = self._read(plural, "", namespace, {"labelSelector": selector} if selector else {})
        items: list[Object] = found["items"] if found else []
        return items

    def events(self, namespace: str, reason: str | None = None) -> list[Object]:
        """Those about RaftClusters, the oldest first."""
        found = [event for event in self.items("events", namespace) if event["involvedObject"]["kind"] == "RaftCluster"]
        found.sort(key=lambda event: event["metadata"]["creationTimestamp"])
        return [event for event in found if reason in (None, event["reason"])]

    def _read(
        self, plural: str, rest: str, namespace: str | None, parameters: Mapping[str, str] | None = None
    ) -> Object | None:
        version = GROUPS.get(plural, "v1")
        answer = self._api.get(version=version, namespace=namespace, url=plural + rest, params=dict(parameters or {}))
        if answer.status_code == 404:
            return None
        answer.raise_for_status()
        found: Object = answer.json()
        return found


def until(what: str, found: Callable[[], T | None], *, within_s: float, last_seen: Callable[[], object] = str) -> T:
    """Ask `found` until it says something true, and return that. AssertionError at the deadline, naming `what` and
    whatever `last_seen` tells."""
    deadline = time.monotonic() + within_s
    while True:
        answer = found()
        if answer:
            return answer
        if time.monotonic() > deadline:
            raise AssertionError(f"not within {within_s:.0f} s: {what}. Last seen: {last_seen()}")
        time.sleep(POLL_S)
