"""When a node takes a snapshot: policies as values, combined with `|`, as text in the setting `snapshot_policy`.

`snapshotting.py` asks `is_due` after each run of the driver. Rules: asking is cheap and never fails; a policy decides
for its own node only, so it may differ between nodes.
"""

import logging
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

_log = logging.getLogger(__name__)

PERIODS_S = {"second": 1.0, "minute": 60.0, "hour": 3600.0, "day": 86_400.0}
_UNITS_S = {"s": 1.0, "m": 60.0, "h": 3600.0, "d": 86_400.0}
_SIZES = {"": 1, "KiB": 1 << 10, "MiB": 1 << 20, "GiB": 1 << 30}
_AFTER = re.compile(r"after (\d{1,9})(s|m|h|d) (\d{1,12})")
_LOG = re.compile(r"log (\d{1,15})(KiB|MiB|GiB|)")
_COMMANDS = re.compile(r"commands (\d{1,12})")
ASK_INTERVAL_S = 0.1
"""How often a policy of the user's own code is asked."""
FALLBACK_LOG_BYTES = 64 << 20
FORMS = "never; every second, minute, hour or day; after 900s 1; commands 100000; log 64MiB; several with commas"


class Progress(NamedTuple):
    """What happened since the last snapshot. A snapshot is taken only if something did."""

    changes: int
    """Commands applied."""
    log_bytes: int
    """Of their entries."""
    seconds: float
    """Since the last one began, or since the node started."""


@dataclass(frozen=True, slots=True)
class _Rule:
    """Due when each is reached."""

    changes: int = 0
    log_bytes: int = 0
    seconds: float = 0.0

    def is_due(self, progress: Progress) -> bool:
        return (
            progress.changes >= self.changes
            and progress.log_bytes >= self.log_bytes
            and progress.seconds >= self.seconds
        )


class _Custom:
    """The user's own. One that raises is asked no more, and the log is kept from growing without end instead."""

    def __init__(self, wanted: Callable[[Progress], bool]) -> None:
        self._wanted = wanted
        self._asked_s = 0.0
        self._broken = False

    def is_due(self, progress: Progress) -> bool:
        if self._broken:
            return progress.log_bytes >= FALLBACK_LOG_BYTES
        if 0 <= progress.seconds - self._asked_s < ASK_INTERVAL_S:
            return False
        self._asked_s = progress.seconds
        try:
            return bool(self._wanted(progress))
        except Exception as error:
            self._broken = True
            _log.error("the snapshot policy raised, and is replaced by one of log bytes: %r", error, exc_info=error)
            return False


@dataclass(frozen=True, slots=True)
class SnapshotPolicy:
    """Due when any of its parts is. Combine with `|`; without parts it is never due."""

    parts: tuple["_Rule | _Custom", ...] = ()

    @classmethod
    def never(cls) -> "SnapshotPolicy":
        """No snapshot, unless one is asked for or the disk is full. The log grows."""
        return cls()

    @classmethod
    def every(cls, period: str) -> "SnapshotPolicy":
        """`second`, `minute`, `hour` or `day`."""
        if period not in PERIODS_S:
            raise ValueError(f"{period!r} is none of {', '.join(PERIODS_S)}")
        return cls((_Rule(seconds=PERIODS_S[period]),))

    @classmethod
    def after(cls, *, seconds: float, changes: int) -> "SnapshotPolicy":
        """When so many seconds have passed and so many commands were applied: `after(seconds=900, changes=1) |
        after(seconds=60, changes=10_000)`."""
        if seconds < 0 or changes < 0:
            raise ValueError("seconds and changes are not less than 0")
        return cls((_Rule(seconds=seconds, changes=changes),))

    @classmethod
    def commands(cls, count: int) -> "SnapshotPolicy":
        return cls((_Rule(changes=_positive(count)),))

    @classmethod
    def log_bytes(cls, count: int) -> "SnapshotPolicy":
        return cls((_Rule(log_bytes=_positive(count)),))

    @classmethod
    def custom(cls, wanted: Callable[[Progress], bool]) -> "SnapshotPolicy":
        """A function of one's own: called on the event loop, at most ten times a second, so it must be quick."""
        return cls((_Custom(wanted),))

    def __or__(self, other: "SnapshotPolicy") -> "SnapshotPolicy":
        return SnapshotPolicy((*self.parts, *other.parts))

    def is_due(self, progress: Progress) -> bool:
        return any(part.is_due(progress) for part in self.parts)


def _positive(count: int) -> int:
    if count < 1:
        raise ValueError("it is at least 1")
    return count


def parse_policy(text: str) -> SnapshotPolicy:
    """The policy of a text such as `after 900s 1, log 64MiB`. ValueError, with the forms there are, if it is none."""
    pieces = [" ".join(piece.split()) for piece in text.split(",")]
    if pieces == ["never"]:
        return SnapshotPolicy.never()
    policy = SnapshotPolicy()
    for piece in pieces:
        policy |= _parse_piece(piece)
    return policy


def _parse_piece(piece: str) -> SnapshotPolicy:
    if piece.removeprefix("every ") in PERIODS_S and piece.startswith("every "):
        return SnapshotPolicy.every(piece.removeprefix("every "))
    if found := _AFTER.fullmatch(piece):
        return SnapshotPolicy.after(seconds=int(found[1]) * _UNITS_S[found[2]], changes=int(found[3]))
    if (found := _COMMANDS.fullmatch(piece)) and int(found[1]):
        return SnapshotPolicy.commands(int(found[1]))
    if (found := _LOG.fullmatch(piece)) and int(found[1]):
        return SnapshotPolicy.log_bytes(int(found[1]) * _SIZES[found[2]])
    raise ValueError(f"{piece!r} is no snapshot policy; there are: {FORMS}")
