"""What was seen of one RaftCluster at one moment: frozen values, made by `observe`, read by `plan` and `status`.

Rule: facts only. What a fact means is decided in `plan`. Imports nothing but `names`.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from raftwright_operator.names import SetKind

NodeState = Literal["waiting", "starting", "serving", "stranger", "removed", "stopping"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Intent:
    """The founding of the cluster, as written to the resource's status before anything was bootstrapped."""

    cluster_id: str
    stores: tuple[tuple[str, str], ...]
    """(pod name, store id) of each founding voter, by ordinal. Empty where a cluster that existed was adopted."""
    bootstrapped: bool = False
    """All founding voters were seen in the membership, once."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SetSeen:
    """A StatefulSet."""

    uid: str
    resource_version: str
    replicas: int
    """As asked for in its spec."""
    update_revision: str
    """Of its newest pod template; meaningless until `is_observed`."""
    is_observed: bool
    """Its controller has seen its newest generation."""
    volume_bytes: int
    """Size in its claim template."""
    terminating: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class PodSeen:
    name: str
    uid: str
    kind: SetKind
    ordinal: int
    revision: str
    """Its `controller-revision-hash`."""
    ready: bool
    terminating: bool = False
    voter_label: bool = False
    leader_label: bool = False
    node: str | None = None
    """The Kubernetes node it runs on."""
    problem: str | None = None
    """Why it does not run, as Kubernetes says: ImagePullBackOff, Unschedulable, CrashLoopBackOff…, with its message."""


@dataclass(frozen=True, slots=True, kw_only=True)
class VolumeSeen:
    """A PersistentVolumeClaim of one of our pods, whether that pod exists or not."""

    name: str
    uid: str
    kind: SetKind
    ordinal: int
    requested_bytes: int
    capacity_bytes: int
    """0 while it is not bound."""
    terminating: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeSeen:
    """What the node in a pod said of itself (`/v1/status`), just now."""

    pod_uid: str
    state: NodeState
    store_id: str
    cluster_id: str | None = None
    member_id: int | None = None
    leader: int | None = None
    applied_index: int = 0
    version: str = ""
    diverged: bool = False
    detail: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class MemberSeen:
    id: int
    name: str
    store_id: str
    role: Literal["voter", "learner"]
    leaving: bool = False
    """A voter of the outgoing half of a joint change only."""
    match_index: int | None = None
    lag_commands: int | None = None
    lag_seconds: float | None = None
    last_contact_s: float | None = None
    """How long ago the leader heard from it; None of the leader itself, and where it never did."""
    intent: Mapping[str, int | str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class MembershipSeen:
    """The committed membership, from a leader that a quorum confirmed."""

    version: int
    joint: bool
    leader: int
    members: tuple[MemberSeen, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Hibernation:
    """How many pods each set had when it was scaled to nothing: as many come back first."""

    voters: int
    non_voting: int

    def of(self, kind: SetKind) -> int:
        return self.voters if kind == "voters" else self.non_voting


@dataclass(frozen=True, slots=True, kw_only=True)
class Observed:
    """Everything that `plan` may know. Kubernetes' objects may be from a watch's cache unless `fresh`; what nodes say
    is always asked anew."""

    fresh: bool
    name: str
    namespace: str
    uid: str
    resource_version: str
    generation: int
    deleting: bool = False
    intent: Intent | None = None
    hibernation: Hibernation | None = None
    recorded_members: tuple[str, ...] = ()
    """Names of the members that the status lists, from the last time that the membership was known."""
    recorded_voters: tuple[str, ...] = ()
    """Of them, those that had a vote."""
    sets: Mapping[SetKind, SetSeen] = field(default_factory=dict)
    """Those that exist."""
    pods: Mapping[str, PodSeen] = field(default_factory=dict)
    volumes: Mapping[str, VolumeSeen] = field(default_factory=dict)
    """By the name of the claim."""
    nodes: Mapping[str, NodeSeen] = field(default_factory=dict)
    """By pod name: the nodes that answered."""
    membership: MembershipSeen | None = None
    """None without a leader that a quorum confirms."""
    budget: int | None = None
    """`minAvailable` of the PodDisruptionBudget that exists."""
    budget_version: str | None = None
    """Its resourceVersion."""
    budget_ready_for: str = ""
    """The change of votes that it was raised for, after the version of the membership that this was planned from."""
    refused_volumes: Mapping[str, str] = field(default_factory=dict)
    """Claims that the API server refused to enlarge lately, with what it said."""
    drifted: tuple[str, ...] = ()
    """Objects that are missing or not as they should be, as `Kind/name`; replicas and the budget do not count, nor
    what is `foreign` or `resisting`."""
    foreign: tuple[str, ...] = ()
    """What is there under names of ours and is not ours, as `Kind/name`: it is not touched."""
    resisting: Mapping[str, str] = field(default_factory=dict)
    """Objects that others change back whenever they are applied, as `Kind/name`, with the field: left so for now."""
