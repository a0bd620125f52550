"""What the client raises: one class a way to fail, each of which says whether the write may have happened.

Raised by `client.py` and `stream.py`. Rule: every error has an `outcome`; `none` is said only where the operation never
happened and never will.
"""

from typing import ClassVar, Literal

Outcome = Literal["none", "unknown"]


class RaftwrightError(Exception):
    """Base of all errors of the client. `outcome` is about the write that failed: `none` (it never happened, retry
    freely) or `unknown` (it may have happened, or may still)."""

    kind: ClassVar[str] = "internal"
    """The last part of the problem's type, as in docs/api.md."""
    outcome: Outcome = "unknown"

    def __init__(self, message: str, *, outcome: Outcome | None = None) -> None:
        super().__init__(message)
        if outcome is not None:
            self.outcome = outcome


class NotFound(RaftwrightError):
    """The key does not exist. A result: it says what the store held when the operation was applied."""

    kind = "not-found"
    outcome: Outcome = "none"


class PreconditionFailed(RaftwrightError):
    """A condition of the write did not hold. A result, as NotFound is."""

    kind = "precondition-failed"
    outcome: Outcome = "none"

    def __init__(self, message: str, *, revision: int | None = None) -> None:
        super().__init__(message)
        self.revision = revision
        """The key's revision at that moment; None: it did not exist."""
        self.position: int | None = None
        """Which operation of a batch, counted from 0."""


class CommandFailed(RaftwrightError):
    """The state machine raised when it applied the command, on every node alike: a result. `error` is the class of the
    exception."""

    kind = "command-failed"
    outcome: Outcome = "none"

    def __init__(self, message: str, *, error: str = "") -> None:
        super().__init__(f"{error}: {message}" if error else message)
        self.error = error


class QueryFailed(CommandFailed):
    """The state machine raised when it was asked."""

    kind = "query-failed"


class Timeout(RaftwrightError):
    """The operation's time was up before an answer came. For a write that had been sent, `outcome` is `unknown`."""

    kind = "timeout"


class Unavailable(RaftwrightError):
    """No node could be reached, or none that serves requests now."""

    kind = "unavailable"
    outcome: Outcome = "none"


class OutcomeUnknown(RaftwrightError):
    """The write was sent and its answer was lost beyond what the session can settle."""

    kind = "outcome-unknown"


class TooManyRequests(RaftwrightError):
    """The cluster refused for want of room, until the operation's time was up."""

    kind = "too-many-requests"
    outcome: Outcome = "none"


class DiskFull(RaftwrightError):
    """The leader has no room on its disk for client writes. Reads go on."""

    kind = "disk-full"
    outcome: Outcome = "none"


class InvalidRequest(RaftwrightError):
    """The request breaks a rule of the API: a bad key, a bad limit, an unknown field."""

    kind = "invalid-request"
    outcome: Outcome = "none"


class TooLarge(InvalidRequest):
    """A key, a value or a whole request is over its limit."""

    kind = "too-large"


class IdempotencyConflict(RaftwrightError):
    """The idempotency key was used before, for another request."""

    kind = "idempotency-conflict"
    outcome: Outcome = "none"


class SessionExpired(RaftwrightError):
    """The cluster no longer remembers this client's session. The client opens a new one by itself; what was
    unanswered in the old one is `unknown`."""

    kind = "session-expired"


class MembershipRefused(RaftwrightError):
    """The membership was not changed, or leadership not handed over. `reason` is the problem's kind, as
    `membership-outdated`, `last-voter`, `no-quorum-left`, `lagging`, `name-taken`, `unknown-member`."""

    kind = "membership-refused"
    outcome: Outcome = "none"

    def __init__(self, message: str, *, reason: str = "", outcome: Outcome | None = None) -> None:
        super().__init__(message, outcome=outcome)
        self.reason = reason


class StoreKept(RaftwrightError):
    """The node's store was not discarded: it is another one, or its member was not removed."""

    kind = "store-kept"
    outcome: Outcome = "none"


class ClientClosed(RaftwrightError):
    """The client was closed, or never opened with `async with`."""

    kind = "client-closed"
    outcome: Outcome = "none"


_ERRORS: tuple[type[RaftwrightError], ...] = (
    NotFound,
    PreconditionFailed,
    CommandFailed,
    QueryFailed,
    Timeout,
    Unavailable,
    OutcomeUnknown,
    TooManyRequests,
    DiskFull,
    InvalidRequest,
    TooLarge,
    IdempotencyConflict,
    SessionExpired,
    StoreKept,
)
_MEMBERSHIP = (
    "membership-change-pending",
    "membership-outdated",
    "membership-change-undone",
    "not-committed-in-term",
    "last-voter",
    "no-quorum-left",
    "lagging",
    "unknown-member",
    "name-taken",
    "store-taken",
    "member-alive",
    "transfer-failed",
    "already-bootstrapped",
)
NODE_KINDS = ("shutting-down", "not-serving", "wrong-cluster", "state-diverged")
"""Refusals that are about the node that was asked: another one may do better, and at once."""
_UNAVAILABLE = ("no-leader", "proposal-dropped", *NODE_KINDS)
_BY_KIND = {error.kind: error for error in _ERRORS} | dict.fromkeys(_UNAVAILABLE, Unavailable)

RETRIED_KINDS = frozenset(
    {*_UNAVAILABLE, TooManyRequests.kind, OutcomeUnknown.kind, Timeout.kind, "not-committed-in-term"}
)
"""Refusals that pass by themselves and are safe to send again: the cluster applies a (session, sequence number) once,
and a membership that holds already is not changed again."""


def error_of(
    kind: str, message: str, *, outcome: Outcome | None = None, revision: int | None = None, raised: str = ""
) -> RaftwrightError:
    """The error of a problem's kind, as a node reported it; of the base class where this client knows no such kind.
    `raised` is the class of the state machine's exception."""
    if kind in _MEMBERSHIP:
        return MembershipRefused(message, reason=kind, outcome=outcome)
    error = _BY_KIND.get(kind, RaftwrightError)
    if error is PreconditionFailed:
        return PreconditionFailed(message, revision=revision)
    if issubclass(error, CommandFailed):
        return error(message, error=raised)
    return error(message, outcome=outcome)
