"""Which actions still hold when something has changed: uids, resourceVersions and the membership's version.

Everything that changes the world tells `changed`; only what is remembered from before (a held action, a stale cache)
cares. PURE.
"""

from functools import cache

from tests.operator.search.world import (
    BUDGET,
    MEMBERSHIP,
    RESOURCE,
    Act,
    World,
    claim_key,
    pod_key,
    set_uid_key,
    set_version_key,
)


@cache
def needs(act: Act) -> frozenset[int]:
    """Keys of what has to be the same still; of LabelPods each pod counts by itself."""
    match act:
        case ("grow" | "shrink", index, _):
            return frozenset({set_version_key(index)})
        case ("orphan" | "delete set", index):
            return frozenset({set_uid_key(index)})
        case ("intent", *_) | ("hibernation", *_):
            return frozenset({RESOURCE})
        case ("add" | "promote" | "remove" | "replace", *_):
            return frozenset({MEMBERSHIP})
        case ("restart", slot, *_) | ("bootstrap", slot, _) | ("discard", (slot, _)):
            return frozenset({pod_key(slot)})
        case ("budget", _):
            return frozenset({BUDGET})
        case ("expand" | "delete volume", slot):
            return frozenset({claim_key(slot)})
    return frozenset()


def still_holding(act: Act, keys: frozenset[int]) -> Act | None:
    """What is left of an action once the things with these keys are others."""
    if act[0] == "labels":
        left = tuple(one for one in act[1] if pod_key(one[0]) not in keys)
        return ("labels", left) if left else None
    return None if needs(act) & keys else act


def changed(world: World, *keys: int) -> World:
    """These are others now than they were."""
    if world.held is None and world.stale is None:
        return world
    found = frozenset(keys)
    held = world.held and still_holding(world.held, found)
    stale = world.stale and world.stale._replace(changed=tuple(sorted({*world.stale.changed, *keys} - {MEMBERSHIP})))
    return world._replace(held=held, stale=stale)
