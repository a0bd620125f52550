"""A state machine of one's own: counters that three nodes agree on, embedded in this program.

python examples/counter.py
"""

import asyncio
import json
import socket
import tempfile
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import raftwright

NAMES = ("a", "b", "c")


@raftwright.command("add", result=int)
@dataclass(frozen=True)
class Add:
    """Add to a counter; the result is its new value."""

    name: str
    amount: int = 1


class Counters(raftwright.StateMachine):
    """Counters by name. None may fall below 0."""

    commands = (Add,)

    def __init__(self) -> None:
        self.values: dict[str, int] = {}

    def apply(self, command: Add, context: raftwright.ApplyContext) -> int:
        value = self.values.get(command.name, 0) + command.amount
        if value < 0:
            raise ValueError(f"{command.name} would fall to {value}")  # nothing has been changed yet
        self.values[command.name] = value
        return value

    def query(self, request: Any) -> int:
        return self.values.get(request, 0)

    def snapshot(self) -> Iterator[bytes]:
        frozen = dict(self.values)  # runs at once; what follows runs while commands are applied
        for pair in frozen.items():
            yield json.dumps(pair).encode() + b"\n"

    def restore(self, chunks: Iterable[bytes]) -> None:
        self.values = dict(json.loads(line) for line in b"".join(chunks).splitlines())


def free_address() -> str:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return f"127.0.0.1:{probe.getsockname()[1]}"


async def main() -> None:
    members = ",".join(f"{name}={free_address()}" for name in NAMES)
    with tempfile.TemporaryDirectory() as directory:
        nodes = [
            await raftwright.Node.start(
                state_machine=Counters(),
                name=name,
                data_dir=f"{directory}/{name}",
                members=members,
                snapshot_policy="after 60s 1, commands 1000",
                shutdown_timeout_s=1,
            )
            for name in NAMES
        ]
        # Whichever node is asked, the command goes through the leader, and happens once.
        await asyncio.gather(*(nodes[n % 3].propose(Add("visits"), idempotent=True) for n in range(300)))
        print("visits:", [await node.query("visits") for node in nodes])
        try:
            await nodes[0].propose(Add("visits", -1000))
        except raftwright.CommandFailed as failed:
            print("refused:", failed)
        async for change in nodes[0].leader_changes():
            print("a leader is known" if change.leader_id else "nobody leads")
            break
        for node in nodes:
            await node.stop()


if __name__ == "__main__":
    asyncio.run(main())
