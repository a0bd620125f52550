"""Which of several operator processes is the active one: who holds the Lease.

Called by `__main__`. The election that comes with `kubernetes` goes by the wall clock, waits for its calls without end
and leaves the work running when it fails, so this is one of our own. Rules: time is this process's monotonic clock only
(never a time that another wrote); and who could not renew within the deadline is not the leader any more, at once.
"""

import asyncio
import logging
import random
import time
from datetime import UTC, datetime
from typing import Any

from raftwright_operator.kube import Kube, KubeError, Object

LEASE_NAME = "raftwright-operator"
LEASE_S = 15
"""How long another waits without a sign of life before it takes over."""
DEADLINE_S = 10.0
"""How long the active one goes on without having renewed: less, so that two never believe it at once."""
RETRY_S = 2.0
CALL_S = 4.0

log = logging.getLogger(__name__)


class LeadershipLost(Exception):
    """Another holds the Lease, or it could not be renewed in time."""


class Leadership:
    """`acquire`, then `keep` for as long as it lasts, then `release`."""

    def __init__(
        self,
        kube: Kube,
        namespace: str,
        identity: str,
        *,
        pod_uid: str = "",
        lease_s: float = LEASE_S,
        deadline_s: float = DEADLINE_S,
        retry_s: float = RETRY_S,
    ) -> None:
        """`pod_uid`: of the pod whose name the identity is. The Lease then goes when this pod is gone, though nobody
        could release it, as where a release of the chart is deleted, the right to do so before the process."""
        if not retry_s < deadline_s < lease_s:
            raise ValueError("retry_s < deadline_s < lease_s")
        self._kube = kube
        self._namespace = namespace
        self._identity = identity
        owner = {"apiVersion": "v1", "kind": "Pod", "name": identity, "uid": pod_uid}
        self._owners = [owner] if pod_uid else None
        self._lease_s = lease_s
        self._deadline_s = deadline_s
        self._retry_s = retry_s
        self._seen = ""
        """The version of the Lease that was seen last, and when it was seen first, by the monotonic clock."""
        self._seen_at = 0.0
        self._held: Object | None = None
        self._renewed_at = 0.0

    async def acquire(self) -> None:
        """Returns once this process holds the Lease."""
        while True:
            try:
                if await self._try_acquire():
                    log.info("This process is the active one: %s", self._identity)
                    return
            except KubeError as error:
                log.warning("The Lease cannot be had now, trying again: %s", error)
            await asyncio.sleep(self._retry_s * random.uniform(0.8, 1.2))

    async def keep(self) -> None:
        """Never returns. LeadershipLost as soon as this process may not act any more."""
        while True:
            left_s = self._renewed_at + self._deadline_s - time.monotonic()
            try:
                async with asyncio.timeout(left_s):
                    await self._renew_until_done()
            except TimeoutError:
                raise LeadershipLost(f"the Lease was not renewed for {self._deadline_s:g} s") from None
            await asyncio.sleep(self._retry_s)

    async def release(self) -> None:
        """So that the next need not wait. Errors are of no consequence."""
        if self._held is None:
            return
        meta = {"resourceVersion": self._held["metadata"]["resourceVersion"]}
        change = {"metadata": meta, "spec": {"holderIdentity": "", "leaseDurationSeconds": 1, "renewTime": _now()}}
        self._held = None
        try:
            await self._kube.patch("Lease", self._namespace, LEASE_NAME, change, timeout_s=CALL_S)
        except KubeError as error:
            log.info("The Lease was not released: %s", error)

    async def _try_acquire(self) -> bool:
        asked_at = time.monotonic()
        found = await self._kube.get("Lease", self._namespace, LEASE_NAME, timeout_s=CALL_S)
        try:
            if found is None:
                meta = {"name": LEASE_NAME, "namespace": self._namespace, "ownerReferences": self._owners}
                manifest = {"apiVersion": "coordination.k8s.io/v1", "kind": "Lease", "metadata": meta}
                taken = await self._kube.create({**manifest, "spec": self._spec(0)}, timeout_s=CALL_S)
            else:
                if not self._is_free(found):
                    return False
                transitions = (found["spec"].get("leaseTransitions") or 0) + 1
                change = {
                    "metadata": {**_version(found), "ownerReferences": self._owners},
                    "spec": self._spec(transitions),
                }
                taken = await self._kube.patch("Lease", self._namespace, LEASE_NAME, change, timeout_s=CALL_S)
        except KubeError as error:
            if error.is_conflict:
                return False
            raise
        self._held, self._renewed_at = taken, asked_at
        return True

    def _is_free(self, lease: Object) -> bool:
        spec = lease.get("spec") or {}
        if lease["metadata"]["resourceVersion"] != self._seen:
            self._seen, self._seen_at = lease["metadata"]["resourceVersion"], time.monotonic()
        # By one's own name: this container was restarted, and what it was before is over.
        if spec.get("holderIdentity") in (None, "", self._identity):
            return True
        lasts_s = max(float(spec.get("leaseDurationSeconds") or 0), self._lease_s)
        return time.monotonic() - self._seen_at >= lasts_s

    async def _renew_until_done(self) -> None:
        while True:
            try:
                return await self._renew()
            except KubeError as error:
                log.warning("The Lease was not renewed, trying again: %s", error)
            await asyncio.sleep(self._retry_s / 2)

    async def _renew(self) -> None:
        assert self._held is not None, "acquire first"
        asked_at = time.monotonic()
        change = {"metadata": _version(self._held), "spec": {"renewTime": _now()}}
        try:
            self._held = await self._kube.patch("Lease", self._namespace, LEASE_NAME, change, timeout_s=CALL_S)
        except KubeError as error:
            if not error.is_conflict and not error.is_gone:
                raise
            # The answer to an earlier try may have been lost: then it is still ours.
            found = await self._kube.get("Lease", self._namespace, LEASE_NAME, timeout_s=CALL_S)
            holder = (found or {}).get("spec", {}).get("holderIdentity")
            if found is None or holder != self._identity:
                self._held = None
                raise LeadershipLost(f"the Lease is held by {holder or 'nobody'}") from None
            self._held = found
            return
        self._renewed_at = asked_at

    def _spec(self, transitions: int) -> dict[str, Any]:
        now = _now()
        return {
            "holderIdentity": self._identity,
            "leaseDurationSeconds": max(1, round(self._lease_s)),
            "acquireTime": now,
            "renewTime": now,
            "leaseTransitions": transitions,
        }


def _version(lease: Object) -> dict[str, str]:
    return {"uid": lease["metadata"]["uid"], "resourceVersion": lease["metadata"]["resourceVersion"]}


def _now() -> str:
    """For people only."""
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
