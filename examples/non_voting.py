"""A non-voting member: it gets every entry and serves reads, but no commit waits for it and it never leads.

python examples/non_voting.py
"""

import asyncio
import socket
import tempfile

import raftwright


def free_address() -> str:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return f"127.0.0.1:{probe.getsockname()[1]}"


async def main() -> None:
    members = f"voter={free_address()};reader={free_address()},nonVoting"
    with tempfile.TemporaryDirectory() as directory:

        async def start(name: str) -> raftwright.Node:
            return await raftwright.Node.start(name=name, data_dir=f"{directory}/{name}", members=members)

        voter, reader = await start("voter"), await start("reader")
        # A write through the reader goes to the leader; a linearizable read is answered by the reader's own state.
        await reader.propose(raftwright.Put("city", b"Oslo"))
        item = await reader.query("city")
        print(f"the reader says {item.value.decode()}")
        for member in sorted(voter.members, key=lambda member: member.name):
            print(f"{member.name}: {member.role}{', leads' if member.leader else ''}")

        await reader.stop()
        await voter.propose(raftwright.Put("city", b"Bergen"))
        print("without the reader, writes go on")

        reader = await start("reader")
        item = await reader.query("city")
        print(f"the reader is back and says {item.value.decode()}")
        await reader.stop()
        await voter.stop()


if __name__ == "__main__":
    asyncio.run(main())
