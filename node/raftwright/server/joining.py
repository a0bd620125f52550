"""Joining a cluster by itself: a node asks any member to be added, again and again, until it is.

`admission.py` runs it. Rule: it only asks. That it is a member it learns from the leader's stream, like a node that
somebody else added.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

import aiohttp
import msgspec

from raftwright.server.addresses import parse_address
from raftwright.server.errors import InvalidRequest, LastVoter, MemberAlive, NameTaken, ServiceError, StoreTaken
from raftwright.server.membership_requests import Addition, Call, Change
from raftwright.server.peer_streams import new_connector
from raftwright.server.peers import JOIN_PATH

_log = logging.getLogger(__name__)

ASK_TIMEOUT_S = 10.0
ASK_INTERVAL_S = (0.2, 2.0)
_LASTING = frozenset({NameTaken.kind, StoreTaken.kind, MemberAlive.kind, LastVoter.kind})
"""Refusals that somebody has to do something about."""


class JoinAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """What a member says to it; `kind` is that of the ServiceError."""

    kind: str | None = None
    detail: str = ""


async def join(
    addition: Addition, addresses: Sequence[str], *, say: Callable[[str, str], None], until: asyncio.Event
) -> None:
    """Ask one of `addresses` after the other until `until` is set."""
    asking = asyncio.create_task(_ask_all(addition, addresses, say))
    waiting = asyncio.create_task(until.wait())
    try:
        await asyncio.wait((asking, waiting), return_when=asyncio.FIRST_COMPLETED)
        if asking.done():
            asking.result()  # it ends by an error only
    finally:
        asking.cancel()
        waiting.cancel()
        await asyncio.gather(asking, waiting, return_exceptions=True)


async def _ask_all(addition: Addition, addresses: Sequence[str], say: Callable[[str, str], None]) -> None:
    body = msgspec.json.encode(addition)
    pause_s = ASK_INTERVAL_S[0]
    timeout = aiohttp.ClientTimeout(total=ASK_TIMEOUT_S)
    async with aiohttp.ClientSession(connector=new_connector(), timeout=timeout) as session:
        while True:
            for address in addresses:
                answer = await _ask(session, address, body)
                if answer is None:
                    continue
                if answer.kind in _LASTING:
                    say("stranger", answer.detail)
                elif answer.kind is not None:
                    say("waiting", f"this node waits to be added by the members at {address}: {answer.detail}")
                else:
                    say("waiting", "this node was added, and waits for the leader to reach it")
            await asyncio.sleep(pause_s)
            pause_s = min(2 * pause_s, ASK_INTERVAL_S[1])


async def _ask(session: aiohttp.ClientSession, address: str, body: bytes) -> JoinAnswer | None:
    """None where nobody answers."""
    try:
        async with session.post(f"http://{address}{JOIN_PATH}", data=body) as response:
            return msgspec.json.decode(await response.content.read(64 << 10), type=JoinAnswer)
    except (aiohttp.ClientError, OSError, TimeoutError, msgspec.DecodeError) as error:
        _log.debug("nobody to join at %s: %s", address, error)
        return None


# The side of the member that is asked


async def answer_join(control: Callable[[Call], Awaitable[Any]], body: bytes) -> tuple[int, bytes]:
    """Add the node whose request `body` is, by a call to the leader: HTTP status and JoinAnswer."""
    try:
        addition = msgspec.json.decode(body, type=Addition)
        addresses = addition.member.addresses
        for address in filter(None, (addresses.peer, addresses.client)):
            parse_address(address)
        await control(Call(kind="change", change=Change(add=[addition])))
    except ValueError as error:  # of msgspec too
        return 400, msgspec.json.encode(JoinAnswer(kind=InvalidRequest.kind, detail=str(error)))
    except ServiceError as error:
        return error.status, msgspec.json.encode(JoinAnswer(kind=error.kind, detail=error.detail))
    return 200, msgspec.json.encode(JoinAnswer())
