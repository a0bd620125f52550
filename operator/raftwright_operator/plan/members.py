"""Rows "replicas up", "replicas down", "nonVoting.replicas" and "a volume is lost": the next change of the membership.

`change` is the rule; the others say what it would be, in the order in which they are asked. Rules: one change at a
time, each under the version of the membership that it was decided for; votes move in one joint change, and only where
the voters before and those after both have a live quorum; a pod that cannot start holds up its own vote and nothing
else.
"""

from collections.abc import Iterable

from raftwright_operator.actions import (
    Action,
    AddMembers,
    DiscardStore,
    Joiner,
    PromoteMembers,
    RemoveMembers,
    ReplaceMember,
    Step,
    TransferLeadership,
    Wait,
)
from raftwright_operator.names import SET_KINDS
from raftwright_operator.observed import MemberSeen, MembershipSeen, NodeSeen
from raftwright_operator.plan import budget, reasons
from raftwright_operator.plan.facts import Facts, listed, majority


def settle(facts: Facts) -> Wait | None:
    """Nothing is changed while a joint change is under way: it ends by itself."""
    if facts.membership is not None and facts.membership.joint:
        return Wait(reason=reasons.MEMBERSHIP_CHANGING, message="A joint change is under way.", retry_s=0.5)
    return None


def change(facts: Facts) -> Step | None:
    """The next change of the membership, once labels and budget are fit for it; they follow the one before, too."""
    coming = _coming(facts)
    return budget.protect(facts, coming) or coming


def _coming(facts: Facts) -> Step | None:
    membership = facts.membership
    assert membership is not None
    waits: Wait | None = None
    for rule in (_remove_lost_learners, _replace, _scale_down, _add, _promote):
        step = rule(facts, membership)
        if isinstance(step, Action):
            return step
        if isinstance(step, Wait) and waits is None:
            waits = step
    return waits


def _remove_lost_learners(facts: Facts, membership: MembershipSeen) -> RemoveMembers | None:
    """A learner has no vote that would have to be kept: out with it, and its new store is added as any other is. So
    ends a replacement whose new volume is lost, too."""
    lost = [one for one in facts.members if one.role == "learner" and facts.has_lost_volume(one)]
    if not lost:
        return None
    return _removal(
        lost, membership, "lost its volume before it had a vote" if len(lost) == 1 else "lost their volumes"
    )


def _removal(members: Iterable[MemberSeen], membership: MembershipSeen, why: str) -> RemoveMembers:
    members = list(members)
    return RemoveMembers(
        ids=tuple(sorted(member.id for member in members)),
        if_version=membership.version,
        why=f"{listed(sorted(member.name for member in members))} {why}.",
    )


# A volume is lost


def _replace(facts: Facts, membership: MembershipSeen) -> Step | None:
    waits: Wait | None = None
    for member in facts.voters:
        if not facts.is_wanted(member.name) and not _are_copies_going(facts):
            continue
        node = facts.nodes.get(member.name)
        if node is None or node.store_id == member.store_id:
            continue
        step = _replacement(facts, membership, member, node)
        if isinstance(step, Action):
            return step
        waits = waits or step
    return waits


def _replacement(
    facts: Facts, membership: MembershipSeen, old: MemberSeen, node: NodeSeen
) -> ReplaceMember | Wait | None:
    successor = facts.member_of(old.name)
    if successor is None and (not facts.has_lost_volume(old) or facts.empty_node(old.name) is None):
        return None
    if successor is not None and (successor.role == "voter" or "promote" in successor.intent):
        return Wait(reason=reasons.REPLACING_MEMBER, message=f"The new member of {old.name} takes the old one's place.")
    if not facts.has_live_quorum:
        return Wait(
            reason=reasons.REPLACING_MEMBER,
            message=f"{old.name} lost its volume, and is replaced once a quorum of the voters is live.",
        )
    return ReplaceMember(
        old=old.id,
        joiner=Joiner(pod=old.name, store_id=node.store_id),
        if_version=membership.version,
        why=f"The volume of {old.name} was lost: its store is another, so member {old.id} is replaced by it.",
    )


# Scale down


def leaving(facts: Facts) -> list[MemberSeen]:
    """Members in pods that are not asked for any more. One that is in no pod of ours was added by somebody else."""
    return [one for one in facts.members if facts.position(one.name) is not None and not facts.is_wanted(one.name)]


def staying(facts: Facts) -> list[MemberSeen]:
    """The voters that are left then."""
    gone = {member.id for member in leaving(facts)}
    return [voter for voter in facts.voters if voter.id not in gone]


def _are_copies_going(facts: Facts) -> bool:
    """Of the voters that stay, too few have volumes that last: those that are to go are needed until then."""
    voters = staying(facts)
    return sum(not facts.is_claim_going(voter.name) for voter in voters) < majority(len(voters))


def is_scale_down_blocked(facts: Facts) -> bool:
    """Voters are to go, and those that are left would have no live quorum; or those that there are have none."""
    if not any(member.role == "voter" for member in leaving(facts)):
        return False
    voters = staying(facts)
    return not voters or not facts.has_live_quorum or facts.live_voters(voters) < majority(len(voters))


