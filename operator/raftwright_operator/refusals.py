"""Which claims the API server refused to enlarge: they are left in peace for a while, and all else goes on.

Called by `reconcile`. Rule: what is known here may be lost at any moment, and is then learned anew.
"""

from raftwright_operator.actions import Action, ExpandVolume
from raftwright_operator.outcome import Outcome

REST_S = 60.0
"""How long a claim is left alone after a refusal."""
_FOR_GOOD = frozenset({"Forbidden", "Invalid"})
"""Refusals of the API server that do not pass by themselves: by the storage class, a quota or a policy."""


class Refusals:
    def __init__(self) -> None:
        self._told: dict[str, tuple[str, float]] = {}
        """By claim: what the API server said last, and when; monotonic."""

    def note(self, action: Action, outcome: Outcome, now: float) -> bool:
        """Whether it was refused so, and there may be something else to do at once."""
        if not isinstance(action, ExpandVolume):
            return False
        if outcome.what == "refused" and outcome.reason in _FOR_GOOD:
            self._told[action.claim] = (outcome.message, now)
            return True
        if outcome.what == "done":
            self._told.pop(action.claim, None)
        return False

    def known(self) -> dict[str, str]:
        return {claim: told for claim, (told, _) in self._told.items()}

    def resting(self, now: float) -> dict[str, str]:
        """Those that are not to be tried again yet."""
        return {claim: told for claim, (told, at) in self._told.items() if now - at < REST_S}
