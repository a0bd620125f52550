"""A user's state machine in real nodes: `raftwright node --state-machine`, and the client's calls to it."""

import asyncio
import sys
from pathlib import Path

import pytest

import raftwright
from tests.cluster.support import leader_of, running_cluster
from tests.machine.machines import Append, Fail, Set

pytestmark = pytest.mark.slow

FLAGS = ("--state-machine", "tests.machine.machines:Table", "--snapshot-every-commands", "20")


async def test_commands_reach_it_through_any_node_and_survive_a_killed_leader(tmp_path: Path) -> None:
    async with running_cluster(tmp_path, flags=FLAGS) as cluster, raftwright.Client(cluster.endpoints) as client:
        assert await client.propose(Append("a", [1])) == [1]
        assert await client.propose("append", {"key": "a", "values": [2]}) == [1, 2]
        with pytest.raises(raftwright.CommandFailed, match="ValueError: no luck") as failed:
            await client.propose(Fail("value", "no luck"))
        assert failed.value.error == "ValueError"
        for number in range(50):
            await client.propose(Set(f"k{number}", number))
        await cluster.kill(await leader_of(client))
        results = await asyncio.gather(*(client.propose(Append("a", [n]), key=f"key{n}") for n in range(3, 6)))
        assert sorted(results[-1])[:2] == [1, 2]
        assert await client.propose(Append("a", [3]), key="key3") == results[0]
        assert sorted(await client.query("a")) == [1, 2, 3, 4, 5]
        assert sorted(await client.query("a", consistency="lease")) == [1, 2, 3, 4, 5]
        await client.propose(Set("b", 6))
        assert await client.query("b", consistency="stale", min_index=client.last_index) == [6]
        with pytest.raises(raftwright.QueryFailed, match="KeyError"):
            await client.query("missing")
        await cluster.stop()
        cluster.start()
        assert sorted(await client.query("a", timeout_s=30)) == [1, 2, 3, 4, 5]
        assert await client.query("k49") == [49]


async def test_the_data_of_another_machine_is_refused(tmp_path: Path) -> None:
    async with running_cluster(tmp_path, 1) as cluster:
        await cluster.stop()
        cluster.flags = FLAGS
        cluster.start_node("node1")
        assert await cluster.watch("node1") == 2
        assert "it is of the machine 'kv', and this node runs 'Table'" in cluster.log_tail("node1")


async def test_a_machine_that_is_not_there_is_said_and_nothing_starts(tmp_path: Path) -> None:
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "raftwright", "node", "--name", "a", "--data-dir", tmp_path / "d"),
        *("--state-machine", "nowhere:Machine"),
        stderr=asyncio.subprocess.PIPE,
    )
    _, said = await process.communicate()
    assert process.returncode == 2
    assert b"there is no module 'nowhere'" in said
    assert not (tmp_path / "d").exists()
