"""Whether there is an end: a world left to itself and to the operator, without faults, comes to rest as asked for.

`exploring` calls it for each world that it finds. Rule: what is known to end well is not run again.
"""

from dataclasses import dataclass, field

from raftwright_operator.actions import Done
from tests.operator.search.acting import execute
from tests.operator.search.deciding import Decision, Operator
from tests.operator.search.environment import passing
from tests.operator.search.membership import Refused, can_recover, is_live, voters
from tests.operator.search.preconditions import changed
from tests.operator.search.rules import (
    FUTILE,
    NO_END,
    Violation,
    check_effect,
    check_event,
    require,
)
from tests.operator.search.world import (
    GOOD_REVISIONS,
    LEARNER,
    ORDINAL_OF,
    RESOURCE,
    SET_OF,
    SETTLED,
    SLOTS,
    VOTER,
    Raft,
    World,
)

STEPS_MAX = 200
_MAY_BE_TRIED = ("disruption-budget", "transfer-failed")
"""Refusals that nothing seen could tell."""


def acted(world: World, decision: Decision, *, late: bool = False) -> World:
    """The operator does what it decided, and writes its status."""
    if decision.act is not None:
        before = world
        try:
            world = execute(world, decision.act)
        except Refused as why:
            require(late or str(why) in _MAY_BE_TRIED, FUTILE, f"{decision.step}: {why}")
        else:
            check_effect(before, decision.act, world, late=late)
    return recorded(world, decision)


def recorded(world: World, decision: Decision) -> World:
    if world.kube.recorded == decision.recorded or world.want.deleting > 1:
        return world
    return changed(world._replace(kube=world.kube._replace(recorded=decision.recorded)), RESOURCE)


@dataclass(slots=True)
class Ending:
    operator: Operator
    runs: int = 0
    _good: set[int] = field(default_factory=set)

    def check(self, world: World) -> None:
        """Raises Violation with the steps that go round in circles, or what it came to instead of an end."""
        world = world._replace(held=None, stale=None)
        path: list[int] = []
        seen: set[int] = set()
        trace: list[str] = []
        for _ in range(STEPS_MAX):
            key = hash(world)
            if key in self._good:
                break
            if key in seen:
                raise Violation(NO_END, "it goes round in circles:\n    " + "\n    ".join(trace[-30:]))
            seen.add(key)
            path.append(key)
            if world.want.deleting > 1:
                break
            following = self._following(world, trace)
            if following is None:
                break
            world = following
        else:
            raise Violation(NO_END, "it takes too long:\n    " + "\n    ".join(trace[-30:]))
        self._good.update(path)
        self.runs += 1

    def _following(self, world: World, trace: list[str]) -> World | None:
        """One thing that happens by itself; when there is nothing more, one step of the operator. None at an end."""
        for event, after in passing(world):
            check_event(world, event, after)
            trace.append(" ".join(map(str, event)))
            return after
        decision = self.operator.decide(world)
        after = acted(world, decision)
        trace.append(f"operator: {decision.act or decision.step}")
        if decision.act is None and after == world:
            why = not_settled(world)
            is_end = isinstance(decision.step, Done) and not why
            require(
                is_end or may_wait(world), NO_END, f"{decision.step}, but {why}:\n    " + "\n    ".join(trace[-30:])
            )
            return None
        return after


def may_wait(world: World) -> bool:
    """Nothing can be done by anyone but a person."""
    kube, raft, want = world.kube, world.raft, world.want
    if want.revision not in GOOD_REVISIONS:
        return True
    if raft is not None:
        return not can_recover(kube, raft) or _is_only_copy_going(world, raft)
    founders = kube.intent[1] if kube.intent is not None else ()
    return not all((claim := kube.claims[slot]) is not None and claim.store == store for slot, store in founders)


def _is_only_copy_going(world: World, raft: Raft) -> bool:
    """Somebody deleted the claim of a voter that may not stop: too few others have a copy."""
    votes = voters(raft)
    claims = [world.kube.claims[member.slot] for member in votes]
    is_going = any(claim is not None and claim.terminating for claim in claims)
    return is_going and (not world.want.replicas or len(votes) < 3)


def not_settled(world: World) -> str:
    """What is not as asked for; empty if all is."""
    kube, raft, want = world.kube, world.raft, world.want
    sizes = (want.replicas, want.non_voting if want.replicas else 0)
    if tuple(found and found.replicas for found in kube.sets) != sizes:
        return f"the sets are {kube.sets}"
    for index, found in enumerate(kube.sets):
        if found is None or (found.revision, found.big, found.marked) != (want.revision, want.big, 1):
            return f"set {index} is {found}"
    if not want.replicas:
        return "" if kube.hibernation is not None or kube.intent is None else "no hibernation is recorded"
    if raft is None or raft.joint != SETTLED or raft.leader < 0 or kube.hibernation is not None:
        return f"the membership is {raft}, hibernation {kube.hibernation}"
    wanted = {slot for slot in range(SLOTS) if ORDINAL_OF[slot] < sizes[SET_OF[slot]]}
    return _members_not_settled(world, raft, wanted) or _pods_not_settled(world, wanted)


def _members_not_settled(world: World, raft: Raft, wanted: set[int]) -> str:
    if {member.slot for member in raft.members} != wanted or len(raft.members) != len(wanted):
        return f"the members are {raft.members}"
    for member in raft.members:
        is_right = member.role == (LEARNER if SET_OF[member.slot] else VOTER)
        if not (is_right and is_live(world.kube, member) and not member.behind):
            return f"not as it should be: {member}"
    return ""


def _pods_not_settled(world: World, wanted: set[int]) -> str:
    kube, want = world.kube, world.want
    for slot, pod in enumerate(kube.pods):
        if (pod is not None) != (slot in wanted):
            return f"pod of slot {slot}: {pod}"
        if pod is not None and (pod.voter != int(SET_OF[slot] == 0) or pod.revision != want.revision):
            return f"pod of slot {slot}: {pod}"
        if pod is not None and pod.leader != int(world.raft is not None and world.raft.leader == slot):
            return f"pod of slot {slot}: {pod}"
        claim = kube.claims[slot]
        if claim is not None and slot in wanted and (claim.big != want.big or claim.terminating):
            return f"volume of slot {slot}: {claim}"
    expected = want.replicas // 2 + 1
    return "" if kube.budget == expected else f"minAvailable is {kube.budget}, not {expected}"
