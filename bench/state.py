"""How fast the replicated state is: apply, snapshot, restore, memory. Run: .venv/bin/python bench/state.py"""

import gc
import resource
import statistics
import sys
import time
import zlib
from collections.abc import Callable

from raftwright.kv.commands import Put, check_limits, decode_blob, encode_blob, encode_command
from raftwright.kv.store import KvMachine
from raftwright.raft.entries import Entry, EntryKind
from raftwright.server.blobs import Blob, Origin, decode_payload, encode_payload
from raftwright.server.state import ReplicatedState

KEYS = 1_000_000


def put_blob(first: int, count: int, value: bytes) -> bytes:
    return encode_blob(
        [encode_command(Put(f"key/{(n * 7919) % KEYS:08d}", value)) for n in range(first, first + count)]
    )


def entry(index: int, blobs: list[Blob]) -> Entry:
    payload = encode_payload(blobs)
    return Entry(1, index, EntryKind.COMMANDS, 1, 1_000 + index, payload, zlib.crc32(payload))


def timed(call: Callable[[], object], rounds: int) -> float:
    """Microseconds a call, the median of five runs."""
    runs = []
    for _ in range(5):
        began = time.perf_counter()
        for _ in range(rounds):
            call()
        runs.append((time.perf_counter() - began) / rounds * 1e6)
    return statistics.median(runs)


def memory_mib() -> float:
    with open("/proc/self/statm") as statm:
        return int(statm.read().split()[1]) * resource.getpagesize() / (1 << 20)


def measure_codecs() -> None:
    machine = KvMachine()
    blob = put_blob(0, 64, b"v" * 32)
    commands = decode_blob(blob)
    one = encode_payload([Blob(Origin(count=64), blob)])
    print(f"decode a blob of 64 puts      {timed(lambda: decode_blob(blob), 5000):8.2f} µs")
    print(f"check its limits              {timed(lambda: check_limits(commands, machine.limits), 5000):8.2f} µs")
    print(f"decode a payload of one blob  {timed(lambda: decode_payload(one), 5000):8.2f} µs")


def measure_apply(commands: int, per_entry: int, sessions: bool) -> None:
    entries = []
    for index in range(1, commands // per_entry + 1):
        number = (index - 1) * per_entry
        session = (index % 200).to_bytes(16, "big") if sessions else b""
        origin = Origin(
            session=session, first_seq=number + 1, count=per_entry, acked_below=max(1, number - 400), opens=True
        )
        entries.append(entry(index, [Blob(origin, put_blob(number, per_entry, b"v" * 32))]))
    for label in ("new keys", "rewrites"):
        if label == "new keys":
            state = ReplicatedState(KvMachine())
        else:
            state.applied_index = 0
            state.sessions = type(state.sessions)()
        slowest = 0.0
        began = time.perf_counter()
        for each in entries:
            before = time.perf_counter()
            state.apply(each)
            slowest = max(slowest, time.perf_counter() - before)
        took = time.perf_counter() - began
        kind = "in sessions" if sessions else "anonymous"
        rate = commands / took
        longest = f"longest {slowest * 1e3:.1f} ms"
        print(f"apply, {per_entry:3} an entry, {kind:11}, {label}: {rate:8,.0f} commands/s, {longest}")


def measure_snapshot(value: bytes) -> None:
    machine = KvMachine()
    for first in range(0, KEYS, 1000):
        machine.apply(decode_blob(put_blob(first, 1000, value)), None)  # type: ignore[arg-type]
    gc.collect()
    began = time.perf_counter()
    snapshot = machine.snapshot()
    frozen = time.perf_counter() - began
    slices, took = [], []
    while True:
        before = time.perf_counter()
        part = next(snapshot, None)
        took.append(time.perf_counter() - before)
        if part is None:
            break
        slices.append(part)
    size = sum(map(len, slices)) / (1 << 20)
    took.sort()
    p50, p99, longest = (took[at] * 1e3 for at in (len(took) // 2, len(took) * 99 // 100, -1))
    print(f"snapshot of {KEYS:,} keys: frozen in {frozen * 1e3:.1f} ms; {len(slices)} slices of {size:.0f} MiB")
    print(f"made in {sum(took):.2f} s; a slice: p50 {p50:.2f} ms, p99 {p99:.2f}, max {longest:.2f}")
    other = KvMachine()
    began = time.perf_counter()
    other.restore(slices)
    print(f"restore: {time.perf_counter() - began:.2f} s")
    began = time.perf_counter()
    other.page(prefix="key/005", limit=100)
    print(f"first page after it: {(time.perf_counter() - began) * 1e3:.2f} ms")


def measure_memory() -> None:
    gc.collect()
    before = memory_mib()
    machine = KvMachine()
    for first in range(0, 100_000, 100):
        machine.apply(decode_blob(put_blob(first, 100, b"v" * 100)), None)  # type: ignore[arg-type]
    gc.collect()
    print(f"100,000 keys of 12 bytes with values of 100: {memory_mib() - before:.1f} MiB over {before:.1f}")
    before = memory_mib()
    state = ReplicatedState(machine)
    for index in range(1, 65_537):
        origin = Origin(session=index.to_bytes(16, "big"), first_seq=1, count=1, opens=True)
        state.apply(entry(index, [Blob(origin, put_blob(index, 1, b"v" * 100))]))
    gc.collect()
    sessions = state.sessions
    counted = sessions.bytes / (1 << 20)
    print(f"{len(sessions):,} sessions of one blob: {memory_mib() - before:.1f} MiB, counted as {counted:.1f}")


if __name__ == "__main__":
    if "memory" in sys.argv:
        measure_memory()
        sys.exit()
    measure_codecs()
    for per_entry, commands in ((1, 200_000), (256, 1_000_192)):
        for sessions in (False, True):
            measure_apply(commands, per_entry, sessions)
    measure_snapshot(b"v" * 32)
