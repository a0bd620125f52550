"""The contract about members: JSON bodies of `/v1/members…`, `/v1/leader/transfer` and `/v1/cluster/bootstrap`.

Imports nothing of ours. Requests are strict, replies lenient, as in `models.py`.
"""

from typing import Annotated, Literal

import msgspec
from msgspec import Meta

MemberRef = int | str
"""A member by its id, or by its name."""
StoreId = Annotated[str, Meta(pattern="^[0-9a-f]{32}$")]
"""32 hexadecimal digits, random, made with the store: `/v1/status` of the node says it."""
Name = Annotated[str, Meta(pattern="^[A-Za-z0-9]([A-Za-z0-9._-]{0,61}[A-Za-z0-9])?$")]
Address = Annotated[str, Meta(min_length=3, max_length=261)]
Metadata = dict[Annotated[str, Meta(max_length=128)], Annotated[str, Meta(max_length=1024)]]
Role = Literal["voter", "learner"]


class MemberAddresses(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Where a member is reached, each as `host:port`. `client` is empty of a node that serves no clients itself."""

    peer: Address
    client: Annotated[str, Meta(max_length=261, pattern="^(.{3,})?$")]


class NewMember(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A node to add. A voter enters as a learner, and is promoted by the leader when it has caught up."""

    name: Name
    store_id: StoreId
    addresses: MemberAddresses
    role: Role = "voter"
    metadata: Metadata = {}
    promote: bool = True
    """False: a voter to be stays a learner until `promote` is called."""


class ChangeRequest(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The body of `POST /v1/members:change`: everything in one joint change."""

    add: list[NewMember] = []
    promote: list[MemberRef] = []
    demote: list[MemberRef] = []
    remove: list[MemberRef] = []


class ReplaceRequest(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The old member leaves in the joint change in which the new one, having caught up, gets its vote."""

    old: MemberRef
    new: NewMember


class UpdateRequest(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The body of `PATCH /v1/members/{member}`. What is left out stays; metadata is replaced as a whole."""

    addresses: MemberAddresses | None = None
    metadata: Metadata | None = None


class TransferRequest(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    to: MemberRef | None = None
    """None: the most up-to-date voter."""


class FirstMember(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    name: Name
    store_id: StoreId
    addresses: MemberAddresses
    role: Role = "voter"


class BootstrapRequest(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The first membership of a new cluster, given to one of its nodes that waits for it."""

    cluster_id: Annotated[str, Meta(pattern="^[A-Za-z0-9][A-Za-z0-9-]{7,63}$")]
    members: Annotated[list[FirstMember], Meta(min_length=1)]


class MemberLag(msgspec.Struct, frozen=True, kw_only=True):
    """How far a member is behind the leader. At least so much, where the leader no longer knows exactly."""

    commands: int
    bytes: int
    """Of entries."""
    seconds: float
    """The age of the oldest entry that it does not have."""


class MemberInfo(msgspec.Struct, frozen=True, kw_only=True):
    """One member. What only the leader knows is None where the answer is not from it."""

    id: int
    name: str
    store_id: str
    addresses: MemberAddresses
    role: Role
    leaving: bool = False
    """A voter that has a vote only until the change under way ends."""
    leader: bool = False
    intent: dict[str, int | str] = {}
    """What is to become of it: `promote`, `demote` or `remove`, each with the number of the change; `replaces`."""
    metadata: dict[str, str] = {}
    match_index: int | None = None
    lag: MemberLag | None = None
    last_contact_s: float | None = None
    """How long ago the leader heard from it."""


class MembersAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """The membership, as of `version`: what `If-Match` of a change takes."""

    version: int
    joint: bool
    """A change is under way."""
    leader: int | None
    members: list[MemberInfo]


class PlanStep(msgspec.Struct, frozen=True, kw_only=True):
    """One step of a plan, and how many more voters may fail without loss of the quorum: before it, while it is under
    way, and after it."""

    step: str
    voters: list[str]
    """Names, after the step; so are `learners`."""
    learners: list[str]
    tolerated_before: int
    tolerated_during: int
    tolerated_after: int


class PlanAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """What a change would do (`?dry_run=true`), from the membership at `version` on. Without steps: nothing."""

    version: int
    steps: list[PlanStep]


class TransferAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """The leader, once leadership was handed over."""

    leader: int
    name: str
    term: int


class BootstrapAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """The node is a member of its cluster now."""

    cluster_id: str
    id: int
