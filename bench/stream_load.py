"""Load over the pipelined stream, with so many operations outstanding. Runs as a process of its own.

    python -m bench.stream_load --endpoint 127.0.0.1:7001 --outstanding 64 --seconds 5 --by client

`--by client` is `raftwright.Client`, an awaitable an operation; `--by frames` sends whole frames of writes, and shows
what the nodes can do. Prints one JSON object.
"""

import argparse
import asyncio
import json
import random
import secrets
import time

import aiohttp
import uvloop

from bench.http_load import KEYS, VALUE_BYTES, key_of, summary
from raftwright.client import models
from raftwright.client.client import Client
from raftwright.kv.commands import Put, encode_blob, encode_command

FRAMES_IN_FLIGHT = 2
"""So that one frame is on its way while the last is being answered."""


async def by_client(endpoint: str, outstanding: int, seconds: float) -> dict[str, float]:
    """As many tasks as operations outstanding, each of which writes one key after the other."""
    latencies: list[float] = []
    failed = 0
    until = time.perf_counter() + seconds
    value = secrets.token_bytes(VALUE_BYTES)

    async def worker(client: Client) -> None:
        nonlocal failed
        now = time.perf_counter()
        while now < until:
            try:
                await client.put(key_of(random.randrange(KEYS)), value)
            except Exception:
                failed += 1
            before, now = now, time.perf_counter()
            latencies.append(now - before)

    begun = time.perf_counter()
    async with Client([endpoint]) as client:
        await asyncio.gather(*(worker(client) for _ in range(outstanding)))
    return summary(latencies, time.perf_counter() - begun, failed)


async def by_frames(endpoint: str, outstanding: int, seconds: float) -> dict[str, float]:
    """Frames of equal size, made anew each time, a few in flight."""
    flights = min(FRAMES_IN_FLIGHT, outstanding)
    count = outstanding // flights
    encoded = [encode_command(Put(key_of(number), secrets.token_bytes(VALUE_BYTES))) for number in range(KEYS)]
    latencies: list[float] = []
    failed = 0
    sent: dict[int, float] = {}

    async with (
        aiohttp.ClientSession() as session,
        session.ws_connect(f"http://{endpoint}/v1/stream", compress=0) as socket,
    ):
        hello = models.Hello(models.STREAM_PROTOCOL, secrets.token_bytes(models.SESSION_ID_BYTES), "bench")
        await socket.send_bytes(models.encode_frame(hello))
        models.decode_node_frame(await socket.receive_bytes())

        async def send(number: int) -> None:
            first = (number - 1) * count + 1
            start = random.randrange(KEYS - count)
            blob = encode_blob(encoded[start : start + count])
            writes = models.Writes(first, count, max(0, first - flights * count), number <= flights, blob)
            sent[number] = time.perf_counter()
            await socket.send_bytes(models.encode_frame(models.RequestFrame(number, writes)))

        begun = time.perf_counter()
        for number in range(1, flights + 1):
            await send(number)
        following = flights + 1
        while sent:
            frame = models.decode_node_frame(await socket.receive_bytes())
            assert isinstance(frame, models.ReplyFrame)
            for reply in frame.replies:
                latency = time.perf_counter() - sent.pop(reply.id)
                if isinstance(reply, models.WriteReply):
                    latencies += [latency] * len(models.decode_results(reply.results))
                else:
                    failed += count
                if time.perf_counter() - begun < seconds:
                    await send(following)
                    following += 1
        return summary(latencies, time.perf_counter() - begun, failed)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--endpoint", required=True)
    parser.add_argument("--outstanding", type=int, default=64)
    parser.add_argument("--seconds", type=float, default=5.0)
    parser.add_argument("--by", choices=("client", "frames"), default="client")
    arguments = parser.parse_args()
    load = by_client if arguments.by == "client" else by_frames
    print(json.dumps(uvloop.run(load(arguments.endpoint, arguments.outstanding, arguments.seconds))))


if __name__ == "__main__":
    main()
