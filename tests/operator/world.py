"""A namespace of a real API server with a kubelet of ours, a RaftCluster in it, and operators that a test starts and
kills. Called by the tests of observing, executing and reconciling.

Rule: an operator here is the real one but for kopf; it is killed by cancelling it wherever it is.
"""

import asyncio
import os
import uuid
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import pytest

from raftwright.client.client import Client
from raftwright_operator.actions import Action
from raftwright_operator.execute import Executor
from raftwright_operator.kube import Kube, KubeError, Object, path_of
from raftwright_operator.names import CLIENT_PORT, KIND
from raftwright_operator.nodes import DirectReach
from raftwright_operator.observe import Sight
from raftwright_operator.outcome import Outcome
from raftwright_operator.runtime import Runtime
from raftwright_operator.settings import OperatorSettings
from tests.chart.crd import definition, raft_cluster
from tests.operator.apiserver import ApiServer
from tests.operator.kubelet import Kubelet, address_of, kubelet, resolve_pods

NAME = "db"
PATIENCE_S = 60.0


class Killed(BaseException):
    """The operator dies here, as by SIGKILL: nothing of it goes on."""


class World:
    def __init__(self, server: ApiServer, kube: Kube, namespace: str, nodes: Kubelet) -> None:
        self.server = server
        self.kube = kube
        self.namespace = namespace
        self.nodes = nodes
        self.actions: list[str] = []
        """What operators did here, in order."""
        self.after_action: Callable[[Action], None] = lambda action: None

    async def create(self, name: str = NAME, **spec: Any) -> Object:
        return await self.kube.create(raft_cluster(name, self.namespace, spec))

    async def resource(self, name: str = NAME) -> Object | None:
        return await self.kube.get(KIND, self.namespace, name)

    async def change(self, name: str = NAME, **spec: Any) -> None:
        await self.kube.patch(KIND, self.namespace, name, {"spec": spec})

    async def delete(self, name: str = NAME) -> None:
        found = await self.resource(name)
        assert found is not None
        await self.kube.delete(KIND, self.namespace, name, uid=found["metadata"]["uid"])

    async def names(self, kind: str) -> set[str]:
        found, _ = await self.kube.list(kind, self.namespace)
        return {each["metadata"]["name"] for each in found}

    async def condition(self, kind: str, name: str = NAME) -> Mapping[str, Any]:
        found = await self.resource(name)
        assert found is not None
        conditions = (found.get("status") or {}).get("conditions") or ()
        return next((each for each in conditions if each["type"] == kind), {})

    async def settled(
        self, voters: int, non_voting: int = 0, name: str = NAME, patience_s: float = PATIENCE_S
    ) -> Mapping[str, Any]:
        """Waits until the status says that all is as asked for; returns it."""
        status: Mapping[str, Any] = {}
        wanted = (f"{voters}/{voters}", f"{non_voting}/{non_voting}")

        async def is_settled() -> bool:
            nonlocal status
            found = await self.resource(name)
            assert found is not None
            status = found.get("status") or {}
            holds = {each["type"]: each["status"] for each in status.get("conditions") or ()}
            is_seen = status.get("observedGeneration") == found["metadata"]["generation"]
            counts = (status.get("voters"), status.get("nonVoting"))
            return is_seen and counts == wanted and holds.get("Ready") == "True" and holds.get("Progressing") == "False"

        what = f"{voters} voters and {non_voting} others"
        await self.eventually(is_settled, what, lambda: (status, self.actions), patience_s)
        return status

    async def eventually(
        self,
        holds: Callable[[], Any],
        what: str,
        shown: Callable[[], object] = lambda: "",
        patience_s: float = PATIENCE_S,
    ) -> None:
        deadline = asyncio.get_running_loop().time() + patience_s
        while not await holds():
            if asyncio.get_running_loop().time() > deadline:
                raise AssertionError(f"never: {what}; {shown()}")
            await asyncio.sleep(0.1)

    async def client_of(self, *pods: str) -> Client:
        return Client([f"{address_of(self.namespace, pod)}:{CLIENT_PORT}" for pod in pods], discover=False)

    @asynccontextmanager
    async def runtime(self, resync_s: float = 2.0) -> AsyncIterator[Runtime]:
        settings = OperatorSettings(
            namespaces=(self.namespace,), node_image="raftwright/node:test", pod_name="test", resync_s=resync_s
        )
        kube = await Kube.connect()
        made = Runtime(settings, kube=kube, reach=DirectReach())
        try:
            await made.start()
            assert made._tools is not None
            made._tools.executor.__class__ = _Watched
            made._tools.executor.world = self  # type: ignore[attr-defined]
            yield made
        finally:
            await made.stop()
            await kube.close()

    @asynccontextmanager
    async def operator(self, name: str = NAME) -> AsyncIterator["asyncio.Task[None]"]:
        """One that works on the resource of this name, until the block is left."""
        found = await self.resource(name)
        assert found is not None
        async with self.runtime() as runtime:
            worker = runtime.worker((self.namespace, name), found["metadata"]["uid"])
            task = asyncio.create_task(worker.run())
            try:
                yield task
            finally:
                task.cancel()
                with suppress(asyncio.CancelledError, Killed):
                    await task


class _Watched(Executor):
    """Tells the test what was done."""

    world: World

    async def execute(self, action: Action, sight: Sight) -> Outcome:
        outcome = await super().execute(action, sight)
        if outcome.what == "done":
            self.world.actions.append(type(action).__name__)
        self.world.after_action(action)
        return outcome


@asynccontextmanager
async def world(api_server: ApiServer, directory: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[World]:
    monkeypatch.setitem(os.environ, "KUBECONFIG", str(api_server.kubeconfig))
    monkeypatch.delenv("KUBERNETES_SERVICE_HOST", raising=False)
    await asyncio.to_thread(api_server.install_definition, definition())
    namespace = f"test-{uuid.uuid4().hex[:8]}"
    await asyncio.to_thread(api_server.create_namespace, namespace)
    resolve_pods(monkeypatch)
    kube = await Kube.connect()
    try:
        async with kubelet(kube, namespace, directory) as nodes:
            made = World(api_server, kube, namespace, nodes)
            yield made
            await _leave_nothing(made)
    finally:
        await kube.close()


async def _leave_nothing(made: World) -> None:
    """Other tests that see the whole server see nothing of this one."""
    found, _ = await made.kube.list(KIND, made.namespace)
    for each in found:
        name = each["metadata"]["name"]
        with suppress(KubeError):
            await made.kube.patch(KIND, made.namespace, name, {"metadata": {"finalizers": None}})
            await made.kube.call("DELETE", path_of(KIND, made.namespace, name))
