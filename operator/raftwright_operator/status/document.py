"""The whole status, and the part of it that has changed. Called by `reconcile`.

Rule: the founding intent and the record of a hibernation are not this module's: they are kept as they were, and left
out of patches, so that a stale copy never comes back.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from raftwright_operator.actions import Concern, Step
from raftwright_operator.manifests.metadata import selector
from raftwright_operator.names import LABEL_SET, SetKind, pod_name
from raftwright_operator.observed import Observed
from raftwright_operator.spec import Spec
from raftwright_operator.status.conditions import conditions
from raftwright_operator.status.members import leader_name, members, settled_names, version_of

RECORDS = ("cluster", "hibernation")


def status_of(
    spec: Spec,
    observed: Observed,
    step: Step,
    concerns: Sequence[Concern],
    previous: Mapping[str, Any],
    now: str,
) -> dict[str, Any]:
    """`previous` is the status as it is, `now` the time as RFC 3339 has it. What is not known is not there."""
    wanted = selector(observed, **{LABEL_SET: "voters"})
    status: dict[str, Any] = {name: previous[name] for name in RECORDS if previous.get(name) is not None}
    status |= {
        "observedGeneration": observed.generation,
        "replicas": sum(pod.kind == "voters" for pod in observed.pods.values()),
        "selector": ",".join(f"{name}={value}" for name, value in wanted.items()),
        "voters": _share(spec, observed, "voters"),
        "nonVoting": _share(spec, observed, "non-voting"),
        "conditions": conditions(spec, observed, step, concerns, previous.get("conditions") or (), now),
        "members": members(observed, previous.get("members") or ()),
    }
    for name, text in (("leader", leader_name(observed)), ("version", version_of(observed))):
        if text:
            status[name] = text
    if "version" not in status and previous.get("version") and spec.replicas:
        status["version"] = previous["version"]
    return status


def patch_of(previous: Mapping[str, Any], status: Mapping[str, Any]) -> dict[str, Any]:
    """A merge patch from the one status to the other: empty if nothing has changed, null for what is no longer known,
    and never anything about `cluster` or `hibernation`."""
    names = [name for name in {**previous, **status} if name not in RECORDS]
    return {name: status.get(name) for name in names if previous.get(name) != status.get(name)}


def _share(spec: Spec, observed: Observed, kind: SetKind) -> str:
    """`2/3`: of the members that are wanted, how many are in and ready."""
    names = {pod_name(observed.name, kind, ordinal) for ordinal in range(spec.wanted(kind))}
    settled = settled_names(observed, kind)
    ready = sum(1 for name in names if name in settled and name in observed.pods and observed.pods[name].ready)
    return f"{ready}/{len(names)}"
