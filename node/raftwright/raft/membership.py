"""Membership as an immutable value, and the arithmetic of quorums over it.

One mechanism changes it: joint consensus (§4.3). While `outgoing_voters` is not empty the membership is joint:
every decision needs a majority of `voters` and a majority of `outgoing_voters`.
"""

import json
from collections.abc import Callable, Container, Iterable, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, TypeVar

_Ordered = TypeVar("_Ordered", int, float)


@dataclass(frozen=True, slots=True, kw_only=True)
class Addresses:
    """Where a member is reached, each as `host:port`."""

    peer: str
    client: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Member:
    """One member. It is bound to the random id of its store: an empty disk under an old name is a stranger."""

    name: str
    store_id: str
    """32 hexadecimal digits."""
    addresses: Addresses
    metadata: Mapping[str, str] = field(default_factory=dict)
    software_version: str = ""
    protocol_version: int = 1
    intent: Mapping[str, int | str] = field(default_factory=dict)
    """What a later leader carries on: `{"promote": 1}` when caught up, `{"replaces": id}`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Membership:
    """Who is in the cluster. The ids of members are counted by `last_member_id` and never used twice."""

    version: int = 0
    """One more with every change."""
    last_member_id: int = 0
    """An id up to this one that is not in `members` was removed."""
    members: Mapping[int, Member] = field(default_factory=dict)
    voters: frozenset[int] = frozenset()
    """The voters; in a joint membership the incoming ones (C-new)."""
    outgoing_voters: frozenset[int] = frozenset()
    """The voters being replaced (C-old) while the membership is joint, else empty."""
    learners: frozenset[int] = frozenset()
    """Non-voting members: they get every entry and count in no quorum (§4.2.1)."""
    next_learners: frozenset[int] = frozenset()
    """Outgoing voters that become learners when the joint membership ends."""

    @property
    def is_joint(self) -> bool:
        return bool(self.outgoing_voters)

    @property
    def all_voters(self) -> frozenset[int]:
        """Everyone with a vote in either half."""
        return self.voters | self.outgoing_voters

    def was_removed(self, member_id: int) -> bool:
        return member_id <= self.last_member_id and member_id not in self.members

    def member_named(self, name: str) -> int | None:
        """The id of the member of that name."""
        return next((key for key, member in self.members.items() if member.name == name), None)

    def has_quorum(self, agreeing: Container[int]) -> bool:
        """Whether `agreeing` holds a majority of every half. A membership without voters has no quorum."""
        return bool(self.voters) and all(has_majority(half, agreeing) for half in self._halves())

    def has_lost(self, refusing: Container[int]) -> bool:
        """Whether so many refuse that no quorum can come about any more."""
        return any(2 * sum(voter in refusing for voter in half) >= len(half) for half in self._halves())

    def committed_index(self, match_index: Callable[[int], int]) -> int:
        """The highest index that a quorum holds, given each voter's match index (§3.6.2; §4.3 when joint)."""
        return min((quorum_value(match_index(voter) for voter in half) for half in self._halves()), default=0)

    def quorum_time(self, time_of: Callable[[int], float]) -> float:
        """The latest time that a whole quorum reaches, given one of each voter, such as when it was last heard."""
        halves = self._halves()
        return min((quorum_value(time_of(voter) for voter in half) for half in halves), default=float("-inf"))

    def _halves(self) -> tuple[frozenset[int], ...]:
        return (self.voters, self.outgoing_voters) if self.outgoing_voters else (self.voters,) if self.voters else ()

    def encode(self) -> bytes:
        """A deterministic encoding: the same membership gives the same bytes."""
        document = {
            "version": self.version,
            "last_member_id": self.last_member_id,
            "members": {str(key): asdict(member) for key, member in sorted(self.members.items())},
            "voters": sorted(self.voters),
            "outgoing_voters": sorted(self.outgoing_voters),
            "learners": sorted(self.learners),
            "next_learners": sorted(self.next_learners),
        }
        return json.dumps(document, sort_keys=True, separators=(",", ":")).encode()

    @staticmethod
    def decode(data: bytes) -> "Membership":
        """The inverse of `encode`. ValueError if `data` is not an encoded membership."""
        try:
            document = json.loads(data)
            members = {
                int(key): Member(**{**member, "addresses": Addresses(**member["addresses"])})
                for key, member in document.pop("members").items()
            }
            sets: dict[str, Any] = {name: frozenset(document.pop(name)) for name in _SETS}
            return Membership(members=members, **sets, **document)
        except (KeyError, TypeError, AttributeError, ValueError) as error:
            raise ValueError(f"not an encoded membership: {error}") from error


_SETS = ("voters", "outgoing_voters", "learners", "next_learners")


def has_majority(voters: frozenset[int], agreeing: Container[int]) -> bool:
    """More than half: two of two, two of three, three of four."""
    return 2 * sum(voter in agreeing for voter in voters) > len(voters)


def quorum_value(values: Iterable[_Ordered]) -> _Ordered:
    """The greatest value that more than half of `values` reach or exceed. `values` is not empty."""
    ordered = sorted(values)
    return ordered[(len(ordered) - 1) // 2]


def first_membership(members: Iterable[tuple[Member, bool]]) -> Membership:
    """The membership that a cluster starts with: pairs of member and whether it votes.

    Ids are 1, 2, 3… in the order of names, so that every founding node computes the same.
    """
    ordered = sorted(members, key=lambda pair: pair[0].name)
    return Membership(
        version=1,
        last_member_id=len(ordered),
        members={number: member for number, (member, _) in enumerate(ordered, 1)},
        voters=frozenset(number for number, (_, votes) in enumerate(ordered, 1) if votes),
        learners=frozenset(number for number, (_, votes) in enumerate(ordered, 1) if not votes),
    )
