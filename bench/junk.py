"""Connections that want nothing good: some that trickle bytes of a head, some that say nothing. A process of its own.

    python -m bench.junk --endpoint 127.0.0.1:7001 --trickling 1000 --idle 5000

Prints one line when all are open, and keeps them open (opening again what the node closes) until its input ends.
"""

import argparse
import asyncio
import contextlib
import resource
import sys

TRICKLE_S = 1.0


async def trickle(host: str, port: int) -> None:
    """One byte a second of a head that never ends."""
    while True:
        with contextlib.suppress(OSError):
            _, writer = await asyncio.open_connection(host, port)
            writer.write(b"GET / HTTP/1.1\r\nX: ")
            with contextlib.suppress(OSError):
                while not writer.is_closing():
                    writer.write(b"x")
                    await writer.drain()
                    await asyncio.sleep(TRICKLE_S)
        await asyncio.sleep(TRICKLE_S)


async def idle(host: str, port: int) -> None:
    while True:
        with contextlib.suppress(OSError):
            reader, _ = await asyncio.open_connection(host, port)
            await reader.read()
        await asyncio.sleep(TRICKLE_S)


async def run(endpoint: str, trickling: int, idling: int) -> None:
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    host, _, port = endpoint.rpartition(":")
    async with asyncio.TaskGroup() as group:
        tasks = []
        for number in range(trickling + idling):
            work = trickle if number < trickling else idle
            tasks.append(group.create_task(work(host, int(port))))
            if number % 100 == 99:
                await asyncio.sleep(0.02)
        await asyncio.sleep(2.0)
        print("open", flush=True)
        await asyncio.to_thread(sys.stdin.read)
        for task in tasks:
            task.cancel()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--endpoint", required=True)
    parser.add_argument("--trickling", type=int, default=1000)
    parser.add_argument("--idle", type=int, default=5000)
    arguments = parser.parse_args()
    asyncio.run(run(arguments.endpoint, arguments.trickling, arguments.idle))


if __name__ == "__main__":
    main()
