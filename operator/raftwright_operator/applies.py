"""How often each object of one RaftCluster was applied lately: what others change back is not applied without end.

Called by `reconcile`. Rule: it forgets, so that an object is tried again when a while has passed, and at once when
something else is wanted of it.
"""

from collections import deque
from collections.abc import Iterator

from raftwright_operator.actions import ApplyBudget, ApplyObjects, Step
from raftwright_operator.names import budget_key

TIMES_MAX, WINDOW_S = 5, 300.0
"""So often within so long; then it is left as it is until the first time is so long ago."""


class Applies:
    def __init__(self) -> None:
        self._done: dict[str, tuple[str, deque[float]]] = {}
        """By object: what was wanted of it, and when it was applied; monotonic."""

    def note(self, step: Step, cluster: str, generation: int, now: float) -> None:
        """It was done."""
        for key, wanted in _applied(step, cluster, generation):
            known = self._done.get(key)
            if known is None or known[0] != wanted:
                known = self._done[key] = (wanted, deque(maxlen=TIMES_MAX))
            known[1].append(now)

    def spent(self, step: Step, cluster: str, generation: int, now: float) -> tuple[str, ...]:
        """What of it may not be applied now, as `Kind/name`."""
        return tuple(key for key, wanted in _applied(step, cluster, generation) if self._is_spent(key, wanted, now))

    def _is_spent(self, key: str, wanted: str, now: float) -> bool:
        known = self._done.get(key)
        return known is not None and known[0] == wanted and len(known[1]) == TIMES_MAX and now - known[1][0] < WINDOW_S


def _applied(step: Step, cluster: str, generation: int) -> Iterator[tuple[str, str]]:
    """The objects that the step applies, with what is wanted of each."""
    match step:
        case ApplyObjects(objects=objects):
            for key in objects:
                yield key, str(generation)
        case ApplyBudget(min_available=least, ready_for=ready_for):
            yield budget_key(cluster), f"{least} {ready_for}"
