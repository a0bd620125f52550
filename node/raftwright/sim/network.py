"""The simulated network between nodes: it loses, delays, reorders, duplicates and cuts.

Nodes send through it. Rules: what arrives went through the real frames of `server/wire.py`; a forwarded write never
arrives twice, since it travels by a stream, and a lost one may be noticed as the loss of that stream.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

from raftwright.server.wire import BULK_MESSAGES, Forward, PeerMessage, decode_frame, encode_frame
from raftwright.sim.world import World


@dataclass(slots=True, kw_only=True)
class NetworkSettings:
    """Chances are of a frame."""

    delay_s: float = 0.001
    jitter_s: float = 0.002
    """Mean of what is added, exponentially distributed."""
    loss: float = 0.0
    duplication: float = 0.0
    reordering: float = 0.0
    """A frame is held back by several round trips and others overtake it."""


class Receiver(Protocol):
    def receive(self, messages: Sequence[PeerMessage]) -> None: ...

    def stream_lost(self, peer: int) -> None: ...


class Network:
    def __init__(self, world: World, settings: NetworkSettings) -> None:
        self.world = world
        self.settings = settings
        self.receivers: dict[int, Receiver] = {}
        self.cut: set[tuple[int, int]] = set()
        """Pairs of sender and receiver between which nothing arrives."""
        self.on_send: Callable[[int, Sequence[PeerMessage]], None] = lambda sender, messages: None
        self._busy_until: dict[tuple[int, int, bool], float] = {}

    def send(self, sender: int, to: int, messages: Sequence[PeerMessage]) -> None:
        self.on_send(sender, messages)
        for is_bulk in (False, True):
            batch = [message for message in messages if isinstance(message, BULK_MESSAGES) == is_bulk]
            if batch:
                self._send_frame(sender, to, batch, is_bulk=is_bulk)

    def _send_frame(self, sender: int, to: int, batch: Sequence[PeerMessage], *, is_bulk: bool) -> None:
        world, settings = self.world, self.settings
        if (sender, to) in self.cut or world.chance(settings.loss):
            world.counts["frames lost"] += 1
            if world.chance(0.3):
                world.after(0.02 * world.random.random(), self._notice_loss, sender, to)
            return
        delay = settings.delay_s + world.random.expovariate(1 / settings.jitter_s)
        arrival = world.now + delay * (3 if is_bulk else 1)
        link = (sender, to, is_bulk)
        if world.chance(settings.reordering):
            world.counts["frames held back"] += 1
            arrival += world.random.choice((5, 20, 60)) * delay
        else:
            arrival = self._busy_until[link] = max(arrival, self._busy_until.get(link, 0.0))
        world.at(arrival, self._deliver, sender, to, encode_frame(batch))
        if world.chance(settings.duplication):
            again = [message for message in batch if not isinstance(message, Forward)]
            if again:
                world.counts["frames duplicated"] += 1
                world.at(
                    arrival + world.random.choice((1, 10, 100)) * delay, self._deliver, sender, to, encode_frame(again)
                )

    def _notice_loss(self, sender: int, to: int) -> None:
        self.receivers[sender].stream_lost(to)

    def _deliver(self, sender: int, to: int, frame: bytes) -> None:
        if (sender, to) in self.cut:
            self.world.counts["frames lost"] += 1
            return
        self.receivers[to].receive(decode_frame(frame))

    # Partitions

    def split(self, one_side: set[int], *, one_way: bool = False) -> None:
        """Nothing passes between `one_side` and the rest; `one_way`: only from it to the rest nothing does."""
        others = set(self.receivers) - one_side
        for inside in sorted(one_side):
            for outside in sorted(others):
                self.cut.add((inside, outside))
                if not one_way:
                    self.cut.add((outside, inside))

    def heal(self) -> None:
        self.cut.clear()
