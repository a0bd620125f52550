"""A leadership that is handed over under a stream of writes: the client follows it, and nothing is lost on the way."""

import asyncio
import itertools
from pathlib import Path

import aiohttp
import pytest

from raftwright import Client
from raftwright.client import nodes, stream
from tests.client.proxy import proxy_to
from tests.cluster.support import running_cluster

pytestmark = [pytest.mark.asyncio, pytest.mark.slow]

WRITERS = 16
DRAIN_S = 30.0
FOLLOWS_WITHIN_S = 15.0
"""A look at who leads, the answers on their way and a connection: far less than any time-out in this test."""


class Writers:
    """Tasks that write one key after the other, and count."""

    def __init__(self, client: Client) -> None:
        self.done = 0
        self._client = client
        self._numbers = itertools.count()
        self._goal = 0
        self._is_reached = asyncio.Event()

    async def run(self) -> None:
        """Until cancelled; a write that fails is raised."""
        async with asyncio.TaskGroup() as tasks:
            for _ in range(WRITERS):
                tasks.create_task(self._write())

    async def _write(self) -> None:
        while True:
            number = next(self._numbers)
            await self._client.put(f"key{number % 100}", b"%d" % number)
            self.done += 1
            if self.done >= self._goal:
                self._is_reached.set()

    async def some_more(self, count: int = 200) -> None:
        self._goal = self.done + count
        self._is_reached.clear()
        await self._is_reached.wait()


async def streams_at(http: aiohttp.ClientSession, endpoint: str) -> int:
    async with http.get(f"http://{endpoint}/metrics") as response:
        lines = (await response.text()).splitlines()
    return int(float(next(line.split()[1] for line in lines if line.startswith("raftwright_streams "))))


def watch(client: Client) -> list[bool]:
    """Of every connection that the client gives up from now on: whether answers were on their way over it."""
    assert client._stream is not None
    session = client._stream._session
    flying: list[bool] = []
    on_lost = session.on_lost

    def watched() -> None:
        flying.append(session.is_flying)
        on_lost()

    session.on_lost = watched  # type: ignore[method-assign]
    return flying


@pytest.mark.timeout(120)
async def test_the_client_follows_a_transfer_and_leaves_no_answer_behind(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stream, "DRAIN_S", DRAIN_S)
    async with (
        running_cluster(tmp_path) as cluster,
        aiohttp.ClientSession() as http,
        Client(cluster.endpoints, timeout_s=60.0) as client,
    ):
        writers = Writers(client)
        writing = asyncio.create_task(writers.run())
        await writers.some_more()
        given_up = watch(client)
        members = (await client.members.list()).members
        former = next(member for member in members if member.leader)
        other = next(member for member in members if member is not former)
        for successor in (other, former):
            assert successor.addresses.client
            await client.members.transfer_leadership(successor.name)
            async with asyncio.timeout(FOLLOWS_WITHIN_S):
                while await streams_at(http, successor.addresses.client) != 1:
                    assert not writing.done()
                    await asyncio.sleep(0.05)
                await writers.some_more()
        writing.cancel()
        with pytest.raises(asyncio.CancelledError):
            await writing
        assert given_up == [False, False], "a connection was left with answers on their way"


@pytest.mark.timeout(120)
async def test_behind_one_address_whoever_tells_of_a_leader_will_do_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As of a Service in Kubernetes: the leader's own address is not to be connected to, nor is it to be waited for."""
    monkeypatch.setattr(stream, "ELECTION_S", 3600.0)
    monkeypatch.setattr(nodes, "REFUSED_S", 3600.0)
    async with running_cluster(tmp_path) as cluster:
        async with Client(cluster.endpoints) as client:
            members = (await client.members.list()).members
        follower = next(member for member in members if not member.leader)
        assert follower.addresses.client
        async with (
            proxy_to(follower.addresses.client) as proxy,
            Client([proxy.endpoint], discover=False, timeout_s=20.0) as client,
        ):
            await client.put("key", b"0")
            for number in range(3):
                before = proxy.connections
                await proxy.cut()
                await client.put("key", b"%d" % number)
                assert proxy.connections > before
