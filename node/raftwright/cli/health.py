"""`raftwright health`: whether the node on this machine lives. What a container's health check runs.

Rule: it asks one question over HTTP with the standard library only, so that it costs little however often it runs.
"""

import os
from http.client import HTTPConnection, HTTPException
from typing import Annotated

import typer

from raftwright.cli.common import DEFAULT_ENDPOINT, EXIT_NOT_MET, EXIT_USAGE, fail, say

LISTEN_VARIABLE = "RAFTWRIGHT_CLIENT_LISTEN"
# Every address, which is IPv4's too, also where there is no IPv6.
_WILDCARDS = {"0.0.0.0": "127.0.0.1", "[::]": "127.0.0.1"}


def health(
    endpoint: Annotated[
        str | None,
        typer.Option(
            "--endpoint",
            metavar="HOST:PORT",
            help=f"The node to ask. Default: where {LISTEN_VARIABLE} says that it listens, else {DEFAULT_ENDPOINT}.",
        ),
    ] = None,
    ready: Annotated[
        bool, typer.Option("--ready", help="Ask whether it takes part and knows a leader, not only whether it lives.")
    ] = False,
    timeout_s: Annotated[
        float, typer.Option("--timeout", min=0.1, metavar="SECONDS", help="How long to wait for it.")
    ] = 3.0,
) -> None:
    """Say whether the node on this machine lives: exit status 0 if it does, 1 if not.

    Example: raftwright health --ready
    """
    address = endpoint or local_address(os.environ.get(LISTEN_VARIABLE, ""))
    path = "/readyz" if ready else "/livez"
    connection: HTTPConnection | None = None
    try:
        connection = HTTPConnection(address, timeout=timeout_s)
        connection.request("GET", path)
        response = connection.getresponse()
        text = response.read(4096).decode(errors="replace").strip()
    except (OSError, HTTPException) as error:
        what = "is not host:port" if connection is None else "does not answer"
        fail(f"{address} {what}: {error}", EXIT_USAGE if connection is None else EXIT_NOT_MET)
    finally:
        if connection is not None:
            connection.close()
    if response.status != 200:
        fail(f"{address} answers {response.status} to {path}: {text}", EXIT_NOT_MET)
    say(f"{address} is {'ready' if ready else 'alive'}")


def local_address(listen: str) -> str:
    """Where a node that listens at `listen` can be asked on its own machine."""
    host, colon, port = listen.rpartition(":")
    return f"{_WILDCARDS.get(host, host)}{colon}{port}" if colon else DEFAULT_ENDPOINT
