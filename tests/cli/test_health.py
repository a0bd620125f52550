"""`raftwright health`, as a container's health check runs it: its exit status is all that counts."""

import pytest

from raftwright.cli.health import local_address
from tests.cli.support import raftwright
from tests.server.local_service import running


@pytest.mark.parametrize(
    ("listen", "asked"),
    [
        ("", "127.0.0.1:7001"),
        ("0.0.0.0:7005", "127.0.0.1:7005"),
        ("[::]:7005", "127.0.0.1:7005"),
        ("10.0.0.7:7001", "10.0.0.7:7001"),
    ],
)
def test_the_node_is_asked_where_it_listens(listen: str, asked: str) -> None:
    assert local_address(listen) == asked


async def test_a_node_that_lives_and_one_that_is_not_ready() -> None:
    async with running() as server:
        here = f"{server.host}:{server.port}"
        alive = await raftwright("health", RAFTWRIGHT_CLIENT_LISTEN=f"0.0.0.0:{server.port}")
        assert (alive.status, alive.text) == (0, f"{here} is alive\n")
        assert (await raftwright("health", "--ready", "--endpoint", here)).status == 0
        server.service.unready = "no leader is known"
        assert (await raftwright("health", "--endpoint", here)).status == 0
        unready = await raftwright("health", "--ready", "--endpoint", here)
        assert unready.status == 1 and "no leader is known" in unready.err
    gone = await raftwright("health", "--endpoint", here)
    assert gone.status == 1 and "does not answer" in gone.err


async def test_what_is_no_endpoint_is_a_wrong_command() -> None:
    wrong = await raftwright("health", "--endpoint", "here:there")
    assert wrong.status == 2 and "not host:port" in wrong.err
