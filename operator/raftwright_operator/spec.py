"""What a person asked for: the resource's spec as frozen values. Called by `observe`; read by all that is pure.

Rule: the schema in the chart has validated it already, so parsing only fills in defaults; the fields are the schema's.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

Retention = Literal["Retain", "Delete"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Storage:
    size_bytes: int
    storage_class: str | None = None
    """None: the cluster's default class."""
    on_scale_down: Retention = "Retain"
    on_deletion: Retention = "Retain"


@dataclass(frozen=True, slots=True, kw_only=True)
class Snapshots:
    policy: str | None = None
    """As the node's setting `snapshot_policy` has it; None: its default. So is `compression`."""
    compression: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class PodTemplate:
    """What is added to the pods; lists and maps are as in a PodSpec."""

    labels: Mapping[str, str] = field(default_factory=dict)
    annotations: Mapping[str, str] = field(default_factory=dict)
    affinity: Mapping[str, Any] | None = None
    node_selector: Mapping[str, str] = field(default_factory=dict)
    tolerations: tuple[Mapping[str, Any], ...] = ()
    topology_spread: tuple[Mapping[str, Any], ...] | None = None
    """None: spread over hosts as far as possible."""
    priority_class: str | None = None
    service_account: str | None = None
    """None: one of its own, without a token."""
    env: tuple[Mapping[str, Any], ...] = ()
    volumes: tuple[Mapping[str, Any], ...] = ()
    volume_mounts: tuple[Mapping[str, Any], ...] = ()
    image_pull_secrets: tuple[str, ...] = ()
    termination_grace_period_s: int = 30


@dataclass(frozen=True, slots=True, kw_only=True)
class Spec:
    storage: Storage
    replicas: int = 3
    """Voters."""
    non_voting: int = 0
    image: str = ""
    """Whole reference, resolved: `image`, or the operator's repository with `version`."""
    image_pull_policy: str | None = None
    snapshots: Snapshots = Snapshots()
    settings: Mapping[str, str] = field(default_factory=dict)
    """Further settings of the node, by the names of its TOML file."""
    resources: Mapping[str, Any] = field(default_factory=dict)
    pod: PodTemplate = PodTemplate()
    service_type: str = "ClusterIP"
    service_annotations: Mapping[str, str] = field(default_factory=dict)
    paused: bool = False
    state_machine: str | None = None
    """`package.module:Class`."""

    def wanted(self, kind: str) -> int:
        """Pods asked for in a set."""
        return self.replicas if kind == "voters" else self.non_voting
