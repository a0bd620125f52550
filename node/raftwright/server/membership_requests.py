"""One form for every membership call: what `POST /v1/members:change` and all its short forms come down to.

The routes and the joining node make it, `membership_plans.py` reads it, it travels to the leader as JSON. Values only.
"""

from typing import Literal

import msgspec

from raftwright.client.member_models import (
    ChangeRequest,
    MemberAddresses,
    MemberRef,
    NewMember,
    ReplaceRequest,
    UpdateRequest,
)


class Addition(msgspec.Struct, frozen=True, kw_only=True):
    member: NewMember
    replaces: MemberRef | None = None
    """The member whose place it takes, in one joint change."""
    only_dead: bool = False
    """Refuse while the member to be replaced is alive."""


class Update(msgspec.Struct, frozen=True, kw_only=True):
    member: MemberRef
    addresses: MemberAddresses | None = None
    metadata: dict[str, str] | None = None


class Change(msgspec.Struct, frozen=True, kw_only=True):
    add: list[Addition] = []
    promote: list[MemberRef] = []
    demote: list[MemberRef] = []
    remove: list[MemberRef] = []
    update: list[Update] = []


class Call(msgspec.Struct, frozen=True, kw_only=True):
    """A call to the leader."""

    kind: Literal["members", "change", "transfer"]
    change: Change = Change()
    to: MemberRef | None = None
    """Of a transfer."""
    if_match: int | None = None
    """The version of the membership that the caller saw."""
    force: bool = False
    """Go without a quorum of reachable voters."""
    dry_run: bool = False
    linearizable: bool = False
    """Of `members`: the committed membership, from a leader that a quorum confirmed since the call began."""
    term_min: int = 0
    """Then: by a leader of an older term it may not be answered…"""
    version_min: int = 0
    """…nor from an older membership."""


def change_of(request: ChangeRequest) -> Change:
    return Change(
        add=[Addition(member=member) for member in request.add],
        promote=request.promote,
        demote=request.demote,
        remove=request.remove,
    )


def addition_of(member: NewMember) -> Change:
    return Change(add=[Addition(member=member)])


def replacement_of(request: ReplaceRequest, *, only_dead: bool = False) -> Change:
    return Change(add=[Addition(member=request.new, replaces=request.old, only_dead=only_dead)])


def update_of(member: MemberRef, request: UpdateRequest) -> Change:
    return Change(update=[Update(member=member, addresses=request.addresses, metadata=request.metadata)])


def encode_call(call: Call) -> bytes:
    return msgspec.json.encode(call)


def decode_call(data: bytes) -> Call:
    """ValueError (msgspec.DecodeError) if it is none."""
    return msgspec.json.decode(data, type=Call)
