"""Settings that change while a node runs, snapshots on request, and metadata: by HTTP, by program and by SIGHUP."""

import asyncio
import logging
import os
import signal
from collections.abc import Iterator
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import orjson
import pytest

import raftwright
from raftwright.server.live_settings import SettingRefused, changeable, changed, document, reloaded, shown
from raftwright.server.settings import NodeSettings, SettingsError, declarations
from raftwright.server.settings_sources import load_settings, settings_of
from tests.cluster.processes import call, cluster_of, status, until
from tests.cluster.support import free_port
from tests.machine.machines import Append, Set, Table
from tests.server.local_service import Heard, Running, running

SETTINGS = settings_of({"name": "a", "data_dir": "d"})


@pytest.fixture(autouse=True)
def _log_level() -> Iterator[None]:
    logger = logging.getLogger("raftwright")
    before = logger.level
    yield
    logger.setLevel(before)


async def patch(server: Running, changes: Any) -> Heard:
    return await server.ask("PATCH", "/v1/settings", orjson.dumps({"settings": changes}))


# What may change


def test_a_change_is_checked_as_the_sources_are() -> None:
    new = changed(SETTINGS, {"log_level": "debug", "snapshot_policy": "every hour", "page_bytes_max": "64KiB"}, "it")
    assert (new.log_level, new.snapshot_policy, new.page_bytes_max) == ("debug", "every hour", 65_536)
    assert SETTINGS.log_level == "info"


@pytest.mark.parametrize(
    ("changes", "name", "said"),
    [
        ({"log_level": "loud"}, "log_level", "one of debug"),
        ({"snapshot_policy": "sometimes"}, "snapshot_policy", "after 900s 1"),
        (
            {"log_level": "debug", "election_timeout_ms": 500},
            "election_timeout_ms",
            "cannot change while the node runs",
        ),
        ({"data_dir": "/other"}, "data_dir", "restart it"),
        ({"log_levle": "debug"}, "log_levle", "did you mean log_level"),
        ({"pending_bytes_max": 2048}, "", "the longest key and value"),
    ],
)
def test_what_is_wrong_or_may_not_change_is_refused_by_name(changes: dict[str, Any], name: str, said: str) -> None:
    with pytest.raises(SettingRefused, match=said) as caught:
        changed(SETTINGS, changes, "the request")
    assert caught.value.name == name


def test_what_is_shown_can_be_read_again() -> None:
    text = {"members": "a=h:1/h:2,b=h:3,nonVoting", "metadata": "zone=x,rack=1"}
    settings = settings_of({"name": "a", "data_dir": "d", **text})
    assert settings_of({name: value for name, value in document(settings).items() if value != ""}) == settings
    assert shown(Path("d")) == "d"
    assert set(changeable()) < set(declarations())


def test_reading_again_takes_what_may_change_and_names_the_rest() -> None:
    read = settings_of({"name": "a", "data_dir": "d", "log_level": "error", "client_listen": "127.0.0.1:9"})
    new, refused = reloaded(SETTINGS, read)
    assert (new.log_level, new.client_listen, refused) == ("error", SETTINGS.client_listen, ["client_listen"])


# Metadata


@pytest.mark.parametrize("value", ["zone=a,rack=b", "rack=b, zone=a", {"zone": "a", "rack": "b"}])
def test_metadata_is_pairs_in_order(value: Any) -> None:
    assert settings_of({"name": "a", "data_dir": "d", "metadata": value}).metadata == (("rack", "b"), ("zone", "a"))


@pytest.mark.parametrize(
    "text", ["zone", "=a", "a=1,a=2", "x y=1", f"a={'x' * 256}", ",".join(f"k{n}=1" for n in range(33))]
)
def test_what_is_no_metadata_is_refused(text: str) -> None:
    with pytest.raises(SettingsError, match="key=value, separated by commas"):
        load_settings({"name": "a", "data_dir": "d", "metadata": text}, {})


async def test_metadata_of_every_founding_member_is_known_to_all(tmp_path: Path) -> None:
    port = free_port(2)
    members = f"a=127.0.0.1:{port},b=127.0.0.1:{port + 1}"
    async with AsyncExitStack() as stack:
        nodes = [
            await stack.enter_async_context(
                raftwright.Node(
                    state_machine=Table(),
                    name=name,
                    data_dir=tmp_path / name,
                    members=members,
                    metadata=f"zone={name}",
                    shutdown_timeout_s=0.3,
                )
            )
            for name in "ab"
        ]
        for node in nodes:
            await node.read_index(timeout_s=20)
            assert {member.name: member.metadata for member in node.members} == {"a": {"zone": "a"}, "b": {"zone": "b"}}


# By HTTP


async def test_settings_are_shown_and_changed_by_http() -> None:
    async with running() as server:
        before = (await server.ask("GET", "/v1/settings")).json
        assert before["settings"]["page_items_max"] == 1000
        assert "election_timeout_ms" in before["settings"]
        assert "election_timeout_ms" not in before["changeable"]
        after = await patch(server, {"page_items_max": 5, "log_level": "warning"})
        assert (after.status, after.json["settings"]["page_items_max"]) == (200, 5)
        refused = await patch(server, {"page_items_max": 7, "name": "b"})
        assert (refused.status, refused.json["field"]) == (400, "settings.name")
        assert server.service.settings.page_items_max == 5
        for body in (b"", b"{}", b"[]", b'{"settings": 1}'):
            assert (await server.ask("PATCH", "/v1/settings", body)).status == 400


