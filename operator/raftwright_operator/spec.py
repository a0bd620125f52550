"""What a person asked for: the resource's spec as frozen values. Called by `observe`; read by all that is pure.

Rule: the schema in the chart has validated it already, so parsing only fills in defaults; the fields are the schema's.
What the schema would have refused is read as if it were not there, or is a ValueError; never is it guessed at.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from raftwright_operator.quantities import whole

REPLICAS_DEFAULT, STORAGE_DEFAULT, GRACE_PERIOD_DEFAULT_S = 3, "1Gi", 30
RESOURCES_DEFAULT: Mapping[str, Any] = {"requests": {"cpu": "100m", "memory": "256Mi"}}
"""A pod that requests nothing gets next to no processor time on a busy host: its leader would lose its followers."""
RESERVED_SETTINGS = frozenset(
    {
        "name",
        "data_dir",
        "client_listen",
        "peer_listen",
        "client_advertise",
        "peer_advertise",
        "members",
        "join",
        "non_voting",
        "rejoin",
        "state_machine",
    }
)
"""Settings of the node that are the operator's, or have a field of their own that cannot change."""

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


def parse(resource: Mapping[str, Any], *, default_image: str) -> Spec:
    """The spec of a RaftCluster. `default_image` is the `repository:tag` of the node for those that name none.
    ValueError for a size that is no quantity."""
    spec = _plain(resource.get("spec") or {})
    service = _map(spec, "service")
    snapshots = _map(spec, "snapshots")
    return Spec(
        storage=_storage(_map(spec, "storage")),
        replicas=_number(spec, "replicas", REPLICAS_DEFAULT),
        non_voting=_number(_map(spec, "nonVoting"), "replicas", 0),
        image=image_of(spec.get("image"), spec.get("version"), default_image),
        image_pull_policy=spec.get("imagePullPolicy") or None,
        snapshots=Snapshots(
            policy=snapshots.get("policy") or None,
            compression=snapshots.get("compression") or None,
        ),
        settings={name: value for name, value in _map(spec, "settings").items() if name not in RESERVED_SETTINGS},
        resources=RESOURCES_DEFAULT if spec.get("resources") is None else spec["resources"],
        pod=_pod_template(_map(spec, "podTemplate")),
        service_type=service.get("type") or "ClusterIP",
        service_annotations=_map(service, "annotations"),
        paused=bool(spec.get("paused")),
        state_machine=spec.get("stateMachine") or None,
    )


def image_of(image: str | None, version: str | None, default_image: str) -> str:
    """The whole reference: `image` as it is, else the default one, with `version` as its tag where that is given."""
    if image or not version:
        return image or default_image
    repository = default_image.partition("@")[0]
    host, slash, name = repository.rpartition("/")
    return f"{host}{slash}{name.partition(':')[0]}:{version}"


def _storage(storage: Mapping[str, Any]) -> Storage:
    retention = _map(storage, "retention")
    return Storage(
        size_bytes=whole(storage.get("size") or STORAGE_DEFAULT),
        storage_class=storage.get("storageClassName"),
        on_scale_down=_retention(retention, "onScaleDown"),
        on_deletion=_retention(retention, "onDeletion"),
    )


def _pod_template(template: Mapping[str, Any]) -> PodTemplate:
    spread = template.get("topologySpreadConstraints")
    secrets = template.get("imagePullSecrets") or ()
    return PodTemplate(
        labels=_map(template, "labels"),
        annotations=_map(template, "annotations"),
        affinity=template.get("affinity") or None,
        node_selector=_map(template, "nodeSelector"),
        tolerations=tuple(template.get("tolerations") or ()),
        topology_spread=None if spread is None else tuple(spread),
        priority_class=template.get("priorityClassName") or None,
        service_account=template.get("serviceAccountName") or None,
        env=tuple(template.get("env") or ()),
        volumes=tuple(template.get("volumes") or ()),
        volume_mounts=tuple(template.get("volumeMounts") or ()),
        image_pull_secrets=tuple(secret["name"] if isinstance(secret, Mapping) else secret for secret in secrets),
        termination_grace_period_s=_number(template, "terminationGracePeriodSeconds", GRACE_PERIOD_DEFAULT_S),
    )


def _plain(value: Any) -> Any:
    """Mappings and sequences of whatever kind as dicts and lists of this Spec's own, which JSON can write."""
    if isinstance(value, Mapping):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, Sequence) and not isinstance(value, str):
        return [_plain(item) for item in value]
    return value


def _map(parent: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    found: Mapping[str, Any] = parent.get(name) or {}
    return found


def _number(parent: Mapping[str, Any], name: str, default: int) -> int:
    found = parent.get(name)
    return default if found is None else int(found)


def _retention(parent: Mapping[str, Any], name: str) -> Retention:
    """Nothing but the very word deletes data."""
    return "Delete" if parent.get(name) == "Delete" else "Retain"
