"""Which actions still hold when something has changed: uids, resourceVersions and the membership's version.

Everything that changes the world tells `changed`; only what is remembered from before (a held action, a stale cache)
cares. PURE.
"""

from functools import cache

from tests.operator.search.world import (
    BUDGET,
    MEMBERSHIP,
    RESOURCE,
    SPEC,
    Act,
    Set,
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
        case ("add" | "promote" | "remove" | "replace" | "renew", *_):
            return frozenset({MEMBERSHIP})
        case ("restart", slot, *_) | ("bootstrap", slot, _) | ("discard", (slot, _)):
            return frozenset({pod_key(slot)})
        case ("budget", *_):
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


def _of_an_older_spec(act: Act) -> Act:
    """It marks a set for the spec that it was decided for."""
    match act:
        case ("objects", plain, revisions, _):
            return "objects", plain, revisions, 0
        case ("create set", index, Set() as found):
            return "create set", index, found._replace(marked=0)
    return act


def changed(world: World, *keys: int) -> World:
    """These are others now than they were."""
    if world.held is None and world.stale is None:
        return world
    found = frozenset(keys)
    held = world.held and still_holding(world.held, found)
    if held is not None and SPEC in found:
        held = _of_an_older_spec(held)
    stale = world.stale and world.stale._replace(
        changed=tuple(sorted({*world.stale.changed, *keys} - {MEMBERSHIP, SPEC}))
    )
    return world._replace(held=held, stale=stale)
