"""Whether a live object is what was applied, though the API server has filled in defaults. Called by `drifted`.

Rules: what is equal right after an apply is equal for ever, or the operator would apply without end; and what somebody
changed or removed of ours is seen. So the live object must hold the manifest's hash, and each of its fields.
"""

from collections.abc import Collection, Mapping, Sequence
from typing import Any

from raftwright_operator import quantities

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


def difference(manifest: Mapping[str, Any], live: Mapping[str, Any], ignored: Collection[str] = ()) -> str | None:
    """The first field that is not as in the manifest, as `spec.ports`; None if there is none. `ignored` are fields of
    the spec. The hash is compared last: where it alone differs, a field is there that is no longer wanted."""
    metadata = manifest["metadata"]
    wanted = {name: value for name, value in manifest.items() if name not in ("apiVersion", "kind", "metadata")}
    if ignored:
        wanted["spec"] = {name: value for name, value in manifest["spec"].items() if name not in ignored}
    wanted["metadata"] = {name: metadata[name] for name in ("labels", "ownerReferences", "annotations")}
    return _differing(live, wanted, "", "")


def _differing(live: Any, wanted: Any, name: str, path: str) -> str | None:
    """Where `live` lacks something of `wanted`, which is at the field `name`."""
    if isinstance(wanted, Mapping):
        return _differing_map(live, wanted, name, path)
    if isinstance(wanted, Sequence) and not isinstance(wanted, str):
        return _differing_list(live, wanted, name, path)
    same = bool(live == wanted) or (name in _QUANTITY and _same_quantity(live, wanted))
    return None if same else path


def _differing_map(live: Any, wanted: Mapping[str, Any], name: str, path: str) -> str | None:
    if not isinstance(live, Mapping):
        return None if not wanted and live is None else path
    for key, value in wanted.items():
        inner = f"{path}.{key}" if path else key
        if key not in live:
            found = None if _may_be_missing(key, value) else inner
        elif name in _QUANTITIES:
            found = None if _same_quantity(live[key], value) else inner
        else:
            found = _differing(live[key], value, key, inner)
        if found is not None:
            return found
    return None


def _differing_list(live: Any, wanted: Sequence[Any], name: str, path: str) -> str | None:
    if not isinstance(live, Sequence) or isinstance(live, str):
        return None if not wanted and live is None else path
    if name not in _KEYS:
        if len(live) != len(wanted):
            return path
        pairs = enumerate(zip(live, wanted, strict=True))
        found = (_differing(one, other, "", f"{path}[{at}]") for at, (one, other) in pairs)
        return next((each for each in found if each is not None), None)
    by_key = {_key(item, name): item for item in live}
    for item in wanted:
        key = _key(item, name)
        inner = f"{path}[{next(part for part in key if part is not None)}]"
        found_at = _differing(by_key[key], item, "", inner) if key in by_key else inner
        if found_at is not None:
            return found_at
    return None


def _key(item: Mapping[str, Any], name: str) -> tuple[Any, ...]:
    return tuple(item.get(key) for key in _KEYS[name])


def _may_be_missing(name: str, value: Any) -> bool:
    return not value and name not in _KEPT_WHEN_FALSE


def _same_quantity(live: Any, wanted: Any) -> bool:
    try:
        return quantities.parse(live) == quantities.parse(wanted)
    except ValueError:
        return False
