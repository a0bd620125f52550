"""The PodDisruptionBudget: how many voters must stay while others are evicted. Called by `execute` and `observe`.

Rule: how many is decided in `plan`; here is only what the object looks like.
"""

from collections.abc import Mapping
from typing import Any

from raftwright_operator.manifests.comparing import difference
from raftwright_operator.manifests.metadata import APPLIED, Manifest, owned, selector
from raftwright_operator.names import LABEL_VOTER
from raftwright_operator.observed import Observed

_MINIMUM = "spec.minAvailable"


def budget(observed: Observed, min_available: int) -> Manifest:
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
    return owned(observed, "policy/v1", "PodDisruptionBudget", observed.name, body)


def budget_seen(observed: Observed, live: Mapping[str, Any] | None) -> int | None:
    """`Observed.budget`: the minimum of a budget that exists and is otherwise as it should be. None for one that is
    missing or that somebody has changed, so that it is applied anew."""
    if live is None or budget_drift(observed, live) is not None:
        return None
    minimum: int = live["spec"]["minAvailable"]
    return minimum


def budget_drift(observed: Observed, live: Mapping[str, Any]) -> str | None:
    """The first field that is not as it should be: the minimum, where only the hash says that something is not."""
    minimum = live.get("spec", {}).get("minAvailable")
    found = difference(budget(observed, minimum), live) if isinstance(minimum, int) else _MINIMUM
    return _MINIMUM if found == f"metadata.annotations.{APPLIED}" else found
