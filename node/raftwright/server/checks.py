"""Replicas check each other: every member says what its state is at agreed indexes, and the voters' majority decides.

The driver calls it. Members report their digests (`server/digests.py`) to the leader, who counts the voters' and tells
everyone the verdict; each member judges itself by it. Rules: a majority of the voters decides and nobody else, a
learner only compares; a member in the minority applies nothing more until its state is replaced
(`server/repairing.py`), and a leader hands over first; without a majority there is an alarm and no repair; a check that
could not be made, or of which nobody else says the same, is never one that was passed.
"""

import logging
from dataclasses import dataclass

from raftwright.raft.entries import SnapshotMeta
from raftwright.raft.errors import Refusal
from raftwright.raft.events import TransferLeadership
from raftwright.raft.raft import Raft
from raftwright.raft.roles import Leader
from raftwright.server.applying import Applier
from raftwright.server.digests import Digest
from raftwright.server.effects import Effects
from raftwright.server.repairing import Divergence, Repair
from raftwright.server.rounds import Rounds
from raftwright.server.snapshotting import Snapshotting
from raftwright.server.state import ReplicatedState
from raftwright.server.tallying import WINDOW, Known, Tallies
from raftwright.server.wire import CheckMessage, DigestReport, DigestVerdict, StateChunk, StateRequest

_log = logging.getLogger(__name__)

REPORTED_AT_ONCE = 256
REPORT_AGAIN_S = 2.0
"""A report without a verdict is sent again, since it or the verdict may be lost…"""
UNDECIDED_S = 16.0
"""…until it counts as a check that could not be made."""
HAND_OVER_AGAIN_S = 1.0


@dataclass(slots=True)
class _Open:
    """A digest of this node's own that is not judged yet."""

    since: float
    sent_at: float = float("-inf")


