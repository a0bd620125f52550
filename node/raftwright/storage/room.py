"""How much the log can still take, as a value: which records fit, in order, without its reserve.

`log.py` makes it; the driver and `log.py` ask it. The one rule: it places records as the log does, so that what fits
here never makes the log prepare a file in the middle of a write.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from raftwright.raft.entries import Entry
from raftwright.storage.records import HEADER_BYTES, record_bytes

CONTROL_BYTES = 4 * HEADER_BYTES
"""Counted before the entries of a write, for the control records that may go with them."""


def sizes_of(entries: Iterable[Entry]) -> list[int]:
    """Bytes that the record of each entry takes."""
    return [record_bytes(len(entry.payload)) for entry in entries]


@dataclass(frozen=True, slots=True)
class Room:
    rest: int
    """Bytes left in the segment that is being written."""
    ready: tuple[int, ...] = ()
    """What each prepared segment takes, in bytes, in the order in which they are used. One of them stays, whichever it
    is: the reserve, for hard state, no-ops, membership and what leads to a snapshot, which frees space."""

    is_begun: bool = False
    """Some of it is spoken for already, and so is what control records take."""

    def after(self, sizes: Sequence[int]) -> "Room | None":
        """What is left when records of `sizes` bytes are written in this order; None if they do not fit.

        A record lies in one segment as a whole: what is left of the one before is lost.
        """
        if not sizes:
            return self
        if not self.is_begun:
            sizes = (CONTROL_BYTES, *sizes)
        rest, ready = self.rest, list(self.ready)
        if sum(sizes) <= rest:
            return Room(rest - sum(sizes), self.ready, True)
        for size in sizes:
            if size > rest:
                place = next((place for place, capacity in enumerate(ready) if capacity >= size), None)
                if place is None or len(ready) == 1:
                    return None
                rest = ready.pop(place)
            rest -= size
        return Room(rest, tuple(ready), True)


NO_ROOM = Room(0)
