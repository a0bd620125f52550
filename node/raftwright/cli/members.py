"""`raftwright members …`: who is in the cluster, and every change of that.

Rule: a change prints the members after it; with `--dry-run` it prints the plan and changes nothing.
"""

from collections.abc import Callable, Coroutine, Sequence
from typing import TYPE_CHECKING, Annotated, Any

import typer

from raftwright.cli.common import (
    EXIT_NOT_MET,
    CommandError,
    DataDir,
    Endpoints,
    connect,
    run,
    say,
)

if TYPE_CHECKING:
    from raftwright.client.client import Client
    from raftwright.client.member_models import MembersAnswer, NewMember, PlanAnswer

CHANGE_TIMEOUT_S = 60.0

DryRun = Annotated[bool, typer.Option("--dry-run", help="Print the plan, step by step, and change nothing.")]
Force = Annotated[
    bool, typer.Option("--force", help="Go on without a quorum of reachable voters. The cluster may stop.")
]
IfVersion = Annotated[
    int | None, typer.Option("--if-version", metavar="N", help="Only if the membership is at this version.")
]
Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]
ChangeTimeout = Annotated[
    float, typer.Option("--timeout", min=0.1, metavar="SECONDS", help="How long to wait for the change to end.")
]
MemberName = Annotated[str, typer.Argument(metavar="MEMBER", help="Its id or name.")]

app = typer.Typer(no_args_is_help=True, help="Show and change the members of the cluster.")


@app.command("list")
def list_members(
    json: Json = False, endpoints: Endpoints = None, data_dir: DataDir = None, timeout_s: ChangeTimeout = 10.0
) -> None:
    """Show the members: their roles, and how far each is behind the leader."""

    async def main() -> "MembersAnswer":
        async with connect(endpoints, data_dir, timeout_s) as client:
            return await client.members.list()

    _show(run(main()), as_json=json)


@app.command("add")
def add(
    address: Annotated[str, typer.Argument(metavar="HOST:PORT", help="Where clients reach the node, which waits.")],
    non_voting: Annotated[bool, typer.Option("--non-voting", help="Without a vote.")] = False,
    peer: Annotated[str | None, typer.Option("--peer", metavar="HOST:PORT", help="Where members reach it.")] = None,
    dry_run: DryRun = False,
    force: Force = False,
    if_version: IfVersion = None,
    json: Json = False,
    endpoints: Endpoints = None,
    data_dir: DataDir = None,
    timeout_s: ChangeTimeout = CHANGE_TIMEOUT_S,
) -> None:
    """Add a node that was started without --members and --join, and waits. As a voter it is promoted once it has
    caught up.

    Example: raftwright members add 10.0.0.4:7001 --peer 10.0.0.4:8001 --endpoints 10.0.0.1:7001
    """

    async def act(client: "Client") -> Any:
        member = await _waiting(client, address, peer, non_voting=non_voting)
        if dry_run:
            return await client.members.plan(add=[member], force=force)
        return await client.members.add(member, **_options(force, if_version, timeout_s))

    _change(act, endpoints, data_dir, timeout_s, as_json=json)


@app.command("remove")
def remove(
    member: MemberName,
    dry_run: DryRun = False,
    force: Force = False,
    if_version: IfVersion = None,
    json: Json = False,
    endpoints: Endpoints = None,
    data_dir: DataDir = None,
    timeout_s: ChangeTimeout = CHANGE_TIMEOUT_S,
) -> None:
    """Remove a member. A leader hands leadership over first; the node then says that it was removed."""

    async def act(client: "Client") -> Any:
        await _must_exist(client, member)
        if dry_run:
            return await client.members.plan(remove=[member], force=force)
        return await client.members.remove(member, **_options(force, if_version, timeout_s))

    _change(act, endpoints, data_dir, timeout_s, as_json=json)


@app.command("promote")
def promote(
    member: MemberName,
    dry_run: DryRun = False,
    if_version: IfVersion = None,
    json: Json = False,
    endpoints: Endpoints = None,
    data_dir: DataDir = None,
    timeout_s: ChangeTimeout = CHANGE_TIMEOUT_S,
) -> None:
    """Give a non-voting member a vote. Refused while it is behind, with how far."""

    async def act(client: "Client") -> Any:
        if dry_run:
            return await client.members.plan(promote=[member])
        return await client.members.promote(member, **_options(False, if_version, timeout_s))

    _change(act, endpoints, data_dir, timeout_s, as_json=json)


@app.command("demote")
def demote(
    member: MemberName,
    dry_run: DryRun = False,
    force: Force = False,
    if_version: IfVersion = None,
    json: Json = False,
    endpoints: Endpoints = None,
    data_dir: DataDir = None,
    timeout_s: ChangeTimeout = CHANGE_TIMEOUT_S,
) -> None:
    """Take a member's vote away; it still gets everything."""

    async def act(client: "Client") -> Any:
        if dry_run:
            return await client.members.plan(demote=[member], force=force)
        return await client.members.demote(member, **_options(force, if_version, timeout_s))

    _change(act, endpoints, data_dir, timeout_s, as_json=json)


