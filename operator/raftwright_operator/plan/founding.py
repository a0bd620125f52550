"""Row "created": a cluster is founded exactly once, or one that existed is adopted.

Rules: the founding is written down (which cluster, which stores) before any node hears of it; only the first pod's node
is ever told, and only while it is the very store that was written down. So whatever crashes, whoever repeats it, and
whatever volumes are lost, one resource never founds a second cluster. What cannot be told apart from a cluster that
existed is left to a person.
"""

from raftwright_operator.actions import Bootstrap, RecordIntent, Step, Wait
from raftwright_operator.names import claim_name
from raftwright_operator.observed import Intent
from raftwright_operator.plan import reasons
from raftwright_operator.plan.facts import Facts, listed, pod_names, tolerance


def found(facts: Facts) -> Step | None:
    """What is left to do until the founding is known to have happened; None from then on."""
    if facts.intent is None:
        return _intend(facts)
    if facts.intent.bootstrapped or not facts.intent.stores:
        return None
    if facts.membership is not None:
        # A quorum confirmed it, and it began with all the founders: nobody needs to be told any more.
        return _record(facts, Intent(cluster_id=facts.intent.cluster_id, stores=facts.intent.stores, bootstrapped=True))
    return _bootstrap(facts, facts.intent)


def _record(facts: Facts, intent: Intent) -> RecordIntent:
    if intent.bootstrapped and intent.stores:
        why = f"Cluster {intent.cluster_id} is founded: it is never bootstrapped again."
    elif intent.bootstrapped:
        why = f"The volumes hold cluster {intent.cluster_id} already, which goes on."
    else:
        why = f"Cluster {intent.cluster_id} is to be founded with {listed(name for name, _ in intent.stores)}."
    return RecordIntent(intent=intent, resource_version=facts.seen.resource_version, why=why)


# Before anything is written down


def cluster_ids(facts: Facts) -> set[str]:
    """Of the clusters that the nodes say they belong to."""
    return {node.cluster_id for node in facts.nodes.values() if node.cluster_id is not None and node.state != "removed"}


def _intend(facts: Facts) -> Step:
    ids = cluster_ids(facts)
    if len(ids) > 1:
        return Wait(reason=reasons.DIFFERENT_CLUSTERS, message=different_clusters(facts), retry_s=10.0)
    everyone = pod_names(facts.seen.name, "voters", facts.size_at_founding())
    if ids:
        missing = [name for name in everyone if name not in facts.nodes]
        if missing and facts.membership is None:
            return Wait(
                reason=reasons.ADOPTING,
                message=f"The volumes hold a cluster already; waiting to hear from every pod: {_why(facts, missing)}.",
            )
        return _record(facts, Intent(cluster_id=ids.pop(), stores=(), bootstrapped=True))
    return _intend_new(facts)


def _intend_new(facts: Facts) -> Step:
    wanted, awaited = facts.wanted_names("voters"), _awaited(facts)
    if left := left_over(facts):
        return Wait(reason=reasons.FOREIGN_STORE, message=why_left_over(left), retry_s=10.0)
    stores = tuple((name, facts.nodes[name].store_id) for name in wanted if name not in awaited)
    if awaited or len({store for _, store in stores}) < len(wanted):
        who = _why(facts, awaited) or "two pods report the same store"
        return Wait(reason=reasons.FOUNDING, message=f"The cluster is founded once all its pods are there: {who}.")
    return _record(facts, Intent(cluster_id=facts.seen.uid, stores=stores))


def _awaited(facts: Facts) -> list[str]:
    """Pods without an empty store, which a new cluster cannot begin without, or may not begin beside."""
    wanted, everyone = facts.wanted_names("voters"), pod_names(facts.seen.name, "voters", facts.size_at_founding())
    return [name for name in everyone if facts.empty_node(name) is None and not _is_spare(facts, name, wanted)]


def left_over(facts: Facts) -> list[str]:
    """Pods that are awaited in vain: all that is in anybody's volume is what members left that had been removed, and
    no member of their cluster is here to confirm that."""
    if facts.intent is not None or cluster_ids(facts):
        return []
    awaited = _awaited(facts)
    is_over = all(name in facts.nodes and facts.nodes[name].state == "removed" for name in awaited)
    return awaited if is_over else []


