"""How long a node takes to be ready after a restart with a million commands behind its snapshot.

    python -m bench.restart                 # entries of one command, and of 250; with and without sessions

Sessions are those of one client that sends a million writes, or of a million writes with an `Idempotency-Key` each.
Makes the log with the real storage, starts the real node, and waits until it serves a linearizable read.
"""

import argparse
import shutil
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
import zlib
from hashlib import blake2b
from pathlib import Path

from raftwright.kv.commands import Put, encode_blob, encode_command
from raftwright.kv.store import KvMachine
from raftwright.raft.entries import Entry, EntryKind
from raftwright.raft.membership import Addresses, Member, first_membership
from raftwright.server.blobs import Blob, Origin, encode_payload
from raftwright.server.founding import Founding, make_durable
from raftwright.storage.files import OsFiles
from raftwright.storage.storage import Storage, StorageSettings

CLIENT, PEER = "127.0.0.1:19001", "127.0.0.1:19002"


def make_log(directory: Path, commands: int, commands_an_entry: int, sessions: str) -> None:
    """A command a millisecond, up to now."""
    began_ms = time.time_ns() // 1_000_000 - commands
    storage = Storage.open(OsFiles(directory), StorageSettings(), new_store_id="a" * 32)
    member = Member(name="n1", store_id="a" * 32, addresses=Addresses(peer=PEER, client=CLIENT))
    founding = Founding(cluster_id="c" * 32, member_id=1, membership=first_membership([(member, True)]))
    make_durable(storage, KvMachine(), founding, "n1")
    entries = []
    for number in range(commands // commands_an_entry):
        encoded = [
            encode_command(Put(f"key{number * commands_an_entry + part:09}", b"v" * 32))
            for part in range(commands_an_entry)
        ]
        first = number * commands_an_entry
        payload = encode_payload([Blob(origin=origin(first, commands_an_entry, sessions), data=encode_blob(encoded))])
        entries.append(Entry(1, number + 2, EntryKind.COMMANDS, 1, began_ms + first, payload, zlib.crc32(payload)))
        if len(entries) * commands_an_entry >= 50_000:
            storage.write(entries=entries)
            entries.clear()
    storage.write(entries=entries)
    storage.close()


def origin(first: int, count: int, sessions: str) -> Origin:
    if sessions == "none":
        return Origin(count=count)
    if sessions == "one":
        return Origin(session=b"s" * 16, first_seq=first, count=count, acked_below=max(0, first - 64), opens=first == 0)
    return Origin(session=blake2b(b"%d" % first, digest_size=16).digest(), count=count, opens=True)


def time_restart(directory: Path, last_key: str) -> float:
    command = [sys.executable, "-m", "raftwright", "node", "--name", "n1", "--data-dir", str(directory)]
    started = time.monotonic()
    node = subprocess.Popen(
        [*command, "--client-listen", CLIENT, "--peer-listen", PEER, "--log-level", "warning"],
    )
    try:
        while True:
            try:
                urllib.request.urlopen(f"http://{CLIENT}/readyz", timeout=5).close()
                urllib.request.urlopen(f"http://{CLIENT}/v1/kv/{last_key}", timeout=30).close()
                return time.monotonic() - started
            except (urllib.error.URLError, ConnectionError, TimeoutError):
                if node.poll() is not None:
                    raise SystemExit("the node ended") from None
                time.sleep(0.02)
    finally:
        node.terminate()
        node.wait()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--commands", type=int, default=1_000_000)
    parser.add_argument("--runs", type=int, default=3)
    options = parser.parse_args()
    for commands_an_entry, sessions in ((1, "none"), (250, "none"), (1, "one"), (1, "keys")):
        directory = Path(tempfile.mkdtemp(prefix="raftwright-restart-"))
        try:
            make_log(directory, options.commands, commands_an_entry, sessions)
            size = sum(path.stat().st_size for path in directory.rglob("*") if path.is_file())
            last_key = f"key{options.commands - 1:09}"
            times = sorted(time_restart(directory, last_key) for _ in range(options.runs))
            median = times[len(times) // 2]
            print(
                f"{options.commands:,} commands in entries of {commands_an_entry}, sessions: {sessions}:"
                f" {size / 1e6:.0f} MB on disk, ready in {median:.2f} s, median of {len(times)}"
                f" ({times[0]:.2f} to {times[-1]:.2f})"
            )
        finally:
            shutil.rmtree(directory)


if __name__ == "__main__":
    main()
