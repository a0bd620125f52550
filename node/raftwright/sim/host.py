"""A simulated machine: its clocks, its disk, and power that goes. Whatever runs on it is `node.py`.

Rule: a crash takes everything but the disk, and of that what was not synced.
"""

import math
from collections.abc import Callable
from contextlib import suppress
from random import Random

from raftwright.sim.disk import SimFiles, SimulatedCrash, Unsynced
from raftwright.sim.profile import Profile
from raftwright.sim.workers import Work
from raftwright.sim.world import World
from raftwright.storage.errors import StorageError

WALL_EPOCH_MS = 1_700_000_000_000
CRASHES: tuple[Unsynced | None, ...] = ("drop", "drop", "drop", "drop", "drop", "mix", "mix", "mix", "keep", None)
"""What becomes of un-synced bytes in a crash. None: only the process ends, and the machine goes on."""
DISK_TIME_MAX_S = 1.0
STEP_S = 1e-6
"""Added to deadlines, so that a rounded one is not met a moment too early for ever."""


class SimHost:
    def __init__(self, *, world: World, profile: Profile, place: int) -> None:
        random = world.random
        self.world = world
        self.profile = profile
        self.place = place
        """Where the machine is, whoever lives there."""
        self.store_id = f"{random.getrandbits(128):032x}"
        """Of the disk that is in it now."""
        self.disk = SimFiles(Random(random.getrandbits(64)))
        self.clock_offset = random.uniform(0, 1e6)
        skew = random.uniform(-profile.clock_skew, profile.clock_skew)
        self.clock_rate = 1 + (math.copysign(profile.clock_skew, skew) if profile.clock_extremes else skew)
        self.wall_offset_ms = random.randint(-2000, 2000)
        self.disk_delay_s = profile.disk_delay_s * (20 if world.chance(profile.slow_disk_share) else 1)
        self.disk_slowness = 1.0
        self._paused = False
        self._deferred: list[Callable[[], None]] = []

    def __repr__(self) -> str:
        return f"n{self.place}"

    # Clocks

    @property
    def clock(self) -> float:
        """This machine's monotonic clock."""
        return self.clock_offset + self.world.now * self.clock_rate

    @property
    def wall_ms(self) -> int:
        return WALL_EPOCH_MS + self.wall_offset_ms + int(self.world.now * 1000)

    def _world_time(self, clock: float) -> float:
        return (clock - self.clock_offset) / self.clock_rate + STEP_S

    def disk_time(self) -> float:
        return min(DISK_TIME_MAX_S, self.world.random.expovariate(1 / (self.disk_delay_s * self.disk_slowness)))

    # Pauses

    def pause(self) -> None:
        self._paused = True

    def resume(self) -> None:
        self._paused = False
        deferred, self._deferred = self._deferred, []
        for action in deferred:
            action()

    def when_running(self, action: Callable[[], None]) -> None:
        """Do it now, or when the machine goes on; it is lost if it crashes before."""
        if self._paused:
            self._deferred.append(action)
        else:
            action()

    # Power

    def lose_power(self, under_way: list[Work]) -> None:
        """What is under way on the disk has got anywhere between its begin and its end."""
        world = self.world
        for work in under_way:
            if world.chance(0.95):
                self.disk.crash_at = self.disk.effects + world.random.choice((1, 2, 2, 2, 2, 3))
                with suppress(SimulatedCrash, StorageError):
                    work()
        before = self._content()
        how: Unsynced | None = world.random.choice(CRASHES)
        if how is None:
            self.disk.kill()
        else:
            self.disk.power_loss(how)
        dropped = self._content() != before
        world.counts["crashes"] += 1
        world.counts["crashes that dropped un-synced bytes"] += dropped
        world.trace(f"{self} crashes, un-synced bytes: {how}, dropped: {dropped}")
        self._paused = False
        self._deferred.clear()

    def _content(self) -> dict[str, bytes]:
        content: dict[str, bytes] = {}
        for directory in ("log", "snapshots"):
            if self.disk.exists(directory):
                paths = [f"{directory}/{name}" for name in self.disk.list(directory)]
                content.update({path: self.disk.content(path) for path in paths})
        return content

    def replace_disk(self) -> None:
        """By an empty one."""
        self.disk = SimFiles(Random(self.world.random.getrandbits(64)))
        self.store_id = f"{self.world.random.getrandbits(128):032x}"
        self.world.trace(f"{self} has an empty disk: store {self.store_id[:6]}")
