"""`raftwright demo`: three nodes, real data, a leader killed in the middle, and nothing lost.

Rule: it claims nothing that it did not check; what was acknowledged is compared with what is read back.
"""

import asyncio
import shutil
import signal
import time
import unicodedata
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from raftwright.cli.common import EXIT_NOT_MET, CommandError, run, say
from raftwright.cli.local import program, stop_cluster, wait_until_ready
from raftwright.cli.localcluster import LocalCluster

if TYPE_CHECKING:
    from raftwright.cli.records import Record
    from raftwright.client.client import Client

OPERATION_TIMEOUT_S = 30.0
CATCH_UP_TIMEOUT_S = 60.0


def demo(
    once: Annotated[
        bool, typer.Option("--once", help="Stop the cluster at the end; exit status 0 only if nothing was lost.")
    ] = False,
    data_dir: Annotated[
        Path, typer.Option("--data-dir", metavar="DIR", help="Where it lives. Made anew by every run.")
    ] = Path(".demo"),
    port: Annotated[int, typer.Option("--port", help="First port for clients; peers use those 1000 higher.")] = 7001,
    limit: Annotated[int | None, typer.Option("--limit", min=100, help="Load only so many characters.")] = None,
) -> None:
    """See it work: load the Unicode character database into three nodes and kill the leader on the way.

    It starts three nodes, writes every named character (about 140,000), kills the leader with SIGKILL in the middle,
    says how long writes stopped, goes on, starts the dead node again, waits until it caught up, reads everything back
    from it, and compares. The cluster is left running, to play with; the last lines say how to stop it.
    """

    async def main() -> int:
        cluster = await _fresh(data_dir, port)
        keep = False
        try:
            lost = await _show(cluster, limit)
            keep = not once
        finally:
            if not keep:
                await cluster.stop()
        if keep:
            _tell(cluster)
        return lost

    if run(main()):
        raise typer.Exit(EXIT_NOT_MET)


def _left_over(directory: Path) -> LocalCluster | None:
    """What an earlier demo left. CommandError if the directory holds anything else, which is not ours to remove."""
    if (directory / "local.json").exists():
        return LocalCluster.at(directory)
    if directory.exists() and any(directory.iterdir()):
        raise CommandError(f"{directory} holds something that is no cluster of ours. Choose another --data-dir.")
    return None


async def _fresh(directory: Path, port: int) -> LocalCluster:
    """A new cluster in an empty directory."""
    before = _left_over(directory)
    if before is not None:
        if before.running():
            say("Stopping the cluster of the last demo.")
            await stop_cluster(before)
        shutil.rmtree(directory)
    return LocalCluster.at(directory, count=3, port=port)


async def _show(cluster: LocalCluster, limit: int | None) -> int:
    """The demonstration. Returns how many acknowledged writes were lost."""
    from raftwright.client.client import Client

    begun = time.monotonic()
    cluster.start()
    leader = await wait_until_ready(cluster)
    say(f"Three nodes run on this machine, {time.monotonic() - begun:.1f} s after their start; {leader} leads.")
    records = characters()[:limit]
    say(f"Loading {len(records):,} characters: name, code point and category. Every write is on two disks or more.")
    async with Client(cluster.endpoints, timeout_s=OPERATION_TIMEOUT_S, name="raftwright demo") as client:
        load = _Load(cluster, client, records)
        await load.run()
        say(
            f"{load.killed} led and was killed with SIGKILL in the middle: writes stopped for {load.pause_s:.2f} s, "
            "then went on by themselves."
        )
        await _bring_back(cluster, client, load.killed)
    return await _read_back(cluster, load)


def characters() -> "list[Record]":
    """Every named character of the Unicode database that comes with Python: its name, code point and category."""
    from raftwright.cli.records import Record

    return [
        Record(name, f"U+{code:04X} {unicodedata.category(chr(code))}".encode())
        for code in range(0x110000)
        if (name := unicodedata.name(chr(code), None))
    ]


@dataclass(slots=True)
class _Load:
    """Writes the records, and kills the leader half-way."""

    cluster: LocalCluster
    client: "Client"
    records: "list[Record]"
    acknowledged: "list[Record]" = field(default_factory=list)
    killed: str = ""
    pause_s: float = 0.0
    """The longest time without an acknowledgement, from the kill on."""
    _last_at: float = 0.0
    _killed_at: float | None = None

    async def run(self) -> None:
        from raftwright.cli.loading import load
        from raftwright.cli.progress import Progress

        half = asyncio.Event()
        with Progress("load", len(self.records)) as progress:

            def on_acknowledged(records: "list[Record]") -> None:
                now = time.monotonic()
                if self._killed_at is not None:
                    self.pause_s = max(self.pause_s, now - max(self._last_at, self._killed_at))
                self._last_at = now
                self.acknowledged += records
                progress.advance(len(records))
                if len(self.acknowledged) >= len(self.records) // 2:
                    half.set()

            async def kill() -> None:
                await half.wait()
                status = await self.client.status()
                self.killed = next(member.name for member in status.members if member.leader)
                self._killed_at = time.monotonic()
                await self.cluster.kill(self.killed, signal.SIGKILL)
                progress.note(f"{len(self.acknowledged):,} written. SIGKILL to the leader, {self.killed}.")

            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(kill())
                await load(self.client, self.records, on_acknowledged, in_thread=False)
            rate = progress.rate
        say(f"Loaded at {rate:,.0f} writes/s, the pause included.")


async def _bring_back(cluster: LocalCluster, client: "Client", name: str) -> None:
    """Start the dead node and wait until it has everything that is committed."""
    leader = await client.status()
    begun = time.monotonic()
    cluster.start_node(name)
    endpoint = cluster.nodes[name].client
    while True:
        if await client.is_ready(endpoint):
            status = await client.status(endpoint, timeout_s=2.0)
            if status.applied_index >= leader.commit_index:
                break
        if time.monotonic() - begun > CATCH_UP_TIMEOUT_S or not cluster.is_alive(name):
            raise CommandError(f"{name} did not catch up. See {cluster.log_file(name)}.", EXIT_NOT_MET)
        await asyncio.sleep(0.05)
    say(f"{name} was started again and has caught up, {time.monotonic() - begun:.1f} s later.")


async def _read_back(cluster: LocalCluster, load: _Load) -> int:
    from raftwright.client.client import Client

    begun = time.monotonic()
    found: dict[str, bytes] = {}
    async with Client([cluster.nodes[load.killed].client], timeout_s=OPERATION_TIMEOUT_S) as client:
        async for item in client.scan():
            found[item.key] = item.value
    lost = sum(found.get(key) != value for key, value in load.acknowledged)
    missing = len(load.records) - len(load.acknowledged)
    foreign = len(found.keys() - {record.key for record in load.records})
    say(f"Read everything back from {load.killed} in {time.monotonic() - begun:.1f} s, and compared it.")
    say()
    for name, number in (
        ("written", len(load.records)),
        ("acknowledged", len(load.acknowledged)),
        ("read", len(found)),
        ("lost", lost),
    ):
        say(f"  {name:<13}{number:>9,}")
    say()
    return lost + missing + foreign


def _tell(cluster: LocalCluster) -> None:
    """How to go on."""
    at = f"--data-dir {cluster.directory}"
    say("The cluster goes on running. Talk to it:")
    say(f'  {program()} get "GREEK SMALL LETTER LAMDA" {at}')
    say(f'  {program()} list "SNOW" {at}')
    say(f"  {program()} status {at}")
    say("Stop it:")
    say(f"  {program()} local --stop {at}")
