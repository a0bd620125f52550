"""Row "quorum lost for good": what is said while no leader is confirmed. Nothing is done about it by itself.

Rule: that a quorum is lost is claimed only of volumes that are known to be empty, never of nodes that are silent.
"""

from raftwright_operator.actions import Wait
from raftwright_operator.plan import reasons
from raftwright_operator.plan.facts import Facts, listed, majority


def await_leader(facts: Facts) -> Wait | None:
    """Without a leader that a quorum confirms nothing is changed."""
    if facts.membership is not None:
        return None
    reason, message = why_no_leader(facts)
    return Wait(reason=reason, message=message)


def why_no_leader(facts: Facts) -> tuple[str, str]:
    """Reason and message: what is left of the voters, and what can be done."""
    voters = _known_voters(facts)
    lost = [name for name in voters if facts.is_empty(name)]
    serving = [name for name in voters if name in facts.nodes and facts.nodes[name].state == "serving"]
    silent = [name for name in voters if name not in lost and name not in serving]
    told = (
        f"No leader is confirmed. Of {len(voters)} voters, with their data: {listed(serving) or 'none'}; volume lost:"
        f" {listed(lost) or 'none'}; not serving: {'; '.join(facts.why_not(name) for name in silent) or 'none'}."
    )
    if voters and len(voters) - len(lost) < majority(len(voters)):
        return reasons.QUORUM_LOST, (
            f"{told} Too few volumes are left for a quorum, and nothing is done by itself. Bring the lost volumes back"
            " if they still exist; else keep those that are left, and begin a new cluster with what can be read there."
        )
    return reasons.NO_LEADER, f"{told} {majority(len(voters))} have to serve: bring back those that do not."


def _known_voters(facts: Facts) -> list[str]:
    """By what is recorded; else the founders; else, of a cluster that was adopted, its pods."""
    founders = () if facts.intent is None else facts.intent.stores
    names = facts.seen.recorded_voters or tuple(name for name, _ in founders)
    return sorted(names or (pod.name for pod in facts.pods.values() if pod.kind == "voters"))
