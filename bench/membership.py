"""What changes of membership cost those who write meanwhile.

    python -m bench.membership                       # 5 rounds, a learner beside a million keys, 20 transfers
    python -m bench.membership --rounds 100 --only rounds

A round grows a cluster 1 -> 3 -> 5 and shrinks it 5 -> 3 -> 1, with new nodes each time, while eight lanes write
without a pause; at the end every acknowledged write is read back.
"""

import argparse
import asyncio
import contextlib
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

from bench.http_load import summary
from raftwright import Client, RaftwrightError
from raftwright.client.member_models import BootstrapRequest, FirstMember, MemberAddresses, NewMember

HOST, PORT = "127.0.0.1", 23_000
LANES = 8
PARTS = ("rounds", "learner", "transfers")


class Fleet:
    """Managed nodes n1, n2, …: each waits until it is added."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self._processes: dict[int, subprocess.Popen[bytes]] = {}

    @staticmethod
    def client(number: int) -> str:
        return f"{HOST}:{PORT + number}"

    @staticmethod
    def peer(number: int) -> str:
        return f"{HOST}:{PORT + 1000 + number}"

    def _launch(self, number: int) -> None:
        name = f"n{number}"
        shutil.rmtree(self.directory / name, ignore_errors=True)
        command = [
            *(sys.executable, "-m", "raftwright", "node", "--name", name, "--data-dir", str(self.directory / name)),
            *("--client-listen", self.client(number), "--peer-listen", self.peer(number), "--log-level", "warning"),
        ]
        with (self.directory / f"{name}.log").open("ab") as output:
            self._processes[number] = subprocess.Popen(command, stdout=output, stderr=output)

    async def start(self, number: int) -> str:
        """Start a node with an empty disk; its store id."""
        self._launch(number)
        async with Client([self.client(number)], discover=False) as client:
            while True:
                with contextlib.suppress(RaftwrightError):
                    status = await client.status(self.client(number))
                    if status.store_id:
                        return status.store_id
                await asyncio.sleep(0.05)

    async def stop(self, number: int) -> None:
        process = self._processes.pop(number)
        process.send_signal(signal.SIGTERM)
        await asyncio.to_thread(process.wait)

    def kill_all(self) -> None:
        for process in self._processes.values():
            process.kill()
            process.wait()

    async def found(self, number: int) -> None:
        """Make a cluster of this one node."""
        store_id = await self.start(number)
        addresses = MemberAddresses(peer=self.peer(number), client=self.client(number))
        member = FirstMember(name=f"n{number}", store_id=store_id, addresses=addresses)
        async with Client([self.client(number)], discover=False) as client:
            await client.members.bootstrap(BootstrapRequest(cluster_id="bench-cluster", members=[member]))

    async def new_member(self, number: int, role: Any = "voter") -> NewMember:
        store_id = await self.start(number)
        addresses = MemberAddresses(peer=self.peer(number), client=self.client(number))
        return NewMember(name=f"n{number}", store_id=store_id, addresses=addresses, role=role)


class Writers:
    """Lanes that write without a pause, and remember when each write was acknowledged."""

    def __init__(self, client: Client) -> None:
        self._client = client
        self.acknowledged: dict[str, int] = {}
        self.failed: list[str] = []
        self.at: list[float] = []
        self.latencies: list[float] = []
        self._done = False

    async def lane(self, lane: int) -> None:
        number = 0
        while not self._done:
            number += 1
            key, begun = f"lane-{lane}/{number}", time.monotonic()
            try:
                self.acknowledged[key] = await self._client.put(key, b"v" * 32)
            except RaftwrightError as error:
                self.failed.append(str(error))
                continue
            now = time.monotonic()
            self.at.append(now)
            self.latencies.append(now - begun)

    def longest_pause_s(self, since: int = 0) -> float:
        return max((b - a for a, b in zip(self.at[since:], self.at[since + 1 :], strict=False)), default=0.0)

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        async with asyncio.TaskGroup() as group:
            for lane in range(LANES):
                group.create_task(self.lane(lane))
            try:
                yield
            finally:
                self._done = True

    async def lost(self) -> int:
        """How many acknowledged writes are not there, of all that this one made."""
        found = {item.key: item.revision async for item in self._client.scan("lane-")}
        return sum(found.get(key) != revision for key, revision in self.acknowledged.items())


async def measure_rounds(fleet: Fleet, client: Client, rounds: int) -> None:
    writers = Writers(client)
    leader = 1
    async with writers.running():
        for number in range(rounds):
            first = 2 + number * 4 % 40
            new = [first, first + 1, first + 2, first + 3]
            since, begun = len(writers.at), time.monotonic()
            await client.members.change(add=[await fleet.new_member(one) for one in new[:2]])
            await client.members.change(add=[await fleet.new_member(one) for one in new[2:]])
            # Every second round the founder leaves and one of the new ones stays, so that leaders go, too.
            stays = leader if number % 2 else new[3]
            gone = [one for one in (leader, *new) if one != stays]
            await client.members.change(remove=[f"n{one}" for one in gone[:2]])
            await client.members.change(remove=[f"n{one}" for one in gone[2:]])
            for one in gone:
                await fleet.stop(one)
            leader = stays
            print(
                f"round {number + 1}: {time.monotonic() - begun:.1f} s, {len(writers.at) - since:,} writes,"
                f" longest pause {writers.longest_pause_s(since):.2f} s, failed {len(writers.failed)}",
                flush=True,
            )
    print(
        f"1 -> 3 -> 5 -> 3 -> 1, {rounds} times: {len(writers.acknowledged):,} writes acknowledged,"
        f" {len(writers.failed)} failed, longest pause {writers.longest_pause_s():.2f} s, lost {await writers.lost()}"
    )


async def measure_learner(fleet: Fleet, client: Client, keys: int) -> None:
    for start in range(0, keys, 4000):
        await asyncio.gather(*(client.put(f"key-{n:08}", bytes(100)) for n in range(start, min(keys, start + 4000))))
    writers = Writers(client)
    async with writers.running():
        await asyncio.sleep(5.0)
        before = list(writers.latencies)
        new = await fleet.new_member(60)
        begun, since = time.monotonic(), len(writers.latencies)
        await client.members.change(add=[new], timeout_s=600.0)
        took = time.monotonic() - begun
        during = writers.latencies[since:]
    quiet, loud = summary(before, 5.0, 0)["p99_ms"], summary(during, took, 0)["p99_ms"]
    print(
        f"a learner beside {keys:,} keys was a voter after {took:.1f} s; writes p99 {quiet:.1f} ms before,"
        f" {loud:.1f} ms meanwhile ({loud / quiet:.1f} times), {len(writers.failed)} failed"
    )


async def measure_transfers(fleet: Fleet, client: Client, count: int) -> None:
    await client.members.change(add=[await fleet.new_member(one) for one in (61, 62)])
    writers, pauses = Writers(client), []
    async with writers.running():
        for _ in range(count):
            await asyncio.sleep(0.3)
            since = len(writers.at)
            await client.members.transfer_leadership()
            await asyncio.sleep(0.3)
            pauses.append(writers.longest_pause_s(since))
    pauses.sort()
    print(
        f"{count} leadership transfers: writes stopped for {1000 * pauses[count // 2]:.0f} ms (median),"
        f" {1000 * pauses[-1]:.0f} ms (longest); failed {len(writers.failed)}"
    )


async def run(arguments: argparse.Namespace) -> None:
    directory = Path(tempfile.mkdtemp(prefix="raftwright-bench-"))
    fleet = Fleet(directory)
    try:
        await fleet.found(1)
        async with Client([fleet.client(1)], timeout_s=30.0) as client:
            if "transfers" in arguments.only:
                await measure_transfers(fleet, client, arguments.transfers)
                await client.members.change(remove=["n61", "n62"])
            if "learner" in arguments.only:
                await measure_learner(fleet, client, arguments.keys)
                await client.members.remove("n60")
            if "rounds" in arguments.only:
                await measure_rounds(fleet, client, arguments.rounds)
    finally:
        fleet.kill_all()
        shutil.rmtree(directory, ignore_errors=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--only", choices=PARTS, action="append", help="a part; may be repeated (default: all)")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--keys", type=int, default=1_000_000)
    parser.add_argument("--transfers", type=int, default=20)
    arguments = parser.parse_args()
    arguments.only = arguments.only or list(PARTS)
    asyncio.run(run(arguments))


if __name__ == "__main__":
    main()
