"""Real nodes that are bootstrapped, join, are replaced, removed and promoted, with disks and sockets as they are."""

import asyncio
import shutil
import time
from pathlib import Path

import pytest

from raftwright.client.client import Client
from tests.cluster.nodes import Nodes, nodes_in
from tests.cluster.processes import until

pytestmark = pytest.mark.slow


async def test_three_waiting_nodes_are_bootstrapped_once(tmp_path: Path) -> None:
    async with nodes_in(tmp_path) as nodes:
        for name in ("n1", "n2", "n3"):
            nodes.start(name)
            waiting = await nodes.until_state(name, "waiting")
            assert waiting["store_id"] and waiting["id"] is None
        body = await nodes.bootstrap("n1", "n2", "n3")
        assert await nodes.roles("n2") == {"n1": "voter", "n2": "voter", "n3": "voter"}
        assert await nodes.ask("n1", "POST", "/v1/cluster/bootstrap", body) == (
            200,
            {"cluster_id": "test-cluster", "id": 1},
        )
        assert (await nodes.ask("n2", "POST", "/v1/cluster/bootstrap", body))[0] == 200
        for other in ({**body, "cluster_id": "another-one"}, {**body, "members": body["members"][:2]}):
            status, problem = await nodes.ask("n1", "POST", "/v1/cluster/bootstrap", other)
            assert (status, problem["type"].rpartition("/")[2]) == (409, "already-bootstrapped")
        assert (await nodes.ask("n3", "PUT", "/v1/kv/k", b"v"))[0] == 200
