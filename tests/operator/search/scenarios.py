"""Where the search starts, and what may happen there. Values only; tests and `__main__` choose among them."""

from dataclasses import dataclass
from typing import Literal

from raftwright_operator.spec import Retention
from tests.operator.search.world import (
    COMMITTED,
    INCOMING,
    LEARNER,
    MEMBER,
    OUTGOING,
    REMOVED,
    SLOTS,
    SLOTS_OF,
    UP,
    VOTER,
    Claim,
    Kube,
    Member,
    Pod,
    Raft,
    Set,
    Want,
    World,
    put,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Scenario:
    name: str
    start: World
    wants: tuple[Want, ...] = ()
    """What the spec may become."""
    on_scale_down: Retention = "Retain"
    on_deletion: Retention = "Retain"
    faults: int = 1
    specs: int = 1
    races: int = 0
    is_lossy: bool = True
    """Whether faults destroy volumes too."""
    faults_are: Literal["any", "drains", "by hand"] = "any"
    """`drains`: nothing but evictions that the budget allows; `by hand`: nothing but what people do."""


NOTHING = Kube(
    intent=None,
    hibernation=None,
    recorded=(),
    sets=(None, None),
    pods=(None,) * SLOTS,
    claims=(None,) * SLOTS,
    budget=-1,
    objects=0,
)


def settled(voters: int, non_voting: int = 0, **want: int) -> World:
    """A cluster as asked for, founded with these members."""
    slots = (*SLOTS_OF[0][:voters], *SLOTS_OF[1][:non_voting])
    is_in = [slot in slots for slot in range(SLOTS)]
    kube = Kube(
        intent=(0, tuple((slot, 0) for slot in slots if slot < voters), 1),
        hibernation=None,
        recorded=slots,
        sets=(Set(voters, 0, 0), Set(non_voting, 0, 0)),
        pods=tuple(Pod(UP, int(s < len(SLOTS_OF[0])), int(s == 0), 0) if is_in[s] else None for s in range(SLOTS)),
        claims=tuple(Claim(0, MEMBER, 0) if is_in[s] else None for s in range(SLOTS)),
        budget=voters // 2 + 1,
        objects=1,
    )
    members = tuple(Member(s, 0, VOTER if s in SLOTS_OF[0] else LEARNER, 0) for s in slots)
    return World(Want(voters, non_voting, **want), kube, Raft(members, leader=0, joint=0, adopted=0))


def hibernated(voters: int, non_voting: int = 0) -> World:
    world = settled(voters, non_voting)
    kube = world.kube._replace(hibernation=(voters, non_voting), sets=(Set(0, 0, 0), Set(0, 0, 0)), pods=NOTHING.pods)
    assert world.raft is not None
    return World(Want(0, non_voting), kube, world.raft._replace(leader=-1))


def with_retained(world: World, *slots: int) -> World:
    """With volumes of members that were removed, the first of which never heard of it."""
    claims = world.kube.claims
    for number, slot in enumerate(slots):
        claims = put(claims, slot, Claim(1, REMOVED if number else MEMBER, 0))
    return world._replace(kube=world.kube._replace(claims=claims))


def leftover(volumes: int, want: int) -> World:
    """The volumes of a cluster whose resource was deleted, and made again."""
    world = settled(volumes)
    assert world.raft is not None
    kube = NOTHING._replace(claims=world.kube.claims)
    return World(Want(want), kube, world.raft._replace(leader=-1, adopted=1))


def mid_joint(old: int, new: int) -> World:
    """On its way from so many votes to so many others, the joint membership committed."""
    world = settled(max(old, new))
    assert world.raft is not None
    staying, other = min(old, new), INCOMING if new > old else OUTGOING
    members = tuple(one._replace(role=VOTER if one.slot < staying else other) for one in world.raft.members)
    kube = world.kube._replace(budget=max(old, new) - (staying - (staying // 2 + 1)))
    return World(Want(new), kube, world.raft._replace(members=members, joint=COMMITTED))


ONE, THREE = settled(1), settled(3)
EMPTY = World(Want(1), NOTHING, None)
_SMALL = (Want(1), Want(3), Want(0))
_EVEN = (*_SMALL, Want(2))


def _asked(world: World, replicas: int, non_voting: int = 0) -> World:
    return world._replace(want=Want(replicas, non_voting))


SCENARIOS = (
    Scenario(name="founding one", start=EMPTY, wants=_SMALL),
    Scenario(name="founding three", start=_asked(EMPTY, 3), wants=(Want(1), Want(0))),
    Scenario(name="founding three, two faults", start=_asked(EMPTY, 3), faults=2, specs=0),
    Scenario(name="one to three", start=_asked(ONE, 3), wants=_SMALL),
    Scenario(name="one to three, races", start=_asked(ONE, 3), wants=_SMALL, faults=0, races=1),
    Scenario(name="one to three, two faults", start=_asked(ONE, 3), faults=2, specs=0),
    Scenario(name="one to two", start=_asked(ONE, 2), wants=_EVEN),
    Scenario(name="three to one", start=_asked(THREE, 1), wants=_EVEN, on_scale_down="Delete"),
    Scenario(
        name="three to one, races", start=_asked(THREE, 1), wants=_SMALL, on_scale_down="Delete", faults=0, races=1
    ),
    Scenario(name="three to one, drained", start=_asked(THREE, 1), wants=(Want(3),), races=1, faults_are="drains"),
    Scenario(name="three to two", start=_asked(THREE, 2), faults=2, specs=0),
    Scenario(name="three, settled", start=THREE, faults=2, specs=0),
    Scenario(name="three, settled, races", start=THREE, specs=0, races=1),
    Scenario(name="three to five", start=_asked(THREE, 5), specs=0),
    Scenario(name="five to three", start=_asked(settled(5), 3), specs=0),
    Scenario(name="to hibernation", start=_asked(THREE, 0), wants=_SMALL, faults=0, races=1),
    Scenario(name="hibernated", start=hibernated(3), wants=_SMALL, on_scale_down="Delete"),
    Scenario(name="retained volumes", start=_asked(with_retained(ONE, 1, 2), 3), wants=_EVEN),
    Scenario(name="non-voting", start=_asked(ONE, 1, 1), wants=(Want(1), Want(3, 1), Want(0, 1))),
    Scenario(name="non-voting out", start=settled(1, 1)._replace(want=Want(3)), specs=0),
    Scenario(name="joint, growing", start=mid_joint(1, 3), wants=_SMALL),
    Scenario(name="joint, shrinking", start=mid_joint(3, 1), wants=_SMALL),
    Scenario(name="rolling", start=settled(3, 1, revision=1), specs=0),
    Scenario(name="rolling, races", start=settled(3, revision=1), specs=0, races=1),
    Scenario(name="rolling to what never starts", start=settled(3, revision=2), wants=(Want(3),)),
    Scenario(name="rolling one", start=settled(1, revision=1), wants=(Want(3, 0, 2), Want(3))),
    Scenario(name="larger volumes", start=settled(3, big=1), wants=(Want(1, big=1),)),
    Scenario(name="by hand", start=_asked(THREE, 1), specs=0, faults_are="by hand"),
    Scenario(name="deleted with its data", start=_asked(ONE, 3), wants=(Want(3, deleting=1),), on_deletion="Delete"),
    Scenario(name="deleted, data kept", start=settled(3, 1), wants=(Want(3, 1, deleting=1),), races=1),
    Scenario(name="leftover volumes", start=leftover(3, 3), wants=(Want(0),), is_lossy=False),
    Scenario(name="leftover volumes, fewer asked for", start=leftover(3, 1), wants=(Want(3),), is_lossy=False),
)
"""Each of them is searched whole with every run of the tests."""

DEEPER = (
    Scenario(name="deeper: founding one", start=EMPTY, wants=_SMALL, faults=2, races=1),
    Scenario(name="deeper: founding three", start=_asked(EMPTY, 3), wants=(Want(1), Want(0)), faults=2, races=1),
    Scenario(name="deeper: one to three", start=_asked(ONE, 3), wants=_EVEN, faults=2, races=1),
    Scenario(
        name="deeper: three to one and back",
        start=_asked(THREE, 1),
        wants=_SMALL,
        on_scale_down="Delete",
        specs=2,
        races=1,
    ),
    Scenario(name="deeper: three, settled", start=THREE, wants=_EVEN, faults=3),
    Scenario(name="deeper: three, settled, races", start=THREE, faults=2, specs=0, races=1),
    Scenario(name="deeper: three to five", start=_asked(THREE, 5), wants=(Want(3),), races=1),
    Scenario(name="deeper: five to three", start=_asked(settled(5), 3), wants=(Want(1),), races=1),
    Scenario(name="deeper: hibernated", start=hibernated(3), wants=_SMALL, specs=2, races=1, on_scale_down="Delete"),
    Scenario(
        name="deeper: retained volumes", start=_asked(with_retained(ONE, 1, 2), 3), wants=_EVEN, faults=2, races=1
    ),
    Scenario(name="deeper: non-voting out", start=settled(1, 1)._replace(want=Want(3)), wants=(Want(1, 2),), races=1),
    Scenario(name="deeper: joint, growing", start=mid_joint(1, 3), wants=_EVEN, faults=2),
    Scenario(name="deeper: joint, shrinking", start=mid_joint(3, 1), wants=_EVEN, faults=2),
    Scenario(name="deeper: rolling", start=settled(3, 1, revision=1), wants=(Want(3, 1, 2), Want(1, 1, 1)), races=1),
    Scenario(name="deeper: larger volumes", start=settled(1, 1, big=1), wants=(Want(3, 1, 0, 1),), races=1),
    Scenario(name="deeper: by hand, three", start=THREE, wants=_EVEN, faults=2, specs=2, faults_are="by hand"),
    Scenario(name="deeper: by hand, one to three", start=_asked(ONE, 3), wants=_EVEN, specs=2, faults_are="by hand"),
    Scenario(
        name="deeper: by hand, three to one",
        start=_asked(THREE, 1),
        wants=_EVEN,
        on_scale_down="Delete",
        specs=2,
        faults_are="by hand",
    ),
    Scenario(
        name="deeper: by hand, five to three", start=_asked(settled(5), 3), wants=(Want(5),), faults_are="by hand"
    ),
    Scenario(name="deeper: by hand, hibernated", start=hibernated(3), wants=_SMALL, faults_are="by hand", specs=2),
    Scenario(
        name="deeper: by hand, rolling", start=settled(3, 1, revision=1), wants=(Want(3, 1),), faults_are="by hand"
    ),
    Scenario(name="deeper: deleted", start=_asked(ONE, 3), wants=(Want(3, deleting=1),), on_deletion="Delete", races=1),
)
"""By hand: these take from minutes to hours."""


def named(name: str) -> Scenario:
    return next(scenario for scenario in (*SCENARIOS, *DEEPER) if scenario.name == name)
