"""The simulated network between nodes: it loses, delays, reorders, duplicates and cuts.

Nodes send through it. Rules: what arrives went through the real frames of `server/wire.py`; a forwarded write never
arrives twice, since it travels by a stream, and a lost one may be noticed as the loss of that stream.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

from raftwright.server.wire import BULK_MESSAGES, Forward, PeerHello, PeerMessage, decode_frame, encode_frame
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
    """A machine with a node, or with none for now."""

    def receive(self, sender: int, hello: PeerHello, messages: Sequence[PeerMessage]) -> None: ...

    def stream_lost(self, peer: int) -> None: ...

    def refused(self, hello: PeerHello, why: str) -> None: ...


class Network:
    def __init__(self, world: World, settings: NetworkSettings) -> None:
        self.world = world
        self.settings = settings
        self.receivers: dict[int, Receiver] = {}
        """By place: machines stay where they are, whoever lives there."""
        self.cut: set[tuple[int, int]] = set()
        """Pairs of sender and receiver between which nothing arrives."""
        self.on_send: Callable[[int, Sequence[PeerMessage]], None] = lambda sender, messages: None
        self._busy_until: dict[tuple[int, int, bool], float] = {}

    def send(self, sender: int, to: int, hello: PeerHello, messages: Sequence[PeerMessage]) -> None:
        """`hello` is that of the stream by which they go. Without messages, there is only the stream."""
        self.on_send(sender, messages)
        bulk = [message for message in messages if isinstance(message, BULK_MESSAGES)]
        control = [message for message in messages if not isinstance(message, BULK_MESSAGES)]
        if control or not bulk:
            self._send_frame(sender, to, hello, control, is_bulk=False)
        if bulk:
            self._send_frame(sender, to, hello, bulk, is_bulk=True)

    def _send_frame(
        self, sender: int, to: int, hello: PeerHello, batch: Sequence[PeerMessage], *, is_bulk: bool
    ) -> None:
        world, settings = self.world, self.settings
        if (sender, to) in self.cut or world.chance(settings.loss):
            world.counts["frames lost"] += 1
            if world.chance(0.3):
                world.after(0.02 * world.random.random(), self._notice_loss, sender, hello)
            return
        delay = settings.delay_s + world.random.expovariate(1 / settings.jitter_s)
        arrival = world.now + delay * (3 if is_bulk else 1)
        link = (sender, to, is_bulk)
        if world.chance(settings.reordering):
            world.counts["frames held back"] += 1
            arrival += world.random.choice((5, 20, 60)) * delay
        else:
            arrival = self._busy_until[link] = max(arrival, self._busy_until.get(link, 0.0))
        world.at(arrival, self._deliver, sender, to, hello, encode_frame(batch))
        if world.chance(settings.duplication):
            again = [message for message in batch if not isinstance(message, Forward)]
            if again:
                world.counts["frames duplicated"] += 1
                later = arrival + world.random.choice((1, 10, 100)) * delay
                world.at(later, self._deliver, sender, to, hello, encode_frame(again))

    def _notice_loss(self, sender: int, hello: PeerHello) -> None:
        self.receivers[sender].stream_lost(hello.to_member_id)

    def _deliver(self, sender: int, to: int, hello: PeerHello, frame: bytes) -> None:
        if (sender, to) in self.cut:
            self.world.counts["frames lost"] += 1
            return
        self.receivers[to].receive(sender, hello, decode_frame(frame))

    def refuse(self, sender: int, by: int, hello: PeerHello, why: str) -> None:
        """The stream of `sender` is not taken, which it hears at once, or never."""
        if (by, sender) not in self.cut:
            self.world.after(self.settings.delay_s, self.receivers[sender].refused, hello, why)

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
