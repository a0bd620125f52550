"""`python -m raftwright_operator`: the operator's process. Settings are flags, or variables of the environment.

Rule: only who holds the Lease acts, and whoever loses it ends at once, by whatever way it was lost.
"""

import asyncio
import logging
import os
import signal
import sys
from collections.abc import Coroutine
from typing import Annotated, Any

import typer
from aiohttp import web

from raftwright_operator.handlers import operate
from raftwright_operator.health import serve_health, serve_metrics
from raftwright_operator.kube import Kube
from raftwright_operator.leadership import Leadership, LeadershipLost
from raftwright_operator.runtime import Runtime
from raftwright_operator.settings import NODE_IMAGE, PREFIX, OperatorSettings, SettingsError, settings_of

EXIT_LOST = 3
"""Exit status after the Lease was lost."""
log = logging.getLogger("raftwright_operator")


def command(
    node_image: Annotated[
        str, typer.Option(envvar=PREFIX + "NODE_IMAGE", help="Image of the nodes of clusters that name none.")
    ] = NODE_IMAGE,
    namespaces: Annotated[
        str, typer.Option(envvar=PREFIX + "NAMESPACES", help="Namespaces to serve, with commas; empty: all of them.")
    ] = "",
    leader_election: Annotated[
        bool, typer.Option(envvar=PREFIX + "LEADER_ELECTION", help="Act only while holding the Lease.")
    ] = True,
    node_access: Annotated[
        str,
        typer.Option(
            envvar=PREFIX + "NODE_ACCESS",
            help="How nodes are reached: `direct` by the pods' addresses, `proxy` through the API server, as from a"
            " machine outside of the cluster, or `auto`.",
        ),
    ] = "auto",
    health_port: Annotated[
        int, typer.Option(envvar=PREFIX + "HEALTH_PORT", help="Of /healthz and /readyz; 0: none.")
    ] = 8080,
    metrics_port: Annotated[int, typer.Option(envvar=PREFIX + "METRICS_PORT", help="Of /metrics; 0: none.")] = 9090,
    resync_s: Annotated[
        float, typer.Option(envvar=PREFIX + "RESYNC_S", help="How often a settled cluster is looked at, in seconds.")
    ] = 15.0,
    log_level: Annotated[str, typer.Option(envvar=PREFIX + "LOG_LEVEL", help="DEBUG, INFO or WARNING.")] = "INFO",
) -> None:
    """Reconcile the RaftClusters of a Kubernetes cluster.

    Within the cluster it uses the service account of its pod, elsewhere the kubeconfig that kubectl would use. Several
    may run: one acts, the others stand by. POD_NAME and POD_NAMESPACE say who this is and where the Lease is kept.
    """
    flags = {
        "NODE_IMAGE": node_image,
        "NAMESPACES": namespaces,
        "LEADER_ELECTION": str(leader_election),
        "NODE_ACCESS": node_access,
        "HEALTH_PORT": str(health_port),
        "METRICS_PORT": str(metrics_port),
        "RESYNC_S": str(resync_s),
        "LOG_LEVEL": log_level,
    }
    try:
        settings = settings_of({**os.environ, **{PREFIX + name: text for name, text in flags.items()}})
    except SettingsError as error:
        raise typer.BadParameter(str(error)) from None
    logging.basicConfig(
        level=settings.log_level, stream=sys.stderr, format="%(asctime)s %(levelname)-7s %(name)s %(message)s"
    )
    for name in ("kopf", "aiohttp", "asyncio"):
        logging.getLogger(name).setLevel(max(logging.WARNING, logging.getLogger().level))
    asyncio.run(run(settings))


async def run(settings: OperatorSettings) -> None:
    """Until SIGTERM. Ends the whole process when the Lease is lost."""
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    runtime = Runtime(settings)
    is_leading = asyncio.Event()
    servers: list[web.AppRunner] = []
    if settings.health_port:
        servers.append(await serve_health(settings.health_port, lambda: not is_leading.is_set() or runtime.is_synced))
    if settings.metrics_port:
        servers.append(await serve_metrics(settings.metrics_port, runtime.metrics.registry))
    kube = await Kube.connect()
    leadership = Leadership(kube, settings.pod_namespace, settings.pod_name, pod_uid=settings.pod_uid)
    keeping: asyncio.Task[None] | None = None
    try:
        if settings.leader_election:
            log.info("Standing by as %s, for the Lease in %s", settings.pod_name, settings.pod_namespace)
            if not await _first(leadership.acquire(), stop):
                return
        is_leading.set()
        runtime.metrics.leading.set(1)
        keeping = asyncio.create_task(_keep(leadership)) if settings.leader_election else None
        await operate(runtime, stop)
    finally:
        if keeping is not None:
            keeping.cancel()
            await asyncio.gather(keeping, return_exceptions=True)
        await leadership.release()
        await kube.close()
        for server in servers:
            await server.cleanup()


async def _first(work: Coroutine[Any, Any, None], stop: asyncio.Event) -> bool:
    """Whether the work was done before the process was told to stop."""
    task = asyncio.create_task(work)
    stopping = asyncio.create_task(stop.wait())
    await asyncio.wait((task, stopping), return_when=asyncio.FIRST_COMPLETED)
    stopping.cancel()
    if task.done():
        task.result()
        return True
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    return False


async def _keep(leadership: Leadership) -> None:
    """Ends the process, whatever it is doing: nobody else may be acting by the time that it has ended."""
    try:
        await leadership.keep()
    except asyncio.CancelledError:
        raise
    except LeadershipLost as error:
        log.error("This process ends, since %s", error)
    except BaseException:
        log.exception("This process ends, since it cannot keep the Lease")
    logging.shutdown()
    os._exit(EXIT_LOST)


if __name__ == "__main__":
    typer.run(command)
