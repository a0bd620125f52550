"""Loading many records at a high rate: lanes that each keep a batch on its way.

Used by `import` and `demo`. Rule: of two records with one key the later one wins, though many are on their way at once:
a key always goes through the same lane, and a lane waits for one batch before it sends the next.
"""

import asyncio
import itertools
from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING

from raftwright.cli.records import Record

if TYPE_CHECKING:
    from raftwright.client.client import Client

LANES = 8
CHUNK_RECORDS = 2048
CHUNK_BYTES = 4 * 1024 * 1024


async def load(
    client: "Client", records: Iterable[Record], on_acknowledged: Callable[[list[Record]], None], *, in_thread: bool
) -> None:
    """Put every record; `on_acknowledged` gets them as they are acknowledged. Stops at the first error, which it
    raises. `in_thread`: take the records in a thread, since they come from a file or a pipe."""
    chunks = _chunks(records)
    queues: list[asyncio.Queue[list[Record] | None]] = [asyncio.Queue(1) for _ in range(LANES)]
    try:
        async with asyncio.TaskGroup() as tasks:
            for queue in queues:
                tasks.create_task(_lane(client, queue, on_acknowledged))
            while chunk := await asyncio.to_thread(next, chunks, None) if in_thread else next(chunks, None):
                for queue, batch in zip(queues, _split(chunk), strict=True):
                    if batch:
                        await queue.put(batch)
            for queue in queues:
                await queue.put(None)
    except BaseExceptionGroup as errors:
        raise _first(errors) from None


async def _lane(
    client: "Client", queue: "asyncio.Queue[list[Record] | None]", on_acknowledged: Callable[[list[Record]], None]
) -> None:
    while (batch := await queue.get()) is not None:
        results = await asyncio.gather(*(client.put(key, value) for key, value in batch), return_exceptions=True)
        on_acknowledged([record for record, result in zip(batch, results, strict=True) if isinstance(result, int)])
        for result in results:
            if isinstance(result, BaseException):
                raise result


def _chunks(records: Iterable[Record]) -> Iterator[list[Record]]:
    """The records in lists of a bounded count and size, so that neither many nor large ones fill the memory."""
    iterator = iter(records)
    for first in iterator:
        chunk, size = [first], len(first.value)
        for record in itertools.islice(iterator, CHUNK_RECORDS - 1):
            chunk.append(record)
            size += len(record.value)
            if size >= CHUNK_BYTES:
                break
        yield chunk


def _split(chunk: list[Record]) -> list[list[Record]]:
    """A batch for each lane; of records with one key only the last."""
    lanes: list[dict[str, Record]] = [{} for _ in range(LANES)]
    for record in chunk:
        lanes[hash(record.key) % LANES][record.key] = record
    return [list(lane.values()) for lane in lanes]


def _first(errors: BaseExceptionGroup[BaseException]) -> BaseException:
    error: BaseException = errors
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error
