"""The search: every world that can be reached within the bounds, breadth first, so that what it finds is shortest.

Tests and `__main__` call `explore`. Rule: whatever can happen next is tried in each world, one thing at a time; a world
is kept as its hash (64 bits), and is looked at again only with more of the bounds left.
"""

import gc
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import NamedTuple

from tests.operator.search.acting import execute
from tests.operator.search.deciding import Decision, Operator, Plan
from tests.operator.search.ending import Ending, acted
from tests.operator.search.environment import Event, drains, faults, passing
from tests.operator.search.membership import Refused
from tests.operator.search.people import by_hand
from tests.operator.search.preconditions import changed, still_holding
from tests.operator.search.rules import Violation, check_effect, check_event
from tests.operator.search.scenarios import Scenario
from tests.operator.search.world import RESOURCE, SPEC, Stale, Want, World, without_stores


class Left(NamedTuple):
    """How much more may happen: faults, changes of the spec, and races (a stale cache, or a second operator)."""

    faults: int
    specs: int
    races: int

    def covers(self, other: "Left") -> bool:
        return self.faults >= other.faults and self.specs >= other.specs and self.races >= other.races


_Key = tuple[int, Left]


@dataclass(slots=True)
class Counterexample:
    rule: str
    detail: str
    trace: list[str]

    def __str__(self) -> str:
        steps = "\n".join(f"  {number}. {step}" for number, step in enumerate(self.trace, 1))
        return f"{self.rule}\n{steps}\n  => {self.detail}"


@dataclass(slots=True)
class Result:
    scenario: str
    worlds: int = 0
    """Distinct ones, whatever is left of the bounds."""
    steps: int = 0
    views: int = 0
    """Different ones that `plan` was asked about."""
    is_whole: bool = True
    """Nothing within the bounds was left out."""
    found: Counterexample | None = None


@dataclass(slots=True)
class _Search:
    scenario: Scenario
    operator: Operator
    ending: Ending
    known: dict[int, list[Left]] = field(default_factory=dict)
    came: dict[_Key, tuple[_Key, Event] | None] = field(default_factory=dict)

    def is_new(self, key: int, left: Left) -> bool:
        kept = self.known.get(key)
        if kept is None:
            self.known[key] = [left]
            return True
        if any(other.covers(left) for other in kept):
            return False
        kept.append(left)
        return True

    def trace(self, key: _Key) -> list[str]:
        steps = []
        while (came := self.came[key]) is not None:
            key, event = came
            steps.append(" ".join(map(str, event)))
        return steps[::-1]


def explore(scenario: Scenario, plan: Plan, *, worlds_max: int = 10**9, seen: set[int] | None = None) -> Result:
    """Stops at the first rule that is broken, or when `worlds_max` distinct worlds were found. What it
    has found is added to `seen`, for a sum over scenarios that counts nothing twice."""
    was_enabled = gc.isenabled()
    gc.disable()  # nothing here is a cycle, and looking for some takes a fourth of the time
    try:
        return _explored(scenario, plan, worlds_max, set() if seen is None else seen)
    finally:
        if was_enabled:
            gc.enable()


def _explored(scenario: Scenario, plan: Plan, worlds_max: int, seen: set[int]) -> Result:
    operator = Operator(plan, scenario.on_scale_down, scenario.on_deletion)
    search = _Search(scenario, operator, Ending(operator))
    result = Result(scenario.name)
    start, left = scenario.start, Left(scenario.faults, scenario.specs, scenario.races)
    queue = deque([(start, left)])
    search.known[hash(start)] = [left]
    search.came[hash(start), left] = None
    while queue:
        world, left = queue.popleft()
        here = hash(world), left
        event: Event = ()
        try:
            event = ("when all goes on by itself from here",)
            search.ending.check(world)
            for event, following, after in _successors(search, world, left):
                result.steps += 1
                key = hash(following)
                if search.is_new(key, after):
                    search.came.setdefault((key, after), (here, event))
                    queue.append((following, after))
        except _Broken as broken:
            result.found = Counterexample(
                broken.violation.rule,
                broken.violation.detail,
                [*search.trace(here), " ".join(map(str, broken.event))],
            )
            break
        except Violation as violation:
            result.found = Counterexample(
                violation.rule, violation.detail, [*search.trace(here), " ".join(map(str, event))]
            )
            break
        if len(search.known) >= worlds_max:
            result.is_whole = not queue
            break
    seen.update(search.known)
    result.worlds, result.views = len(search.known), operator.calls
    return result


