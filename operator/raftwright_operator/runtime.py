"""The parts of one operator process, put together, and a worker a RaftCluster. Without kopf.

Made by `__main__`, or by `handlers` under kopf's own command; tests make their own. Rule: a worker is woken by anything
that happens to its cluster, and by time; it is never told what happened.
"""

import asyncio
import logging
import time

from raftwright_operator.cache import Cache, Key
from raftwright_operator.execute import Executor
from raftwright_operator.kube import Kube, is_in_cluster
from raftwright_operator.metrics import OperatorMetrics
from raftwright_operator.nodes import DirectReach, Nodes, Reach
from raftwright_operator.observe import Observer
from raftwright_operator.proxy import ProxyReach
from raftwright_operator.reconcile import Reconciler, Tools
from raftwright_operator.recorder import Recorder
from raftwright_operator.settings import OperatorSettings

GATHER_S = 0.05
"""What happens together is looked at once."""
PULSE_S = 1.5
"""How often a node is asked who leads: the Service of the leader follows a new one within about two seconds."""
log = logging.getLogger(__name__)


class Worker:
    """Reconciles one resource. `run` may be called from several tasks: one at a time goes on."""

    def __init__(self, reconciler: Reconciler) -> None:
        self._reconciler = reconciler
        self._lock = asyncio.Lock()
        self.woken = asyncio.Event()

    async def run(self) -> None:
        """Until the resource is gone, or the task is cancelled, which does no harm at any point."""
        async with self._lock:
            while True:
                self.woken.clear()
                delay_s = await self._reconciler.step()
                if delay_s is None:
                    return
                await self._rest(delay_s)

    async def _rest(self, delay_s: float) -> None:
        """Until so long has passed, something has happened, or a node says that another leads now."""
        deadline = time.monotonic() + delay_s
        while (left_s := deadline - time.monotonic()) > 0:
            try:
                # Not `wait_for`: before Python 3.12 it forgets a cancellation that comes as it is woken.
                async with asyncio.timeout(min(left_s, PULSE_S)):
                    await self.woken.wait()
            except TimeoutError:
                if left_s > PULSE_S and await self._reconciler.pulse.has_new_leader():
                    return
            else:
                await asyncio.sleep(min(GATHER_S, delay_s))
                return


class Runtime:
    """`start`, then `worker` for each resource, then `stop`."""

    def __init__(self, settings: OperatorSettings, *, kube: Kube | None = None, reach: Reach | None = None) -> None:
        self.settings = settings
        self.metrics = OperatorMetrics()
        self.cache: Cache | None = None
        self._kube = kube
        self._owns_kube = kube is None
        self._reach = reach
        self._nodes: Nodes | None = None
        self._tools: Tools | None = None
        self._following: asyncio.Task[None] | None = None
        self._workers: dict[tuple[Key, str], Worker] = {}

    async def start(self) -> None:
        """Returns when the caches have everything: until the API server answers, and knows RaftClusters, it waits."""
        kube = self._kube = self._kube or await Kube.connect()
        nodes = self._nodes = Nodes(self._reach or _reach_of(self.settings, kube))
        nodes.open()
        cache = self.cache = Cache(kube, self.settings.namespaces, self.wake)
        self._tools = Tools(
            kube=kube,
            nodes=nodes,
            observer=Observer(kube, nodes, default_image=self.settings.node_image, cache=cache),
            executor=Executor(kube, nodes, cache),
            recorder=Recorder(kube, self.settings.pod_name),
            metrics=self.metrics,
            resync_s=self.settings.resync_s,
            cache=cache,
        )
        self._following = asyncio.create_task(cache.run(), name="cache")
        synced = asyncio.create_task(cache.synced.wait())
        await asyncio.wait((synced, self._following), return_when=asyncio.FIRST_COMPLETED)
        if self._following.done():
            synced.cancel()
            await self._following
        log.info("The caches are filled: %d RaftClusters", len(cache.clusters()))

    async def stop(self) -> None:
        if self._following is not None:
            self._following.cancel()
            await asyncio.gather(self._following, return_exceptions=True)
        if self._nodes is not None:
            await self._nodes.close()
        if self._kube is not None and self._owns_kube:
            await self._kube.close()

    @property
    def is_synced(self) -> bool:
        return self.cache is not None and self.cache.synced.is_set()

    @property
    def reads(self) -> int:
        """GET requests to the API server so far, watches not counted."""
        return self._kube.reads if self._kube else 0

    def worker(self, key: Key, uid: str) -> Worker:
        """The one of this resource."""
        assert self._tools is not None, "start first"
        if (key, uid) not in self._workers:
            self._workers[key, uid] = Worker(Reconciler(key, uid, self._tools))
        return self._workers[key, uid]

    def forget(self, key: Key, uid: str) -> None:
        """The resource is gone."""
        self._workers.pop((key, uid), None)

    def wake(self, key: Key) -> None:
        for (known, _), worker in self._workers.items():
            if known == key:
                worker.woken.set()


def _reach_of(settings: OperatorSettings, kube: Kube) -> Reach:
    access = settings.node_access
    if access == "auto":
        access = "direct" if is_in_cluster() else "proxy"
    return DirectReach() if access == "direct" else ProxyReach(kube)