class ReplicaChecks:
    def __init__(
        self, *, raft: Raft, state: ReplicatedState, applier: Applier, snapshotting: Snapshotting, rounds: Rounds
    ) -> None:
        self._raft = raft
        self._state = state
        self._applier = applier
        self.repair = Repair(raft=raft, state=state, applier=applier, snapshotting=snapshotting, rounds=rounds)
        self.passed = self.failed = self.skipped = self.repairs = 0
        self.passed_index = 0
        """Of the newest check passed."""
        self.divergence: Divergence | None = None
        """This node's state is not that of the majority."""
        self.alarm = ""
        """Voters disagree without a majority: which, in words for an operator."""
        self._alarm_index = 0
        self._own: dict[int, bytes] = {}
        self._open: dict[int, _Open] = {}
        self._verdicts: dict[int, Known] = {}
        self._tallies = Tallies(raft)
        self._unsaid: list[Digest] = []
        self._inbox: list[CheckMessage] = []
        self._look_at = 0.0
        self._hand_over_at = 0.0

    @property
    def minority(self) -> dict[int, int]:
        """Members whose state is not the majority's, as the leader says, and the index at which that was seen."""
        return self._tallies.minority

    # In

    def receive(self, message: CheckMessage) -> None:
        self._inbox.append(message)

    def known(self) -> dict[int, Known]:
        """The digests that are known to be the majority's, by index: a snapshot is judged by them."""
        return dict(self._verdicts)

    def leader_changed(self) -> None:
        """Nobody may have told the new leader anything."""
        self._tallies.clear()
        self._look_at = 0.0
        for waiting in self._open.values():
            waiting.sent_at = float("-inf")

    def adopted(self, meta: SnapshotMeta, now: float, *, problem: str) -> None:
        """The repair's snapshot took the place of the state, or there is a `problem` with it."""
        self.repair.ended(now, problem)
        self._applier.adoption_ended(meta)
        if problem:
            self.failed += 1
            _log.error("the snapshot at index %d repairs nothing: %s; another one is asked for", meta.id.index, problem)

    def restored(self) -> None:
        """Another state took the place of this node's: it is judged anew, by what it says of itself."""
        self.repair.restored()
        digest = self._state.digest
        self.skipped += len(self._open)
        self._open.clear()
        self._own = dict(digest.history)
        wrong = digest.contradicts(self._verdicts)
        if wrong is not None:
            self.failed += 1
            self._diverge(wrong, self._verdicts[wrong])
            return
        if self.divergence is not None:
            self.divergence = None
            self.repairs += 1
            _log.warning("the state machine was repaired: it is that of the leader's snapshot")
        self._applier.is_held = False
        if digest.history:
            # Not a check, since it is the leader's own digest; but so the leader learns of the repair at once.
            self._unsaid = [digest.history[-1]]

    # The run

    def run(self, now: float, effects: Effects) -> None:
        made = self._state.digest.take()
        for index, value in made:
            self._note(index, value, now)
        if self._inbox:
            inbox, self._inbox = self._inbox, []
            for message in inbox:
                self._take(message, now, effects)
        if self._unsaid and self._raft.leader_id is not None:
            effects.send(self._report_to_leader(self._unsaid))
            self._unsaid = []
        if self._open and (made or now >= self._look_at):
            self._look_at = now + REPORT_AGAIN_S / 8
            self._tell(now, effects)
        if self.divergence is not None:
            self._mend(self.divergence, now, effects)

    def _note(self, index: int, value: bytes | None, now: float) -> None:
        """The state at `index` has this digest; None: it could not be made, or not be gone on with."""
        if value is None:
            self.skipped += 1
            return
        self._own[index] = value
        self._open[index] = _Open(now)
        if index in self._verdicts and not isinstance(self._raft.role, Leader):
            self._judge(index)
        if len(self._own) > WINDOW:
            del self._own[next(iter(self._own))]
        if len(self._open) > WINDOW:
            del self._open[next(iter(self._open))]
            self.skipped += 1

    def _take(self, message: CheckMessage, now: float, effects: Effects) -> None:
        leader = self._raft.leader_role
        match message:
            case DigestReport() if leader is not None and message.from_id in self._raft.membership.members:
                for index, value in message.digests:
                    self._count(index, message.from_id, (message.version, value), now, effects)
            case DigestVerdict() if message.from_id == self._raft.leader_id:
                self._on_verdict(message)
            case StateRequest() if leader is not None and self.divergence is None:
                known = self._verdicts.get(message.index)
                if known is None or known == (message.version, message.value):
                    self.repair.serve(message, effects)
            case StateChunk() if self.divergence is not None and message.from_id == self._raft.leader_id:
                self.repair.take_chunk(message, self.divergence, now, effects)
            case _:
                pass  # of a leader that was, or to one

    def _tell(self, now: float, effects: Effects) -> None:
        """Report what is not judged, or as the leader count it; and give up on what nobody decided."""
        for index in [index for index, waiting in self._open.items() if now - waiting.since >= UNDECIDED_S]:
            del self._open[index]
            self.skipped += 1
        due = [index for index, waiting in self._open.items() if now - waiting.sent_at >= REPORT_AGAIN_S]
        if isinstance(self._raft.role, Leader):
            for index in due:
                self._open[index].sent_at = now
                self._count(index, self._raft.own_id, (self._state.digest.version, self._own[index]), now, effects)
        elif self._raft.leader_id is not None:
            del due[REPORTED_AT_ONCE:]
            for index in due:
                self._open[index].sent_at = now
            effects.send(self._report_to_leader([(index, self._own[index]) for index in due]))

    def _report_to_leader(self, digests: list[Digest]) -> list[DigestReport]:
        leader = self._raft.leader_id
        if leader is None or leader == self._raft.member_id or not digests:
            return []
        version = self._state.digest.version
        return [DigestReport(from_id=self._raft.own_id, to_id=leader, version=version, digests=tuple(digests))]

    # The leader's part

    def _count(self, index: int, member: int, report: Known, now: float, effects: Effects) -> None:
        counted = self._tallies.add(index, member, report, self._verdicts.get(index), now)
        if counted.alarm:
            self._announce(index, None, effects, self._others(), counted.alarm)
            self._raise_alarm(index, counted.alarm)
        if counted.known is None:
            return
        if index not in self._verdicts:
            self._remember(index, counted.known)
        if counted.is_news:
            self._announce(index, counted.known, effects, self._others())
        elif member != self._raft.member_id:
            self._announce(index, counted.known, effects, [member])
        if counted.own_is_judged:
            self._judge(index)

    def _announce(self, index: int, known: Known | None, effects: Effects, members: list[int], alarm: str = "") -> None:
        version, value = known or (self._state.digest.version, None)
        effects.send(
            DigestVerdict(
                from_id=self._raft.own_id,
                to_id=member,
                version=version,
                index=index,
                value=value,
                minority=tuple(sorted(self.minority)),
                alarm=alarm,
            )
            for member in members
        )

    def _others(self) -> list[int]:
        return [member for member in sorted(self._raft.membership.members) if member != self._raft.member_id]

    # Everyone's part

    def _on_verdict(self, message: DigestVerdict) -> None:
        if message.value is None:
            self._raise_alarm(message.index, message.alarm)
            return
        if not self._verdicts or message.index >= next(reversed(self._verdicts)):
            self._tallies.told(dict.fromkeys(message.minority, message.index))
        self._remember(message.index, (message.version, message.value))
        self._judge(message.index)

    def _remember(self, index: int, known: Known) -> None:
        self._verdicts.pop(index, None)
        self._verdicts[index] = known
        if len(self._verdicts) > WINDOW:
            del self._verdicts[next(iter(self._verdicts))]
        if self.alarm and index >= self._alarm_index:
            _log.warning("at index %d a majority of the voters has the same state again", index)
            self.alarm = ""

    def _raise_alarm(self, index: int, text: str) -> None:
        if self._open.pop(index, None) is not None:
            self.failed += 1
        if not self.alarm:
            _log.error("at index %d no majority of the voters has the same state: %s; nothing is repaired", index, text)
        self.alarm = f"at index {index}: {text}"
        self._alarm_index = max(self._alarm_index, index)

    def _judge(self, index: int) -> None:
        """Compare this node's digest with the majority's."""
        known, mine = self._verdicts[index], self._own.get(index)
        if mine is None:
            return
        is_open = self._open.pop(index, None) is not None
        if known[0] != self._state.digest.version:
            self.skipped += is_open
        elif known[1] == mine:
            self.passed += is_open
            self.passed_index = max(self.passed_index, index)
        else:
            self.failed += is_open
            self._diverge(index, known)

    def _diverge(self, index: int, known: Known) -> None:
        if self.divergence is None:
            _log.error("at index %d the state of this node is not that of the majority: it will be replaced", index)
            self.divergence = Divergence(index, *known)
        self._applier.is_held = True

    def _mend(self, divergence: Divergence, now: float, effects: Effects) -> None:
        """Hand over, if this is the leader; else ask the leader for its state."""
        leader = self._raft.leader_role
        if leader is None:
            self.repair.run(divergence, now, effects)
        elif now >= self._hand_over_at:
            self._hand_over_at = now + HAND_OVER_AGAIN_S
            try:
                self._raft.step(TransferLeadership(now=now, target=self._tallies.successor(leader)))
            except Refusal as refusal:
                _log.error("the leader's state is wrong, and leadership cannot be handed over: %s", refusal)