def why_left_over(pods: list[str]) -> str:
    command = " ".join(f"pvc/{claim_name(name)} pod/{name}" for name in pods)
    return (
        f"The volumes of {listed(pods)} hold what removed members of an earlier cluster left, and no volume holds"
        f" that cluster. Nothing is founded beside them. If they are not needed: kubectl delete {command}"
    )


def _is_spare(facts: Facts, name: str, wanted: tuple[str, ...]) -> bool:
    """A pod that is not asked for, and whose volume holds nothing: it was never bound."""
    claim = facts.seen.volumes.get(claim_name(name))
    return name not in wanted and (claim is None or claim.capacity_bytes == 0)


# Once it is written down


def _bootstrap(facts: Facts, intent: Intent) -> Step:
    (first, store), *others = intent.stores
    node = facts.nodes.get(first)
    if is_lost(facts):
        return Wait(reason=reasons.FOUNDING_LOST, message=why_lost(facts, intent), retry_s=10.0)
    if node is None or node.state != "waiting" or node.cluster_id is not None or node.store_id != store:
        return Wait(reason=reasons.FOUNDING, message=f"Waiting for the first leader: {_unready(facts, intent)}.")
    if any(name in facts.nodes and facts.nodes[name].cluster_id is not None for name, _ in others):
        return Wait(reason=reasons.FOREIGN_STORE, message=different_clusters(facts), retry_s=10.0)
    replaced = {name: found.store_id for name, _ in others if (found := facts.empty_node(name)) is not None}
    stores = ((first, store), *((name, replaced.get(name, old)) for name, old in others))
    if stores != intent.stores and len({one for _, one in stores}) == len(stores):
        # The first node, whose store stays, was told nothing yet. Would it be told now by somebody with the old list,
        # there is one cluster all the same, and this member is replaced in it.
        return _record(facts, Intent(cluster_id=intent.cluster_id, stores=stores))
    return Bootstrap(
        pod=first,
        pod_uid=node.pod_uid,
        intent=intent,
        why=f"{first} founds cluster {intent.cluster_id} with {listed(name for name, _ in intent.stores)}.",
    )


def is_lost(facts: Facts) -> bool:
    """The founding cannot end, and may not be tried again: the first founder has another store than was written down,
    and nobody carries the cluster; or it was told, and too many others have other stores for a quorum. Whether the
    cluster had existed, and what it held, nobody can know."""
    intent = facts.intent
    if intent is None or intent.bootstrapped or not intent.stores or facts.membership is not None:
        return False
    first, store = intent.stores[0]
    node = facts.nodes.get(first)
    if node is not None and node.store_id != store:
        return not any(found.cluster_id == intent.cluster_id for found in facts.nodes.values())
    is_told = node is not None and node.cluster_id is not None
    return is_told and len(_lost(facts, intent)) > tolerance(len(intent.stores))


def _lost(facts: Facts, intent: Intent) -> list[str]:
    """Founders whose nodes have other stores than were written down, which belong to nobody."""
    return [
        name
        for name, store in intent.stores
        if (node := facts.nodes.get(name)) is not None and node.store_id != store and node.cluster_id is None
    ]


def why_lost(facts: Facts, intent: Intent) -> str:
    return (
        f"The volumes of {listed(_lost(facts, intent))} were lost before the cluster was seen to exist, and without"
        " them it cannot begin. It is not founded a second time by itself. If it held nothing yet, delete the resource"
        " with its claims, and create it anew"
    )


def different_clusters(facts: Facts) -> str:
    owners = sorted((name, node.cluster_id) for name, node in facts.nodes.items() if node.cluster_id is not None)
    told = listed(f"{name} has {cluster_id}" for name, cluster_id in owners)
    return (
        f"The volumes belong to different clusters ({told}). Nothing is founded or changed: delete the claims of those"
        " that are not meant, and their pods"
    )


def _why(facts: Facts, missing: list[str]) -> str:
    return "; ".join(facts.why_not(name) for name in missing)


def _unready(facts: Facts, intent: Intent) -> str:
    founders = [name for name, _ in intent.stores]
    silent = [name for name in founders if name not in facts.nodes or facts.nodes[name].state != "serving"]
    return _why(facts, silent) or "an election is under way"
