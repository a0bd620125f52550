"""How a read is answered as it was asked: with a round, within the leader's lease, or from what is here (§6.4).

The routes and the client stream use it. Rule: what lets a read do without a round is looked at again after its answer
was computed, in the same turn of the event loop; where it does not hold any more, there is a round.
"""

from collections.abc import Callable, Iterable
from typing import NamedTuple, TypeVar

from raftwright.client.models import Consistency, Read
from raftwright.server.api import Api
from raftwright.server.errors import NotServing
from raftwright.server.metrics import Metrics
from raftwright.server.service import Service

T = TypeVar("T")


class Wish(NamedTuple):
    """What a read may be answered from."""

    consistency: Consistency = Consistency.LINEARIZABLE
    max_staleness_s: float | None = None
    """Of a stale read: how long ago the answer may have been up to date; None: any time."""
    min_index: int = 0
    """The state must have this entry applied."""


class Reader(NamedTuple):
    """What there is of an Api for a program that reads without HTTP."""

    service: Service
    metrics: Metrics


def wish_of_all(reads: Iterable[Read]) -> Wish:
    """Reads of one frame are answered together, as the most demanding of them asks."""
    asked = {read.consistency for read in reads}
    consistency = next(
        choice for choice in (Consistency.LINEARIZABLE, Consistency.LEASE, Consistency.STALE) if choice in asked
    )
    bounds = [read.max_staleness_s for read in reads if read.max_staleness_s is not None]
    return Wish(consistency, min(bounds, default=None), max(read.min_index for read in reads))


def suffices(api: Api | Reader, wish: Wish) -> bool:
    """Whether the local state is good enough for the wish, without waiting for anything. Ask again after the read."""
    service = api.service
    if service.applied_index < wish.min_index:
        return False
    match wish.consistency:
        case Consistency.LINEARIZABLE:
            return False
        case Consistency.LEASE:
            return service.holds_lease()
        case Consistency.STALE:
            return wish.max_staleness_s is None or service.staleness_s() <= wish.max_staleness_s


async def read_as_asked(api: Api | Reader, wish: Wish, read: Callable[[], T]) -> T:
    """What `read` makes of the local state, once that is as good as asked. `read` raises nothing that is an answer."""
    service = api.service
    if wish.consistency is Consistency.STALE:
        must_have_state(api)
    if suffices(api, wish):
        answer = read()
        if suffices(api, wish):
            count(api, wish.consistency, 1)
            return answer
    if wish.consistency is Consistency.STALE and wish.max_staleness_s is None:
        await service.wait_applied(wish.min_index)
        count(api, Consistency.STALE, 1)
    else:
        await service.read_barrier(wish.min_index)
        count(api, Consistency.LINEARIZABLE, 1)
    return read()


def must_have_state(api: Api | Reader) -> None:
    """NotServing where nothing is applied yet, not even a first membership: there every key would seem absent;
    StateDiverged where it is wrong."""
    api.service.check_state()
    if api.service.applied_index == 0:
        raise NotServing("this node has no state yet")


def count(api: Api | Reader, how: Consistency, reads: int) -> None:
    """How reads were answered, not how they were asked for."""
    metrics = api.metrics
    match how:
        case Consistency.LINEARIZABLE:
            metrics.reads_linearizable += reads
        case Consistency.LEASE:
            metrics.reads_lease += reads
        case Consistency.STALE:
            metrics.reads_stale += reads
