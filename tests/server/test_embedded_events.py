"""`raftwright.Node`: what the program is told of memberships and snapshots, and snapshots under way."""

import asyncio
from pathlib import Path
from typing import Any

import raftwright
from raftwright.raft.membership import Membership
from raftwright.server.machine import ApplyContext
from tests.machine.machines import Append, Set, Table
from tests.server.test_embedded import alone

# Events


async def test_memberships_and_snapshots_are_told(tmp_path: Path) -> None:
    async with alone(tmp_path, snapshot_every_commands=3) as node:
        await node.read_index()
        membership = await anext(node.membership_changes())
        assert isinstance(membership, Membership)
        assert [member.name for member in membership.members.values()] == ["a"]
        snapshots = node.snapshots()
        called: list[raftwright.SnapshotChange] = []
        end = node.on_snapshot(called.append)
        for value in range(3):
            await node.propose(Set("k", value))
        async with asyncio.timeout(5):
            taken = await anext(snapshots)
        await asyncio.sleep(0)
        assert (taken.kind, called) == ("taken", [taken])
        assert taken.size > 0
        end()
    assert [change async for change in snapshots] == []
    assert [change.is_this_node async for change in node.leader_changes()] == [True]


async def test_a_callback_that_raises_harms_nobody(tmp_path: Path) -> None:
    said: list[dict[str, Any]] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: said.append(context))

    def broken(_: object) -> None:
        raise RuntimeError("of the callback")

    async with alone(tmp_path, snapshot_every_commands=1) as node:
        node.on_snapshot(broken)
        snapshots = node.snapshots()
        await node.propose(Set("k", 1))
        async with asyncio.timeout(5):
            await anext(snapshots)
        assert await node.propose(Set("k", 2)) == 2
    assert "of the callback" in str(said[0]["exception"])


async def test_a_slow_listener_gets_the_latest_and_the_node_never_waits(tmp_path: Path) -> None:
    async with alone(tmp_path, snapshot_every_commands=1) as node:
        slow, quick = node.snapshots(), node.snapshots()
        last = None
        for value in range(5):
            await node.propose(Set("k", value))
            async with asyncio.timeout(5):
                last = await anext(quick)
        assert await anext(slow) == last


# Snapshots


async def test_commands_go_on_while_a_snapshot_is_written_and_do_not_show_in_it(tmp_path: Path) -> None:
    async with alone(tmp_path, snapshot_policy="never") as node:
        await asyncio.gather(*(node.propose(Append(f"k{number}", [number])) for number in range(3000)))
        taking = asyncio.create_task(node.take_snapshot())
        count = 0
        while not taking.done():
            await node.propose(Append("k2999", [count]))
            count += 1
        taken = await taking
        assert count > 2
        assert taken.index < await node.read_index()
    restored = Table()
    async with alone(tmp_path, restored) as node:
        assert await node.query("k2999") == [2999, *range(count)]
        assert restored.items == {f"k{number}": [number] for number in range(2999)} | {"k2999": [2999, *range(count)]}
        assert restored.applied == 3000 + count


# A machine that cannot write its state


class Unwritable(Table):
    def __init__(self) -> None:
        super().__init__()
        self.broken = False

    def snapshot(self) -> Any:
        if self.broken:
            raise RuntimeError("cannot")
        return super().snapshot()

    def apply(self, command: Any, context: ApplyContext) -> Any:
        self.broken = True
        return super().apply(command, context)


async def test_a_snapshot_that_fails_is_told_and_the_node_goes_on(tmp_path: Path) -> None:
    async with alone(tmp_path, Unwritable(), snapshot_every_commands=2) as node:
        snapshots = node.snapshots()
        for value in range(4):
            await node.propose(Set("k", value))
        async with asyncio.timeout(5):
            assert (await anext(snapshots)).kind == "failed"
        assert await node.query("k") == [3]
    async with alone(tmp_path, Unwritable()) as node:
        assert await node.query("k") == [3]
