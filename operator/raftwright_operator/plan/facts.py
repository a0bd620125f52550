"""What follows at once from what was seen: who is live, who has caught up, whose volume is lost. Made once a plan.

Every rule is handed one `Facts`. Rule: it draws conclusions about what is, never about what to do.
"""

from collections.abc import Iterable, Sequence
from functools import lru_cache

from raftwright_operator import names
from raftwright_operator.names import SetKind
from raftwright_operator.observed import MemberSeen, NodeSeen, Observed, PodSeen
from raftwright_operator.spec import Spec

CONTACT_S_MAX = 5.0
"""A member that the leader has not heard from for longer is not live: several election timeouts."""
CAUGHT_UP_COMMANDS = 100
CAUGHT_UP_S = 1.0
"""Who lacks no more commands, or none that is older, has caught up; the leader looks again before it gives a vote."""

position = lru_cache(maxsize=4096)(names.position)


@lru_cache(maxsize=4096)
def pod_names(cluster: str, kind: SetKind, count: int) -> tuple[str, ...]:
    """Of the first so many pods of a set."""
    return tuple(names.pod_name(cluster, kind, ordinal) for ordinal in range(count))


def majority(count: int) -> int:
    return count // 2 + 1


def tolerance(count: int) -> int:
    """How many of so many voters may fail."""
    return count - majority(count)


def listed(words: Iterable[str]) -> str:
    return ", ".join(words)


