"""What the caller gets: values, and results and problems of the cluster turned into errors.

Called by `session.py` and `http.py`. Rule: every kind of result and problem is turned here and nowhere else.
"""

import copy
from asyncio import Future
from typing import Any, NamedTuple, TypeVar, assert_never

from raftwright.client import models
from raftwright.client.errors import (
    InvalidRequest,
    NotFound,
    PreconditionFailed,
    RaftwrightError,
    error_of,
)

E = TypeVar("E", bound=RaftwrightError)


class Value(NamedTuple):
    """A value and the revision of the change that set it."""

    value: bytes
    revision: int


class Item(NamedTuple):
    """A key with its value and revision, as `list` and `scan` give them."""

    key: str
    value: bytes
    revision: int


def settle_result(future: "Future[Any]", key: str, result: models.Result) -> None:
    """Give the result of one command to who waits for it."""
    if type(result) is int:
        future.set_result(result)
    else:
        future.set_exception(error_of_result(key, result))  # type: ignore[arg-type]


def error_of_result(key: str, failure: models.Failure) -> RaftwrightError:
    """The error that a command's result stands for, where that is no success."""
    match failure:
        case models.NotFound():
            return NotFound(f"there is no key {key!r}")
        case models.PreconditionFailed(revision=revision):
            return PreconditionFailed(f"the condition on {key!r} does not hold: {_shown(revision)}", revision=revision)
        case models.BatchFailed(position=position, revision=revision):
            error = PreconditionFailed(
                f"the condition of operation {position} does not hold: its key {_shown(revision)}", revision=revision
            )
            error.position = position
            return error
        case models.Undecodable(reason=reason):
            return InvalidRequest(f"the cluster could not read the command: {reason}")
        case _:
            assert_never(failure)


def _shown(revision: int | None) -> str:
    return "it does not exist" if revision is None else f"it is at revision {revision}"


def kind_of_problem(problem: models.Problem) -> str:
    """The stable last part of a problem's type."""
    return problem.type.rpartition("/")[2].rpartition(":")[2]


def error_of_problem(problem: models.Problem) -> RaftwrightError:
    """The error that a problem of the API stands for."""
    message = problem.detail or problem.title
    return error_of(
        kind_of_problem(problem),
        message,
        outcome=problem.outcome,
        revision=problem.revision,
        raised=problem.error or "",
    )


def copy_of(error: E) -> E:
    """An error of its own for each waiter: a raised one collects the frames of who raised it."""
    return copy.copy(error)