def why_blocked(facts: Facts) -> str:
    voters = staying(facts)
    going = listed(member.name for member in leaving(facts) if member.role == "voter")
    if not voters:
        return f"Nothing is removed: without {going} no voter would be left"
    down = "; ".join(facts.why_not(voter.name) for voter in voters if voter.id not in facts.live)
    return (
        f"Nothing is removed: without {going}, of {len(voters)} voters only {facts.live_voters(voters)} would be live,"
        f" and {majority(len(voters))} are needed ({down or 'the voters of now have no live quorum'}). Bring those"
        " back, or ask for more replicas again"
    )


def _scale_down(facts: Facts, membership: MembershipSeen) -> Step | None:
    going = leaving(facts)
    if not going:
        return None
    if is_scale_down_blocked(facts):
        learners = [member for member in going if member.role == "learner"]
        if learners:
            return _removal(learners, membership, "not asked for any more")
        return Wait(reason=reasons.SCALE_DOWN_BLOCKED, message=why_blocked(facts))
    voters = staying(facts)
    if len(voters) < len(facts.voters):
        lasting = [one for one in voters if facts.has_caught_up(one) and not facts.is_claim_going(one.name)]
        if len(lasting) < majority(len(voters)):
            others = listed(voter.name for voter in voters if voter not in lasting)
            message = f"Before voters are removed, {others} must have caught up on volumes that last."
            return Wait(reason=reasons.CATCHING_UP, message=message)
    if any(member.id == facts.leader for member in going):
        return transfer(facts, voters, "leads, and is not asked for any more")
    return _removal(going, membership, "not asked for any more")


def transfer(facts: Facts, voters: Iterable[MemberSeen], why: str) -> TransferLeadership | None:
    """To the best of these: caught up, of the newest pod template, with the least missing, of the lowest ordinal."""
    best: tuple[bool, int, int, MemberSeen] | None = None
    for voter in voters:
        if voter.id == facts.leader or not facts.has_caught_up(voter):
            continue
        pod = facts.pods.get(voter.name)
        rank = (pod is None or facts.outdated(pod), voter.lag_commands or 0, voter.id, voter)
        if best is None or rank[:3] < best[:3]:
            best = rank
    if best is None:
        return None
    old = next((member.name for member in facts.members if member.id == facts.leader), str(facts.leader))
    return TransferLeadership(to=best[3].id, why=f"{old} {why}: {best[3].name} takes over.")


# Scale up


def _add(facts: Facts, membership: MembershipSeen) -> Step | None:
    stores = {member.store_id for member in facts.members}
    joiners: list[Joiner] = []
    missing: list[str] = []
    for kind in SET_KINDS:
        for name in facts.wanted_names(kind):
            if name in facts.by_name:
                continue
            node = facts.empty_node(name)
            if node is not None and node.store_id not in stores:
                joiners.append(Joiner(pod=name, store_id=node.store_id))
                stores.add(node.store_id)
            else:
                missing.append(name)
    if joiners:
        names = listed(joiner.pod for joiner in joiners)
        return AddMembers(
            joiners=tuple(joiners), if_version=membership.version, why=f"{names} join as non-voting, to catch up first."
        )
    if missing:
        return Wait(reason=reasons.SCALING_UP, message="; ".join(facts.why_not(name) for name in missing) + ".")
    return None


def _promote(facts: Facts, membership: MembershipSeen) -> Step | None:
    """All that were asked for at once, so that 3 voters become 5 and never 4."""
    ready: list[MemberSeen] = []
    awaited: list[str] = []
    for name in facts.wanted_names("voters"):
        found = facts.by_name.get(name, ())
        if any(member.role == "voter" for member in found):
            continue
        learner = next(iter(found), None)
        if learner is not None and facts.has_caught_up(learner) and not facts.is_claim_going(name):
            ready.append(learner)
        else:
            awaited.append(name)
    if awaited:
        who = "; ".join(f"{name} catches up" if name in facts.by_name else facts.why_not(name) for name in awaited)
        return Wait(reason=reasons.CATCHING_UP, message=f"Votes are given to all at once: {who}.", retry_s=1.0)
    if not ready:
        return None
    if not facts.has_live_quorum:  # with it the voters after have one too: those who come are live
        return Wait(reason=reasons.SCALING_UP, message="Votes are given once a quorum of the voters of now is live.")
    names = listed(member.name for member in ready)
    return PromoteMembers(
        ids=tuple(member.id for member in ready),
        if_version=membership.version,
        why=f"{names} caught up: with their votes there are {len(facts.voters) + len(ready)}.",
    )


# A retained volume is mounted again


def discard(facts: Facts) -> DiscardStore | None:
    """A store that says it was removed, and that the committed membership does not have: its pod gets a new one."""
    stores = {member.store_id for member in facts.members}
    assert facts.intent is not None
    for name, node in facts.nodes.items():
        if node.state != "removed" or node.cluster_id != facts.intent.cluster_id or node.store_id in stores:
            continue
        if facts.is_wanted(name) and not facts.is_claim_going(name):
            return DiscardStore(
                pod=name,
                pod_uid=node.pod_uid,
                store_id=node.store_id,
                why=f"{name} has the store of a member that was removed: it is set aside, and a new one begun.",
            )
    return None
