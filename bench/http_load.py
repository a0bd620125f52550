"""Load over keep-alive HTTP: many connections, one request at a time on each. Runs as a process of its own.

    python -m bench.http_load --endpoint 127.0.0.1:7001 --clients 200 --seconds 5 --verb PUT

Prints one JSON object. Rule: it reads answers with as little work as will do, so that it is not what is measured.
"""

import argparse
import asyncio
import json
import random
import time
from typing import cast

import uvloop

KEYS = 10_000
VALUE_BYTES = 32
PATIENCE_S = 15.0


class Connection(asyncio.Protocol):
    """One client: sends a request, waits for the answer, notes the time it took, sends the next."""

    def __init__(self, requests: list[bytes], latencies: list[float], failures: list[bytes], until: float) -> None:
        self._requests = requests
        self._latencies = latencies
        self._failures = failures
        self._until = until
        self._buffer = b""
        self._sent_at = 0.0
        self._transport: asyncio.Transport | None = None
        self.done: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)  # uvloop's is none by its class
        self._send()

    def _send(self) -> None:
        self._sent_at = time.perf_counter()
        if self._sent_at >= self._until:
            self._end()
        elif self._transport:
            self._transport.write(random.choice(self._requests))

    def data_received(self, data: bytes) -> None:
        if self._buffer:
            data = self._buffer + data
        head, separator, body = data.partition(b"\r\n\r\n")
        if not separator or len(body) < _content_length(head):
            self._buffer = data
            return
        self._buffer = b""
        self._latencies.append(time.perf_counter() - self._sent_at)
        if head[9:12] != b"200":
            self._failures.append(head[:200])
        self._send()

    def connection_lost(self, exc: Exception | None) -> None:
        if not self.done.done():
            self._failures.append(b"the connection was lost")
        self._end()

    def _end(self) -> None:
        if not self.done.done():
            self.done.set_result(None)
        if self._transport:
            self._transport.close()


def _content_length(head: bytes) -> int:
    start = head.lower().find(b"\r\ncontent-length:")
    return int(head[start + 17 :].split(b"\r\n", 1)[0]) if start >= 0 else 0


def key_of(number: int) -> str:
    return f"bench-{number:06}"


def requests_of(verb: str, host: str) -> list[bytes]:
    """Whole requests, made once."""
    requests = []
    for number in range(KEYS):
        head = f"{verb} /v1/kv/{key_of(number)} HTTP/1.1\r\nHost: {host}\r\n"
        if verb == "PUT":
            value = random.randbytes(VALUE_BYTES // 2).hex()
            requests.append(f"{head}Content-Length: {VALUE_BYTES}\r\n\r\n{value}".encode())
        else:
            requests.append(f"{head}\r\n".encode())
    return requests


async def run(endpoint: str, clients: int, seconds: float, verb: str) -> dict[str, float]:
    """The load. Returns operations a second, p50 and p99 in ms, and how many failed."""
    host, _, port = endpoint.rpartition(":")
    requests = requests_of(verb, endpoint)
    latencies: list[float] = []
    failures: list[bytes] = []
    loop = asyncio.get_running_loop()
    begun = time.perf_counter()
    connections = []
    for _ in range(clients):
        _, connection = await loop.create_connection(
            lambda: Connection(requests, latencies, failures, begun + seconds), host, int(port)
        )
        connections.append(connection)
    async with asyncio.timeout(seconds + PATIENCE_S):
        await asyncio.gather(*(connection.done for connection in connections))
    return summary(latencies, time.perf_counter() - begun, len(failures))


def summary(latencies: list[float], seconds: float, failed: int) -> dict[str, float]:
    """What is reported of a run; latencies in seconds become milliseconds."""
    ordered = sorted(latencies)
    return {
        "per_s": round(len(ordered) / seconds, 1),
        "p50_ms": round(1000 * ordered[len(ordered) // 2], 3),
        "p99_ms": round(1000 * ordered[len(ordered) * 99 // 100], 3),
        "failed": failed,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--endpoint", required=True)
    parser.add_argument("--clients", type=int, default=200)
    parser.add_argument("--seconds", type=float, default=5.0)
    parser.add_argument("--verb", choices=("PUT", "GET"), default="PUT")
    arguments = parser.parse_args()
    print(json.dumps(uvloop.run(run(arguments.endpoint, arguments.clients, arguments.seconds, arguments.verb))))


if __name__ == "__main__":
    main()
