"""What all objects have in common: labels, the owner, and the hash of what was applied.

Called by every builder of this package. Rule: labels that select something never change between versions, since
selectors and claim templates cannot be changed.
"""

import hashlib
import json
from collections.abc import Collection, Mapping
from typing import Any

from raftwright_operator.names import (
    FIELD_MANAGER,
    GROUP,
    KIND,
    LABEL_CLUSTER,
    LABEL_MANAGED_BY,
    LABEL_SET,
    VERSION,
    SetKind,
)
from raftwright_operator.observed import Observed

Manifest = dict[str, Any]

APPLIED = "raftwright.io/applied"
"""Annotation: the hash of the manifest that was applied. By it a field is noticed that is no longer wanted."""
COMPONENT = "node"


def key_of(manifest: Mapping[str, Any]) -> str:
    return f"{manifest['kind']}/{manifest['metadata']['name']}"


def selector(observed: Observed, **more: str) -> dict[str, str]:
    """What selects the pods of a cluster."""
    return {LABEL_CLUSTER: observed.name, **more}


def labels(observed: Observed, kind: SetKind | None = None) -> dict[str, str]:
    """Of every object; those of one of the two sets, their pods and claims name it too."""
    found = {
        "app.kubernetes.io/name": "raftwright",
        "app.kubernetes.io/instance": observed.name,
        "app.kubernetes.io/component": COMPONENT,
        LABEL_MANAGED_BY: FIELD_MANAGER,
        LABEL_CLUSTER: observed.name,
    }
    return found if kind is None else {**found, LABEL_SET: kind}


def owner(observed: Observed) -> Manifest:
    return {
        "apiVersion": f"{GROUP}/{VERSION}",
        "kind": KIND,
        "name": observed.name,
        "uid": observed.uid,
        "controller": True,
        "blockOwnerDeletion": True,
    }


def is_ours(cluster: str, live: Mapping[str, Any]) -> bool:
    """Whether an object under a name of ours may be applied over or deleted: a RaftCluster of this name controls it, or
    nobody does and it bears the labels that all of ours have.

    So one that an earlier resource of the name left behind is ours too, and a person can hand one over by labels."""
    meta = live["metadata"]
    controllers = [each for each in meta.get("ownerReferences") or () if each.get("controller")]
    if controllers:
        kinds = {(each["apiVersion"].partition("/")[0], each["kind"], each["name"]) for each in controllers}
        return kinds == {(GROUP, KIND, cluster)}
    found = meta.get("labels") or {}
    return found.get(LABEL_CLUSTER) == cluster and found.get(LABEL_MANAGED_BY) == FIELD_MANAGER


def owned(
    observed: Observed,
    api_version: str,
    kind: str,
    name: str,
    body: Mapping[str, Any],
    *,
    set_kind: SetKind | None = None,
    annotations: Mapping[str, str] | None = None,
    not_hashed: Collection[str] = (),
) -> Manifest:
    """A whole object: `body` with its head. `not_hashed` are fields of its spec that do not count as drift."""
    metadata: Manifest = {
        "name": name,
        "namespace": observed.namespace,
        "labels": labels(observed, set_kind),
        "ownerReferences": [owner(observed)],
    }
    manifest: Manifest = {"apiVersion": api_version, "kind": kind, "metadata": metadata, **body}
    hashed = dict(manifest)
    if not_hashed:
        hashed["spec"] = {name: value for name, value in manifest["spec"].items() if name not in not_hashed}
    metadata["annotations"] = {**(annotations or {}), APPLIED: digest([hashed, dict(annotations or {})])}
    return manifest


def digest(value: Any) -> str:
    """A short hash of a JSON value, for annotations; not for secrets."""
    raw = json.dumps(value, sort_keys=True, ensure_ascii=False, separators=(",", ":"))
    return hashlib.sha256(raw.encode()).hexdigest()[:16]