# In a node


async def test_a_change_takes_effect_at_once(tmp_path: Path) -> None:
    address = f"127.0.0.1:{free_port(1)}"
    node = raftwright.Node(
        state_machine=Table(), name="a", data_dir=tmp_path, snapshot_policy="never", client_listen=address
    )
    async with node:
        snapshots = node.snapshots()
        for value in range(20):
            await node.propose(Set("k", value))
        first = node.change_settings(snapshot_policy="commands 1", log_level="debug", snapshot_compression="gzip")
        assert isinstance(first, NodeSettings)
        assert logging.getLogger("raftwright").level == logging.DEBUG
        await node.propose(Append("k", [1]))
        async with asyncio.timeout(5):
            assert (await anext(snapshots)).kind == "taken"
        with pytest.raises(SettingsError, match="data_dir cannot change"):
            node.change_settings(data_dir="/other")
        (file,) = (tmp_path / "snapshots").glob("*.snapshot")
        assert file.read_bytes()[10:12] == b"\x01\0"
    async with raftwright.Node(state_machine=Table(), name="a", data_dir=tmp_path) as again:
        assert await again.query("k") == [19, 1]


async def test_a_snapshot_is_taken_when_it_is_asked_for(tmp_path: Path) -> None:
    policy = raftwright.SnapshotPolicy.never()
    async with raftwright.Node(state_machine=Table(), name="a", data_dir=tmp_path, snapshot_policy=policy) as node:
        await node.propose(Append("k", list(range(10_000))))
        taken = await node.take_snapshot()
        assert taken.index == await node.read_index()
        assert taken.bytes > 10_000
        assert await node.take_snapshot() == taken
        await node.propose(Set("k", 1))
        assert (await node.take_snapshot()).index > taken.index


async def test_a_policy_of_ones_own_is_asked(tmp_path: Path) -> None:
    policy = raftwright.SnapshotPolicy.custom(lambda progress: progress.changes >= 4)
    async with raftwright.Node(state_machine=Table(), name="a", data_dir=tmp_path, snapshot_policy=policy) as node:
        snapshots = node.snapshots()
        for value in range(4):
            await node.propose(Set("k", value))
        async with asyncio.timeout(5):
            assert (await anext(snapshots)).kind == "taken"


# SIGHUP


@pytest.mark.slow
async def test_sighup_reads_the_file_again_and_refuses_by_name_what_may_not_change(tmp_path: Path) -> None:
    config = tmp_path / "node.toml"
    config.write_text('log_level = "info"\n')
    async with cluster_of(tmp_path / "cluster", 1, flags=["--config", str(config)]) as cluster:

        async def setting(name: str) -> Any:
            answer = await call(cluster, "node1", "GET", "/v1/settings")
            return answer and answer[1]["settings"][name]

        config.write_text('log_level = "warning"\nelection_timeout_ms = 900\nsnapshot_policy = "every day"\n')
        os.kill(cluster.nodes["node1"].pid or 0, signal.SIGHUP)

        async def is_read() -> bool:
            return bool(await setting("snapshot_policy") == "every day")

        await until("the file is read again", is_read)
        assert await setting("log_level") == "warning"
        assert await setting("election_timeout_ms") == 600
        assert "restart it: election_timeout_ms" in cluster.log_tail("node1", 20)
        config.write_text('log_level = "loud"\n')
        os.kill(cluster.nodes["node1"].pid or 0, signal.SIGHUP)

        async def is_refused() -> bool:
            return "the settings stay as they are" in cluster.log_tail("node1", 20)

        await until("the wrong file is refused", is_refused)
        assert await setting("log_level") == "warning"
        said = await status(cluster, "node1")
        assert said is not None
        assert said["state"] == "serving"


# Compression


async def test_a_snapshot_that_one_node_compressed_is_loaded_by_another(tmp_path: Path) -> None:
    port = free_port(2)
    first = raftwright.Node(
        state_machine=Table(),
        name="a",
        data_dir=tmp_path / "a",
        members=f"a=127.0.0.1:{port}",
        snapshot_compression="zstd",
        shutdown_timeout_s=0.3,
    )
    async with first:
        await first.propose(Append("k", list(range(5000))))
        taken = await first.take_snapshot()
        assert taken.bytes < 20_000
        second = raftwright.Node(
            state_machine=Table(),
            name="b",
            data_dir=tmp_path / "b",
            join=f"127.0.0.1:{port}",
            peer_listen=f"127.0.0.1:{port + 1}",
            shutdown_timeout_s=0.3,
        )
        async with second:
            received = second.snapshots()
            async with asyncio.timeout(20):
                change = await anext(received)
            assert (change.kind, change.index) == ("received", taken.index)
            assert await second.query("k", timeout_s=20) == list(range(5000))
