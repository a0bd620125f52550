"""The leader's count of what members say their state is: what the majority of the voters says, and who says otherwise.

`server/checks.py` calls it. Rules: voters decide and learners do not; only digests of equal versions are compared; that
there will be no majority is said once, and only when those who have not reported cannot help or had their time.
"""

import logging
from collections.abc import Mapping
from dataclasses import dataclass, field

from raftwright.raft.raft import Raft
from raftwright.raft.roles import Leader

_log = logging.getLogger(__name__)

WINDOW = 1024
"""So many of the newest indexes are remembered: a member that lags is still compared."""
DISPUTE_S = 2.0
"""So long the others are waited for when voters disagree and no majority has reported yet."""

Known = tuple[str, bytes]
"""Version and value of a digest."""


@dataclass(slots=True)
class _Tally:
    """What members reported for one index."""

    since: float
    reports: dict[int, Known] = field(default_factory=dict)
    alarmed: bool = False


@dataclass(frozen=True, slots=True)
class Counted:
    """What one more report came to."""

    known: Known | None
    """What the majority says; None: that is open, or there is none."""
    is_news: bool = False
    """It was not known before, or another member is in the minority now: everyone should hear of it."""
    own_is_judged: bool = False
    """This node's own digest is another, or somebody else's is the same."""
    alarm: str = ""
    """There is no majority: who says what."""


class Tallies:
    def __init__(self, raft: Raft) -> None:
        self._raft = raft
        self._tallies: dict[int, _Tally] = {}
        self._agreed: dict[int, int] = {}
        """By member, the newest index at which it said what the majority says."""
        self.minority: dict[int, int] = {}
        """Members whose state is not the majority's, and the newest index at which that was seen."""

    def clear(self) -> None:
        """Leadership changed: everyone reports anew what is not decided."""
        self._tallies.clear()

    def add(self, index: int, member: int, report: Known, known: Known | None, now: float) -> Counted:
        """Count what `member` says. `known`: what the majority is known to have said at this index."""
        tally = self._tallies.get(index)
        if tally is None:
            tally = self._tallies[index] = _Tally(now)
            if len(self._tallies) > WINDOW:
                del self._tallies[next(iter(self._tallies))]
        tally.reports[member] = report
        decided = known or self._majority(tally)
        if decided is None:
            return Counted(None, alarm=self._alarm(tally, now))
        changed = self._compare(index, tally, decided)
        own = tally.reports.get(self._raft.own_id)
        agreeing = sum(said == decided for said in tally.reports.values())
        return Counted(
            decided,
            is_news=changed or known is None,
            own_is_judged=own is not None and (own != decided or agreeing > 1),
        )

    def _majority(self, tally: _Tally) -> Known | None:
        for known in set(tally.reports.values()):
            if self._raft.membership.has_quorum({m for m, said in tally.reports.items() if said == known}):
                return known
        return None

    def _compare(self, index: int, tally: _Tally, known: Known) -> bool:
        """Bring up to date who is in the minority. True if that changed."""
        before = set(self.minority)
        for member, said in tally.reports.items():
            if said == known:
                self._agreed[member] = max(index, self._agreed.get(member, 0))
                if self.minority.get(member, index) <= index:
                    self.minority.pop(member, None)
            elif said[0] == known[0] and index > self._agreed.get(member, 0):
                self.minority[member] = max(index, self.minority.get(member, 0))
        for member in before - self._raft.membership.members.keys():
            self.minority.pop(member, None)
        for member in self.minority.keys() - before:
            _log.error("at index %d the state of %s is not that of the majority", index, self._name(member))
        return self.minority.keys() != before

    def _alarm(self, tally: _Tally, now: float) -> str:
        """Who says what, if voters disagree and that is so for good."""
        voters = self._raft.membership.all_voters
        groups: dict[Known, list[str]] = {}
        for member, said in sorted(tally.reports.items()):
            if member in voters:
                groups.setdefault(said, []).append(self._name(member))
        is_dispute = len({version for version, _ in groups}) < len(groups)
        is_over = voters <= tally.reports.keys() or now - tally.since >= DISPUTE_S
        if tally.alarmed or not is_dispute or not is_over:
            return ""
        tally.alarmed = True
        return "; ".join(f"{' and '.join(names)}: {value.hex()}" for (_, value), names in groups.items())

    def _name(self, member: int) -> str:
        found = self._raft.membership.members.get(member)
        return found.name if found is not None else f"member {member}"

    def told(self, members: Mapping[int, int]) -> None:
        """The leader says who is in the minority."""
        self.minority = dict(members)

    def successor(self, leader: Leader) -> int | None:
        """The most up-to-date voter that is with the majority; None where none is known."""
        voters = self._raft.membership.voters - self.minority.keys()
        agreed = {member for member in voters if member in self._agreed and member in leader.progress}
        return max(agreed, key=lambda member: leader.progress[member].match_index, default=None)
