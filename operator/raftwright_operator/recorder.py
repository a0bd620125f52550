"""Posts events about RaftClusters, for `kubectl describe`. Called by `reconcile`.

Rule: the same event is one object whose count goes up, also across restarts of the operator: its name is a hash of what
it says. An event that cannot be posted is logged and forgotten: nothing waits for it.
"""

import hashlib
import logging
import time
from collections import OrderedDict
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from raftwright_operator.kube import Kube, KubeError
from raftwright_operator.names import FIELD_MANAGER, GROUP, KIND, VERSION
from raftwright_operator.status import Event

TIMEOUT_S = 3.0
AGAIN_S = 60.0
"""How long the same event is not posted again."""
KNOWN_MAX = 2000
NAME_MAX = 200

log = logging.getLogger(__name__)


class Recorder:
    def __init__(self, kube: Kube, instance: str) -> None:
        """`instance`: the pod of this operator."""
        self._kube = kube
        self._instance = instance
        self._known: OrderedDict[str, float] = OrderedDict()
        """When each was posted last, by name; monotonic."""

    async def record(self, resource: Mapping[str, Any], event: Event) -> None:
        meta = resource["metadata"]
        said = "\n".join((meta["uid"], event.type, event.reason, event.message))
        name = f"{meta['name'][:NAME_MAX]}.{hashlib.sha256(said.encode()).hexdigest()[:16]}"
        posted_at = self._known.get(name)
        if posted_at is not None and time.monotonic() - posted_at < AGAIN_S:
            return
        self._known[name] = time.monotonic()
        self._known.move_to_end(name)
        if len(self._known) > KNOWN_MAX:
            self._known.popitem(last=False)
        log.info("%s/%s: %s: %s", meta["namespace"], meta["name"], event.reason, event.message)
        try:
            await self._post(meta, name, event)
        except KubeError as error:
            log.warning(
                "The event %s of %s/%s was not posted: %s", event.reason, meta["namespace"], meta["name"], error
            )

    async def _post(self, meta: Mapping[str, Any], name: str, event: Event) -> None:
        now = rfc3339_now()
        namespace = meta["namespace"]
        manifest = {
            "apiVersion": "v1",
            "kind": "Event",
            "metadata": {"name": name, "namespace": namespace},
            "involvedObject": {
                "apiVersion": f"{GROUP}/{VERSION}",
                "kind": KIND,
                "name": meta["name"],
                "namespace": namespace,
                "uid": meta["uid"],
            },
            "type": event.type,
            "reason": event.reason,
            "message": event.message[:1024],
            "firstTimestamp": now,
            "lastTimestamp": now,
            "count": 1,
            "source": {"component": FIELD_MANAGER},
            "reportingComponent": FIELD_MANAGER,
            "reportingInstance": self._instance,
        }
        try:
            await self._kube.create(manifest, timeout_s=TIMEOUT_S)
        except KubeError as error:
            if not error.is_conflict:
                raise
            found = await self._kube.get("Event", namespace, name, timeout_s=TIMEOUT_S)
            if found is not None:
                again = {"count": (found.get("count") or 1) + 1, "lastTimestamp": now}
                await self._kube.patch("Event", namespace, name, again, timeout_s=TIMEOUT_S)


def rfc3339_now() -> str:
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
