"""Three nodes and a client: the leader stops, another takes over, and nothing is lost.

All three run in this program; in earnest each is a process of its own (`raftwright node`) on a machine of its own.

    python examples/three_nodes.py
"""

import asyncio
import socket
import tempfile

import raftwright

NAMES = ("a", "b", "c")


def free_address() -> str:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return f"127.0.0.1:{probe.getsockname()[1]}"


async def main() -> None:
    peers = {name: free_address() for name in NAMES}
    clients = {name: free_address() for name in NAMES}
    members = ",".join(f"{name}={peers[name]}/{clients[name]}" for name in NAMES)
    with tempfile.TemporaryDirectory() as directory:
        nodes = {
            name: await raftwright.Node.start(
                name=name,
                data_dir=f"{directory}/{name}",
                members=members,
                client_listen=clients[name],
                shutdown_timeout_s=1,
            )
            for name in NAMES
        }
        async with raftwright.Client(list(clients.values())) as client:
            for number in range(100):
                await client.put(f"key{number}", b"before")
            (leader,) = (name for name, node in nodes.items() if node.is_leader)
            await nodes.pop(leader).stop()
            print("the leader has stopped")
            await client.put("key0", b"after")
            count = len([item async for item in client.scan()])
            (new_leader,) = (name for name, node in nodes.items() if node.is_leader)
            print(f"{count} keys are there, and {'another node' if new_leader != leader else leader} leads")
        for node in nodes.values():
            await node.stop()


if __name__ == "__main__":
    asyncio.run(main())
