"""The cache on a real API server: it follows what happens, and comes back from whatever is lost."""

import asyncio
import contextlib
import os
import uuid
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from typing import Any

import pytest

from raftwright_operator.cache import Cache, Key, trim
from raftwright_operator.kube import Kube, KubeError, Object, WatchEvent
from raftwright_operator.names import LABEL_CLUSTER
from tests.chart.crd import definition, raft_cluster
from tests.operator.apiserver import ApiServer

NAME = "db"


class Breakable(Kube):
    """Its watches can be broken, and what they would go on from forgotten."""

    def __init__(self, api: Any) -> None:
        super().__init__(api)
        self.broken = asyncio.Event()
        self.mended = asyncio.Event()
        self.mended.set()
        self.status = 0

    async def watch(
        self, kind: str, namespace: str, resource_version: str, *, selector: str = ""
    ) -> AsyncGenerator[WatchEvent, None]:
        async with contextlib.aclosing(super().watch(kind, namespace, resource_version, selector=selector)) as events:
            while (event := await self._unless_broken(events)) is not None:
                yield event

    async def _unless_broken(self, events: AsyncGenerator[WatchEvent, None]) -> WatchEvent | None:
        following = asyncio.ensure_future(anext(events, None))
        breaking = asyncio.create_task(self.broken.wait())
        try:
            await asyncio.wait((following, breaking), return_when=asyncio.FIRST_COMPLETED)
            if not self.broken.is_set():
                return following.result()
        finally:
            for task in (following, breaking):
                task.cancel()
            await asyncio.gather(following, breaking, return_exceptions=True)
        await self.mended.wait()
        raise KubeError(self.status, "Broken", "by the test")


class Place:
    def __init__(self, kube: Breakable, namespace: str) -> None:
        self.kube = kube
        self.namespace = namespace
        self.key: Key = (namespace, NAME)
        self.woken: list[Key] = []
        self.cache = Cache(kube, [namespace], self.woken.append)

    async def config(self, name: str, **data: str) -> Object:
        meta = {"name": name, "namespace": self.namespace, "labels": {LABEL_CLUSTER: NAME}}
        return await self.kube.apply({"apiVersion": "v1", "kind": "ConfigMap", "metadata": meta, "data": data})

    def configs(self) -> dict[str, Any]:
        found = self.cache.children("ConfigMap", self.key)
        return {each["metadata"]["name"]: each.get("data") for each in found}

    async def until(self, configs: dict[str, Any]) -> None:
        await eventually(lambda: self.configs() == configs)


async def eventually(holds: Callable[[], bool]) -> None:
    async with asyncio.timeout(15):
        while True:
            if holds():
                return
            await asyncio.sleep(0.02)


@pytest.fixture
async def place(api_server: ApiServer, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Place]:
    monkeypatch.setitem(os.environ, "KUBECONFIG", str(api_server.kubeconfig))
    await asyncio.to_thread(api_server.install_definition, definition())
    namespace = f"cache-{uuid.uuid4().hex[:8]}"
    await asyncio.to_thread(api_server.create_namespace, namespace)
    kube = await Breakable.connect()
    made = Place(kube, namespace)
    task = asyncio.create_task(made.cache.run())
    await asyncio.wait_for(made.cache.synced.wait(), 20)
    yield made
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    await kube.close()


async def test_it_follows_what_is_made_changed_and_deleted(place: Place) -> None:
    assert place.cache.is_current
    made = await place.config("a", x="1")
    await place.until({"a": {"x": "1"}})
    await place.config("a", x="2")
    await place.until({"a": {"x": "2"}})
    await place.kube.delete("ConfigMap", place.namespace, "a", uid=made["metadata"]["uid"])
    await place.until({})
    assert set(place.woken) == {place.key}


async def test_what_was_deleted_while_the_watch_was_lost_is_gone_afterwards(place: Place) -> None:
    """And what it would go on from is no longer kept (410): all is listed anew."""
    made = await place.config("a", x="1")
    await place.config("b", x="1")
    await place.until({"a": {"x": "1"}, "b": {"x": "1"}})
    place.kube.status = 410
    place.kube.mended.clear()
    place.kube.broken.set()
    await asyncio.sleep(0.1)
    await place.kube.delete("ConfigMap", place.namespace, "a", uid=made["metadata"]["uid"])
    await place.config("c", x="1")
    place.kube.broken.clear()
    place.kube.mended.set()
    await place.until({"b": {"x": "1"}, "c": {"x": "1"}})


async def test_an_answer_of_our_own_is_there_at_once_and_never_goes_back(place: Place) -> None:
    first = await place.config("a", x="1")
    second = await place.config("a", x="2")
    place.cache.put(second)
    place.cache.put(first)
    assert place.configs() == {"a": {"x": "2"}}


async def test_the_status_of_a_resource_wakes_nobody_and_its_spec_does(place: Place) -> None:
    await place.kube.create(raft_cluster(NAME, place.namespace, {"replicas": 1}))
    await eventually(lambda: place.cache.cluster(place.key) is not None)
    place.woken.clear()
    status = {"status": {"leader": "db-0"}}
    await place.kube.patch("RaftCluster", place.namespace, NAME, status, subresource="status")
    await eventually(lambda: "status" in (place.cache.cluster(place.key) or {}))
    assert not place.woken
    await place.kube.patch("RaftCluster", place.namespace, NAME, {"spec": {"replicas": 3}})
    await eventually(lambda: bool(place.woken))


def test_of_a_pod_little_is_kept() -> None:
    pod = {
        "metadata": {"name": "a", "uid": "u", "managedFields": [{"manager": "kubelet"}]},
        "spec": {"nodeName": "n", "containers": [{"name": "node", "env": []}]},
        "status": {"podIP": "10.0.0.1", "hostIP": "10.0.0.2", "conditions": []},
    }
    assert trim("Pod", pod) == {
        "kind": "Pod",
        "metadata": {"name": "a", "uid": "u"},
        "spec": {"nodeName": "n"},
        "status": {"podIP": "10.0.0.1", "conditions": []},
    }
