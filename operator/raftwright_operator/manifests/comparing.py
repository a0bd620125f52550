"""Whether a live object is what was applied, though the API server has filled in defaults. Called by `drifted`.

Rules: what is equal right after an apply is equal for ever, or the operator would apply without end; and what somebody
changed or removed of ours is seen. So the live object must hold the manifest's hash, and each of its fields.
"""

from collections.abc import Collection, Mapping, Sequence
from typing import Any

from raftwright_operator import quantities
from raftwright_operator.manifests.metadata import APPLIED

_QUANTITIES = frozenset({"limits", "requests"})
"""Maps whose values are quantities, which the API server writes in its own way."""
_QUANTITY = frozenset({"sizeLimit", "divisor"})
_KEYS: Mapping[str, tuple[str, ...]] = {
    "containers": ("name",),
    "env": ("name",),
    "imagePullSecrets": ("name",),
    "ownerReferences": ("uid",),
    "ports": ("port", "containerPort", "protocol"),
    "volumeMounts": ("mountPath",),
    "volumes": ("name",),
}
"""Lists that others may add to, by what tells their items apart."""
_KEPT_WHEN_FALSE = frozenset({"automountServiceAccountToken", "enableServiceLinks", "allowPrivilegeEscalation"})
"""Fields that mean true when they are missing. Other empty values may be left out by the API server."""


def differs(manifest: Mapping[str, Any], live: Mapping[str, Any], ignored: Collection[str] = ()) -> bool:
    """`ignored` are fields of the spec."""
    metadata = manifest["metadata"]
    applied = (live.get("metadata", {}).get("annotations") or {}).get(APPLIED)
    if applied != metadata["annotations"][APPLIED]:
        return True
    wanted = {name: value for name, value in manifest.items() if name not in ("apiVersion", "kind")}
    wanted["metadata"] = {name: metadata[name] for name in ("labels", "annotations", "ownerReferences")}
    if ignored:
        wanted["spec"] = {name: value for name, value in manifest["spec"].items() if name not in ignored}
    return not _holds(live, wanted, "")


def _holds(live: Any, wanted: Any, name: str) -> bool:
    """Whether `live` has all of `wanted`, which is at the field `name`."""
    if isinstance(wanted, Mapping):
        if not isinstance(live, Mapping):
            return not wanted and live is None
        compare = _same_quantity if name in _QUANTITIES else _holds
        return all(
            compare(live[key], value, key) if key in live else _may_be_missing(key, value)
            for key, value in wanted.items()
        )
    if isinstance(wanted, Sequence) and not isinstance(wanted, str):
        return _holds_list(live, wanted, name)
    return bool(live == wanted) or (name in _QUANTITY and _same_quantity(live, wanted, name))


def _holds_list(live: Any, wanted: Sequence[Any], name: str) -> bool:
    if not isinstance(live, Sequence) or isinstance(live, str):
        return not wanted and live is None
    if name not in _KEYS:
        return len(live) == len(wanted) and all(_holds(*pair, "") for pair in zip(live, wanted, strict=True))
    by_key = {_key(item, name): item for item in live}
    return all(_key(item, name) in by_key and _holds(by_key[_key(item, name)], item, "") for item in wanted)


def _key(item: Mapping[str, Any], name: str) -> tuple[Any, ...]:
    return tuple(item.get(key) for key in _KEYS[name])


def _may_be_missing(name: str, value: Any) -> bool:
    return not value and name not in _KEPT_WHEN_FALSE


def _same_quantity(live: Any, wanted: Any, name: str) -> bool:
    try:
        return quantities.parse(live) == quantities.parse(wanted)
    except ValueError:
        return False
