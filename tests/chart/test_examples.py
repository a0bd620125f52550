"""The RaftClusters in examples/kubernetes are taken by a real API server, and their nodes would start."""

import importlib.util
from pathlib import Path
from typing import Any

import pytest
import yaml

import raftwright
from raftwright.server.policies import parse_policy
from raftwright.server.settings_sources import settings_of as node_settings
from raftwright_operator import spec as specs
from raftwright_operator.manifests import config
from tests.chart.crd import API_VERSION, KIND, definition
from tests.operator.apiserver import ApiServer

EXAMPLES = Path(__file__).parents[2] / "examples"
FILES = {path.stem: path for path in sorted((EXAMPLES / "kubernetes").glob("*.yaml"))}


def load(name: str) -> dict[str, Any]:
    loaded: dict[str, Any] = yaml.safe_load(FILES[name].read_text())
    return loaded


def test_they_are_these() -> None:
    assert set(FILES) == {"minimal", "non-voting", "spread", "state-machine", "throwaway"}


@pytest.mark.parametrize("name", FILES)
def test_it_is_taken_without_a_warning(api_server: ApiServer, name: str) -> None:
    api_server.install_definition(definition())
    done = api_server.kubectl("create", "--dry-run=server", "-f", str(FILES[name]))
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""


@pytest.mark.parametrize("name", FILES)
def test_the_operator_and_its_nodes_understand_it(name: str) -> None:
    resource = load(name)
    assert (resource["apiVersion"], resource["kind"]) == (API_VERSION, KIND)
    parsed = specs.parse(resource, default_image="raftwright/node:1")
    assert parsed.replicas % 2 == 1
    node = node_settings({"name": "a", **config.settings_of(parsed)})
    for setting, text in parsed.settings.items():
        assert str(getattr(node, setting)) == text
    parse_policy(node.snapshot_policy or "never")


def test_the_state_machine_is_one() -> None:
    module_name, class_name = load("state-machine")["spec"]["stateMachine"].split(":")
    spec = importlib.util.spec_from_file_location("example_machine", EXAMPLES / f"{module_name}.py")
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    assert issubclass(getattr(module, class_name), raftwright.StateMachine)
