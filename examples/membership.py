"""A cluster that grows from one node to three while it works, and shrinks back to one.

Each new node adds itself through one that is there (`join`), gets the state, and is promoted to a voter by the leader
when it has caught up. The writes never stop.

    python examples/membership.py
"""

import asyncio
import socket
import tempfile

import raftwright


def free_address() -> str:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return f"127.0.0.1:{probe.getsockname()[1]}"


async def until_voters(node: raftwright.Node, names: set[str]) -> None:
    """Wait until just these vote."""
    async for membership in node.membership_changes():
        voters = {membership.members[number].name for number in membership.voters}
        if voters == names and not membership.is_joint:
            return


async def main() -> None:
    peers = {name: free_address() for name in "abc"}
    api = free_address()
    with tempfile.TemporaryDirectory() as directory:
        first = await raftwright.Node.start(
            name="a", data_dir=f"{directory}/a", members=f"a={peers['a']}", client_listen=api
        )
        nodes = {"a": first}
        written = 0

        async def write() -> None:
            nonlocal written
            while True:
                await first.propose(raftwright.Put(f"key{written}", b"value"), idempotent=True)
                written += 1
                await asyncio.sleep(0.001)

        writing = asyncio.create_task(write())
        for name in ("b", "c"):
            nodes[name] = await raftwright.Node.start(
                name=name, data_dir=f"{directory}/{name}", join=peers["a"], peer_listen=peers[name]
            )
            await until_voters(first, set(nodes))
            print(f"{len(nodes)} voters: {', '.join(nodes)}")

        async with raftwright.Client([api]) as client:
            for name in ("c", "b"):
                await client.members.remove(name, timeout_s=30)
                await nodes.pop(name).stop()
                await until_voters(first, set(nodes))
                print(f"{len(nodes)} voters: {', '.join(nodes)}")

        writing.cancel()
        before = written
        await asyncio.gather(writing, return_exceptions=True)
        assert await first.query(f"key{before - 1}") is not None
        print("every write was kept" if before > 10 else "too few writes")
        await first.stop()


if __name__ == "__main__":
    asyncio.run(main())
