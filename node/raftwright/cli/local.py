"""`raftwright local`: a cluster on this machine, watched from the foreground.

Rule: when it ends, its nodes have ended, unless it was killed itself; then `--stop` ends them.
"""

import asyncio
import shlex
import signal
import sys
import time
from pathlib import Path
from typing import Annotated

import typer

from raftwright.cli.common import EXIT_UNAVAILABLE, CommandError, note, run, say
from raftwright.cli.localcluster import LocalCluster, LocalError, stopping

RESTART_FIRST_S = 0.5
RESTART_MAX_S = 10.0
STABLE_S = 10.0
READY_TIMEOUT_S = 30.0


def local(
    nodes: Annotated[
        int | None, typer.Option("--nodes", min=1, max=99, help="How many nodes a new cluster has. Default 3.")
    ] = None,
    data_dir: Annotated[Path, typer.Option("--data-dir", metavar="DIR", help="Where the cluster lives.")] = Path(
        "raftwright-data"
    ),
    port: Annotated[
        int | None,
        typer.Option("--port", help="First port for clients; peers use those 1000 higher. Default 7001."),
    ] = None,
    restart: Annotated[bool, typer.Option("--restart", help="Start a node again when it dies.")] = False,
    stop: Annotated[bool, typer.Option("--stop", help="Stop the cluster that runs in DIR, and end.")] = False,
    setting: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="NAME=VALUE", help="A setting for every node; raftwright node --help has them."),
    ] = None,
) -> None:
    """Run a cluster on this machine, one process a node, until Ctrl-C.

    DIR/local.json says what runs where; DIR/node1.log and so on are the nodes' logs. Started again with the same DIR,
    the cluster goes on with its data.

    Examples: raftwright local --nodes 3 --data-dir DIR --port 7001

    raftwright local --data-dir DIR --restart --set election_timeout_ms=300
    """

    async def main() -> None:
        cluster = LocalCluster.at(data_dir, count=nodes, port=port)
        if stop:
            await stop_cluster(cluster)
            return
        cluster.flags = flags_of(setting or [])
        async with stopping(cluster):
            await _run(cluster, restart)

    run(main())


def flags_of(settings: list[str]) -> list[str]:
    """Settings as NAME=VALUE, as flags of a node."""
    flags = []
    for text in settings:
        name, equals, value = text.partition("=")
        if not equals or not name:
            raise CommandError(f"--set {text!r} is not NAME=VALUE.")
        flags += ["--" + name.strip().replace("_", "-"), value]
    return flags


async def stop_cluster(cluster: LocalCluster) -> None:
    """Stop a cluster that another process started, and say so."""
    running = cluster.running()
    killed = await cluster.stop(of_others=True)
    if not running:
        say(f"Nothing runs in {cluster.directory}.")
    else:
        say(f"Stopped {', '.join(node.name for node in running)}.")
    if killed:
        note(f"{', '.join(killed)} did not stop in time and had to be killed; nothing acknowledged is lost by that.")


async def wait_until_ready(cluster: LocalCluster, timeout_s: float = READY_TIMEOUT_S, *, restart: bool = False) -> str:
    """Wait until every node serves. Returns the leader's name. LocalError if it takes too long, or a node
    ends that will not be started again (`restart`)."""
    from raftwright.client.client import Client

    deadline = time.monotonic() + timeout_s
    async with Client(cluster.endpoints, timeout_s=2.0) as client:
        waiting = list(cluster.nodes)
        while waiting:
            for name in waiting:
                if not restart and not cluster.is_alive(name):
                    tail = cluster.log_tail(name)
                    raise LocalError(f"{name} has ended. The end of {cluster.log_file(name)}:\n{tail}")
            ready = await asyncio.gather(*(client.is_ready(cluster.nodes[name].client) for name in waiting))
            waiting = [name for name, is_ready in zip(waiting, ready, strict=True) if not is_ready]
            if waiting and time.monotonic() > deadline:
                late = ", ".join(waiting)
                raise LocalError(
                    f"{late} did not become ready in {timeout_s:.0f} s. See the logs in {cluster.directory}."
                )
            if waiting:
                await asyncio.sleep(0.05)
        status = await client.status()
        return next((member.name for member in status.members if member.leader), "no node")


async def _run(cluster: LocalCluster, restart: bool) -> None:
    """Start the nodes, say how to talk to them, and watch them until a signal comes."""
    asked_to_stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        loop.add_signal_handler(number, asked_to_stop.set)
    cluster.start()
    watchers = [asyncio.create_task(_watch(cluster, name, restart, asked_to_stop)) for name in cluster.nodes]
    stopped = asyncio.create_task(asked_to_stop.wait())
    welcome = asyncio.create_task(_welcome(cluster, restart))
    try:
        pending: set[asyncio.Task[object]] = {*watchers, stopped, welcome}
        while not asked_to_stop.is_set():
            done, pending = await asyncio.wait(pending, return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                task.result()
            if not any(watcher in pending for watcher in watchers):
                raise CommandError("every node has ended. See their logs.", EXIT_UNAVAILABLE)
        say("Stopping.")
    finally:
        for task in (*watchers, stopped, welcome):
            task.cancel()
        await asyncio.gather(*watchers, stopped, welcome, return_exceptions=True)


async def _welcome(cluster: LocalCluster, restart: bool) -> None:
    for node in cluster.nodes.values():
        say(f"{node.name}  pid {node.pid}  clients {node.client}  peers {node.peer}")
    leader = await wait_until_ready(cluster, restart=restart)
    at = f"--endpoints {','.join(cluster.endpoints)}"
    say(f"Ready; {leader} leads. Talk to it from another terminal:")
    say(f'  {program()} put greeting "hello world" {at}')
    say(f"  {program()} status {at}")
    say("Ctrl-C stops it.")


async def _watch(cluster: LocalCluster, name: str, restart: bool, stopping_: asyncio.Event) -> None:
    """Wait for a node's end, say so, and start it again if that is wanted."""
    delay_s = RESTART_FIRST_S
    while True:
        begun = time.monotonic()
        status = await cluster.watch(name)
        if stopping_.is_set():
            return
        how = f"was ended by {signal.Signals(-status).name}" if status < 0 else f"ended with status {status}"
        note(f"{name} {how}; its log is {cluster.log_file(name)}.")
        if not restart:
            note("It stays down, since --restart was not given.")
            return
        delay_s = RESTART_FIRST_S if time.monotonic() - begun > STABLE_S else min(2 * delay_s, RESTART_MAX_S)
        await asyncio.sleep(delay_s)
        cluster.start_node(name)
        note(f"{name} started again, pid {cluster.nodes[name].pid}.")


def program() -> str:
    """How this command was called, to show in examples."""
    called = Path(sys.argv[0])
    return f"{shlex.quote(sys.executable)} -m raftwright" if called.name == "__main__.py" else shlex.quote(str(called))
