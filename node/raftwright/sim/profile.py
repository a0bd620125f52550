"""What one run is like: how large the cluster is, how small its limits, how bad its disks, network and clocks.

Drawn from the seed by `draw_profile`, or made by hand in a test. Values only.
"""

from dataclasses import dataclass, field, replace
from random import Random

from raftwright.sim.network import NetworkSettings

FAULTS = (
    "crash",
    "crash in a write",
    "crash several",
    "crash all",
    "partition",
    "isolate the leader",
    "split vote",
    "crash after a vote",
    "one way",
    "cut links",
    "slow disk",
    "full disk",
    "failed sync",
    "pause",
    "transfer",
    "bad network",
    "lost streams",
    "restart in a lease",
    "membership",
)


CLOCK_JUMP = "clock jump"
THEMES = (
    ("crash after a vote",),
    ("crash after a vote",),
    ("crash in a write", "partition"),
    ("isolate the leader", "pause"),
    ("full disk", "crash"),
    ("membership", "transfer", "change at an election", "two leaders change"),
    (CLOCK_JUMP, "crash", "isolate the leader"),
)
"""Faults that bring out most when little else disturbs them."""
CHANGES_OF_VOTES = ("membership", "change at an election", "two leaders change")
"""Not where operators change votes, who spare what disks they can by what they asked for themselves."""
LIVES_SHARE = 0.25
COUNTERS_SHARE = 0.15


@dataclass(slots=True, kw_only=True)
class Profile:
    voters: int = 3
    learners: int = 0
    election_timeout_s: float = 0.15
    patient: int = 0
    """So many nodes, the first ones, have an election timeout that is four times as long."""
    heartbeat_interval_s: float = 0.03
    request_timeout_s: float = 0.8
    clock_skew: float = 0.0
    """A node's clock runs fast or slow by up to this share."""
    clock_extremes: bool = False
    """And never by less."""
    disk_delay_s: float = 0.002
    """Mean of what a write with its sync takes."""
    slow_disk_share: float = 0.0
    """Share of the nodes whose disk takes twenty times as long."""
    segment_bytes: int = 16 << 10
    tail_bytes_max: int = 4 << 10
    entry_bytes_max: int = 1 << 10
    append_bytes_max: int = 1 << 10
    inflight_appends_max: int = 8
    chunk_bytes: int = 512
    snapshot_commands: int = 60
    snapshot_log_bytes: int = 64 << 10
    network: NetworkSettings = field(default_factory=NetworkSettings)
    clients: int = 4
    think_time_s: float = 0.03
    keys: int = 6
    seconds: float = 4.5
    """Virtual time with faults."""
    fault_interval_s: float = 0.25
    """Mean time from one fault to the next."""
    faults: tuple[str, ...] = ()
    crashes_that_wait: float = 0.85
    """Share of the crashes of nodes with nothing un-synced that wait until there is something to lose."""
    counters: bool = False
    """The nodes run a user's machine, rather than the store."""
    lives: bool = False
    """Members come and go, by bootstrap, as learners that join empty, by removal, and with disks that are lost."""
    managed: bool = False
    """All nodes start empty and wait; one of them is bootstrapped."""
    spares: int = 0
    """Machines that belong to nobody at first."""


def draw_profile(random: Random) -> Profile:
    """The settings of a run with faults."""
    themed = random.random() < 0.4
    faults = random.choice(THEMES) if themed else tuple(fault for fault in FAULTS if random.random() < 0.5)
    return Profile(
        voters=random.choice((1, 2, 3, 3, 3, 4, 4, 5)),
        learners=random.choice((0, 0, 0, 1, 2)),
        clock_skew=random.choice((0.0, 0.05, 0.2)),
        disk_delay_s=random.choice((0.0005, 0.002, 0.01)),
        slow_disk_share=random.choice((0.0, 0.0, 0.3)),
        segment_bytes=random.choice((8, 8, 8) if themed and "full disk" in faults else (8, 16, 32)) << 10,
        tail_bytes_max=random.choice((1, 2, 8)) << 10,
        inflight_appends_max=random.choice((1, 4, 32)),
        chunk_bytes=random.choice((200, 1000, 4000)),
        snapshot_commands=random.choice((8, 20, 60)),
        network=NetworkSettings(
            delay_s=random.choice((0.0005, 0.002)),
            jitter_s=random.choice((0.0002, 0.001, 0.005)),
            loss=random.choice((0.0, 0.01, 0.05)),
            duplication=random.choice((0.0, 0.02)),
            reordering=random.choice((0.0, 0.05)),
        ),
        clients=random.choice((3, 5)),
        fault_interval_s=random.choice((0.5, 1.0) if themed else (0.1, 0.25, 0.5)),
        faults=faults or FAULTS[:1],
        crashes_that_wait=0.95,
    )


def draw_lives(random: Random) -> Profile:
    """The settings of a run in which members come and go."""
    profile = draw_profile(random)
    voters = random.choice((1, 2, 3, 3, 3, 4, 5))
    faults = tuple(fault for fault in profile.faults if fault not in CHANGES_OF_VOTES) or FAULTS[:1]
    return replace(
        profile,
        voters=voters,
        learners=random.choice((0, 0, 1)),
        spares=random.choice((1, 2, 3)),
        managed=random.random() < 0.5,
        lives=True,
        seconds=6.0,
        faults=(*faults, "cut off a removal") if random.random() < 0.5 else faults,
    )


def draw_any(random: Random) -> Profile:
    """Of every kind of run."""
    profile = draw_lives(random) if random.random() < LIVES_SHARE else draw_profile(random)
    return replace(profile, counters=random.random() < COUNTERS_SHARE)
