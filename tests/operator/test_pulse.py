"""The Service of the leader follows a new one, though no object of Kubernetes says that there is one."""

import asyncio
import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from raftwright_operator.names import LABEL_LEADER
from raftwright_operator.runtime import PULSE_S
from tests.operator.apiserver import ApiServer
from tests.operator.world import NAME, World, world

pytestmark = pytest.mark.slow
NEVER_S = 300.0
"""The next look that comes by time, longer than the test."""


@pytest.fixture
async def place(api_server: ApiServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[World]:
    async with world(api_server, tmp_path, monkeypatch) as made:
        yield made


async def labelled(place: World) -> list[str]:
    found, _ = await place.kube.list("Pod", place.namespace, selector=f"{LABEL_LEADER}=true")
    return [pod["metadata"]["name"] for pod in found]


async def test_the_label_follows_a_transfer_and_the_api_server_is_not_asked(place: World) -> None:
    resource = await place.create(replicas=3)
    async with place.runtime(resync_s=NEVER_S) as runtime, await place.client_of("db-0", "db-1", "db-2") as client:
        working = asyncio.create_task(runtime.worker((place.namespace, NAME), resource["metadata"]["uid"]).run())
        status = await place.settled(3)
        # From here on readiness does not change, nor is anything of it written.
        place.nodes.is_awake = False
        leader = status["leader"]
        heir = next(member for member in status["members"] if member["name"] != leader)
        assert await labelled(place) == [leader]
        reads = runtime.reads
        await asyncio.sleep(3 * PULSE_S)
        assert runtime.reads == reads
        began = time.monotonic()
        await client.members.transfer_leadership(heir["id"])

        async def has_followed() -> bool:
            return await labelled(place) == [heir["name"]]

        await place.eventually(has_followed, "the label follows", lambda: place.actions)
        print(f"the label followed after {time.monotonic() - began:.1f} s")  # noqa: T201
        working.cancel()
        await asyncio.gather(working, return_exceptions=True)
