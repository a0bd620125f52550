"""`raftwright node`: run one node in the foreground.

Rule: its flags are generated from `NodeSettings`; there is no second list of settings.
"""

import inspect
import os
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import typer

from raftwright.cli.common import EXIT_USAGE, fail

HELP = """Run one node in the foreground.

Every setting may come from a flag, from a RAFTWRIGHT_… variable or from a TOML file (--config), in that order. Sizes in
bytes may be written as 64KiB, 16MiB or 1GiB. Every founding member of a new cluster gets the same --members and waits
on its first start until it has spoken with all of them. SIGTERM or Ctrl-C stops the node cleanly.

Example, the first of three nodes:

raftwright node --name a --data-dir /var/lib/raftwright --client-listen 10.0.0.1:7001 --peer-listen 10.0.0.1:8001
--members a=10.0.0.1:8001/10.0.0.1:7001,b=10.0.0.2:8001/10.0.0.2:7001,c=10.0.0.3:8001/10.0.0.3:7001
"""


def node_command(*, with_settings: bool) -> Callable[..., None]:
    """The command's function, whose signature has one option a setting."""
    if not with_settings:
        return _named
    from rich.markup import escape

    from raftwright.server.settings import declarations, flag_of, help_of, setting_of

    def node(**values: Any) -> None:
        config: Path | None = values.pop("config")
        _run(values, config)

    parameters = [
        _option("config", "--config", "The TOML file of settings. [default: none; RAFTWRIGHT_CONFIG]", Path, "FILE")
    ]
    for name, declared in declarations().items():
        known = setting_of(declared)
        if known.kind == "switch" and declared.default is False:
            # To give the flag is to set it: there is nothing else to say.
            parameters.append(_option(name, flag_of(name), escape(help_of(name)), bool, None))
        else:
            parameters.append(_option(name, flag_of(name), escape(help_of(name)), str, known.kind.upper()))
    node.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    node.__doc__ = HELP
    return node


def _named() -> None:
    """Run one node in the foreground."""


def _option(name: str, flag: str, text: str, kind: type, metavar: str | None) -> inspect.Parameter:
    option = typer.Option(flag, help=text, metavar=metavar, show_default=False)
    annotation = Annotated[kind | None, option]  # type: ignore[valid-type]
    return inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=None, annotation=annotation)


def _run(flags: dict[str, Any], config: Path | None) -> None:
    from raftwright.server.settings import SettingsError
    from raftwright.server.settings_sources import load_settings

    try:
        settings = load_settings(flags, os.environ, config)
    except SettingsError as error:
        fail(f"{error}", EXIT_USAGE)

    from raftwright.server.run import run_node

    raise typer.Exit(run_node(settings, lambda: load_settings(flags, os.environ, config)))
