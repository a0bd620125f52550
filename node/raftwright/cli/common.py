"""What the commands share: which nodes they talk to, how they print, and how a failure becomes a message and a status.

Rule: a person never sees a traceback for something that a person can put right; they see what happened and what to do.
"""

import asyncio
import sys
from collections.abc import Coroutine
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NoReturn, TypeVar

import typer

if TYPE_CHECKING:
    from raftwright.client.client import Client

EXIT_NOT_MET = 1
EXIT_USAGE = 2
EXIT_UNAVAILABLE = 3
EXIT_UNKNOWN = 4
DEFAULT_ENDPOINT = "127.0.0.1:7001"
EXIT_HELP = """Exit status: 0 done; 1 the key is not there, or a condition did not hold; 2 the command is wrong; 3 the
cluster cannot be reached or refused; 4 the write may or may not have happened."""

T = TypeVar("T")

Endpoints = Annotated[
    str | None,
    typer.Option(
        "--endpoints",
        "-e",
        envvar="RAFTWRIGHT_ENDPOINTS",
        metavar="HOST:PORT,…",
        help=f"Any nodes of the cluster; one is enough while it runs. Default {DEFAULT_ENDPOINT}.",
    ),
]
DataDir = Annotated[
    Path | None,
    typer.Option(
        "--data-dir", metavar="DIR", help="Talk to the local cluster that lives here, instead of --endpoints."
    ),
]
TimeoutS = Annotated[
    float,
    typer.Option("--timeout", envvar="RAFTWRIGHT_TIMEOUT_S", min=0.1, metavar="SECONDS", help="How long to try."),
]


class CommandError(Exception):
    """A command cannot do what was asked. The message says what happened, and what to do, to a person."""

    def __init__(self, message: str, status: int = EXIT_USAGE) -> None:
        super().__init__(message)
        self.status = status


def say(text: str = "") -> None:
    """A line of the command's result."""
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


def note(text: str) -> None:
    """A line beside the result: on standard error, so that a pipe gets the result only."""
    sys.stderr.write(text + "\n")
    sys.stderr.flush()


def fail(message: str, status: int) -> NoReturn:
    note(f"raftwright: {message}")
    raise typer.Exit(status)


def endpoints_of(endpoints: str | None, data_dir: Path | None) -> list[str]:
    """The nodes to talk to: those of a local cluster, those given, or the default."""
    if data_dir is not None:
        from raftwright.cli.localcluster import LocalError, read_layout

        try:
            return [node.client for node in read_layout(data_dir).values()]
        except LocalError as error:
            raise CommandError(str(error)) from None
    return [part.strip() for part in (endpoints or DEFAULT_ENDPOINT).split(",") if part.strip()]


def connect(endpoints: str | None, data_dir: Path | None, timeout_s: float) -> "Client":
    """A client that is not started yet. CommandError for an endpoint that is none."""
    from raftwright.client.client import Client

    try:
        return Client(endpoints_of(endpoints, data_dir), timeout_s=timeout_s)
    except ValueError as error:
        raise CommandError(f"{error}. Give --endpoints as host:port, or several with commas.") from None


def run(main: Coroutine[Any, Any, T]) -> T:
    """Run a command to its end; failures become one or two lines and an exit status."""
    from raftwright.cli.localcluster import LocalError
    from raftwright.cli.records import BadRecord
    from raftwright.client.errors import RaftwrightError

    try:
        return asyncio.run(main)
    except CommandError as error:
        fail(str(error), error.status)
    except (LocalError, BadRecord) as error:
        fail(str(error), EXIT_USAGE)
    except RaftwrightError as error:
        fail(*explained(error))
    except BrokenPipeError:
        sys.stderr.close()  # the reader of a pipe went away; nothing is left to say, and no one to say it to
        raise typer.Exit(EXIT_NOT_MET) from None
    except KeyboardInterrupt:
        raise typer.Exit(130) from None


def explained(error: Exception) -> tuple[str, int]:
    """What to tell a person about a failure of the client, and the exit status."""
    from raftwright.client import errors

    text = str(error).rstrip(".")
    match error:
        case errors.NotFound() | errors.PreconditionFailed() | errors.MembershipRefused(outcome="none"):
            return f"{text}. Nothing was changed.", EXIT_NOT_MET
        case errors.IdempotencyConflict() | errors.InvalidRequest():
            return f"{text}. Nothing was changed.", EXIT_USAGE
        case errors.RaftwrightError(outcome="unknown"):
            return (
                f"{text}.\nThe write may or may not have happened: read the key to find out, or write it again.",
                EXIT_UNKNOWN,
            )
        case errors.DiskFull():
            return f"{text}. Nothing was changed. Make room on the leader's disk and try again.", EXIT_UNAVAILABLE
        case _:
            return (
                f"{text}. Nothing was changed.\nSee whether a majority of the nodes runs: raftwright status",
                EXIT_UNAVAILABLE,
            )
