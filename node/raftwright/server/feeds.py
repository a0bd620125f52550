"""What a node tells those around it: who leads, who is a member, which snapshots there are.

The glue publishes; an embedding program iterates or is called back. Rules: a slow listener gets the latest value
and misses those before it; whatever a listener does, the node never waits for it and never fails by it.
"""

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import Any, Generic, Literal, TypeVar
from weakref import WeakSet

import msgspec

from raftwright.raft.entries import SnapshotMeta
from raftwright.raft.membership import Membership

T = TypeVar("T")

_NOTHING: Any = object()


class LeaderChange(msgspec.Struct, frozen=True):
    """Who leads, as this node knows it."""

    term: int
    leader_id: int | None
    """None: nobody is known to lead in this term."""
    is_this_node: bool


class SnapshotChange(msgspec.Struct, frozen=True):
    """A snapshot that this node has now, or failed to write."""

    kind: Literal["taken", "received", "failed"]
    index: int
    """Of the newest entry in it."""
    size: int
    """In bytes; 0 if it failed."""


class Subscription(AsyncIterator[T]):
    """One listener's view of a feed. It ends when the node stops."""

    def __init__(self, value: T) -> None:
        self._value = value
        self._wake = asyncio.Event()
        self._closed = False

    def put(self, value: T) -> None:
        self._value = value
        self._wake.set()

    def close(self) -> None:
        self._closed = True
        self._wake.set()

    def __aiter__(self) -> "Subscription[T]":
        return self

    async def __anext__(self) -> T:
        while self._value is _NOTHING:
            if self._closed:
                raise StopAsyncIteration
            self._wake.clear()
            await self._wake.wait()
        value, self._value = self._value, _NOTHING
        return value


class Feed(Generic[T]):
    """Values of one kind."""

    def __init__(self, *, begins_with_latest: bool) -> None:
        self._begins_with_latest = begins_with_latest
        self._latest: T = _NOTHING
        self._subscriptions: WeakSet[Subscription[T]] = WeakSet()
        """Weak: whoever stops iterating need not say so."""
        self._callbacks: list[Callable[[T], object]] = []
        self._closed = False

    def publish(self, value: T) -> None:
        self._latest = value
        for subscription in list(self._subscriptions):
            subscription.put(value)
        if self._callbacks:
            loop = asyncio.get_running_loop()
            for callback in self._callbacks:
                loop.call_soon(callback, value)

    def subscribe(self) -> Subscription[T]:
        """From now on; where the feed is of a state, that of now comes first."""
        subscription: Subscription[T] = Subscription(self._latest if self._begins_with_latest else _NOTHING)
        if self._closed:
            subscription.close()
        self._subscriptions.add(subscription)
        return subscription

    def call(self, callback: Callable[[T], object]) -> Callable[[], None]:
        """Have `callback` called with each value, on the event loop. Returns what ends that."""
        self._callbacks.append(callback)

        def end() -> None:
            if callback in self._callbacks:
                self._callbacks.remove(callback)

        return end

    def close(self) -> None:
        self._closed = True
        for subscription in list(self._subscriptions):
            subscription.close()


class Feeds:
    """All that a node publishes."""

    def __init__(self) -> None:
        self.leaders: Feed[LeaderChange] = Feed(begins_with_latest=True)
        self.memberships: Feed[Membership] = Feed(begins_with_latest=True)
        self.snapshots: Feed[SnapshotChange] = Feed(begins_with_latest=False)

    def snapshot(self, kind: Literal["taken", "received"], meta: SnapshotMeta) -> None:
        self.snapshots.publish(SnapshotChange(kind, meta.id.index, meta.size))

    def close(self) -> None:
        for feed in (self.leaders, self.memberships, self.snapshots):
            feed.close()
