"""A worker ends when it is told to, whatever happens in the same moment."""

import asyncio
from typing import Any, cast

from raftwright_operator.runtime import Worker


class Idle:
    """A reconciler with nothing to do."""

    def __init__(self) -> None:
        self.steps = 0

    async def step(self) -> float:
        self.steps += 1
        return 300.0


async def test_a_worker_that_is_cancelled_as_it_is_woken_does_nothing_more() -> None:
    for turns in range(6):  # of the event loop, until both meet
        idle = Idle()
        worker = Worker(cast(Any, idle))
        working = asyncio.create_task(worker.run())
        await asyncio.sleep(0.01)
        worker.woken.set()
        for _ in range(turns):
            await asyncio.sleep(0)
        working.cancel()
        await asyncio.wait([working], timeout=1.0)
        assert working.cancelled(), f"it goes on after {turns} turns"
        assert idle.steps == 1
