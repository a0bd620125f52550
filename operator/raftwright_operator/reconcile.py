"""The loop's step for one RaftCluster: observe, plan, at most one action, status. Without kopf.

Called by `handlers`, again and again, and by tests. Rule: a step is complete in itself; what it remembers only slows
things down or saves a write, and may be lost at any moment.
"""

import logging
import random
import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from raftwright_operator import status as statuses
from raftwright_operator.actions import (
    Action,
    Concern,
    Done,
    RecordHibernation,
    RecordIntent,
    ReleaseFinalizer,
    Step,
    Wait,
)
from raftwright_operator.applies import Applies
from raftwright_operator.cache import Cache, Key
from raftwright_operator.execute import Executor
from raftwright_operator.kube import Kube, KubeError
from raftwright_operator.metrics import OperatorMetrics
from raftwright_operator.names import FINALIZER, KIND
from raftwright_operator.nodes import Nodes
from raftwright_operator.observe import Observer, Sight, SpecInvalid
from raftwright_operator.outcome import Outcome
from raftwright_operator.plan import concerns, plan
from raftwright_operator.pulse import Pulse
from raftwright_operator.recorder import Recorder, rfc3339_now
from raftwright_operator.refusals import Refusals
from raftwright_operator.status import Event

RETRY_S, RETRY_MAX_S = 0.5, 10.0
REPEAT_S, REPEAT_MAX_S = 0.1, 5.0
REPEATS_MAX = 8
"""After so many tries in vain, half a minute, the status says what is in the way."""
BUG_RETRY_S = 10.0
VOLATILE_S = 10.0
"""How often the status is written for how far members are, and nothing else."""
VOLATILE = frozenset({"matchIndex", "lagCommands", "lagSeconds"})

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Tools:
    """What all reconcilers of a process share."""

    kube: Kube
    nodes: Nodes
    observer: Observer
    executor: Executor
    recorder: Recorder
    metrics: OperatorMetrics
    resync_s: float
    cache: Cache | None = None


