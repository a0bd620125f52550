"""The objects of one RaftCluster, as Kubernetes takes them: PURE.

`execute` applies them, `observe` asks what has drifted. Rule: the same spec and observation give the same objects, to
the byte; nothing here looks at the clock, a random number or a live object, but `drifted` and `budget_seen`.
"""

from collections.abc import Mapping
from typing import Any

from raftwright_operator.manifests.accounts import service_account
from raftwright_operator.manifests.budgets import budget, budget_seen
from raftwright_operator.manifests.comparing import differs
from raftwright_operator.manifests.config import config_map
from raftwright_operator.manifests.metadata import Manifest, key_of
from raftwright_operator.manifests.services import services
from raftwright_operator.manifests.sets import NOT_COMPARED, stateful_set
from raftwright_operator.names import SET_KINDS
from raftwright_operator.observed import Observed
from raftwright_operator.spec import Spec

__all__ = ["Manifest", "budget", "budget_seen", "build", "drifted", "stateful_set"]


def build(spec: Spec, observed: Observed) -> dict[str, Manifest]:
    """All objects by `Kind/name` but the StatefulSets, which need a number of replicas, and the budget, which needs
    its minimum: those are `stateful_set` and `budget`. In the order in which they are to be applied."""
    objects = [config_map(spec, observed), *services(spec, observed)]
    if spec.pod.service_account is None:
        objects.append(service_account(observed))
    return {key_of(one): one for one in objects}


def drifted(spec: Spec, observed: Observed, live: Mapping[str, Mapping[str, Any]]) -> tuple[str, ...]:
    """Which objects are missing or not as they should be, as `Kind/name`; `live` has all that exist, as the API
    server shows them. A StatefulSet that is missing has not drifted, since creating it is an action of its own."""
    found = []
    for key, manifest in build(spec, observed).items():
        if key not in live or differs(manifest, live[key]):
            found.append(key)
    for kind in SET_KINDS:
        manifest = stateful_set(spec, observed, kind, 0)
        key = key_of(manifest)
        if key in live and differs(manifest, live[key], ignored=NOT_COMPARED):
            found.append(key)
    return tuple(found)