class Facts:
    __slots__ = (
        "by_name",
        "intent",
        "leader",
        "live",
        "members",
        "membership",
        "nodes",
        "pods",
        "seen",
        "spec",
        "voters",
    )

    def __init__(self, spec: Spec, seen: Observed) -> None:
        self.spec = spec
        self.seen = seen
        self.intent = seen.intent
        self.pods = seen.pods
        self.nodes: dict[str, NodeSeen] = {}
        """The answers of pods that are still the ones that answered, and are not going."""
        for name, node in seen.nodes.items():
            pod = seen.pods.get(name)
            if pod is not None and pod.uid == node.pod_uid and not pod.terminating:
                self.nodes[name] = node
        self.membership = seen.membership if self._is_ours() else None
        """Of the cluster that the intent names; None without a leader that a quorum confirms."""
        self.members: Sequence[MemberSeen] = () if self.membership is None else self.membership.members
        self.voters = [member for member in self.members if member.role == "voter"]
        self.by_name: dict[str, list[MemberSeen]] = {}
        """A name has two members while one takes the other's place."""
        for member in self.members:
            self.by_name.setdefault(member.name, []).append(member)
        self.leader = 0 if self.membership is None else self.membership.leader
        self.live = frozenset(member.id for member in self.members if self._is_live(member))

    def _is_ours(self) -> bool:
        """Nodes with another cluster's volumes might answer with that one's membership."""
        if self.seen.membership is None or self.intent is None:
            return True
        for member in self.seen.membership.members:
            node = self.nodes.get(member.name)
            if node is not None and node.store_id == member.store_id:
                return node.cluster_id is None or node.cluster_id == self.intent.cluster_id
        return True

    def _is_live(self, member: MemberSeen) -> bool:
        """Its node takes part under its id, as the leader and the pod itself say, and its pod is not going."""
        contact_s = member.last_contact_s
        if member.id != self.leader and (contact_s is None or contact_s > CONTACT_S_MAX):
            return False
        if self.position(member.name) is None:
            return True
        node = self.nodes.get(member.name)
        return node is not None and node.state == "serving" and node.store_id == member.store_id

    def position(self, name: str) -> tuple[SetKind, int] | None:
        return position(self.seen.name, name)

    def is_wanted(self, name: str) -> bool:
        """A pod or member that the spec asks for."""
        where = self.position(name)
        return where is not None and where[1] < self.spec.wanted(where[0])

    def wanted_names(self, kind: SetKind) -> tuple[str, ...]:
        return pod_names(self.seen.name, kind, self.spec.wanted(kind))

    def live_voters(self, voters: Iterable[MemberSeen] | None = None) -> int:
        live = self.live
        return sum(member.id in live for member in (self.voters if voters is None else voters))

    @property
    def has_live_quorum(self) -> bool:
        return bool(self.voters) and self.live_voters() >= majority(len(self.voters))

    def has_caught_up(self, member: MemberSeen) -> bool:
        """It is live, and a vote of it would hold up nobody."""
        if member.id == self.leader:
            return member.id in self.live
        if member.id not in self.live:
            return False
        commands, seconds = member.lag_commands, member.lag_seconds
        return (commands is not None and commands <= CAUGHT_UP_COMMANDS) or (
            seconds is not None and seconds <= CAUGHT_UP_S
        )

    def member_of(self, pod: str) -> MemberSeen | None:
        """The member that the store in this pod is."""
        node = self.nodes.get(pod)
        if node is not None:
            for member in self.by_name.get(pod, ()):
                if member.store_id == node.store_id:
                    return member
        return None

    def empty_node(self, pod: str) -> NodeSeen | None:
        """The node in this pod, if it belongs to no cluster and its volume is there to stay: one that may be added."""
        node = self.nodes.get(pod)
        if node is None or node.state != "waiting" or node.cluster_id is not None or self.is_claim_going(pod):
            return None
        return node

    def has_lost_volume(self, member: MemberSeen) -> bool:
        """The member's own node says so: it is there, under the same name, with another store that knows no cluster.
        One that cannot be reached has lost nothing as far as anyone knows."""
        node = self.nodes.get(member.name)
        return (
            node is not None
            and node.state == "waiting"
            and node.cluster_id is None
            and node.store_id != member.store_id
        )

    def is_empty(self, pod: str) -> bool:
        """The node in this pod says that its store knows no cluster."""
        node = self.nodes.get(pod)
        return node is not None and node.state == "waiting" and node.cluster_id is None

    def is_claim_going(self, pod: str) -> bool:
        """Its claim is being deleted, and will be gone once the pod stops."""
        claim = self.seen.volumes.get(names.claim_name(pod))
        return claim is not None and claim.terminating

    def is_foreign(self, node: NodeSeen) -> bool:
        """A store of another cluster than ours."""
        return node.cluster_id is not None and self.intent is not None and node.cluster_id != self.intent.cluster_id

    def highest_pod(self, kind: SetKind) -> int:
        """One more than the highest ordinal of the pods that exist."""
        return max((pod.ordinal + 1 for pod in self.pods.values() if pod.kind == kind), default=0)

    def size_of_members(self, kind: SetKind) -> int:
        """How many pods a set needs so that every member has its own: by the membership, or where that is not known by
        what is recorded; for a cluster that was adopted and never seen alive, by its volumes."""
        if self.membership is not None:
            known: Iterable[str] = self.by_name
        else:
            founders = () if self.intent is None else (name for name, _ in self.intent.stores)
            known = (*self.seen.recorded_members, *founders)
            if not known and self.intent is not None:
                return self.size_of_volumes(kind)
        size = 0
        for name in known:
            where = self.position(name)
            if where is not None and where[0] == kind and where[1] >= size:
                size = where[1] + 1
        return size

    def size_of_volumes(self, kind: SetKind) -> int:
        """How many pods a set needs so that every volume is mounted."""
        return max((one.ordinal + 1 for one in self.seen.volumes.values() if one.kind == kind), default=0)

    def size_at_founding(self) -> int:
        """How many voters' pods have to be heard before anything is founded: volumes that are there already may hold a
        cluster, also where fewer are asked for now."""
        return max(self.spec.replicas, self.size_of_volumes("voters"))

    def why_not(self, name: str) -> str:
        """What is known of a pod or member that does not do what it should, in a few words."""
        pod = self.pods.get(name)
        if pod is None:
            return f"{name} does not exist" if self.position(name) else f"{name} was not heard from"
        if pod.problem is not None:
            return f"{name}: {pod.problem}"
        if pod.terminating:
            return f"{name} is being stopped"
        node = self.nodes.get(name)
        if node is None:
            return f"{name} does not answer"
        if node.state == "serving":
            return f"{name} {self._why_not_back(pod, node)}"
        return f"{name} is {node.state}" + (f" ({node.detail})" if node.detail else "")

    def _why_not_back(self, pod: PodSeen, node: NodeSeen) -> str:
        """What a node that serves is waited for."""
        if node.diverged:
            return "replaces its state, which is not that of the majority"
        member = self.member_of(pod.name)
        if member is None:
            return "serves, and is no member by what the leader says"
        if member.id not in self.live:
            return "serves, and the leader does not hear from it"
        if not pod.ready:
            return "serves, and Kubernetes does not call it ready yet"
        return "serves, and catches up"

    def outdated(self, pod: PodSeen) -> bool:
        """It was made from an older pod template, or has to be made anew for its claim to go."""
        found = self.seen.sets.get(pod.kind)
        if found is None or not found.is_observed or found.terminating or pod.terminating:
            return False
        return pod.revision != found.update_revision or self.is_claim_going(pod.name)
