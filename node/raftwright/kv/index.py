"""The keys of the store in order: a few sorted runs, and the newest keys unsorted. Used by `kv/store.py` only.

Its one rule: the hot path adds a key to a set and no more; sorting happens in bulk. A run is never changed once it
is made, so a snapshot keeps the runs of its moment for nothing. Keys are ordered by code point, which is the
order of their UTF-8 bytes.

A key that is deleted stays in its run until a compaction, so whoever walks the runs asks the store which keys are
live and skips repeats. With n keys live: a new key costs O(log n) in C, amortised, mostly in merges of two sorted
runs (about 40 ms for a million keys, as seldom as the index doubles); a compaction (about 150 ms for a million)
comes after n/2 deletions, or after a walk that met thousands of dead keys.
"""

import heapq
from bisect import bisect_left
from collections.abc import Collection, Iterator, Sequence

RUN_KEYS = 4096
"""How many new keys wait before they become a run: about 2 ms of sorting."""


class KeyIndex:
    """Holds every live key at least once, and dead ones for a while."""

    __slots__ = ("_runs", "dead", "fresh")

    def __init__(self, ordered: list[str] | None = None) -> None:
        """`ordered` is strictly ascending, and is kept."""
        self._runs: list[list[str]] = [ordered] if ordered else []
        self.fresh: set[str] = set()
        """Keys that came to life since the last run. The store adds to it directly."""
        self.dead = 0
        """How many entries of runs are of no use: keys that are dead, or that are again in a newer run."""

    def discard(self, key: str) -> None:
        """A live key died."""
        if key in self.fresh:
            self.fresh.remove(key)
        else:
            self.dead += 1

    def settle(self, live: Collection[str]) -> None:
        """After a batch, when there are many fresh or dead keys: sort the fresh ones, and compact when more than a
        third of the index is dead. `live` is exactly the live keys."""
        if len(self.fresh) >= RUN_KEYS:
            self._flush()
        if self.dead > max(RUN_KEYS, len(live) // 2):
            self.compact(live)

    def runs(self) -> tuple[Sequence[str], ...]:
        """Every key in sorted runs that will never change."""
        if self.fresh:
            self._flush()
        return tuple(self._runs)

    def compact(self, live: Collection[str]) -> None:
        """Drop dead keys and repeats: one run is left."""
        if self.fresh:
            self._flush()
        everything = [key for run in self._runs for key in run]
        everything.sort()
        ordered = [key for key in dict.fromkeys(everything) if key in live]
        self._runs = [ordered] if ordered else []
        self.dead = 0

    def _flush(self) -> None:
        """Make the fresh keys a run. Runs at least halve in size from each to the next, so there are few."""
        self._runs.append(sorted(self.fresh))
        self.fresh.clear()
        runs = self._runs
        while len(runs) > 1 and len(runs[-2]) < 2 * len(runs[-1]):
            newer = runs.pop()
            merged = runs.pop() + newer
            merged.sort()  # finds the two runs and merges them
            runs.append(merged)


def merged_from(runs: Sequence[Sequence[str]], start: str) -> Iterator[str]:
    """The keys of all runs that are not less than `start`, ascending, repeats and dead keys included."""
    tails: list[Iterator[str]] = []
    for run in runs:
        position = bisect_left(run, start)
        if position < len(run):
            tails.append(map(run.__getitem__, range(position, len(run))))
    return tails[0] if len(tails) == 1 else heapq.merge(*tails)