@app.command("replace")
def replace(
    member: MemberName,
    address: Annotated[str, typer.Argument(metavar="HOST:PORT", help="Where clients reach the new node, which waits.")],
    peer: Annotated[str | None, typer.Option("--peer", metavar="HOST:PORT", help="Where members reach it.")] = None,
    dry_run: DryRun = False,
    force: Force = False,
    if_version: IfVersion = None,
    json: Json = False,
    endpoints: Endpoints = None,
    data_dir: DataDir = None,
    timeout_s: ChangeTimeout = CHANGE_TIMEOUT_S,
) -> None:
    """Put a waiting node in a member's place: one leaves in the change in which the other gets its vote."""

    async def act(client: "Client") -> Any:
        new = await _waiting(client, address, peer)
        if dry_run:
            return await client.members.plan_replace(member, new, force=force)
        return await client.members.replace(member, new, **_options(force, if_version, timeout_s))

    _change(act, endpoints, data_dir, timeout_s, as_json=json)


@app.command("transfer")
def transfer(
    to: Annotated[
        str | None, typer.Argument(metavar="[MEMBER]", help="The next leader. Default: the best one.")
    ] = None,
    endpoints: Endpoints = None,
    data_dir: DataDir = None,
    timeout_s: ChangeTimeout = 10.0,
) -> None:
    """Hand leadership to a voter, and wait until it leads."""

    async def main() -> str:
        async with connect(endpoints, data_dir, timeout_s) as client:
            done = await client.members.transfer_leadership(to)
        return f"{done.name} (member {done.leader}) leads in term {done.term}"

    say(run(main()))


def _options(force: bool, if_version: int | None, timeout_s: float) -> dict[str, Any]:
    return {"force": force, "if_version": if_version, "timeout_s": timeout_s}


async def _waiting(client: "Client", address: str, peer: str | None, *, non_voting: bool = False) -> "NewMember":
    """What is to be said of the node at `address`, which says its name and store itself."""
    from raftwright.client.member_models import MemberAddresses, NewMember

    said = await client.status(address)
    if said.store_id is None or said.state not in ("waiting", "stranger"):
        raise CommandError(f"the node at {address}, {said.name}, is {said.state}: only one that waits can be added")
    addresses = MemberAddresses(peer=peer or _peer_of(address), client=address)
    role = "learner" if non_voting else "voter"
    return NewMember(name=said.name, store_id=said.store_id, addresses=addresses, role=role)  # type: ignore[arg-type]


def _peer_of(address: str) -> str:
    """The address for members that goes with one for clients, where none is given: 1000 above, as everywhere here."""
    host, _, port = address.rpartition(":")
    return f"{host}:{int(port) + 1000}"


async def _must_exist(client: "Client", member: str) -> None:
    """To the API, who is not there is removed; a person has mistyped."""
    found = await client.members.list()
    if not any(member in (one.name, str(one.id)) for one in found.members):
        names = ", ".join(one.name for one in found.members)
        raise CommandError(f"there is no member {member}; there are {names}", EXIT_NOT_MET)


def _change(
    act: "Callable[[Client], Coroutine[Any, Any, Any]]",
    endpoints: str | None,
    data_dir: Any,
    timeout_s: float,
    *,
    as_json: bool,
) -> None:
    async def main() -> Any:
        async with connect(endpoints, data_dir, timeout_s) as client:
            return await act(client)

    _show(run(main()), as_json=as_json)


def _show(answer: "MembersAnswer | PlanAnswer", *, as_json: bool) -> None:
    from raftwright.client.http import to_json
    from raftwright.client.member_models import PlanAnswer

    if as_json:
        say(to_json(answer))
    elif isinstance(answer, PlanAnswer):
        _show_plan(answer)
    else:
        _show_members(answer)


def _show_members(answer: "MembersAnswer") -> None:
    rows = []
    for one in answer.members:
        lag = "" if one.lag is None else f"{one.lag.commands} commands, {one.lag.bytes} bytes, {one.lag.seconds:g} s"
        intent = ", ".join(key if key != "replaces" else f"replaces {value}" for key, value in one.intent.items())
        role = "leader" if one.leader else ("voter" if one.role == "voter" else "non-voting")
        rows.append((str(one.id), one.name, role, intent, one.addresses.client, one.addresses.peer, lag, one.store_id))
    _table(("ID", "NAME", "ROLE", "INTENT", "CLIENTS", "MEMBERS", "BEHIND", "STORE"), rows)
    say(f"version {answer.version}{', a change is under way' if answer.joint else ''}")


def _show_plan(answer: "PlanAnswer") -> None:
    if not answer.steps:
        say("nothing is to be done")
        return
    rows = [
        (
            str(number),
            step.step,
            ", ".join(step.voters),
            ", ".join(step.learners),
            *(str(count) for count in (step.tolerated_before, step.tolerated_during, step.tolerated_after)),
        )
        for number, step in enumerate(answer.steps, 1)
    ]
    _table(("STEP", "WHAT", "VOTERS", "NON-VOTING", "BEFORE", "DURING", "AFTER"), rows)
    say("BEFORE, DURING, AFTER: how many more voters may fail; below 0 there is no quorum")


def _table(titles: tuple[str, ...], rows: Sequence[tuple[str, ...]]) -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table(box=None, header_style="bold", pad_edge=False)
    for title in titles:
        table.add_column(title)
    for row in rows:
        table.add_row(*row)
    console = Console()
    if not console.is_terminal:
        console = Console(width=240)
    console.print(table)
