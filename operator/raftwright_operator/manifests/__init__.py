"""The objects of one RaftCluster, as Kubernetes takes them: PURE.

`execute` applies them, `observe` asks what has drifted. Rule: the same spec and observation give the same objects, to
the byte; nothing here looks at the clock, a random number or a live object, but `drifted` and `budget_…`.
"""

from collections.abc import Mapping
from typing import Any

from raftwright_operator.manifests.accounts import service_account
from raftwright_operator.manifests.budgets import budget, budget_drift, budget_ready_for, budget_seen
from raftwright_operator.manifests.comparing import difference
from raftwright_operator.manifests.config import config_map
from raftwright_operator.manifests.metadata import Manifest, is_ours, key_of
from raftwright_operator.manifests.services import services
from raftwright_operator.manifests.sets import NOT_COMPARED, stateful_set
from raftwright_operator.names import SET_KINDS, budget_key, leader_service, peers_service, set_name
from raftwright_operator.observed import Observed
from raftwright_operator.spec import Spec

__all__ = [
    "Manifest",
    "budget",
    "budget_ready_for",
    "budget_seen",
    "build",
    "drift",
    "drifted",
    "is_ours",
    "keys",
    "stateful_set",
]


def build(spec: Spec, observed: Observed) -> dict[str, Manifest]:
    """All objects by `Kind/name` but the StatefulSets, which need a number of replicas, and the budget, which needs
    its minimum: those are `stateful_set` and `budget`. In the order in which they are to be applied."""
    objects = [config_map(spec, observed), *services(spec, observed)]
    if spec.pod.service_account is None:
        objects.append(service_account(observed))
    return {key_of(one): one for one in objects}


def keys(spec: Spec, cluster: str) -> tuple[str, ...]:
    """All objects of a cluster, as `Kind/name`, the StatefulSets and the budget too."""
    return (
        f"ConfigMap/{cluster}",
        *(f"Service/{name}" for name in (peers_service(cluster), cluster, leader_service(cluster))),
        *(() if spec.pod.service_account else (f"ServiceAccount/{cluster}",)),
        *(f"StatefulSet/{set_name(cluster, kind)}" for kind in SET_KINDS),
        budget_key(cluster),
    )


def drift(spec: Spec, observed: Observed, live: Mapping[str, Mapping[str, Any]]) -> dict[str, str]:
    """The first field of each object that is not as it should be, given the live ones by `Kind/name` as the API server
    shows them; empty of an object that is missing. A StatefulSet or a budget that is missing has not drifted, since
    creating it is an action of its own."""
    found: dict[str, str | None] = {}
    for key, manifest in build(spec, observed).items():
        found[key] = difference(manifest, live[key]) if key in live else ""
    for kind in SET_KINDS:
        manifest = stateful_set(spec, observed, kind, 0)
        key = key_of(manifest)
        found[key] = difference(manifest, live[key], ignored=NOT_COMPARED) if key in live else None
    key = budget_key(observed.name)
    found[key] = budget_drift(observed, live[key]) if key in live else None
    return {key: field for key, field in found.items() if field is not None}


def drifted(drift: Mapping[str, str]) -> tuple[str, ...]:
    """What of that is to be applied: all but the budget, whose minimum `plan` knows."""
    return tuple(key for key in drift if not key.startswith("PodDisruptionBudget/"))
