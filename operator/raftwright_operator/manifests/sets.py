"""The two StatefulSets, with their claim template. Called by `execute` with the replicas that `plan` decided.

Rule: a set is never applied over one that was not seen: what is built carries the resourceVersion of the observation,
so that replicas from a stale cache are a conflict and not a change.
"""

from raftwright_operator.manifests.metadata import Manifest, labels, owned, selector
from raftwright_operator.manifests.pods import pod_template
from raftwright_operator.names import DATA_VOLUME, LABEL_SET, SetKind, peers_service, set_name
from raftwright_operator.observed import Observed
from raftwright_operator.quantities import written
from raftwright_operator.spec import Spec

NOT_COMPARED = frozenset({"replicas", "volumeClaimTemplates"})
"""Replicas are decided by `plan`, and a claim template cannot be changed: volumes grow by recreating the set."""


GENERATION = "raftwright.io/generation"
"""Annotation: of the resource, that the set was looked at for. So each change of the spec changes the set's
resourceVersion, and nobody who is late resizes it as an older spec asked for."""


def stateful_set(spec: Spec, observed: Observed, kind: SetKind, replicas: int) -> Manifest:
    """The set as it is to be. One that exists keeps the claim template that it has, or the API server would refuse
    the whole; one that does not exist gets the size that is asked for."""
    seen = observed.sets.get(kind)
    body = {
        "spec": {
            "replicas": replicas,
            "serviceName": peers_service(observed.name),
            # A pod may need others to become ready, and which one restarts when is decided by `plan`.
            "podManagementPolicy": "Parallel",
            "updateStrategy": {"type": "OnDelete"},
            # Volumes are deleted by the operator, by uid, when the membership has no such member; never by this.
            "persistentVolumeClaimRetentionPolicy": {"whenDeleted": "Retain", "whenScaled": "Retain"},
            "revisionHistoryLimit": 3,
            "selector": {"matchLabels": selector(observed, **{LABEL_SET: kind})},
            "template": pod_template(spec, observed, kind),
            "volumeClaimTemplates": [
                claim_template(spec, observed, kind, seen.volume_bytes if seen else spec.storage.size_bytes)
            ],
        }
    }
    name = set_name(observed.name, kind)
    manifest = owned(
        observed,
        "apps/v1",
        "StatefulSet",
        name,
        body,
        set_kind=kind,
        annotations={GENERATION: str(observed.generation)},
        not_hashed=NOT_COMPARED,
    )
    if seen is not None:
        manifest["metadata"]["resourceVersion"] = seen.resource_version
        manifest["metadata"]["uid"] = seen.uid
    return manifest


def claim_template(spec: Spec, observed: Observed, kind: SetKind, size_bytes: int) -> Manifest:
    """Nothing of it may ever be built differently for a set that exists, since it cannot be changed."""
    body: Manifest = {
        "accessModes": ["ReadWriteOnce"],
        "resources": {"requests": {"storage": written(size_bytes)}},
    }
    if spec.storage.storage_class is not None:
        body["storageClassName"] = spec.storage.storage_class
    return {"metadata": {"name": DATA_VOLUME, "labels": labels(observed, kind)}, "spec": body}
