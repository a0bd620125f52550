"""Nodes on IPv6, and on every address of the machine, of either family."""

import errno
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from raftwright.client.client import Client
from raftwright.server import listening
from raftwright.server.embedded import Node
from tests.cluster.support import free_port

HAS_IPV6 = socket.has_dualstack_ipv6()
needs_ipv6 = pytest.mark.skipif(not HAS_IPV6, reason="this machine has no IPv6")


@asynccontextmanager
async def three(directory: Path, listen: str, reached: str) -> AsyncIterator[list[str]]:
    """Three nodes that listen on one host and are reached at another; yields where clients reach them."""
    first = free_port(6)
    hosts = [(name, first + number, first + 3 + number) for number, name in enumerate("abc")]
    members = ",".join(f"{name}={reached}:{peer}/{reached}:{client}" for name, client, peer in hosts)
    async with AsyncExitStack() as stack:
        for name, client, peer in hosts:
            node = Node(
                name=name,
                data_dir=directory / name,
                members=members,
                client_listen=f"{listen}:{client}",
                peer_listen=f"{listen}:{peer}",
                client_advertise=f"{reached}:{client}",
                peer_advertise=f"{reached}:{peer}",
                shutdown_timeout_s=0.3,
            )
            await stack.enter_async_context(node)
        yield [f"{reached}:{client}" for _, client, _ in hosts]


@pytest.mark.parametrize(
    ("listen", "reached"),
    [
        pytest.param("[::1]", "[::1]", marks=needs_ipv6),
        pytest.param("[::]", "[::1]", marks=needs_ipv6),
        ("[::]", "127.0.0.1"),
        ("[::]", "localhost"),
    ],
)
async def test_a_cluster_works_whatever_its_addresses_are(tmp_path: Path, listen: str, reached: str) -> None:
    async with three(tmp_path, listen, reached) as endpoints, Client(endpoints[:1]) as client:
        await client.put("key", b"value")
        found = await client.get("key")
        assert found is not None and found.value == b"value"
        status = await client.status()
        assert sorted(member.client for member in status.members) == sorted(endpoints)


def connect(host: str, port: int) -> None:
    socket.create_connection((host, port), timeout=5).close()


@needs_ipv6
def test_every_address_is_of_both_families() -> None:
    with listening.every_address(0) as opened:
        port = opened.getsockname()[1]
        connect("::1", port)
        connect("127.0.0.1", port)


@pytest.mark.parametrize(
    "error",
    [ValueError("dualstack_ipv6 not supported"), OSError(errno.EAFNOSUPPORT, "no"), OSError(errno.EADDRNOTAVAIL, "no")],
    ids=str,
)
def test_where_there_is_no_ipv6_it_is_every_one_of_ipv4(monkeypatch: pytest.MonkeyPatch, error: Exception) -> None:
    real: Callable[..., socket.socket] = socket.create_server

    def without_ipv6(*arguments: Any, **options: Any) -> socket.socket:
        if options.get("family") == socket.AF_INET6:
            raise error
        return real(*arguments, **options)

    monkeypatch.setattr(socket, "create_server", without_ipv6)
    with listening.every_address(0) as opened:
        assert opened.family == socket.AF_INET
        connect("127.0.0.1", opened.getsockname()[1])


def test_a_port_that_is_taken_is_said_and_not_shared() -> None:
    with listening.every_address(0) as opened:
        with pytest.raises(OSError) as refused:
            listening.every_address(opened.getsockname()[1])
        assert refused.value.errno == errno.EADDRINUSE
