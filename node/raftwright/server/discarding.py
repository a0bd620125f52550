"""A removed member's store that is set aside: who may ask for it, and who does it.

`node.py` makes one; the route asks it, and the node's own task does the work once the node takes no part any more. Then
`run.py` makes another node of the same settings: nothing that is in memory outlives the store that it was read from.
Rule: only the store that the caller names, only when its removal is on disk, and never while anything uses it.
"""

import asyncio
import logging
import secrets

from raftwright.client.models import DiscardAnswer
from raftwright.server.errors import DiskIsFull, ServiceError, ShuttingDown, StoreKept
from raftwright.storage.errors import DiskFull
from raftwright.storage.storage import Storage

_log = logging.getLogger(__name__)


class Discarding:
    """`ask` on the event loop for whoever asks; `is_done` in the node's own task."""

    def __init__(self) -> None:
        self.is_possible = False
        """Whether somebody makes another node after this one."""
        self._waiting: list[asyncio.Future[DiscardAnswer]] = []
        self._asked = asyncio.Event()
        self._is_over = False

    async def ask(self, storage: Storage, store_id: str) -> DiscardAnswer:
        """Returns when it is durable. Raises StoreKept, DiskIsFull or ShuttingDown."""
        mine = storage.identity
        if mine.replaces == store_id:
            return DiscardAnswer(discarded=store_id, store_id=mine.store_id)
        if mine.store_id != store_id:
            raise StoreKept(f"this node has store {mine.store_id}; see in its status whether that is the one you mean")
        if not self.is_possible:
            raise StoreKept("this node runs in another program: stop it, and start it with an empty data directory")
        if not mine.removed:
            raise StoreKept("its member was not removed from the cluster: remove the member first")
        if self._is_over:
            raise ShuttingDown
        waiting: asyncio.Future[DiscardAnswer] = asyncio.get_running_loop().create_future()
        self._waiting.append(waiting)
        self._asked.set()
        return await waiting

    async def is_done(self, storage: Storage, stop: asyncio.Event) -> bool:
        """Wait to be asked, and do it, until it is done (True) or `stop`. Nothing else may use the storage meanwhile.
        Raises SyncFailed."""
        stopping = asyncio.create_task(stop.wait())
        try:
            while not stop.is_set():
                asked = asyncio.create_task(self._asked.wait())
                await asyncio.wait((asked, stopping), return_when=asyncio.FIRST_COMPLETED)
                asked.cancel()
                if self._asked.is_set() and await self._discard(storage):
                    return True
        finally:
            stopping.cancel()
        return False

    async def _discard(self, storage: Storage) -> bool:
        self._asked.clear()
        old = storage.identity.store_id
        try:
            await asyncio.to_thread(storage.begin_anew, secrets.token_hex(16))
        except DiskFull as error:
            self._answer(DiskIsFull(str(error)))
            return False
        new = storage.identity.store_id
        _log.info("the data of store %s is set aside; store %s begins in its place", old, new)
        self._answer(DiscardAnswer(discarded=old, store_id=new))
        return True

    def close(self) -> None:
        """Whoever still waits is told that the node stops."""
        self._is_over = True
        self._answer(ShuttingDown())

    def _answer(self, answer: DiscardAnswer | ServiceError) -> None:
        for waiting in self._waiting:
            if waiting.done():
                continue
            if isinstance(answer, ServiceError):
                waiting.set_exception(answer)
            else:
                waiting.set_result(answer)
        self._waiting.clear()
