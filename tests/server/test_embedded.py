"""`raftwright.Node`: a node inside the program, alone and as one of three, from start to stop."""

import asyncio
import threading
import time
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

import raftwright
from raftwright.server import admission
from raftwright.server.addresses import FirstMember
from raftwright.server.errors import OutcomeUnknown
from raftwright.server.founding import make_durable
from raftwright.server.peer_streams import PeerStream
from raftwright.server.settings import SettingsError
from tests.cluster.support import free_port
from tests.machine.machines import Append, Bytes, Fail, Set, Table


def alone(directory: Path, machine: Any = None, **values: Any) -> raftwright.Node:
    state_machine = Table() if machine is None else machine
    return raftwright.Node(state_machine=state_machine, name="a", data_dir=directory, **values)


@asynccontextmanager
async def three(directory: Path, **values: Any) -> AsyncIterator[dict[str, raftwright.Node]]:
    """Three nodes of one cluster in this process, by name; the leader is known."""
    port = free_port(3)
    members = ",".join(f"{name}=127.0.0.1:{port + number}" for number, name in enumerate("abc"))
    values = {"shutdown_timeout_s": 0.3, **values}
    async with AsyncExitStack() as stack:
        nodes = {
            name: await stack.enter_async_context(
                raftwright.Node(state_machine=Table(), name=name, data_dir=directory / name, members=members, **values)
            )
            for name in "abc"
        }
        await nodes["a"].read_index(timeout_s=20)
        yield nodes


