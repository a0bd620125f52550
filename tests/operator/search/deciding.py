"""The operator: `plan` asked about what a world shows, each different view once.

`exploring` and `ending` use it.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from raftwright_operator.actions import Action, Step
from raftwright_operator.observed import Observed
from raftwright_operator.spec import Retention, Spec
from tests.operator.search.acting import compiled
from tests.operator.search.observing import Visible, observed, spec_of, visible
from tests.operator.search.rules import Violation, check_decision
from tests.operator.search.world import SLOT_NAMED, Act, World

Plan = Callable[[Spec, Observed, float], Step]
NOW = 1_000_000.0


@dataclass(frozen=True, slots=True)
class Decision:
    step: Step
    act: Act | None
    needs_fresh: bool
    recorded: tuple[int, ...]
    """Slots of the members that the status will list."""


@dataclass(slots=True)
class Operator:
    plan: Plan
    on_scale_down: Retention = "Retain"
    on_deletion: Retention = "Retain"
    calls: int = 0
    _known: dict[tuple[Visible, bool], Decision | Violation] = field(default_factory=dict)

    def decide(self, world: World) -> Decision:
        """As a pass of its loop does: from caches, and once more from fresh reads if what comes of it needs them."""
        if world.stale is None:
            return self._decide(world, True)
        found = self._decide(world, False)
        return self._decide(world, True) if found.needs_fresh else found

    def _decide(self, world: World, fresh: bool) -> Decision:
        seen = visible(world, fresh)
        found = self._known.get((seen, fresh))
        if found is None:
            try:
                found = self._ask(seen, fresh)
            except Violation as violation:
                found = violation
            self._known[seen, fresh] = found
        if isinstance(found, Violation):
            raise found
        return found

    def _ask(self, seen: Visible, fresh: bool) -> Decision:
        self.calls += 1
        want: Any = seen[0]
        spec, view = spec_of(want, self.on_scale_down, self.on_deletion), observed(seen, fresh)
        step = self.plan(spec, view, NOW)
        recorded = seen[1].recorded
        if view.membership is not None:
            recorded = tuple(sorted({SLOT_NAMED[member.name] for member in view.membership.members}))
        if not isinstance(step, Action):
            return Decision(step, None, False, recorded)
        if fresh or not step.needs_fresh:
            check_decision(spec, view, step)
        return Decision(step, compiled(step, want), step.needs_fresh, recorded)
