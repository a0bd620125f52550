"""The world in which the operator acts, as one small hashable value: resource, objects, stores, membership.

Everyone in this package works on it. Rule: values only, and as few as can be: an identity (of a pod, claim, set or
store) is kept as "the one that is there now" or "another", never as a number that grows, so that worlds that behave
alike are equal.
"""

from collections.abc import Iterable
from typing import Any, NamedTuple, TypeVar

from raftwright_operator.names import SET_KINDS, SetKind, pod_name

CLUSTER, NAMESPACE, UID, OLD_UID = "db", "ns", "uid-of-the-resource", "id-of-an-older-cluster"

VOTER_SLOTS, SLOTS = 5, 7
"""A slot is an ordinal of one of the two sets: three voters with two spares, and two non-voting."""
KIND_OF = tuple(SET_KINDS[0] if slot < VOTER_SLOTS else SET_KINDS[1] for slot in range(SLOTS))
SET_OF = tuple(int(slot >= VOTER_SLOTS) for slot in range(SLOTS))
ORDINAL_OF = tuple(slot if slot < VOTER_SLOTS else slot - VOTER_SLOTS for slot in range(SLOTS))
SLOTS_OF = (tuple(range(VOTER_SLOTS)), tuple(range(VOTER_SLOTS, SLOTS)))
NAMES = tuple(pod_name(CLUSTER, KIND_OF[slot], ORDINAL_OF[slot]) for slot in range(SLOTS))
SLOT_NAMED = {name: slot for slot, name in enumerate(NAMES)}


def set_index(kind: SetKind) -> int:
    return SET_KINDS.index(kind)


DOWN, UP, LEAVING = range(3)
"""Phases of a pod: not (yet, or no more) answering, answering, terminating."""
WAITING, MEMBER, REMOVED = range(3)
"""What a store says of itself."""
LEARNER, VOTER, INCOMING, OUTGOING, JOINING, REPLACED = range(6)
"""Roles of members. INCOMING and OUTGOING are voters of one half of a joint membership only; JOINING is a learner whose
intent it is to take the place of the REPLACED voter of its slot."""
OLD_HALF, NEW_HALF = (VOTER, OUTGOING, REPLACED), (VOTER, INCOMING, REPLACED)
SETTLED, APPENDED, COMMITTED = range(3)
"""Whether the membership is joint, and how far that is."""
GOOD_REVISIONS = (0, 1)
"""Of pod templates; with another one, pods never start."""


class Want(NamedTuple):
    """The resource's spec."""

    replicas: int
    non_voting: int = 0
    revision: int = 0
    big: int = 0
    """Whether the larger size of volumes is asked for."""
    deleting: int = 0
    """2: its finalizer is gone too."""


class Pod(NamedTuple):
    phase: int
    voter: int
    leader: int
    revision: int


class Claim(NamedTuple):
    store: int
    """Which store of this slot is on it: told apart from the others that are still spoken of."""
    content: int
    big: int
    terminating: int = 0


class Set(NamedTuple):
    replicas: int
    revision: int
    big: int
    marked: int = 1
    """It was looked at for the spec of now."""


class Kube(NamedTuple):
    """What the API server has."""

    intent: tuple[int, tuple[tuple[int, int], ...], int] | None
    """Whether an older cluster was adopted; (slot, store) of each founder; whether all were seen to be in."""
    hibernation: tuple[int, int] | None
    recorded: tuple[int, ...]
    """Slots of the members that the status lists."""
    sets: tuple[Set | None, Set | None]
    pods: tuple[Pod | None, ...]
    claims: tuple[Claim | None, ...]
    budget: int
    """-1: there is none."""
    objects: int
    """Whether the plain objects are there."""
    ready_for: tuple[str, tuple[tuple[int, int], ...]] | None = None
    """The change of votes that the budget was raised for; None once the membership is at another version."""


class Member(NamedTuple):
    """Also its identity is (slot, store): a store becomes a member once."""

    slot: int
    store: int
    role: int
    behind: int


class Raft(NamedTuple):
    members: tuple[Member, ...]
    leader: int
    """The slot of the leader; -1: none."""
    joint: int
    adopted: int
    """The cluster is older than the resource."""
    founded: tuple[tuple[int, int], ...] = ()
    """(slot, store) of those that the bootstrap named, until the status says that it is over."""


Act = tuple[Any, ...]
"""An action as `acting.compiled` has it: its name, and arguments in the terms of this module."""


class Stale(NamedTuple):
    """What the caches of the operator show, as long as they do not come along."""

    kube: Kube
    changed: tuple[int, ...]
    """Keys of what is another by now: see `changed`."""


class World(NamedTuple):
    want: Want
    kube: Kube
    raft: Raft | None
    held: Act | None = None
    """What a second operator has decided and is about to do."""
    stale: Stale | None = None


# Keys of what preconditions are about

RESOURCE, MEMBERSHIP, BUDGET, SPEC = 40, 41, 42, 43


def pod_key(slot: int) -> int:
    return slot


def claim_key(slot: int) -> int:
    return 10 + slot


def set_version_key(index: int) -> int:
    return 20 + index


def set_uid_key(index: int) -> int:
    return 30 + index


_Item = TypeVar("_Item")


def put(items: tuple[_Item, ...], index: int, item: _Item) -> tuple[_Item, ...]:
    return (*items[:index], item, *items[index + 1 :])


def without_stores(kube: Kube) -> Kube:
    """What a cache remembers: whose pods were ready, but nodes are always asked anew for which stores they have."""
    return kube._replace(claims=tuple(claim and claim._replace(store=0) for claim in kube.claims))


def with_pod(world: World, slot: int, pod: Pod | None) -> World:
    want, kube, raft, held, stale = world
    kube = Kube(kube[0], kube[1], kube[2], kube[3], put(kube[4], slot, pod), kube[5], kube[6], kube[7], kube[8])
    return World(want, kube, raft, held, stale)


def with_claim(world: World, slot: int, claim: Claim | None) -> World:
    want, kube, raft, held, stale = world
    kube = Kube(kube[0], kube[1], kube[2], kube[3], kube[4], put(kube[5], slot, claim), kube[6], kube[7], kube[8])
    return World(want, kube, raft, held, stale)


def with_set(world: World, index: int, found: Set | None) -> World:
    sets = world.kube.sets
    return world._replace(kube=world.kube._replace(sets=(found, sets[1]) if index == 0 else (sets[0], found)))


def new_store(world: World, slot: int) -> int:
    """A store of this slot that nothing speaks of."""
    used = set()
    claim, raft, intent = world.kube.claims[slot], world.raft, world.kube.intent
    if claim is not None:
        used.add(claim.store)
    if raft is not None:
        used |= {member.store for member in raft.members if member.slot == slot}
        used |= {store for founder, store in raft.founded if founder == slot}
    if intent is not None:
        used |= {store for founder, store in intent[1] if founder == slot}
    if world.held is not None:
        used |= {store for holder, store in _stores_in(world.held) if holder == slot}
    return next(number for number in range(len(used) + 1) if number not in used)


def _stores_in(act: Act) -> Iterable[tuple[int, int]]:
    match act:
        case (("add" | "promote" | "remove" | "replace"), stores) | ("bootstrap", _, stores) | ("intent", _, stores, _):
            return stores  # type: ignore[no-any-return]
        case (("transfer" | "discard"), store):
            return (store,)
    return ()
