"""How long a node takes to be ready after a restart with a million commands behind its snapshot.

    python -m bench.restart                 # entries of one command, and entries of 250

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


def make_log(directory: Path, commands: int, commands_an_entry: int) -> None:
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
        payload = encode_payload([Blob(origin=Origin(count=commands_an_entry), data=encode_blob(encoded))])
        entries.append(Entry(1, number + 2, EntryKind.COMMANDS, 1, 0, payload, zlib.crc32(payload)))
        if len(entries) * commands_an_entry >= 50_000:
            storage.write(entries=entries)
            entries.clear()
    storage.write(entries=entries)
    storage.close()


def time_restart(directory: Path) -> float:
    command = [sys.executable, "-m", "raftwright", "node", "--name", "n1", "--data-dir", str(directory)]
    started = time.monotonic()
    node = subprocess.Popen(
        [*command, "--client-listen", CLIENT, "--peer-listen", PEER, "--log-level", "warning"],
    )
    try:
        while True:
            try:
                urllib.request.urlopen(f"http://{CLIENT}/readyz", timeout=5).close()
                urllib.request.urlopen(f"http://{CLIENT}/v1/kv/key000999999", timeout=30).close()
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
    for commands_an_entry in (1, 250):
        directory = Path(tempfile.mkdtemp(prefix="raftwright-restart-"))
        try:
            make_log(directory, options.commands, commands_an_entry)
            size = sum(path.stat().st_size for path in directory.rglob("*") if path.is_file())
            times = sorted(time_restart(directory) for _ in range(options.runs))
            print(
                f"{options.commands:,} commands in entries of {commands_an_entry}: {size / 1e6:.0f} MB on disk,"
                f" ready in {times[len(times) // 2]:.2f} s, median of {len(times)} ({times[0]:.2f} to {times[-1]:.2f})"
            )
        finally:
            shutil.rmtree(directory)


if __name__ == "__main__":
    main()
