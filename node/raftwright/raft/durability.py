"""What of this server's memory is on its disk: the one place that decides what may be promised to others.

Used by the core only. Its one rule: an index or a vote counts as durable only when the Ready that carried it was
confirmed, and never when it was replaced in between.
"""

from collections import deque
from dataclasses import dataclass


@dataclass(slots=True)
class _Written:
    """A Ready that the shell is writing."""

    number: int
    last_index: int
    """The log's last index as of that Ready, lowered when the log is truncated after it."""


class Durability:
    def __init__(self, *, persisted_index: int) -> None:
        self.persisted_index = persisted_index
        """Every entry up to it is on this disk, as it is in this log."""
        self.first_unwritten = persisted_index + 1
        """The first entry that no Ready has carried yet."""
        self.hard_state_changed = False
        """Since the last Ready."""
        self._hard_state_ready = 0
        self._confirmed = 0
        self._writing: deque[_Written] = deque()

    @property
    def hard_state_durable(self) -> bool:
        return not self.hard_state_changed and self._hard_state_ready <= self._confirmed

    def truncated(self, first: int) -> None:
        """The entries from `first` on were dropped: a write of theirs that ends later confirms nothing."""
        self.persisted_index = min(self.persisted_index, first - 1)
        self.first_unwritten = min(self.first_unwritten, first)
        for written in self._writing:
            written.last_index = min(written.last_index, first - 1)

    def reset(self, snapshot_index: int) -> None:
        """A snapshot replaced the log. Nothing counts before the Ready that carries it is confirmed."""
        self.truncated(1)
        self.first_unwritten = snapshot_index + 1

    def handed_out(self, number: int, last_index: int) -> None:
        """Ready `number` carries everything changed so far."""
        if self.hard_state_changed:
            self._hard_state_ready = number
            self.hard_state_changed = False
        self.first_unwritten = last_index + 1
        self._writing.append(_Written(number, last_index))

    def confirm(self, number: int) -> None:
        """Every Ready up to `number` is durable."""
        self._confirmed = max(self._confirmed, number)
        while self._writing and self._writing[0].number <= number:
            self.persisted_index = max(self.persisted_index, self._writing.popleft().last_index)
