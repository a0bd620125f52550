"""The steps of a planned change, and how many failures each can take: the answer to `?dry_run=true`. PURE."""

from raftwright.client.member_models import PlanAnswer, PlanStep
from raftwright.raft.membership import Membership
from raftwright.server.membership_plans import Plan, View


def plan_answer(view: View, plan: Plan | None) -> PlanAnswer:
    """What is going to happen. `plan` is None where nothing is to be done."""
    base = view.membership
    if plan is None:
        return PlanAnswer(version=base.version, steps=[])
    reachable = view.reachable | plan.final.voters - base.voters
    before = _tolerated([base.voters], reachable)
    after = _tolerated([plan.final.voters], reachable)
    steps = []

    def step(text: str, membership: Membership, *numbers: int) -> None:
        steps.append(
            PlanStep(
                step=text,
                voters=_names(membership, membership.voters),
                learners=_names(membership, membership.learners),
                tolerated_before=numbers[0],
                tolerated_during=numbers[1],
                tolerated_after=numbers[2],
            )
        )

    if plan.target is not plan.final:
        step(_first(base, plan), plan.target, before, before, before)
    if plan.hands_over:
        step("the leader hands leadership over to a voter that stays", plan.target, before, before, before)
    if plan.final.voters != base.voters:
        during = _tolerated([base.voters, plan.final.voters], reachable)
        step(_joint(base, plan), plan.final, before, during, after)
    elif plan.target is plan.final:
        step(_first(base, plan), plan.final, before, before, after)
    elif plan.final.members.keys() != plan.target.members.keys():
        step(_joint(base, plan), plan.final, before, before, after)
    return PlanAnswer(version=base.version, steps=steps)


def _tolerated(halves: list[frozenset[int]], reachable: frozenset[int]) -> int:
    """How many more voters may fail while each half keeps its majority. Less than 0: there is no quorum as it is."""
    return min(len(half & reachable) - (len(half) // 2 + 1) for half in halves)


def _names(membership: Membership, keys: frozenset[int]) -> list[str]:
    return [membership.members[key].name for key in sorted(keys)]


def _first(base: Membership, plan: Plan) -> str:
    added = _names(plan.target, frozenset(plan.target.members.keys() - base.members.keys()))
    gone = _names(base, frozenset(base.members.keys() - plan.target.members.keys()))
    parts = []
    if added:
        parts.append(f"add {', '.join(added)} as non-voting")
    if gone:
        parts.append(f"remove {', '.join(gone)}")
    if plan.target is not plan.final and plan.final.voters - base.voters:
        parts.append("wait until " + ", ".join(_names(plan.final, plan.final.voters - base.voters)) + " caught up")
    return "; ".join(parts) or "note what is to be done"


def _joint(base: Membership, plan: Plan) -> str:
    final = plan.final
    parts = [
        ("promote", _names(final, final.voters - base.voters)),
        ("demote", _names(final, final.learners & base.voters)),
        ("remove", _names(base, frozenset(base.members.keys() - final.members.keys()))),
    ]
    done = "; ".join(f"{verb} {', '.join(names)}" for verb, names in parts if names)
    return f"in one joint change: {done}"
