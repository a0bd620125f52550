"""Runs Helm on the chart. Called by the chart's tests; skips or fails a test where there is no Helm."""

import json
import os
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from tests.chart.crd import CHART
from tests.operator.apiserver import require_programs

KUBERNETES = "1.34.0"
"""For `helm template`, which asks no cluster."""
RELEASE, NAMESPACE = "raftwright", "raftwright"


class HelmError(Exception):
    """What it said."""


def helm(*arguments: str, kubeconfig: Path | None = None) -> str:
    """Its standard output. Raises HelmError with its words, warnings included."""
    require_programs("helm")
    environment = {**os.environ, "KUBECONFIG": str(kubeconfig or os.devnull)}
    done = subprocess.run(
        ["helm", *arguments], env=environment, capture_output=True, text=True, timeout=60, check=False
    )
    if done.returncode:
        raise HelmError(f"{done.stdout}\n{done.stderr}")
    return done.stdout


def set_values(values: Mapping[str, Any]) -> list[str]:
    """Arguments that set these, by their paths."""
    return [f"--set-json={path}={json.dumps(value)}" for path, value in values.items()]


def template(values: Mapping[str, Any] | None = None, namespace: str = NAMESPACE) -> list[dict[str, Any]]:
    """What the chart makes with these values, for a release in this namespace."""
    text = helm(
        *("template", RELEASE, str(CHART), f"--namespace={namespace}", f"--kube-version={KUBERNETES}"),
        *set_values(values or {}),
    )
    return [document for document in yaml.safe_load_all(text) if document]


def of_kind(documents: list[dict[str, Any]], kind: str) -> list[dict[str, Any]]:
    return [document for document in documents if document["kind"] == kind]
