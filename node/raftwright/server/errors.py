"""What the node tells a caller when it does not do what was asked: one class a problem type, in one table.

Raised by the service, turned into `application/problem+json` by the HTTP routes and into `ProblemReply` by the client
stream, sent between nodes by its `kind`. Rule: a failed write always says its `outcome`: `none` (it never happened and
never will; retry freely) or `unknown`.
"""

from typing import ClassVar, Literal

Outcome = Literal["none", "unknown"]


class ServiceError(Exception):
    """Base. `kind` is the stable last part of the problem's type, `status` its HTTP status."""

    kind: ClassVar[str] = "internal"
    title: ClassVar[str] = "Internal error"
    status: ClassVar[int] = 500
    outcome: Outcome = "unknown"
    retry_after_s: float | None = None
    index = 0
    """Of the log entry whose result it is, where it is a result."""

    def __init__(self, detail: str = "", *, outcome: Outcome | None = None, leader: str | None = None) -> None:
        super().__init__(detail or self.title)
        self.detail = detail or self.title
        if outcome is not None:
            self.outcome = outcome
        self.leader = leader
        """The leader's client address, where it is known and going there helps."""


class NoLeader(ServiceError):
    kind, title, status = "no-leader", "No leader is known", 503
    outcome: Outcome = "none"
    retry_after_s = 0.2


class OutcomeUnknown(ServiceError):
    kind, title, status = "outcome-unknown", "Leadership was lost before the outcome was known", 503
    retry_after_s = 0.2


class ProposalRefused(ServiceError):
    """Dropped before it reached the log, or overwritten there by an entry of a later term that is committed."""

    kind, title, status = "proposal-dropped", "The proposal was dropped", 503
    outcome: Outcome = "none"
    retry_after_s = 0.2


class RequestTimeout(ServiceError):
    kind, title, status = "timeout", "The request took too long", 504


class TooManyRequests(ServiceError):
    kind, title, status = "too-many-requests", "A queue is full", 429
    outcome: Outcome = "none"
    retry_after_s = 0.5


class DiskIsFull(ServiceError):
    kind, title, status = "disk-full", "The leader's disk is full", 507
    outcome: Outcome = "none"
    retry_after_s = 5.0


class SessionExpired(ServiceError):
    kind, title, status = "session-expired", "The session is no longer known", 410
    outcome: Outcome = "unknown"


class IdempotencyConflict(ServiceError):
    kind, title, status = "idempotency-conflict", "That key was used for another request", 422
    outcome: Outcome = "none"


class InvalidRequest(ServiceError):
    kind, title, status = "invalid-request", "The request is not valid", 400
    outcome: Outcome = "none"


class CommandTooLarge(ServiceError):
    kind, title, status = "too-large", "A key, value or request is over its limit", 413
    outcome: Outcome = "none"


class ShuttingDown(ServiceError):
    kind, title, status = "shutting-down", "This node is shutting down", 503
    outcome: Outcome = "none"
    retry_after_s = 0.5


class SnapshotFailed(ServiceError):
    kind, title, status = "snapshot-failed", "No snapshot could be written", 503
    outcome: Outcome = "none"


class NotServing(ServiceError):
    """The node waits for its first membership, is a stranger to its cluster, or was removed from it."""

    kind, title, status = "not-serving", "This node takes no part in a cluster", 503
    outcome: Outcome = "none"
    retry_after_s = 1.0


class WrongCluster(ServiceError):
    """The caller names its cluster, and this node is of another: its address was given away, or is a wrong one."""

    kind, title, status = "wrong-cluster", "This node is of another cluster", 421
    outcome: Outcome = "none"


class StateDiverged(ServiceError):
    """A read at a node in the minority (`server/checks.py`): what it would be answered from is wrong."""

    kind, title, status = "state-diverged", "The state of this node is not that of the majority", 503
    outcome: Outcome = "none"
    retry_after_s = 1.0


# Refusals of calls about members and the leader: nothing has happened.


class MembershipRefusal(ServiceError):
    """Base."""

    kind, title, status = "membership-refused", "The membership was not changed", 409
    outcome: Outcome = "none"


class ChangePending(MembershipRefusal):
    kind, title = "membership-change-pending", "Another change of the membership is under way"
    retry_after_s = 0.5


class MembershipOutdated(MembershipRefusal):
    kind, title, status = "membership-outdated", "The membership is not at that version any more", 412


class ChangeUndone(MembershipRefusal):
    kind, title = "membership-change-undone", "Another change undid this one, or took its place"
    outcome: Outcome = "unknown"


class NotCommittedInTerm(MembershipRefusal):
    kind, title, status = "not-committed-in-term", "The new leader has not committed anything yet", 503
    retry_after_s = 0.2


class LastVoter(MembershipRefusal):
    kind, title = "last-voter", "That would leave no voter"


class NoQuorumLeft(MembershipRefusal):
    kind, title = "no-quorum-left", "Fewer than a quorum of the new voters can be reached"


class Lagging(MembershipRefusal):
    kind, title = "lagging", "The learner has not caught up"
    retry_after_s = 1.0


class UnknownMember(MembershipRefusal):
    kind, title, status = "unknown-member", "There is no such member", 404


class NameTaken(MembershipRefusal):
    kind, title = "name-taken", "Another store is a member under that name"


class StoreTaken(MembershipRefusal):
    kind, title = "store-taken", "That store is another member"


class MemberAlive(MembershipRefusal):
    kind, title = "member-alive", "The member to be replaced is alive"
    retry_after_s = 1.0


class TransferFailed(MembershipRefusal):
    kind, title, status = "transfer-failed", "Leadership was not handed over", 503
    retry_after_s = 0.5


class AlreadyBootstrapped(MembershipRefusal):
    kind, title = "already-bootstrapped", "This node does not wait to be bootstrapped so"


class StoreKept(ServiceError):
    """Only the store of a removed member is discarded."""

    kind, title, status = "store-kept", "The store is not discarded", 409
    outcome: Outcome = "none"


ERRORS: dict[str, type[ServiceError]] = {
    error.kind: error
    for error in (
        ServiceError,
        NoLeader,
        OutcomeUnknown,
        ProposalRefused,
        RequestTimeout,
        TooManyRequests,
        DiskIsFull,
        SessionExpired,
        IdempotencyConflict,
        InvalidRequest,
        CommandTooLarge,
        ShuttingDown,
        NotServing,
        StateDiverged,
        WrongCluster,
        SnapshotFailed,
        ChangePending,
        MembershipOutdated,
        ChangeUndone,
        NotCommittedInTerm,
        LastVoter,
        NoQuorumLeft,
        Lagging,
        UnknownMember,
        NameTaken,
        StoreTaken,
        MemberAlive,
        TransferFailed,
        AlreadyBootstrapped,
        StoreKept,
    )
}
"""By kind, for errors that come from another node."""
