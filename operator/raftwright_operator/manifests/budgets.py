"""The PodDisruptionBudget: how many voters must stay while others are evicted. Called by `execute` and `observe`.

Rule: how many is decided in `plan`; here is only what the object looks like.
"""

from collections.abc import Mapping
from typing import Any

from raftwright_operator.manifests.comparing import difference
from raftwright_operator.manifests.metadata import APPLIED, Manifest, owned, selector
from raftwright_operator.names import LABEL_VOTER
from raftwright_operator.observed import Observed

READY_FOR = "raftwright.io/ready-for"
"""Annotation: the change of votes that the budget was raised for. Always there, since `apply` takes back no annotation
that was created."""
_MINIMUM = "spec.minAvailable"


def budget(observed: Observed, min_available: int, ready_for: str = "") -> Manifest:
    """It selects the pods that have a vote, or are about to get one.

    A pod that is not ready may be evicted only while enough others are (`IfHealthyBudget`): it may well be a voter
    that keeps its log, and with a quorum lost for the moment nobody is ready, so `AlwaysAllow` would let a drain take
    them all. The price is that a node cannot be drained while its cluster has no quorum, which is what one wants.
    """
    body = {
        "spec": {
            "minAvailable": min_available,
            "selector": {"matchLabels": selector(observed, **{LABEL_VOTER: "true"})},
            "unhealthyPodEvictionPolicy": "IfHealthyBudget",
        }
    }
    annotations = {READY_FOR: ready_for}
    return owned(observed, "policy/v1", "PodDisruptionBudget", observed.name, body, annotations=annotations)


def budget_seen(observed: Observed, live: Mapping[str, Any] | None) -> int | None:
    """`Observed.budget`: the minimum of a budget that exists and is otherwise as it should be. None for one that is
    missing or that somebody has changed, so that it is applied anew."""
    if live is None or budget_drift(observed, live) is not None:
        return None
    minimum: int = live["spec"]["minAvailable"]
    return minimum


def budget_ready_for(live: Mapping[str, Any] | None) -> str:
    """`Observed.budget_ready_for`."""
    annotations = {} if live is None else live.get("metadata", {}).get("annotations") or {}
    return str(annotations.get(READY_FOR) or "")


def budget_drift(observed: Observed, live: Mapping[str, Any]) -> str | None:
    """The first field that is not as it should be: the minimum, where only the hash says that something is not."""
    minimum = live.get("spec", {}).get("minAvailable")
    if not isinstance(minimum, int):
        return _MINIMUM
    found = difference(budget(observed, minimum, budget_ready_for(live)), live)
    return _MINIMUM if found == f"metadata.annotations.{APPLIED}" else found
