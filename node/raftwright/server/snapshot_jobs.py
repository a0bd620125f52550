"""Writing a snapshot of this node's own, and loading one that came: the slow work, beside everything else.

The glue calls it. Rule: nothing stalls. Slices are made on the loop, a millisecond each, with other work between; bytes
are written and loaded in threads.
"""

import asyncio
import contextlib
import logging
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any

from raftwright.raft.entries import SnapshotMeta
from raftwright.server import clock
from raftwright.server.digests import WrongState
from raftwright.server.driver import Driver
from raftwright.server.effects import SnapshotJob
from raftwright.server.feeds import Feeds, SnapshotChange
from raftwright.server.machine import InvalidSnapshot, SnapshotFailed
from raftwright.server.metrics import Metrics
from raftwright.storage.errors import DiskFull
from raftwright.storage.storage import Storage

_log = logging.getLogger(__name__)

WRITE_BYTES = 1 << 20
MACHINE_RETRY_S = 60.0
"""How long until a machine that could not write its state is asked again."""

InThread = Callable[[Callable[[], Any]], Awaitable[Any]]


class SnapshotJobs:
    def __init__(
        self,
        *,
        driver: Driver,
        storage: Storage,
        metrics: Metrics,
        feeds: Feeds,
        aside: InThread,
        in_log_thread: InThread,
    ) -> None:
        self._driver = driver
        self._storage = storage
        self._metrics = metrics
        self._feeds = feeds
        self._aside = aside
        self._in_log_thread = in_log_thread
        self.reserve_is_spent = False
        """A snapshot is being tried in the place of the log's reserve, which is not made anew meanwhile."""

    async def take(self, job: SnapshotJob) -> None:
        """Carry out one job of the driver's. On a full disk it is tried again: a snapshot is what frees space."""
        started = clock.now()
        try:
            meta = await self._write(job)
        except DiskFull as error:
            await self._failed(job, error)
            return
        except SnapshotFailed as error:
            # The log goes on without it: a snapshot that all replicas fail at alike must not end them all.
            _log.error("no snapshot, so the log grows until there is one; tried again later: %s", error, exc_info=error)
            self._feeds.snapshots.publish(SnapshotChange("failed", job.id.index, 0))
            self._driver.snapshot_taken(job, None, clock.now(), MACHINE_RETRY_S)
            return
        self.reserve_is_spent = False
        self._metrics.snapshots_taken += 1
        self._metrics.snapshot_seconds = clock.now() - started
        _log.info("snapshot at index %d: %d bytes in %.2f s", meta.id.index, meta.size, clock.now() - started)
        self._driver.snapshot_taken(job, meta, clock.now())
        self._feeds.snapshot("taken", meta)

    async def _write(self, job: SnapshotJob) -> SnapshotMeta:
        writer = await self._aside(
            partial(self._storage.new_snapshot, id=job.id, time_ms=job.time_ms, membership=job.membership)
        )
        try:
            for name, version, required, chunks in job.sections:
                await self._aside(partial(writer.section, name, version, required))
                pending = bytearray()
                for chunk in chunks:
                    pending += chunk
                    if len(pending) >= WRITE_BYTES:
                        await self._aside(partial(writer.write, bytes(pending)))
                        pending.clear()
                    await asyncio.sleep(0)
                if pending:
                    await self._aside(partial(writer.write, bytes(pending)))
            # In the thread of the log: what is cut and what is newest must not change in the middle of its writes.
            meta: SnapshotMeta = await self._in_log_thread(writer.finish)
            return meta
        except (DiskFull, SnapshotFailed):
            with contextlib.suppress(OSError):
                await self._aside(writer.abort)
            raise

    async def _failed(self, job: SnapshotJob, error: DiskFull) -> None:
        """For want of space: what the log has prepared is given up for it, one segment after the other."""
        if self._driver.snapshotting.must_free and await self._aside(self._storage.release_reserve):
            self.reserve_is_spent = True
            _log.warning("no snapshot: %s; tried again in the place of the log's reserve", error)
            self._driver.snapshot_taken(job, None, clock.now(), 0.0)
            return
        self.reserve_is_spent = False
        _log.error("no snapshot: %s; tried again later", error)
        self._feeds.snapshots.publish(SnapshotChange("failed", job.id.index, 0))
        self._driver.snapshot_taken(job, None, clock.now())

    async def restore(self, meta: SnapshotMeta) -> None:
        """Load the snapshot that the leader sent into the state machine."""
        await self._aside(lambda: self._driver.state.restore(self._storage.open_snapshot().sections()))
        self._metrics.snapshots_received += 1
        _log.info("restored the snapshot at index %d that the leader sent", meta.id.index)
        self._driver.restored(meta)
        self._feeds.snapshot("received", meta)

    async def adopt(self, meta: SnapshotMeta) -> None:
        """Repair the state machine by a snapshot that was received. It becomes the store's only once it is loaded."""
        reader = await self._in_log_thread(partial(self._storage.open_received, meta))
        known = self._driver.checks.known()
        try:
            if reader is None:
                raise WrongState("another snapshot took its place")
            await self._aside(lambda: self._driver.state.restore(reader.sections(), known))
        except InvalidSnapshot as error:
            self._driver.adopted(meta, clock.now(), problem=str(error))
            return
        durable = await self._in_log_thread(partial(self._storage.adopt_received, meta))
        self._metrics.snapshots_received += 1
        self._driver.adopted(meta, clock.now(), durable=durable)
        self._feeds.snapshot("received", meta)
