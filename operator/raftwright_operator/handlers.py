"""The one module that knows kopf: which resources there are, and a daemon for each.

Run by `__main__`, or by `kopf run -m raftwright_operator.handlers --standalone -A` with the same variables. Rule: kopf
finds the resources, starts and ends the loops, and holds deletion up; it keeps no state of its own in them, and decides
nothing. Its handlers of changes see edges and may lose some, so there are none but the one of deletion, which is the
same loop again: a resource that is being deleted when the operator starts gets no daemon.
"""

import asyncio
from collections.abc import Coroutine
from typing import Any, cast

import kopf

from raftwright_operator.names import FINALIZER, GROUP, PLURAL, VERSION
from raftwright_operator.runtime import Runtime
from raftwright_operator.settings import settings_of

RESOURCE = (GROUP, VERSION, PLURAL)
EXIT_S = 2.0
"""How long a loop may take to end once it is told to."""


class NoProgress(kopf.ProgressStorage):
    """kopf is to write nothing about its handlers into the resources: they never have to be continued."""

    def fetch(self, **_: Any) -> None:
        return None

    def store(self, **_: Any) -> None:
        pass

    def purge(self, **_: Any) -> None:
        pass

    def touch(self, **_: Any) -> None:
        pass

    def clear(self, *, essence: Any) -> Any:
        return essence


class NoDiffBase(kopf.DiffBaseStorage):
    """Nor what it saw last: nothing here depends on what has changed."""

    def build(self, **_: Any) -> Any:
        return {}

    def fetch(self, **_: Any) -> None:
        return None

    def store(self, **_: Any) -> None:
        pass


@kopf.on.startup()
async def on_startup(settings: kopf.OperatorSettings, memo: kopf.Memo, **_: Any) -> None:
    configure(settings)
    if "runtime" not in memo:
        memo.runtime = Runtime(settings_of())
    await memo.runtime.start()


@kopf.on.cleanup()
async def on_cleanup(memo: kopf.Memo, **_: Any) -> None:
    if "runtime" in memo:
        await memo.runtime.stop()


@kopf.on.login()
def on_login(**kwargs: Any) -> kopf.ConnectionInfo | None:
    return kopf.login_with_service_account(**kwargs) or kopf.login_via_client(**kwargs)


@kopf.daemon(*RESOURCE, cancellation_backoff=EXIT_S, cancellation_timeout=EXIT_S)
async def on_life(
    namespace: str | None, name: str | None, uid: str | None, memo: kopf.Memo, stopped: kopf.DaemonStopped, **_: Any
) -> None:
    """Ends only when the resource is deleted or the operator ends: one that returned is not started again."""
    while not stopped:
        if not await _finished(memo.runtime.worker((namespace, name), uid).run(), stopped):
            return
        memo.runtime.forget((namespace, name), uid)
        # Gone, says the API server, though kopf has not heard of it; or it will be, when others let it go.
        await stopped.wait(memo.runtime.settings.resync_s)


async def _finished(work: Coroutine[Any, Any, None], stopped: kopf.DaemonStopped) -> bool:
    """Whether the work came to its end before the daemon was told to. It is cancelled here, which does no harm at any
    point, and not by kopf, which takes a cancelled daemon for a failed one and warns of it."""
    working = asyncio.create_task(work)
    telling = asyncio.ensure_future(stopped.wait())
    try:
        await asyncio.wait((working, telling), return_when=asyncio.FIRST_COMPLETED)
        if working.done():
            working.result()
        return working.done()
    finally:
        for task in (working, telling):
            task.cancel()
        await asyncio.gather(working, telling, return_exceptions=True)


@kopf.on.delete(*RESOURCE)
async def on_delete(namespace: str | None, name: str | None, uid: str | None, memo: kopf.Memo, **_: Any) -> None:
    """Returns when our finalizer is off the resource."""
    await memo.runtime.worker((namespace, name), uid).run()
    memo.runtime.forget((namespace, name), uid)


def configure(settings: kopf.OperatorSettings) -> None:
    settings.persistence.finalizer = FINALIZER
    settings.persistence.progress_storage = NoProgress()
    settings.persistence.diffbase_storage = NoDiffBase()
    settings.posting.enabled = False
    # The resources are few kinds of known names: no need to watch definitions and namespaces, or to be allowed to.
    settings.scanning.disabled = True
    settings.watching.server_timeout = 300
    settings.watching.client_timeout = 330
    settings.watching.connect_timeout = 10
    settings.watching.inactivity_timeout = 100
    settings.networking.request_timeout = 30
    settings.execution.default_backoff = 5
    settings.background.cancellation_polling = 1
    settings.queueing.idle_timeout = 5


async def operate(runtime: Runtime, stop: asyncio.Event) -> None:
    """Run the operator in this process until `stop`, or a signal to end."""
    namespaces = runtime.settings.namespaces
    await kopf.operator(
        standalone=True,
        clusterwide=not namespaces,
        namespaces=namespaces,
        stop_flag=stop,
        # Else it asks for the name of the user, who need not have one. Its type is a str that kopf does not export.
        identity=cast(Any, runtime.settings.pod_name),
        memo=kopf.Memo(runtime=runtime),
    )
