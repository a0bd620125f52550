"""The two clocks of a node. Rule: protocol time is `now`; wall time is only for log time and for people."""

import time

_BOOTTIME = getattr(time, "CLOCK_BOOTTIME", None)


def now() -> float:
    """Seconds of a monotonic clock, counting the time that the machine was suspended where the system can (Linux)."""
    return time.monotonic() if _BOOTTIME is None else time.clock_gettime(_BOOTTIME)


def wall_ms() -> int:
    """Milliseconds since 1970 by the wall clock, which may jump."""
    return time.time_ns() // 1_000_000
