"""The command `raftwright`: one file a command, put together here.

Rule: thin. What a command needs is imported when it runs, so that `--help` and short commands start fast.
"""

import os
import signal
import sys
from collections.abc import Callable

import typer

from raftwright import __version__
from raftwright.cli.common import EXIT_HELP, say
from raftwright.cli.demo import demo
from raftwright.cli.health import health
from raftwright.cli.keys import delete, get, list_keys, put
from raftwright.cli.local import local
from raftwright.cli.members import app as members
from raftwright.cli.node import node_command
from raftwright.cli.status import status
from raftwright.cli.transfer import export_file, import_file

HELP = f"""A replicated, durable key-value store: run its nodes, and talk to them.

Begin with: raftwright demo (three nodes, real data, a killed leader), or raftwright local (a cluster of your own on
this machine) and then, in another terminal:

raftwright put greeting "hello world"

raftwright get greeting

{EXIT_HELP}
"""

FIRST_PROCESS = 1


def _version(asked: bool) -> None:
    if asked:
        say(f"raftwright {__version__}")
        raise typer.Exit


def root(
    version: bool = typer.Option(
        False, "--version", callback=_version, is_eager=True, help="Say which version this is."
    ),
) -> None:
    """The options of the command itself."""


def build(*, with_node: bool) -> typer.Typer:
    """The command with all its commands. The options of `node` are many: they are made only where they are needed."""
    app = typer.Typer(
        help=_unwrapped(HELP),
        no_args_is_help=True,
        pretty_exceptions_enable=False,
        context_settings={"max_content_width": 110},
    )
    app.callback()(root)
    commands: dict[str, Callable[..., None]] = {
        "demo": demo,
        "local": local,
        "node": node_command(with_settings=with_node),
        "status": status,
        "health": health,
        "get": get,
        "put": put,
        "delete": delete,
        "list": list_keys,
        "import": import_file,
        "export": export_file,
    }
    for name, command in commands.items():
        app.command(name, help=_unwrapped(command.__doc__ or ""))(command)
    app.add_typer(members, name="members")
    return app


def _unwrapped(text: str) -> str:
    """A docstring with one line a paragraph, for the terminal to wrap as wide as it is."""
    return "\n\n".join(" ".join(paragraph.split()) for paragraph in text.split("\n\n"))


def main() -> None:
    """The entry point of the command."""
    if os.getpid() == FIRST_PROCESS:
        # The kernel drops a signal to a container's first process that it does not handle: until a node runs, and hands
        # over when it is told to stop, there is nothing to do but to go.
        signal.signal(signal.SIGTERM, lambda *_: os._exit(128 + signal.SIGTERM))
    build(with_node="node" in sys.argv[1:2])(prog_name="raftwright")
