"""What `plan` may decide: exactly one action, or to wait, or that all is done.

Each action is a value with the preconditions under which `execute` may do it, and is idempotent: done twice, or after
a crash half-way, it has the effect of once. Imports `names` and `observed` only.
"""

from dataclasses import dataclass

from raftwright_operator.names import SetKind
from raftwright_operator.observed import Hibernation, Intent


@dataclass(frozen=True, slots=True, kw_only=True)
class Action:
    """`why` is one sentence for events, logs and `kubectl describe`."""

    why: str

    needs_fresh = False
    """Only on an observation whose objects were read anew: what deletes, shrinks, bootstraps or changes membership."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ApplyObjects(Action):
    """Server-side apply of these (`Kind/name`). A StatefulSet keeps the replicas that it has."""

    objects: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class CreateSet(Action):
    """A StatefulSet that does not exist. Its pods may (it was orphaned): `replicas` never is fewer than they need."""

    kind: SetKind
    replicas: int


@dataclass(frozen=True, slots=True, kw_only=True)
class GrowSet(Action):
    kind: SetKind
    uid: str
    resource_version: str
    replicas: int


@dataclass(frozen=True, slots=True, kw_only=True)
class ShrinkSet(Action):
    """The members of the pods that go are out of the committed membership, or the whole cluster hibernates."""

    kind: SetKind
    uid: str
    resource_version: str
    replicas: int

    needs_fresh = True


@dataclass(frozen=True, slots=True, kw_only=True)
class OrphanSet(Action):
    """Delete a StatefulSet without its pods, since a claim template cannot be changed."""

    kind: SetKind
    uid: str

    needs_fresh = True


@dataclass(frozen=True, slots=True, kw_only=True)
class DeleteSet(Action):
    """With its pods; the resource is being deleted."""

    kind: SetKind
    uid: str

    needs_fresh = True


@dataclass(frozen=True, slots=True, kw_only=True)
class ApplyBudget(Action):
    """Under the resourceVersion of the one that there is, so that a late one does not allow what is allowed no more."""

    min_available: int
    resource_version: str | None = None
    ready_for: str = ""
    """The change of the membership that it was raised for; see `Observed.budget_ready_for`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PodLabels:
    pod: str
    uid: str
    voter: bool
    leader: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class LabelPods(Action):
    """Patched each with its uid as a precondition."""

    pods: tuple[PodLabels, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class RecordIntent(Action):
    """Into the status, under `resource_version`. Also adopts a cluster that exists, and notes what is bootstrapped."""

    intent: Intent
    resource_version: str

    needs_fresh = True


@dataclass(frozen=True, slots=True, kw_only=True)
class RecordHibernation(Action):
    """Into the status, under `resource_version`; None clears it."""

    hibernation: Hibernation | None
    resource_version: str

    needs_fresh = True


@dataclass(frozen=True, slots=True, kw_only=True)
class Bootstrap(Action):
    """Give the first membership, which the intent fixes, to this pod's node."""

    pod: str
    pod_uid: str
    intent: Intent

    needs_fresh = True


@dataclass(frozen=True, slots=True, kw_only=True)
class Joiner:
    """A node to be added as a learner, by pod name and the store it has."""

    pod: str
    store_id: str


@dataclass(frozen=True, slots=True, kw_only=True)
class AddMembers(Action):
    """As learners that stay learners: their promotion is an action of its own."""

    joiners: tuple[Joiner, ...]
    if_version: int

    needs_fresh = True


@dataclass(frozen=True, slots=True, kw_only=True)
class PromoteMembers(Action):
    """All in one joint change."""

    ids: tuple[int, ...]
    if_version: int

    needs_fresh = True


@dataclass(frozen=True, slots=True, kw_only=True)
class RemoveMembers(Action):
    """All in one joint change."""

    ids: tuple[int, ...]
    if_version: int

    needs_fresh = True


@dataclass(frozen=True, slots=True, kw_only=True)
class RenewMembership(Action):
    """The same members under a new version, so that no change that was decided upon this one is made any more."""

    if_version: int

    needs_fresh = True


@dataclass(frozen=True, slots=True, kw_only=True)
class ReplaceMember(Action):
    """The store behind a name is another: the old member goes in the joint change that gives the new one its vote."""

    old: int
    joiner: Joiner
    if_version: int

    needs_fresh = True


@dataclass(frozen=True, slots=True, kw_only=True)
class TransferLeadership(Action):
    to: int

    needs_fresh = True


@dataclass(frozen=True, slots=True, kw_only=True)
class DiscardStore(Action):
    """The committed membership does not have this store: its node sets the data aside and begins a new one."""

    pod: str
    pod_uid: str
    store_id: str

    needs_fresh = True


@dataclass(frozen=True, slots=True, kw_only=True)
class RestartPod(Action):
    """By the Eviction API where `evict`, else by DELETE; under its uid either way."""

    pod: str
    uid: str
    evict: bool

    needs_fresh = True


@dataclass(frozen=True, slots=True, kw_only=True)
class ExpandVolume(Action):
    claim: str
    uid: str
    size_bytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class DeleteVolume(Action):
    claim: str
    uid: str

    needs_fresh = True


@dataclass(frozen=True, slots=True, kw_only=True)
class ReleaseFinalizer(Action):
    """The resource is being deleted, and nothing is left that it should take along."""

    needs_fresh = True


@dataclass(frozen=True, slots=True, kw_only=True)
class Wait:
    """Nothing may be done now. `reason` is a word for conditions (UpperCamelCase), `message` says what to do."""

    reason: str
    message: str
    retry_s: float = 2.0
    """When to look again, unless an event comes first."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Done:
    """All is as asked for."""


Step = Action | Wait | Done


@dataclass(frozen=True, slots=True, kw_only=True)
class Concern:
    """Something that a person should know, whatever the step is: makes a condition true, or an event."""

    condition: str
    """ScaleDownBlocked, Degraded…"""
    reason: str
    message: str
