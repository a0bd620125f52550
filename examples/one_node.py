"""One node inside this program, with the key-value store: write, read, stop, and find everything again.

python examples/one_node.py
"""

import asyncio
import tempfile

import raftwright


async def main() -> None:
    with tempfile.TemporaryDirectory() as directory:
        async with raftwright.Node(name="a", data_dir=directory) as node:
            first = await node.propose(raftwright.Put("greeting", b"hello"))
            second = await node.propose(raftwright.Put("greeting", b"hello again"))
            print(f"revisions {first} and {second}")
            try:
                await node.propose(raftwright.Put("greeting", b"lost", if_revision=first))
            except raftwright.PreconditionFailed as refused:
                print(f"refused: it is at revision {refused.revision}")

        # The data directory is all that a node is.
        async with raftwright.Node(name="a", data_dir=directory) as node:
            item = await node.query("greeting")
            print(f"after a restart: {item.value.decode()!r} at revision {item.revision}")


if __name__ == "__main__":
    asyncio.run(main())
