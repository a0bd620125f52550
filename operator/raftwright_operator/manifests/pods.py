"""The pod template: one container, the node, that passes Pod Security `restricted`. Called by `sets`.

Rule: what a person adds never takes the place of what the node cannot do without: its name, its data, its settings.
"""

from collections.abc import Iterable, Mapping
from typing import Any

from raftwright_operator.manifests.config import DATA_DIRECTORY, DIRECTORY, FILE, config_hash
from raftwright_operator.manifests.metadata import Manifest, labels, selector
from raftwright_operator.names import CLIENT_PORT, CONTAINER, DATA_VOLUME, LABEL_SET, PEER_PORT, SetKind, peers_service
from raftwright_operator.observed import Observed
from raftwright_operator.spec import RESERVED_SETTINGS, PodTemplate, Spec

CONFIG_HASH = "raftwright.io/config"
CONFIG_VOLUME, SCRATCH_VOLUME = "config", "tmp"
USER_ID = 65532
"""Of the image; the volume's group too."""
SECURITY = {
    "runAsNonRoot": True,
    "runAsUser": USER_ID,
    "runAsGroup": USER_ID,
    "fsGroup": USER_ID,
    "fsGroupChangePolicy": "OnRootMismatch",
    "seccompProfile": {"type": "RuntimeDefault"},
}
CONTAINER_SECURITY = {
    "allowPrivilegeEscalation": False,
    "readOnlyRootFilesystem": True,
    "capabilities": {"drop": ["ALL"]},
}
LEAVE_S = 2
"""How long a pod that is to end goes on serving. It is taken out of the Services at once, but each machine hears of it
a little later, and until then sends new connections there."""
_RESERVED = frozenset("RAFTWRIGHT_" + name.upper() for name in RESERVED_SETTINGS)
"""Variables that a person cannot set, since they would win over the file of settings."""
PROBES: dict[str, Manifest] = {
    # The listener is up once the log has been read: a long one may take a quarter of an hour.
    "startupProbe": {"path": "/livez", "periodSeconds": 1, "timeoutSeconds": 3, "failureThreshold": 900},
    # A node whose event loop has not turned for a minute never will; one that replays its log or has no quorum lives.
    "livenessProbe": {"path": "/livez", "periodSeconds": 10, "timeoutSeconds": 5, "failureThreshold": 6},
    # What clients notice: a node that lost its leader is out of the Service within four seconds.
    "readinessProbe": {"path": "/readyz", "periodSeconds": 2, "timeoutSeconds": 3, "failureThreshold": 2},
}


def pod_template(spec: Spec, observed: Observed, kind: SetKind) -> Manifest:
    pod = spec.pod
    template: Manifest = {
        "serviceAccountName": pod.service_account or observed.name,
        "automountServiceAccountToken": False,
        "enableServiceLinks": False,
        "securityContext": SECURITY,
        "terminationGracePeriodSeconds": pod.termination_grace_period_s,
        "topologySpreadConstraints": _spread(pod, observed, kind),
        "containers": [_container(spec, observed)],
        "volumes": _by("name", pod.volumes, _volumes(observed)),
        "imagePullSecrets": [{"name": name} for name in pod.image_pull_secrets],
        "affinity": pod.affinity,
        "nodeSelector": dict(pod.node_selector),
        "tolerations": list(pod.tolerations),
        "priorityClassName": pod.priority_class,
    }
    return {
        "metadata": {
            "labels": {**pod.labels, **labels(observed, kind)},
            "annotations": {**pod.annotations, CONFIG_HASH: config_hash(spec)},
        },
        "spec": _without_empty(template),
    }


def _container(spec: Spec, observed: Observed) -> Manifest:
    return {
        "name": CONTAINER,
        "image": spec.image,
        **({"imagePullPolicy": spec.image_pull_policy} if spec.image_pull_policy else {}),
        "args": ["node", "--config", f"{DIRECTORY}/{FILE}"],
        "env": _environment(observed) + _by("name", (one for one in spec.pod.env if one["name"] not in _RESERVED)),
        "ports": [
            {"name": "client", "containerPort": CLIENT_PORT, "protocol": "TCP"},
            {"name": "peer", "containerPort": PEER_PORT, "protocol": "TCP"},
        ],
        "securityContext": CONTAINER_SECURITY,
        "volumeMounts": _by("mountPath", spec.pod.volume_mounts, _MOUNTS),
        **({"resources": dict(spec.resources)} if spec.resources else {}),
        **{name: _probe(probe) for name, probe in PROBES.items()},
        "lifecycle": {"preStop": {"sleep": {"seconds": LEAVE_S}}},
    }


def _environment(observed: Observed) -> list[Manifest]:
    """The name comes first, since the addresses refer to it."""
    host = f"$(RAFTWRIGHT_NAME).{peers_service(observed.name)}.{observed.namespace}.svc"
    return [
        {"name": "RAFTWRIGHT_NAME", "valueFrom": {"fieldRef": {"apiVersion": "v1", "fieldPath": "metadata.name"}}},
        {"name": "RAFTWRIGHT_CLIENT_ADVERTISE", "value": f"{host}:{CLIENT_PORT}"},
        {"name": "RAFTWRIGHT_PEER_ADVERTISE", "value": f"{host}:{PEER_PORT}"},
    ]


def _probe(probe: Mapping[str, Any]) -> Manifest:
    timing = {name: value for name, value in probe.items() if name != "path"}
    return {"httpGet": {"path": probe["path"], "port": "client", "scheme": "HTTP"}, **timing}


def _spread(pod: PodTemplate, observed: Observed, kind: SetKind) -> list[Manifest]:
    """Over hosts, as far as possible. A constraint that names no pods means those of the set."""
    chosen: Iterable[Mapping[str, Any]] = (
        ({"topologyKey": "kubernetes.io/hostname", "maxSkew": 1, "whenUnsatisfiable": "ScheduleAnyway"},)
        if pod.topology_spread is None
        else pod.topology_spread
    )
    own = {"labelSelector": {"matchLabels": selector(observed, **{LABEL_SET: kind})}}
    return [{**own, **constraint} for constraint in chosen]


def _volumes(observed: Observed) -> list[Manifest]:
    return [
        {"name": CONFIG_VOLUME, "configMap": {"name": observed.name}},
        # In memory, since a file system of its own that is full is an error of a write, where a directory on the
        # node's disk that grows past its limit is an eviction.
        {"name": SCRATCH_VOLUME, "emptyDir": {"medium": "Memory", "sizeLimit": "16Mi"}},
    ]


_MOUNTS: list[Manifest] = [
    # For machines and tools that want a temporary file; the node itself makes none.
    {"name": SCRATCH_VOLUME, "mountPath": "/tmp"},
    {"name": DATA_VOLUME, "mountPath": DATA_DIRECTORY},
    {"name": CONFIG_VOLUME, "mountPath": DIRECTORY, "readOnly": True},
]


def _by(key: str, *lists: Iterable[Mapping[str, Any]]) -> list[Manifest]:
    """The lists as one, with each key once, in the place where it came first; the last one wins."""
    found: dict[Any, Manifest] = {}
    for one in (one for many in lists for one in many):
        found[one[key]] = dict(one)
    return list(found.values())


def _without_empty(fields: Mapping[str, Any]) -> Manifest:
    return {name: value for name, value in fields.items() if value not in (None, [], {})}