class Reconciler:
    """Of the resource with this uid: one of the same name that comes after it is none of its business."""

    def __init__(self, key: Key, uid: str, tools: Tools) -> None:
        self._key = key
        self._uid = uid
        self._tools = tools
        self._failures = 0
        """In a row."""
        self._last: Action | None = None
        self._repeats = 0
        self._applies = Applies()
        self._refusals = Refusals()
        self.pulse = Pulse(tools.nodes)
        self._concerns: set[tuple[str, str]] = set()
        self._written_at = 0.0

    async def step(self) -> float | None:
        """One step. Returns in how many seconds the next is due, unless something happens; None: it is gone."""
        started = time.monotonic()
        try:
            delay_s = await self._step()
        except KubeError as error:
            delay_s = self._failed("api", error)
        except SpecInvalid as error:
            delay_s = self._failed("spec", error, least_s=self._tools.resync_s)
            message = f"The spec cannot be read: {error}"
            await self._tools.recorder.record(error.resource, Event("Warning", "SpecInvalid", message))
        except Exception:
            # A bug must not end the daemon: kopf would not start another one for this resource.
            log.exception("%s/%s: the step failed", *self._key)
            delay_s = self._failed("bug", None, least_s=BUG_RETRY_S)
        self._tools.metrics.duration.observe(time.monotonic() - started)
        if delay_s is None:
            self._tools.metrics.forget(self._key)
        return delay_s

    async def _step(self) -> float | None:
        sight = await self._look(fresh=False)
        if sight is None:
            return None
        if not sight.observed.deleting and FINALIZER not in (sight.resource["metadata"].get("finalizers") or ()):
            await self._block_deletion(sight)
            return 0.0
        sight, step = self._decided(sight)
        if isinstance(step, Action) and step.needs_fresh and not sight.observed.fresh:
            fresh = await self._look(fresh=True)
            if fresh is None:
                return None
            sight, step = self._decided(fresh)
        sight = replace(sight, observed=replace(sight.observed, refused_volumes=self._refusals.known()))
        found = concerns(sight.spec, sight.observed, time.time())
        self.pulse.saw(sight)
        if isinstance(step, Action):
            return await self._act(sight, step, found)
        self._last, self._failures = None, 0
        self._tools.metrics.reconciles.labels("done" if isinstance(step, Done) else "wait").inc()
        await self._report(sight, step, found)
        return step.retry_s if isinstance(step, Wait) else self._tools.resync_s * random.uniform(0.8, 1.2)

    def _decided(self, sight: Sight) -> tuple[Sight, Step]:
        """What to do, with what it was decided from: what others change back each time is left alone for a while, and
        so is what was refused for good."""
        resting = self._refusals.resting(time.monotonic())
        sight = replace(sight, observed=replace(sight.observed, refused_volumes=resting))
        while True:
            step = plan(sight.spec, sight.observed, time.time())
            seen = sight.observed
            spent = self._applies.spent(step, seen.name, seen.generation, time.monotonic())
            if not spent or seen.resisting.keys() >= set(spent):
                return sight, step
            resisting = {**seen.resisting, **{key: sight.drift.get(key, "") for key in spent}}
            drifted = tuple(key for key in seen.drifted if key not in spent)
            sight = replace(sight, observed=replace(seen, drifted=drifted, resisting=resisting))

    async def _look(self, *, fresh: bool) -> Sight | None:
        """None where the resource is gone, or waits only for others: then nothing is left to do."""
        sight = await self._tools.observer.look(self._key, fresh=fresh)
        if sight is None or sight.observed.uid != self._uid:
            # A cache may not have it yet, or still have the one before it.
            return await self._look(fresh=True) if not fresh else None
        finalizers = sight.resource["metadata"].get("finalizers") or ()
        return None if sight.observed.deleting and FINALIZER not in finalizers else sight

    async def _block_deletion(self, sight: Sight) -> None:
        """Before anything is made for it: the resource does not go before we have let it."""
        meta = sight.resource["metadata"]
        finalizers = [*(meta.get("finalizers") or ()), FINALIZER]
        change = {
            "metadata": {"uid": meta["uid"], "resourceVersion": meta["resourceVersion"], "finalizers": finalizers}
        }
        self._keep(await self._tools.kube.patch(KIND, *self._key, change))

    async def _act(self, sight: Sight, action: Action, found: tuple[Concern, ...]) -> float | None:
        name = type(action).__name__
        log.info("%s/%s: %s: %s", *self._key, name, action.why)
        outcome = await self._tools.executor.execute(action, sight)
        if outcome.what == "done":
            self._applies.note(action, self._key[1], sight.observed.generation, time.monotonic())
        metrics = self._tools.metrics
        metrics.actions.labels(name, outcome.what).inc()
        metrics.reconciles.labels("refused" if outcome.what == "refused" else "action").inc()
        self._repeats = self._repeats + 1 if action == self._last else 0
        self._last = action
        if outcome.what == "done" and (event := statuses.event_of(action)) is not None:
            await self._tools.recorder.record(sight.resource, event)
        if isinstance(action, RecordIntent | RecordHibernation | ReleaseFinalizer) and outcome.what == "done":
            # The resource is another now, or gone: the next step writes the status.
            return self._pause_s()
        if self._refusals.note(action, outcome, time.monotonic()):
            log.warning("%s/%s: %s was refused: %s", *self._key, name, outcome.message)
            return self._pause_s()  # there may be something else to do, and the next step writes the status
        await self._report(sight, self._shown(action, outcome), found)
        if outcome.what == "refused":
            log.warning("%s/%s: %s was refused: %s: %s", *self._key, name, outcome.reason, outcome.message)
            return self._backoff_s()
        self._failures = 0
        if outcome.what == "again":
            log.info("%s/%s: %s is out of date: %s", *self._key, name, outcome.message)
        return self._pause_s()

    def _shown(self, action: Action, outcome: Outcome) -> Step:
        """What the status says is going on."""
        if outcome.what != "refused" and not (outcome.what == "again" and self._repeats >= REPEATS_MAX):
            return action
        return Wait(reason=outcome.reason, message=f"{action.why} It cannot be done now: {outcome.message}")

    async def _report(self, sight: Sight, step: Step, found: tuple[Concern, ...]) -> None:
        """The status, metrics and events."""
        status = statuses.status_of(sight.spec, sight.observed, step, found, sight.status, rfc3339_now())
        self._measure(sight, status)
        for concern in found:
            if (concern.condition, concern.reason) not in self._concerns:
                await self._tools.recorder.record(sight.resource, statuses.event_of_concern(concern))
        self._concerns = {(concern.condition, concern.reason) for concern in found}
        change = statuses.patch_of(sight.status, status)
        if not change or (_is_volatile(sight.status, change) and time.monotonic() - self._written_at < VOLATILE_S):
            return
        meta = {"uid": sight.observed.uid, "resourceVersion": sight.observed.resource_version}
        try:
            patch = {"metadata": meta, "status": change}
            self._keep(await self._tools.kube.patch(KIND, *self._key, patch, subresource="status"))
            self._written_at = time.monotonic()
        except KubeError as error:
            # Somebody else wrote it: the next step does it again, from what it sees then.
            if not error.is_conflict and not error.is_gone:
                raise

    def _measure(self, sight: Sight, status: Mapping[str, Any]) -> None:
        holds = {each["type"]: float(each["status"] == "True") for each in status["conditions"]}
        members = sight.observed.membership.members if sight.observed.membership else ()
        self._tools.metrics.set_cluster(
            self._key,
            voters=sum(member.role == "voter" for member in members),
            voters_wanted=sight.spec.replicas,
            pods_ready=sum(pod.ready for pod in sight.observed.pods.values()),
            quorum_available=holds.get("QuorumAvailable", 0.0),
            membership_in_sync=holds.get("MembershipInSync", 0.0),
            degraded=holds.get("Degraded", 0.0),
        )

    def _keep(self, found: Mapping[str, Any]) -> None:
        if self._tools.cache is not None:
            self._tools.cache.put(found)

    def _failed(self, cause: str, error: Exception | None, *, least_s: float = 0.0) -> float:
        self._tools.metrics.errors.labels(cause).inc()
        self._tools.metrics.reconciles.labels("error").inc()
        if error is not None:
            log.warning("%s/%s: %s", *self._key, error)
        return max(self._backoff_s(), least_s)

    def _backoff_s(self) -> float:
        self._failures += 1
        delay_s: float = RETRY_S * 2 ** min(self._failures, 10)
        return min(delay_s, RETRY_MAX_S) * random.uniform(0.7, 1.0)

    def _pause_s(self) -> float:
        """Nothing, unless the same action was planned again and again: what it does is not to be seen yet."""
        delay_s: float = REPEAT_S * 2 ** min(self._repeats, 10)
        return min(delay_s, REPEAT_MAX_S) if self._repeats else 0.0


def _is_volatile(status: Mapping[str, Any], change: Mapping[str, Any]) -> bool:
    """Whether only how far the members are has changed."""
    if set(change) != {"members"} or not change["members"]:
        return False
    return _lasting(status.get("members") or ()) == _lasting(change["members"])


def _lasting(members: Any) -> list[dict[str, Any]]:
    return [{name: value for name, value in member.items() if name not in VOLATILE} for member in members]
