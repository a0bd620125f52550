"""What is done next for one RaftCluster: `plan`, PURE. The one place where the operator decides, and keeps safe.

`reconcile` calls it with what was seen, does the one step, and calls it again. Rule: everything is derived from what is
there now, never from a remembered phase; so it does not matter where the operator was killed, who else acts beside
it, or when the spec changed. Each rule is one row of the table below, in its own file, a function of `Facts` that gives
an action, a reason to wait, or nothing. They are asked in this order, and why it is this order:

- Deletion and pause come before all else. Deletion wins, being the later word.
- Objects come before pods, since pods need them; a set before what is done to its pods.
- Hibernation is noted before the first pod stops, and ended before anything else changes.
- Pods that cannot run and have a newer template are restarted without asking for a leader: they may be why none is.
- The founding, then a leader that a quorum confirms, and no joint change under way: nothing below goes without.
- The membership: lost learners out, lost voters replaced, members that are not asked for out, new ones in, votes last;
  each after labels and budget are fit for it. Who repairs comes before who shrinks, and who shrinks before who grows.
- Sets grow before they shrink, and volumes go after that. Healthy pods are restarted when nothing else is to be done;
  volumes grow meanwhile.

A rule that waits stops those after it only where it is marked so: a pod that cannot start holds up no other repair.
"""

from collections.abc import Callable

from raftwright_operator.actions import Concern, Done, Step, Wait
from raftwright_operator.observed import Observed
from raftwright_operator.plan import (
    budget,
    conditions,
    deletion,
    founding,
    hibernation,
    members,
    quorum,
    rolling,
    sets,
    volumes,
)
from raftwright_operator.plan.facts import Facts
from raftwright_operator.spec import Spec

Rule = Callable[[Facts], Step | None]

_RULES: tuple[tuple[Rule, bool], ...] = (
    # rule, whether its waiting stops all that follow
    (deletion.delete, True),
    (deletion.pause, True),
    (sets.apply, True),
    (hibernation.record, True),
    (sets.create, True),
    (hibernation.sleep, True),
    (hibernation.wake, True),
    (sets.restore, True),
    (budget.first, True),
    (rolling.restart_broken, True),
    (founding.found, True),
    (quorum.await_leader, True),
    (members.settle, True),
    (hibernation.forget, True),
    (members.change, False),
    (sets.grow, False),
    (sets.shrink, False),
    (members.discard, False),
    (volumes.delete, False),
    (rolling.roll, False),
    (volumes.grow, False),
    (rolling.await_pods, False),
    (volumes.await_growth, False),
    (volumes.await_permission, False),
    (sets.await_gone, False),
)


def plan(spec: Spec, observed: Observed, now: float) -> Step:
    """One step towards `spec`. `now` (seconds of the wall clock) decides nothing so far: who is late is known by
    ages, which the observation has."""
    facts = Facts(spec, observed)
    waits: Wait | None = None
    for rule, stops in _RULES:
        step = rule(facts)
        if step is None:
            continue
        if not isinstance(step, Wait) or stops:
            return step
        if waits is None:
            waits = step
    return waits or Done()


def concerns(spec: Spec, observed: Observed, now: float) -> tuple[Concern, ...]:
    """What a person should know of this cluster, whatever the step is."""
    return conditions.concerns(Facts(spec, observed))
