"""Replacing a state machine that is wrong by the leader's, while the log stays as it is.

`server/checks.py` calls it. Rules: the member's log, its hard state and what it acknowledged are right and are not
touched: it votes and takes entries all the while; it takes a snapshot only of an index that its own log holds, durably
and committed, and goes on applying its own log from there. The member asks for each chunk, the leader only answers.
"""

import logging
from dataclasses import dataclass

from raftwright.raft.entries import ZERO, SnapshotMeta
from raftwright.raft.events import ChunkLoaded
from raftwright.raft.raft import Raft
from raftwright.raft.ready import LoadChunk, SnapshotChunk
from raftwright.server.applying import Applier
from raftwright.server.effects import Effects
from raftwright.server.rounds import Rounds
from raftwright.server.snapshotting import Snapshotting
from raftwright.server.state import ReplicatedState
from raftwright.server.wire import StateChunk, StateRequest

_log = logging.getLogger(__name__)

ASK_AGAIN_S = 1.0
"""After so long without an answer; the leader may have to take a snapshot first, or may be another one by now."""
AFTER_FAILURE_S = 5.0


@dataclass(frozen=True, slots=True)
class Divergence:
    """At `index` the majority's digest is `value`, and this node's is another."""

    index: int
    version: str
    value: bytes


class Repair:
    def __init__(
        self, *, raft: Raft, state: ReplicatedState, applier: Applier, snapshotting: Snapshotting, rounds: Rounds
    ) -> None:
        self._raft = raft
        self._state = state
        self._applier = applier
        self._snapshotting = snapshotting
        self._rounds = rounds
        self.problem = ""
        """Why the last try failed."""
        self._meta: SnapshotMeta | None = None
        self._next_offset = 0
        self._is_whole = False
        """All chunks are here, checked, and the snapshot waits for the log to reach it."""
        self._is_adopting = False
        self._ask_at = 0.0
        self._loads: dict[tuple[int, int], int] = {}
        """The leader's: the least index that the asker takes, by asker and offset of the chunk being read."""

    # The member's part

    def run(self, divergence: Divergence, now: float, effects: Effects) -> None:
        if self._is_adopting or self._applier.restoring is not None or self._raft.incoming is not None:
            return  # a snapshot that the log needs replaces the state just as well
        if self._is_whole:
            self._adopt(effects)
        elif now >= self._ask_at and not self._snapshotting.is_running:
            self._ask(divergence, now, effects)

    def _ask(self, divergence: Divergence, now: float, effects: Effects) -> None:
        leader = self._raft.leader_id
        if leader is None:
            return
        self._ask_at = now + ASK_AGAIN_S
        meta = self._meta
        effects.send(
            [
                StateRequest(
                    from_id=self._raft.own_id,
                    to_id=leader,
                    index=divergence.index,
                    version=divergence.version,
                    value=divergence.value,
                    min_index=self._min_index(divergence),
                    snapshot_id=meta.id if meta is not None else ZERO,
                    checksum=meta.checksum if meta is not None else 0,
                    offset=self._next_offset,
                )
            ]
        )

    def _min_index(self, divergence: Divergence) -> int:
        """Newer than what is wrong: the divergence, what was applied since, and a snapshot that was taken of it."""
        own = self._raft.snapshot
        return max(divergence.index, self._state.applied_index, own.id.index if own is not None else 0)

    def take_chunk(self, message: StateChunk, divergence: Divergence, now: float, effects: Effects) -> None:
        meta = message.meta
        if self._is_whole or self._is_adopting or meta.id.index < self._min_index(divergence):
            return
        if self._raft.incoming is not None or self._applier.restoring is not None:
            return
        if message.offset == 0 and meta != self._meta:
            self._meta, self._next_offset = meta, 0
        end = message.offset + len(message.data)
        if meta != self._meta or message.offset != self._next_offset or message.done != (end == meta.size):
            return
        self._rounds.add_chunk(SnapshotChunk(meta=meta, offset=message.offset, data=message.data, done=message.done))
        self._next_offset = end
        if message.done:
            self._ask_at = float("inf")  # until the file is checked
        else:
            self._ask(divergence, now, effects)

    def received(self, meta: SnapshotMeta, ok: bool, now: float) -> None:
        """The file of a snapshot is whole and right, or broken."""
        if meta == self._meta and not self._is_adopting:
            if ok:
                self._is_whole = True
            else:
                self._begin_anew(now + AFTER_FAILURE_S, "its file came damaged, or there is no room for it")

    def _adopt(self, effects: Effects) -> None:
        """Once the own log leads up to it durably: then a crash at any moment finds one or the other state."""
        meta, raft = self._meta, self._raft
        assert meta is not None
        if not raft.log.holds(meta.id):
            return
        if meta.id.index <= min(raft.commit_index, raft.durability.persisted_index):
            self._is_adopting = True
            self._applier.begin_adoption(meta, effects)
            effects.adopt = meta

    def ended(self, now: float, problem: str) -> None:
        """Of the adoption. `problem` is empty where it came about."""
        self._is_adopting = False
        self._begin_anew(now + AFTER_FAILURE_S if problem else 0.0, problem)

    def restored(self) -> None:
        """Another snapshot did it."""
        if not self._is_adopting:
            self._begin_anew(0.0, "")

    def _begin_anew(self, ask_at: float, problem: str) -> None:
        self.problem = problem
        self._meta, self._next_offset, self._is_whole = None, 0, False
        self._ask_at = ask_at

    # The leader's part

    def serve(self, request: StateRequest, effects: Effects) -> None:
        """Answer with a chunk of a snapshot that is new enough; take one first where there is none. Then the member
        asks again."""
        own = self._raft.snapshot
        if own is None or own.id.index < request.min_index:
            if not self._snapshotting.is_running:
                self._snapshotting.is_wanted = True
            return
        goes_on = (request.snapshot_id, request.checksum) == (own.id, own.checksum)
        offset = request.offset if goes_on and 0 <= request.offset < own.size else 0
        self._loads[request.from_id, offset] = request.min_index
        effects.loads.append(
            LoadChunk(
                peer=request.from_id,
                meta=own if goes_on else None,
                offset=offset,
                bytes_max=self._raft.settings.chunk_bytes,
            )
        )

    def loaded(self, event: ChunkLoaded, effects: Effects) -> bool:
        """True if this was read for a repair, and not for the core."""
        min_index = self._loads.pop((event.peer, event.offset), None)
        if min_index is None:
            return False
        if event.data is not None and event.meta.id.index >= min_index and self._raft.leader_role is not None:
            effects.send(
                [
                    StateChunk(
                        from_id=self._raft.own_id,
                        to_id=event.peer,
                        meta=event.meta,
                        offset=event.offset,
                        data=event.data,
                        done=event.offset + len(event.data) >= event.meta.size,
                    )
                ]
            )
        return True
