"""Writes the chart's README.md from its values.yaml: `python -m tests.chart.readme`. A test holds the file to it.

Rule: a value is described once, by the comment before it in values.yaml.
"""

import json
import sys
from collections.abc import Iterator
from typing import Any, NamedTuple

import yaml

from tests.chart.crd import CHART

README = CHART / "README.md"
HEAD = """# Raftwright's chart

Installs the operator of Raftwright and the definition of `RaftCluster`. It needs Kubernetes 1.30 or later, and Helm 3
or 4.

```console
helm install raftwright charts/raftwright --namespace raftwright --create-namespace
```

What it prints has a first RaftCluster to try. `helm test raftwright --namespace raftwright` asks whether the operator
is ready and RaftClusters are served.

## Upgrading and uninstalling

The definition of RaftCluster is upgraded with the release. Uninstalling leaves it there (`crds.keep`), and with it all
RaftClusters: their pods go on, and their data stays. Nobody looks after them until the chart is installed again, with
the same name in the same namespace, or with `crds.create=false`. A RaftCluster that is deleted meanwhile is gone only
then, since the operator's finalizer is on it.

To remove everything, first delete the RaftClusters and wait until they are gone, then uninstall, then delete the
definition:

```console
kubectl delete raftclusters --all --all-namespaces
helm uninstall raftwright --namespace raftwright
kubectl delete customresourcedefinition raftclusters.raftwright.io
```

With `crds.keep=false`, uninstalling deletes the definition too, and so every RaftCluster.

## Several releases

Releases that look after different namespaces (`watch.namespaces`) are installed in namespaces of their own, since
operators in one namespace stand in for each other. All but one of them have `crds.create=false`.

## Values

A value that the chart does not know is refused.

| value | default | what it is |
|---|---|---|
"""


class Value(NamedTuple):
    path: str
    default: Any
    description: str


def values() -> list[Value]:
    """Every value with a description, in the order of the file. ValueError for one without."""
    text = (CHART / "values.yaml").read_text()
    described = dict(_descriptions(text))
    found = []
    for path, default in _leaves(yaml.safe_load(text), described):
        if path not in described:
            raise ValueError(f"values.yaml does not say what {path} is")
        found.append(Value(path, default, described[path]))
    return found


def _descriptions(text: str) -> Iterator[tuple[str, str]]:
    """The paths of values with the comments before them."""
    comment: list[str] = []
    path: list[str] = []
    for line in text.splitlines():
        bare = line.strip()
        if bare.startswith("#"):
            comment.append(bare.removeprefix("#").strip())
            continue
        if bare and not bare.startswith("-"):
            depth = (len(line) - len(line.lstrip())) // 2
            path = [*path[:depth], bare.partition(":")[0]]
            if comment:
                yield ".".join(path), " ".join(comment)
        comment = []


def _leaves(node: dict[str, Any], described: dict[str, str], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """A map with a description is a value as a whole."""
    for key, value in node.items():
        path = prefix + key
        if isinstance(value, dict) and value and path not in described:
            yield from _leaves(value, described, f"{path}.")
        else:
            yield path, value


def readme() -> str:
    rows = (f"| `{each.path}` | `{json.dumps(each.default)}` | {each.description} |\n" for each in values())
    return HEAD + "".join(rows)


if __name__ == "__main__":
    README.write_text(readme())
    sys.stdout.write(f"{README} is written.\n")
