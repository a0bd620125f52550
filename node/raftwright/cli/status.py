"""`raftwright status`: a table of all nodes, each as it sees itself.

Rule: every node is asked; one that does not answer is a row that says so.
"""

import asyncio
from typing import TYPE_CHECKING, Annotated

import typer

from raftwright.cli.common import EXIT_UNAVAILABLE, DataDir, Endpoints, connect, endpoints_of, fail, run, say

if TYPE_CHECKING:
    from raftwright.client.client import Client
    from raftwright.client.models import NodeStatus

ASK_TIMEOUT_S = 3.0


def status(
    json: Annotated[bool, typer.Option("--json", help="Print JSON: an object with an entry an endpoint.")] = False,
    endpoints: Endpoints = None,
    data_dir: DataDir = None,
    timeout_s: Annotated[
        float, typer.Option("--timeout", min=0.1, metavar="SECONDS", help="How long to wait for a node.")
    ] = ASK_TIMEOUT_S,
) -> None:
    """Show every node of the cluster: its role, its term, and how far its log is.

    The nodes named are asked, and the members that they name. Exit status 3 if none answers.

    Example: raftwright status --data-dir .demo
    """

    async def main() -> "dict[str, NodeStatus | str]":
        async with connect(endpoints, data_dir, timeout_s) as client:
            return await ask_all(client, endpoints_of(endpoints, data_dir), timeout_s)

    found = run(main())
    if json:
        import msgspec
        import orjson

        document = {
            endpoint: {"error": one} if isinstance(one, str) else msgspec.to_builtins(one)
            for endpoint, one in found.items()
        }
        say(orjson.dumps(document, option=orjson.OPT_INDENT_2).decode())
    else:
        show(found)
    if all(isinstance(one, str) for one in found.values()):
        fail("no node answers. Name one that runs with --endpoints.", EXIT_UNAVAILABLE)


async def ask_all(client: "Client", endpoints: list[str], timeout_s: float) -> "dict[str, NodeStatus | str]":
    """The status of every endpoint and of every member that they name; a sentence for one that gives none."""
    found = await _ask(client, list(dict.fromkeys(endpoints)), timeout_s)
    answers = [one for one in found.values() if not isinstance(one, str)]
    answered = {one.store_id for one in answers}
    others = {
        member.client
        for one in answers
        for member in one.members
        if member.store_id not in answered and member.client not in found
    }
    return found | await _ask(client, sorted(others), timeout_s)


async def _ask(client: "Client", endpoints: list[str], timeout_s: float) -> "dict[str, NodeStatus | str]":
    from raftwright.client.errors import RaftwrightError

    async def one(endpoint: str) -> "NodeStatus | str":
        try:
            return await client.status(endpoint, timeout_s=timeout_s)
        except RaftwrightError as error:
            return str(error)

    return dict(zip(endpoints, await asyncio.gather(*map(one, endpoints)), strict=True))


def show(found: "dict[str, NodeStatus | str]") -> None:
    """Print the table."""
    from rich.console import Console
    from rich.table import Table

    table = Table(box=None, header_style="bold", pad_edge=False)
    for title in ("NODE", "ID", "ENDPOINT", "ROLE", "MEMBER", "TERM", "COMMIT", "APPLIED", "LOG", "REVISION"):
        table.add_column(title, justify="right" if title in _NUMBERS else "left", no_wrap=True)
    remarks = []
    for endpoint, one in sorted(found.items(), key=lambda pair: "~" if isinstance(pair[1], str) else pair[1].name):
        if isinstance(one, str):
            table.add_row("?", "", endpoint, "[red]unreachable[/red]")
            remarks.append(one)
            continue
        role = one.role or one.state
        style = {"leader": "bold green", "follower": ""}.get(role, "yellow")
        table.add_row(
            one.name,
            str(one.id or ""),
            endpoint,
            f"[{style}]{role}[/{style}]" if style else role,
            one.member_role or "",
            *(str(number) for number in (one.term, one.commit_index, one.applied_index)),
            f"{one.first_index}-{one.last_index}",
            str(one.revision),
        )
        if one.detail:
            remarks.append(f"{one.name}: {one.detail}")
    console = Console()
    if not console.is_terminal:
        console = Console(width=200)
    console.print(table)
    for remark in remarks:
        console.print(remark, markup=False, highlight=False)


_NUMBERS = {"ID", "TERM", "COMMIT", "APPLIED", "REVISION"}
