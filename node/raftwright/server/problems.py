"""Errors as `application/problem+json` (RFC 9457): what a caller is told, from which error, in one table.

The HTTP routes and the client stream use it. Rule: whatever goes wrong ends as a ServiceError with a kind in `KINDS`;
a failed write says its outcome; nothing that a caller sent is repeated at length.
"""

import logging

from aiohttp import http_exceptions

from raftwright.client.models import Problem
from raftwright.kv.commands import CommandTooLarge as CommandOverLimit
from raftwright.kv.commands import InvalidCommand
from raftwright.server.errors import ERRORS, CommandTooLarge, InvalidRequest, Outcome, ServiceError, TooManyRequests

PROBLEM_TYPE = "https://raftwright.io/problems/"
PROBLEM_JSON = "application/problem+json"

log = logging.getLogger(__name__)


class KeyNotFound(ServiceError):
    kind, title, status = "not-found", "There is no such key", 404
    outcome: Outcome = "none"


class NoSuchRoute(ServiceError):
    kind, title, status = "no-such-route", "There is nothing at this path", 404
    outcome: Outcome = "none"


class MethodNotAllowed(ServiceError):
    kind, title, status = "method-not-allowed", "This path does not take this method", 405
    outcome: Outcome = "none"

    def __init__(self, detail: str, *, allowed: tuple[str, ...]) -> None:
        super().__init__(detail)
        self.allowed = allowed
        """For the header `Allow`."""


class ConditionFailed(ServiceError):
    """A result: the write was applied and found its condition wanting."""

    kind, title, status = "precondition-failed", "A condition of the write did not hold", 412
    outcome: Outcome = "none"

    def __init__(self, detail: str, *, revision: int | None, position: int | None = None) -> None:
        super().__init__(detail)
        self.revision = revision
        self.position = position


class CommandFailed(ServiceError):
    """A result: the user's machine raised when it applied the command, on every node alike."""

    kind, title, status = "command-failed", "The state machine raised an exception", 422
    outcome: Outcome = "none"

    def __init__(self, detail: str, *, error: str) -> None:
        super().__init__(detail)
        self.error = error


class QueryFailed(ServiceError):
    kind, title, status = "query-failed", "The state machine raised an exception when it was asked", 422
    outcome: Outcome = "none"

    def __init__(self, detail: str, *, error: str) -> None:
        super().__init__(detail)
        self.error = error


class FieldInvalid(InvalidRequest):
    """An invalid request of which one part is to blame."""

    def __init__(self, detail: str, *, field: str | None = None, position: int | None = None) -> None:
        super().__init__(detail)
        self.field = field
        self.position = position


class FieldTooLarge(CommandTooLarge):
    def __init__(self, detail: str, *, field: str | None = None, position: int | None = None) -> None:
        super().__init__(detail)
        self.field = field
        self.position = position


class EncodingUnsupported(ServiceError):
    kind, title, status = "unsupported-encoding", "The body's Content-Encoding is not taken", 415
    outcome: Outcome = "none"


class HeadTooSlow(ServiceError):
    kind, title, status = "head-too-slow", "The head of the request did not arrive in time", 408
    outcome: Outcome = "none"


class BodyTooSlow(ServiceError):
    kind, title, status = "body-too-slow", "The body of the request arrived too slowly", 408
    outcome: Outcome = "none"


class HeadTooLarge(ServiceError):
    kind, title, status = "head-too-large", "The head of the request is too long", 431
    outcome: Outcome = "none"


class MalformedRequest(ServiceError):
    """What arrived is not HTTP, or not a body that HTTP allows."""

    kind, title, status = "malformed-request", "This is not a request of HTTP/1.1", 400
    outcome: Outcome = "none"


class TooManyConnections(TooManyRequests):
    kind, title, status = "too-many-connections", "This node has too many connections", 503
    retry_after_s = 1.0


class NotReady(ServiceError):
    kind, title, status = "not-ready", "This node cannot serve a linearizable read now", 503
    outcome: Outcome = "none"
    retry_after_s = 0.5


class UpgradeRequired(ServiceError):
    kind, title, status = "upgrade-required", "This path is for WebSockets", 426
    outcome: Outcome = "none"


class Forbidden(ServiceError):
    kind, title, status = "forbidden", "The caller may not do this", 403
    outcome: Outcome = "none"


KINDS: dict[str, type[ServiceError]] = ERRORS | {
    error.kind: error
    for error in (
        KeyNotFound,
        NoSuchRoute,
        MethodNotAllowed,
        ConditionFailed,
        CommandFailed,
        QueryFailed,
        EncodingUnsupported,
        HeadTooSlow,
        BodyTooSlow,
        HeadTooLarge,
        MalformedRequest,
        TooManyConnections,
        NotReady,
        UpgradeRequired,
        Forbidden,
    )
}
"""Every problem that a client can meet, by kind: the table of docs/api.md."""


def problem_of(error: ServiceError, *, is_write: bool) -> Problem:
    """What the caller is told. `outcome` is about writes only."""
    return Problem(
        type=PROBLEM_TYPE + error.kind,
        title=error.title,
        status=error.status,
        detail="" if error.detail == error.title else error.detail,
        outcome=error.outcome if is_write else None,
        leader=error.leader,
        retry_after_s=error.retry_after_s,
        field=getattr(error, "field", None),
        revision=getattr(error, "revision", None),
        position=getattr(error, "position", None),
        error=getattr(error, "error", None),
    )


def error_of_command(error: InvalidCommand, *, alone: bool) -> ServiceError:
    """A command that was refused before it was proposed. `alone`: the request has no other, so no position either."""
    kind = FieldTooLarge if isinstance(error, CommandOverLimit) else FieldInvalid
    return kind(error.reason, field=error.field, position=None if alone else error.position)


def error_of_parser(error: BaseException | None) -> ServiceError:
    """What aiohttp's parser could not read."""
    if isinstance(error, http_exceptions.LineTooLong):
        return HeadTooLarge()
    if isinstance(error, http_exceptions.HttpProcessingError):
        return MalformedRequest(_first_line(error.message))
    return ServiceError()


def error_of_bug(error: BaseException) -> ServiceError:
    """An exception that nobody foresaw: logged in full here, and of which the caller learns nothing."""
    log.error("a request met an error in this node", exc_info=error)
    return ServiceError()


def _first_line(message: str) -> str:
    """The parser's own words; what it quotes of the request comes after them."""
    return message.partition("\n")[0].rstrip(": ")[:200]
