"""Addresses and lists of first members as text: `host:port`, `[::1]:8001`, `n1=host:port,n2=host:port,nonVoting`, and
`host:port;host:port,true` without names, where `true` says that a member does not vote.

Used by the settings, and by who listens or connects. Rule: what is wrong is a ValueError that shows the piece and says
what it should look like.
"""

import re
from typing import NamedTuple

_NAME = re.compile(r"[A-Za-z0-9]([A-Za-z0-9._-]{0,61}[A-Za-z0-9])?")
_HOST = re.compile(r"[A-Za-z0-9_]([A-Za-z0-9_.-]*[A-Za-z0-9_.])?")
_IPV6 = re.compile(r"\[[0-9A-Fa-f:.]+(%[A-Za-z0-9_.-]+)?\]")
_NON_VOTING = frozenset({"nonvoting", "true"})
_VOTING = "false"


class FirstMember(NamedTuple):
    """One of the members that a new cluster starts with."""

    name: str
    """Empty where the list has addresses only: then each node says its own."""
    peer: str
    """`host:port` where other members reach it."""
    client: str | None
    """`host:port` where clients reach it, if the list says so."""
    voter: bool


def parse_name(text: str) -> str:
    """ValueError unless `text` may name a member."""
    if not _NAME.fullmatch(text):
        raise ValueError(f"{text!r} is not a name")
    return text


def parse_address(text: str, *, port_min: int = 1) -> tuple[str, int]:
    """Host, without the brackets of IPv6, and port of `host:port`. ValueError if it is neither."""
    host, colon, port = text.rpartition(":")
    if not colon or not (_HOST.fullmatch(host) or _IPV6.fullmatch(host)) or len(host) > 255:
        raise ValueError(f"{text!r} is not host:port")
    if not (port.isascii() and port.isdigit()) or len(port) > 5 or not port_min <= int(port) <= 65_535:
        raise ValueError(f"the port of {text!r} is not a number from {port_min} to 65535")
    return host.strip("[]"), int(port)


def parse_addresses(text: str) -> tuple[str, ...]:
    """`host:port,host:port`, separated by commas or semicolons. ValueError if one is none."""
    pieces = tuple(piece.strip() for piece in re.split("[,;]", text) if piece.strip())
    for piece in pieces:
        parse_address(piece)
    return pieces


def parse_members(text: str) -> list[FirstMember]:
    """The first members in `[name=]peer[/client][,nonVoting]`, separated by commas or semicolons.

    `nonVoting` (or `true`) after a member's address makes it a learner. All have names, or none. ValueError if the
    list is malformed, names a member or an address twice, or has no voter. Empty text is no members.
    """
    members: list[FirstMember] = []
    for piece in (piece.strip() for piece in re.split("[,;]", text)):
        if not piece:
            continue
        if piece.lower() == _VOTING and members and members[-1].voter:
            continue
        if piece.lower() in _NON_VOTING:
            if not members or not members[-1].voter:
                raise ValueError(f"{piece!r} does not follow a member")
            members[-1] = members[-1]._replace(voter=False)
        else:
            members.append(_parse_member(piece))
    _check(members)
    return members


def _parse_member(piece: str) -> FirstMember:
    name, equals, addresses = piece.rpartition("=")
    peer, slash, client = (part.strip() for part in addresses.partition("/"))
    parse_address(peer)
    if slash:
        parse_address(client)
    return FirstMember(parse_name(name.strip()) if equals else "", peer, client if slash else None, True)


def _check(members: list[FirstMember]) -> None:
    seen: set[str] = set()
    for member in members:
        for what in filter(None, (member.name, member.peer, member.client)):
            if what in seen:
                raise ValueError(f"{what!r} is there twice")
            seen.add(what)
    if any(not member.name for member in members) and any(member.name for member in members):
        raise ValueError("some members have a name and some have none")
    if members and not any(member.voter for member in members):
        raise ValueError("no member has a vote")