async def test_a_write_waits_for_the_stream_to_the_leader(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    port = free_port(2)
    members = f"a=127.0.0.1:{port};b=127.0.0.1:{port + 1},nonVoting"
    may_connect = asyncio.Event()
    connect = PeerStream._connect

    async def connect_late(self: PeerStream) -> None:
        if self.peer == 1:
            await may_connect.wait()
        await connect(self)

    monkeypatch.setattr(PeerStream, "_connect", connect_late)
    async with (
        raftwright.Node(state_machine=Table(), name="a", data_dir=tmp_path / "a", members=members),
        raftwright.Node(state_machine=Table(), name="b", data_dir=tmp_path / "b", members=members) as node,
    ):
        while node.leader is None:  # noqa: ASYNC110  # by the leader's own stream to it
            await asyncio.sleep(0.01)
        write = asyncio.create_task(node.propose(Set("k", 7)))
        for _ in range(100):
            await asyncio.sleep(0)
        may_connect.set()
        assert await write == 1


def leader_of(nodes: dict[str, raftwright.Node]) -> raftwright.Node:
    return next(node for node in nodes.values() if node.is_leader)


# One node


async def test_one_node_needs_a_name_and_a_place_and_listens_nowhere(tmp_path: Path) -> None:
    node = await raftwright.Node.start(state_machine=Table(), name="a", data_dir=tmp_path)
    try:
        assert await node.propose(Append("k", [1])) == [1]
        assert await node.propose(Set("k", 7)) == 2
        assert await node.query("k") == [7]
        assert await node.read_index() > 1
        assert (node.role, node.is_leader, node.id) == ("leader", True, 1)
        assert node.leader is not None
        assert [member.name for member in node.members] == ["a"]
        assert node.leader.name == "a"
        assert isinstance(node.machine, Table)
    finally:
        await node.stop()
    assert node.is_stopped


async def test_the_state_is_there_after_a_restart(tmp_path: Path) -> None:
    for number in range(3):
        async with alone(tmp_path, snapshot_every_commands=5) as node:
            for value in range(8):
                await node.propose(Append("k", [number * 8 + value]))
            assert await node.query("k") == list(range(number * 8 + 8))


async def test_it_may_serve_the_http_api_too(tmp_path: Path) -> None:
    address = f"127.0.0.1:{free_port(1)}"
    async with alone(tmp_path, client_listen=address) as node, raftwright.Client([address]) as client:
        assert await client.propose(Set("k", 3)) == 1
        assert await node.query("k") == [3]
        assert await client.query("k") == [3]


async def test_the_store_is_the_machine_unless_another_is_given(tmp_path: Path) -> None:
    async with raftwright.Node(name="a", data_dir=tmp_path) as node:
        assert await node.propose(raftwright.Put("k", b"v")) == 1
        item = await node.query("k")
        assert (item.value, item.revision) == (b"v", 1)
        with pytest.raises(raftwright.PreconditionFailed):
            await node.propose(raftwright.Put("k", b"w", if_absent=True))
        with pytest.raises(raftwright.InvalidRequest):
            await node.propose(raftwright.Put("", b"w"))


async def test_plain_bytes(tmp_path: Path) -> None:
    async with alone(tmp_path, Bytes()) as node:
        assert await node.propose(b"abc") == b"cba"
        with pytest.raises(raftwright.InvalidRequest, match="answers no queries"):
            await node.query("a")


async def test_an_exception_of_the_machine_comes_back_as_what_it_was(tmp_path: Path) -> None:
    async with alone(tmp_path) as node:
        with pytest.raises(raftwright.CommandFailed, match="ValueError: no luck") as caught:
            await node.propose(Fail("value", "no luck"))
        assert (caught.value.error, caught.value.outcome) == ("ValueError", "none")
        with pytest.raises(raftwright.QueryFailed, match="KeyError"):
            await node.query("missing")
        with pytest.raises(raftwright.InvalidRequest, match="is no command of Table"):
            await node.propose("text")


async def test_an_error_of_the_environment_stops_the_node_and_nothing_is_left_waiting(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    node = await raftwright.Node.start(state_machine=Table(), name="a", data_dir=tmp_path, request_timeout_s=60)
    await node.propose(Set("k", 1))
    glue = node._core.glue
    assert glue is not None
    fail = glue._fail

    def fail_as_something_arrives(error: BaseException) -> None:
        glue.poke()  # it runs before whoever waits for the failure hears of it
        fail(error)

    monkeypatch.setattr(glue, "_fail", fail_as_something_arrives)
    waiting = [asyncio.create_task(node.propose(command)) for command in (Set("x", 1), Fail("disk"), Set("y", 2))]
    async with asyncio.timeout(10):
        results = await asyncio.gather(*waiting, return_exceptions=True)
        with pytest.raises(OSError, match="No space left"):
            await node.wait()
    assert node.machine.applied == 3  # nothing was applied a second time to what was half done
    errors = [result for result in results if isinstance(result, raftwright.RaftwrightError)]
    assert [error.outcome for error in errors] == ["unknown"] * 3
    assert {type(error) for error in errors} == {raftwright.OutcomeUnknown}
    with pytest.raises(raftwright.Unavailable, match="not running"):
        await node.propose(Set("k", 2))
    with pytest.raises(OSError, match="No space left"):
        await node.stop()


async def test_a_key_makes_calls_one(tmp_path: Path) -> None:
    async with alone(tmp_path) as node:
        assert [await node.propose(Append("k", [1]), key="once") for _ in range(3)] == [[1], [1], [1]]
        assert await node.propose(Append("k", [2]), idempotent=True) == [1, 2]
        with pytest.raises(raftwright.IdempotencyConflict):
            await node.propose(Append("k", [3]), key="once")
        assert await node.query("k") == [1, 2]


async def test_an_answer_that_is_lost_is_asked_for_again_only_where_that_is_safe(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with alone(tmp_path) as node:
        await node.read_index()
        core = node._core
        real: dict[str, Callable[..., Any]] = {"write_blob": core.write_blob, "write_one": core.write_one}
        lost = []

        def losing(name: str) -> Any:
            def write(*arguments: Any) -> Any:
                answer = real[name](*arguments)
                if name in lost:
                    return answer
                lost.append(name)
                nobody: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
                answer.add_done_callback(lambda _: nobody.set_exception(OutcomeUnknown("lost")))
                return nobody

            return write

        for name in real:
            monkeypatch.setattr(core, name, losing(name))
        assert await node.propose(Append("k", [1]), idempotent=True) == [1]
        with pytest.raises(raftwright.OutcomeUnknown) as caught:
            await node.propose(Append("k", [2]))
        assert (lost, caught.value.outcome) == (["write_blob", "write_one"], "unknown")
        assert await node.query("k") == [1, 2]


async def test_what_becomes_of_the_callers_object_is_his_own_affair(tmp_path: Path) -> None:
    async with alone(tmp_path) as node:
        mine = Append("k", [1])
        pending = asyncio.ensure_future(node.propose(mine))
        await asyncio.sleep(0)
        mine.values.append(99)
        assert await pending == [1]
        mine.values.append(99)
        assert await node.query("k") == [1]


# Settings and starting


async def test_what_keeps_it_from_starting_is_raised(tmp_path: Path) -> None:
    async with alone(tmp_path):
        with pytest.raises(Exception, match="another process uses this data directory"):
            await raftwright.Node.start(state_machine=Table(), name="a", data_dir=tmp_path)
    with pytest.raises(Exception, match="holds the data of node 'a', not of 'b'"):
        await raftwright.Node.start(state_machine=Table(), name="b", data_dir=tmp_path)
    async with alone(tmp_path) as node:
        assert await node.read_index() > 1


async def test_a_node_that_stops_first_ends_what_it_was_writing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is written after the directory is unlocked could meet another process there."""
    began, ended = threading.Event(), []

    def slow(*arguments: Any) -> None:
        began.set()
        time.sleep(0.2)
        make_durable(*arguments)
        ended.append(True)

    monkeypatch.setattr(admission, "make_durable", slow)
    node = await raftwright.Node.start(state_machine=Table(), name="a", data_dir=tmp_path)
    assert await asyncio.to_thread(began.wait, 10)
    await node.stop()
    assert ended


def test_settings_are_checked_before_anything_starts(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="data_dir is not set"):
        raftwright.Node(name="a")
    with pytest.raises(SettingsError, match="did you mean request_timeout_s"):
        raftwright.Node(name="a", data_dir=tmp_path, request_timeout=3)
    with pytest.raises(SettingsError, match="request_timeout_s is 0"):
        raftwright.Node(name="a", data_dir=tmp_path, request_timeout_s=0)
    with pytest.raises(ValueError, match=r"give an object of it, Table\(\)"):
        raftwright.Node(state_machine=Table, name="a", data_dir=tmp_path)
    members = [FirstMember("a", "127.0.0.1:9001", None, True)]
    assert raftwright.Node(name="a", data_dir=tmp_path, members=members).settings.peer_listen == "127.0.0.1:9001"


async def test_calls_wait_until_the_others_are_there_and_say_what_for(tmp_path: Path) -> None:
    port = free_port(2)
    members = f"a=127.0.0.1:{port},b=127.0.0.1:{port + 1}"
    async with alone(tmp_path / "a", members=members) as a:
        with pytest.raises(raftwright.Unavailable, match="waits to hear from every first member") as caught:
            await a.propose(Set("k", 1), timeout_s=0.3)
        assert caught.value.outcome == "none"
        assert (a.id, a.role, a.members) == (None, None, [])
        pending = asyncio.create_task(a.propose(Set("k", 1), timeout_s=20))
        async with raftwright.Node(state_machine=Table(), name="b", data_dir=tmp_path / "b", members=members):
            assert await pending == 1


# Three nodes


async def test_three_nodes_agree_whoever_is_asked_and_whatever_fails(tmp_path: Path) -> None:
    async with three(tmp_path) as nodes:
        everyone = list(nodes.values())
        await asyncio.gather(*(everyone[n % 3].propose(Append("k", [n]), idempotent=True) for n in range(60)))
        failures = await asyncio.gather(*(node.propose(Fail("address")) for node in everyone), return_exceptions=True)
        assert {str(failure) for failure in failures} == {"RuntimeError: bad <object object at 0x…>"}
        for node in everyone:
            assert sorted(await node.query("k")) == list(range(60))
        assert len({tuple(node.machine.items["k"]) for node in everyone}) == 1
        assert len({node.machine.applied for node in everyone}) == 1


async def test_leadership_is_handed_over_and_everyone_hears_of_it(tmp_path: Path) -> None:
    async with three(tmp_path) as nodes:
        leader = leader_of(nodes)
        follower = next(node for node in nodes.values() if not node.is_leader)
        heard: list[raftwright.LeaderChange] = []
        follower.on_leader_change(heard.append)
        changes = follower.leader_changes()
        first = await anext(changes)
        assert (first.leader_id, first.is_this_node) == (leader.id, False)
        await leader.transfer_leadership(follower.settings.name)
        assert not leader.is_leader
        async with asyncio.timeout(5):
            async for change in changes:
                if change.is_this_node:
                    break
        assert follower.is_leader
        assert heard[-1] == change
        assert change.term > first.term
        await leader.transfer_leadership(leader.id)  # a follower passes it on
        assert leader_of(nodes) is leader
        with pytest.raises(raftwright.MembershipRefused, match="nobody") as caught:
            await follower.transfer_leadership("nobody")
        assert caught.value.reason == "unknown-member"


async def test_an_idempotent_command_survives_a_leader_that_stops(tmp_path: Path) -> None:
    async with three(tmp_path) as nodes:
        leader = leader_of(nodes)
        others = [node for node in nodes.values() if node is not leader]

        async def append(number: int) -> None:
            await others[number % 2].propose(Append("k", [number]), idempotent=True, timeout_s=20)

        work = [asyncio.create_task(append(number)) for number in range(100)]
        await asyncio.sleep(0)
        await leader.stop()
        await asyncio.gather(*work)
        assert sorted(await others[0].query("k")) == list(range(100))


async def test_reads_are_answered_as_they_are_asked(tmp_path: Path) -> None:
    async with three(tmp_path) as nodes:
        leader = leader_of(nodes)
        follower = next(node for node in nodes.values() if not node.is_leader)
        assert await leader.propose(Set("k", 1)) == 1
        index = await leader.read_index()
        rounds = leader._core.metrics.reads_lease
        assert await leader.query("k", consistency="lease") == [1]
        assert leader._core.metrics.reads_lease == rounds + 1
        assert await follower.query("k", consistency="lease") == [1]
        assert await follower.query("k", consistency="stale", min_index=index) == [1]
        assert await follower.query("k", consistency="stale", max_staleness_s=30) == [1]
        with pytest.raises(raftwright.Timeout):
            await follower.query("k", consistency="stale", min_index=index + 1000, timeout_s=0.3)
        with pytest.raises(raftwright.QueryFailed):
            await leader.query("missing", consistency="lease")
