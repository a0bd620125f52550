"""Members' election timeouts, as far as leases rest on them: what this node promised, and what others say of theirs.

`node.py` keeps this node's promise when it starts, the driver tells of the answers that a leader gets. Rule: a promise
that may have been given to a leader is over before a shorter one is made (`raft/lease.py`).
"""

import asyncio
import logging
from collections.abc import Callable
from contextlib import suppress

from raftwright.raft.messages import AppendReply
from raftwright.raft.raft import Raft
from raftwright.server import clock
from raftwright.storage.storage import Storage

_log = logging.getLogger(__name__)


async def keep_promise(storage: Storage, own_ms: int, stop: asyncio.Event, say: Callable[[str, str], None]) -> bool:
    """Before this node takes part, with an election timeout of `own_ms`: True once it may. False if `stop` comes first.

    It gave no vote for as long as its store says after hearing from a leader, and said so. Where it is now set to less,
    it takes no part for that long, and only then makes the shorter promise its own, durably."""
    promised_ms = storage.identity.election_timeout_ms or 0
    if own_ms < promised_ms:
        until = clock.now() + promised_ms / 1000
        say("starting", f"this node waits {promised_ms} ms, which was its election timeout: a leader may count on it")
        while (left_s := until - clock.now()) > 0 and not stop.is_set():
            with suppress(TimeoutError):
                async with asyncio.timeout(left_s):
                    await stop.wait()
    if not stop.is_set():
        await asyncio.to_thread(storage.promise, own_ms)
    return not stop.is_set()


class ElectionTimeouts:
    """What other members' election timeouts are, as their newest answers to this leader say."""

    def __init__(self, raft: Raft) -> None:
        self._raft = raft
        self._known_s: dict[int, float] = {}

    def note(self, reply: AppendReply) -> None:
        """Warns once of each voter whose election timeout is shorter than this leader's."""
        if self._known_s.get(reply.from_id) == reply.withholds_s:
            return
        self._known_s[reply.from_id] = reply.withholds_s
        member = self._raft.membership.members.get(reply.from_id)
        own_s = self._raft.settings.election_timeout_s
        if member is None or reply.withholds_s >= own_s or self._raft.leader_role is None:
            return
        theirs = f"is {reply.withholds_s * 1000:.0f} ms" if reply.withholds_s > 0 else "is not known"
        _log.warning(
            "the election timeout of %s %s, and that of this node %.0f ms: reads by lease are answered by a round"
            " where too few voters promise longer",
            member.name,
            theirs,
            own_s * 1000,
        )

    def of(self, member_id: int) -> float | None:
        """In seconds; None where it is not known: only the leader knows that of others."""
        if member_id == self._raft.member_id:
            return self._raft.settings.election_timeout_s
        return self._known_s.get(member_id) or None if self._raft.leader_role is not None else None

    @property
    def shorter(self) -> int:
        """How many voters have a shorter one than this leader, or do not say."""
        if self._raft.leader_role is None:
            return 0
        own_s = self._raft.settings.election_timeout_s
        return sum((self.of(voter) or 0.0) < own_s for voter in self._known_s.keys() & self._raft.membership.all_voters)