class _Broken(Exception):
    def __init__(self, event: Event, violation: Violation) -> None:
        super().__init__(str(violation))
        self.event = event
        self.violation = violation


def _tried(event: Event, make: Callable[[], World]) -> World:
    try:
        return make()
    except Violation as violation:
        raise _Broken(event, violation) from violation


def _judged(before: World, event: Event, after: World) -> World:
    try:
        check_event(before, event, after)
    except Violation as violation:
        raise _Broken(event, violation) from violation
    return after


def _successors(search: _Search, world: World, left: Left) -> Iterator[tuple[Event, World, Left]]:
    if world.want.deleting > 1:
        return
    for event, after in passing(world):
        yield event, _judged(world, event, after), left
    try:
        decision = search.operator.decide(world)
    except Violation as violation:
        raise _Broken(("operator decides",), violation) from violation
    yield from _operated(world, decision, left)
    yield from _raced(world, decision, left)
    if left.faults:
        fewer = left._replace(faults=left.faults - 1)
        for event, after in _faults(search.scenario, world):
            yield event, _judged(world, event, after), fewer
    if left.specs and not world.want.deleting:
        fewer = left._replace(specs=left.specs - 1)
        for want in search.scenario.wants:
            if want != world.want:
                yield ("spec becomes", *want), _with_spec(world, want), fewer


def _faults(scenario: Scenario, world: World) -> Iterator[tuple[Event, World]]:
    match scenario.faults_are:
        case "drains":
            return drains(world)
        case "by hand":
            return by_hand(world)
        case _:
            return faults(world, is_lossy=scenario.is_lossy)


def _with_spec(world: World, want: Want) -> World:
    voters, non_voting = (found and found._replace(marked=0) for found in world.kube.sets)
    return changed(world._replace(want=want, kube=world.kube._replace(sets=(voters, non_voting))), RESOURCE, SPEC)


def _operated(world: World, decision: Decision, left: Left) -> Iterator[tuple[Event, World, Left]]:
    """The operator's next action; and what is there if it is killed in the middle."""
    act = decision.act
    is_late = False
    if act is not None and world.stale is not None and not decision.needs_fresh:
        act = still_holding(act, frozenset(world.stale.changed))
        is_late = True
        decision = Decision(decision.step, act, decision.needs_fresh, decision.recorded)
    event: Event = ("operator:", act if act is not None else decision.step)
    after = _tried(event, lambda: acted(world, decision, late=is_late))
    if after == world:
        return
    yield event, after, left
    if left.faults and act is not None:
        fewer = left._replace(faults=left.faults - 1)
        no_status = Decision(decision.step, act, decision.needs_fresh, world.kube.recorded)
        killed = _tried(event, lambda: acted(world, no_status, late=is_late))
        if killed != after:
            yield ("operator, killed before its status:", act), killed, fewer
        if act[0] == "labels" and len(act[1]) > 1:
            half = ("labels", act[1][: len(act[1]) // 2])
            yield ("operator, killed half-way:", act), execute(world, half), fewer


def _raced(world: World, decision: Decision, left: Left) -> Iterator[tuple[Event, World, Left]]:
    """Caches that stay behind, and a second operator that acts on what was so before."""
    if world.stale is not None:
        yield ("caches come along",), world._replace(stale=None), left
    if world.held is not None:
        held, free = world.held, world._replace(held=None)
        event: Event = ("the second operator, late:", held)
        yield event, _tried(event, lambda: _done_late(free, world.held)), left
    if left.races and world.stale is None and world.held is None:
        fewer = left._replace(races=left.races - 1)
        yield ("caches stay behind",), world._replace(stale=Stale(without_stores(world.kube), ())), fewer
        if decision.act is not None:
            yield ("a second operator decides the same:", decision.act), world._replace(held=decision.act), fewer


def _done_late(world: World, act: tuple[object, ...] | None) -> World:
    assert act is not None
    try:
        after = execute(world, act)
    except Refused:
        return world
    check_effect(world, act, after, late=True)
    return after
