"""What became of an action. Returned by `execute`, read by `reconcile`."""

from dataclasses import dataclass
from typing import Literal, Self


@dataclass(frozen=True, slots=True)
class Outcome:
    """`done`; `again`: nothing was done, since the world has moved on; `refused`: it cannot be done now."""

    what: Literal["done", "again", "refused"]
    reason: str = ""
    """A word, UpperCamelCase."""
    message: str = ""

    @classmethod
    def done(cls) -> Self:
        return cls("done")

    @classmethod
    def again(cls, reason: str, message: str) -> Self:
        return cls("again", reason, message)

    @classmethod
    def refused(cls, reason: str, message: str) -> Self:
        return cls("refused", reason, message)
