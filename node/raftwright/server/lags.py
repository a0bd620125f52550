"""How far members are behind, in commands, bytes and seconds: sums kept along the entries that were applied here.

The applier notes every entry; the answer of `GET /v1/members` asks. Rule: bounded; of what is older than it remembers
it says at least so much.
"""

from bisect import bisect_right
from typing import NamedTuple

REMEMBERED_MAX = 65_536


class Lag(NamedTuple):
    commands: int
    bytes: int
    seconds: float


class Lags:
    def __init__(self) -> None:
        self._indexes: list[int] = []
        self._sums: list[tuple[int, int, int]] = []
        """Commands and bytes up to and with the entry, and its log time in milliseconds."""
        self._commands = 0
        self._bytes = 0

    def note(self, index: int, commands: int, size: int, time_ms: int) -> None:
        """The next entry was applied."""
        self._commands += commands
        self._bytes += size
        self._indexes.append(index)
        self._sums.append((self._commands, self._bytes, time_ms))
        if len(self._indexes) > REMEMBERED_MAX:
            half = REMEMBERED_MAX // 2
            del self._indexes[:half], self._sums[:half]

    def behind(self, match_index: int, now_ms: int) -> Lag:
        """What a member lacks that holds everything up to `match_index`."""
        position = bisect_right(self._indexes, match_index)
        if position == len(self._indexes):
            return Lag(0, 0, 0.0)
        commands, size, _ = self._sums[max(0, position - 1)]
        age_s = max(0, now_ms - self._sums[position][2]) / 1000
        return Lag(self._commands - commands, self._bytes - size, round(age_s, 3))
