"""Streams between members over real sockets: who is let in, who is not, and what comes through."""

import asyncio
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import replace

import aiohttp
import msgspec
import pytest
from aiohttp import web

from raftwright.raft.entries import ZERO
from raftwright.raft.membership import Addresses, Member, Membership, first_membership
from raftwright.raft.messages import AppendEntries, TimeoutNow
from raftwright.server.peer_streams import HELLO_HEADER, REFUSAL_HEADER, STREAM_PATH
from raftwright.server.peers import IDENTITY_PATH, LocalIdentity, PeerTransport
from raftwright.server.wire import Forward, PeerHello, PeerMessage, encode_frame


class Peer:
    """A transport with a listener on a free port of this machine."""

    def __init__(self, name: str, number: int, host: str = "127.0.0.1") -> None:
        self.host = host
        self.received: asyncio.Queue[PeerMessage] = asyncio.Queue()
        self.lost: asyncio.Queue[int] = asyncio.Queue()
        self.identity = LocalIdentity(name=name, store_id=name * 32, cluster_id="k" * 32, member_id=number)
        self.transport = PeerTransport(
            self.identity,
            on_messages=self._on_messages,
            on_lost=self.lost.put_nowait,
        )
        self.port = 0
        self._runner: web.AppRunner
        self._task: asyncio.Task[None]

    def _on_messages(self, messages: list[PeerMessage]) -> None:
        for message in messages:
            self.received.put_nowait(message)

    async def start(self) -> None:
        application = web.Application()
        application.add_routes(self.transport.routes())
        application.on_shutdown.append(lambda _: self.transport.hang_up())
        self._runner = web.AppRunner(application, access_log=None, shutdown_timeout=1.0)
        await self._runner.setup()
        site = web.TCPSite(self._runner, self.host, self.port)
        await site.start()
        self.port = self._runner.addresses[0][1]

    def connect(self, membership: Membership) -> None:
        self.transport.update(membership)
        self._task = asyncio.create_task(self.transport.run())

    async def stop(self) -> None:
        self._task.cancel()
        with suppress(asyncio.CancelledError):
            await self._task
        await self._runner.cleanup()

    async def send_until_received(self, other: "Peer", message: PeerMessage) -> PeerMessage:
        """Streams drop while they connect, as Raft expects: send until it arrives."""
        while True:
            self.transport.send({other.identity.member_id or 0: [message]})
            with suppress(TimeoutError):
                async with asyncio.timeout(0.05):
                    return await other.received.get()


def member(peer: Peer, store_id: str | None = None) -> Member:
    return Member(
        name=peer.identity.name,
        store_id=store_id or peer.identity.store_id,
        addresses=Addresses(peer=f"127.0.0.1:{peer.port}", client="127.0.0.1:1"),
    )


@asynccontextmanager
async def pair(a_as_b_knows_it: str | None = None) -> AsyncIterator[tuple[Peer, Peer]]:
    a, b = Peer("a", 1), Peer("b", 2)
    await a.start()
    await b.start()
    a.connect(first_membership([(member(a), True), (member(b), True)]))
    b.connect(first_membership([(member(a, a_as_b_knows_it), True), (member(b), True)]))
    try:
        yield a, b
    finally:
        await a.stop()
        await b.stop()


def hello(**changes: object) -> PeerHello:
    fields: dict[str, object] = {
        "protocol_min": 1,
        "protocol_max": 1,
        "cluster_id": "k" * 32,
        "member_id": 1,
        "store_id": "a" * 32,
        "to_member_id": 2,
        "to_store_id": "b" * 32,
        "channel": "control",
    }
    return PeerHello(**{**fields, **changes})  # type: ignore[arg-type]


async def refusal_of(peer: Peer, header: str) -> str:
    async with aiohttp.ClientSession() as session:
        with pytest.raises(aiohttp.WSServerHandshakeError) as caught:
            await session.ws_connect(f"http://127.0.0.1:{peer.port}{STREAM_PATH}", headers={HELLO_HEADER: header})
    assert caught.value.status == 403
    assert caught.value.headers is not None
    return caught.value.headers[REFUSAL_HEADER]


async def wait_until(true: Callable[[], bool]) -> None:
    async with asyncio.timeout(5):
        while not true():  # noqa: ASYNC110  # nothing to wait on: the state of a connection is what is tested
            await asyncio.sleep(0.01)


async def test_messages_go_both_ways() -> None:
    async with pair() as (a, b):
        there = TimeoutNow(from_id=1, to_id=2, term=5)
        assert await a.send_until_received(b, there) == there
        back = AppendEntries(from_id=2, to_id=1, term=5, prev=ZERO, commit_index=0, round=1)
        assert await b.send_until_received(a, back) == back
        assert a.transport.is_connected(2)


async def test_a_write_for_a_peer_without_a_stream_is_known_not_to_have_left() -> None:
    unsent: list[tuple[int, list[int]]] = []
    async with pair() as (a, b):
        b.identity.cluster_id = None  # it refuses every stream for now, as before it is founded
        a.transport.on_unsent = lambda peer, forwards: unsent.append((peer, forwards))
        forwards: list[PeerMessage] = [Forward(from_id=1, to_id=2, id=number, blobs=b"x") for number in (7, 8)]
        a.transport.send({2: [TimeoutNow(from_id=1, to_id=2, term=5), *forwards], 3: forwards[:1]})
        assert unsent == [(2, [7, 8]), (3, [7])]
        b.identity.cluster_id = "k" * 32
        await wait_until(lambda: a.transport.is_connected(2))
        a.transport.send({2: forwards})
        assert [await b.received.get(), await b.received.get()] == forwards
        assert len(unsent) == 2
        assert a.lost.empty(), "a stream that was never up was not lost"


async def test_a_stream_that_breaks_is_reported_and_set_up_again() -> None:
    async with pair() as (a, b):
        message = TimeoutNow(from_id=1, to_id=2, term=5)
        await a.send_until_received(b, message)
        await b._runner.cleanup()
        assert await asyncio.wait_for(a.lost.get(), 5) == 2
        await b.start()
        while not b.received.empty():
            b.received.get_nowait()
        assert await a.send_until_received(b, message) == message


async def test_a_name_that_has_no_address_yet_or_another_one_by_now_is_looked_up_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """As of a pod: its name comes after it, and its address changes with each start."""
    found: list[str | None] = [None, None, "127.0.0.2", "127.0.0.2", "127.0.0.2", "127.0.0.1"]
    asked: list[str] = []

    async def look_up(host: str, port: int, **_: object) -> list[tuple[object, ...]]:
        asked.append(host)
        address = found.pop(0) if len(found) > 1 else found[0]
        if address is None:
            raise socket.gaierror(socket.EAI_NONAME, "no such name")
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, port))]

    monkeypatch.setattr(asyncio.get_running_loop(), "getaddrinfo", look_up)
    a, b = Peer("a", 1), Peer("b", 2)
    await a.start()
    await b.start()
    moved = replace(member(b), addresses=Addresses(peer=f"b-0.peers.test:{b.port}", client=""))
    membership = first_membership([(member(a), True), (moved, True)])
    a.connect(membership)
    b.connect(membership)
    try:
        await wait_until(lambda: a.transport.is_connected(2))
        assert set(asked) == {"b-0.peers.test"} and len(found) == 1
    finally:
        await a.stop()
        await b.stop()


async def test_a_member_whose_address_is_another_ones_by_now_is_found_at_its_new_one(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """As after all hosts lost power at once: pods get each other's addresses, and names follow a little later. The
    connection to the wrong one is not used again, though it is open, and young."""
    found = ["127.0.0.2"] * 4 + ["127.0.0.1"]

    async def look_up(_: str, port: int, **__: object) -> list[tuple[object, ...]]:
        address = found.pop(0) if len(found) > 1 else found[0]
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, port))]

    a, b, other = Peer("a", 1), Peer("b", 2), Peer("c", 3, host="127.0.0.2")
    await a.start()
    await b.start()
    other.port = b.port
    await other.start()
    monkeypatch.setattr(asyncio.get_running_loop(), "getaddrinfo", look_up)
    moved = replace(member(b), addresses=Addresses(peer=f"b-0.peers.test:{b.port}", client=""))
    membership = first_membership([(member(a), True), (moved, True)])
    for peer in (a, b, other):
        peer.connect(membership)
    try:
        await wait_until(lambda: "not-me" in a.transport.refusals().get(2, ""))
        await wait_until(lambda: a.transport.is_connected(2))
    finally:
        for peer in (a, b, other):
            await peer.stop()


@pytest.mark.parametrize(
    ("changes", "kind"),
    [
        ({"protocol_min": 2, "protocol_max": 9}, "version"),
        ({"cluster_id": "x" * 32}, "cluster"),
        ({"to_member_id": 3}, "not-me"),
        ({"to_store_id": "x" * 32}, "not-me"),
        ({"store_id": "x" * 32}, "stranger"),
    ],
)
async def test_a_stream_that_does_not_fit_is_refused_with_the_reason(changes: dict[str, object], kind: str) -> None:
    async with pair() as (_, b):
        refusal = await refusal_of(b, msgspec.json.encode(hello(**changes)).decode())
        assert refusal.startswith(kind + ": ")


async def test_another_cluster_of_the_same_id_is_refused_by_both_names_and_told_what_to_do() -> None:
    async with pair() as (_, b):
        b.identity.founding = "1" * 32
        refusal = await refusal_of(b, msgspec.json.encode(hello(founding="2" * 32)).decode())
        assert refusal.startswith("founding: ")
        assert all(
            part in refusal for part in ("1" * 32, "2" * 32, "k" * 32, "begin anew, with empty data directories")
        )
        assert b.transport.why_refused(hello(founding="1" * 32)) == ""
        assert b.transport.why_refused(hello()) == "", "of a node that does not know"


async def test_what_the_cluster_was_founded_as_is_learned_from_a_member_and_from_nobody_else() -> None:
    async with pair() as (a, b):
        learned: list[str] = []

        async def learn(founding: str) -> None:
            learned.append(founding)
            b.identity.founding = founding

        b.transport.learn_founding = learn
        stranger = msgspec.json.encode(hello(store_id="x" * 32, founding="3" * 32)).decode()
        assert (await refusal_of(b, stranger)).startswith("stranger: ")
        unknown = hello(member_id=9, store_id="9" * 32, founding="3" * 32)
        async with aiohttp.ClientSession() as session:
            headers = {HELLO_HEADER: msgspec.json.encode(unknown).decode()}
            await session.ws_connect(f"http://127.0.0.1:{b.port}{STREAM_PATH}", headers=headers)
        assert not learned
        a.identity.founding = "2" * 32
        assert await refused_or_welcome(b, hello(founding="2" * 32)) == ""
        assert learned == ["2" * 32]
        assert (await refused_or_welcome(b, hello(founding="3" * 32))).startswith("founding: ")


async def refused_or_welcome(peer: Peer, introduction: PeerHello) -> str:
    """Empty where the stream is let in."""
    headers = {HELLO_HEADER: msgspec.json.encode(introduction).decode()}
    async with aiohttp.ClientSession() as session:
        try:
            await session.ws_connect(f"http://127.0.0.1:{peer.port}{STREAM_PATH}", headers=headers)
        except aiohttp.WSServerHandshakeError as error:
            assert error.headers is not None
            return error.headers[REFUSAL_HEADER]
    return ""


async def test_a_removed_member_is_told_so() -> None:
    async with pair() as (a, b):
        membership = first_membership([(member(a), True), (member(b), True)])
        b.transport.update(
            Membership(version=2, last_member_id=2, members={2: membership.members[2]}, voters=frozenset({2}))
        )
        assert (await refusal_of(b, msgspec.json.encode(hello()).decode())).startswith("removed: ")


@pytest.mark.parametrize("header", ["", "junk", "[]", '[1,1,"k",1]', "null"])
async def test_no_valid_introduction_is_a_refusal(header: str) -> None:
    async with pair() as (_, b):
        assert (await refusal_of(b, header)).startswith("version: ")


@pytest.mark.parametrize(
    "frame",
    [
        b"\xc1 junk",
        encode_frame([TimeoutNow(from_id=3, to_id=2, term=1)]),
        encode_frame([TimeoutNow(from_id=1, to_id=1, term=1)]),
    ],
    ids=["junk", "in-anothers-name", "to-another"],
)
async def test_a_bad_frame_ends_the_stream_and_reaches_nobody(frame: bytes) -> None:
    async with pair() as (_, b), aiohttp.ClientSession() as session:
        headers = {HELLO_HEADER: msgspec.json.encode(hello()).decode()}
        socket = await session.ws_connect(f"http://127.0.0.1:{b.port}{STREAM_PATH}", headers=headers)
        await socket.send_bytes(frame)
        answer = await asyncio.wait_for(socket.receive(), 5)
        assert answer.type is aiohttp.WSMsgType.CLOSE
        assert b.received.empty()


async def test_a_store_of_another_under_my_name_is_refused_by_the_peer_and_shown() -> None:
    async with pair(a_as_b_knows_it="f" * 32) as (a, _):
        await wait_until(lambda: 2 in a.transport.refusals())
        assert a.transport.refusals()[2].startswith("stranger: ")


async def test_anyone_may_ask_who_a_node_is() -> None:
    async with (
        pair() as (a, _),
        aiohttp.ClientSession() as session,
        session.get(f"http://127.0.0.1:{a.port}{IDENTITY_PATH}") as response,
    ):
        answer = await response.json()
    assert (answer["name"], answer["store_id"], answer["member_id"]) == ("a", "a" * 32, 1)


async def test_it_ends_also_in_the_moment_in_which_a_stream_breaks() -> None:
    message = TimeoutNow(from_id=1, to_id=2, term=1)
    for turns in range(40):  # of the event loop, until the break meets the end
        async with pair() as (a, b):
            await a.send_until_received(b, message)
            assert b._runner.server is not None
            for connection in b._runner.server.connections:
                assert connection.transport is not None
                connection.transport.abort()
            for _ in range(turns):
                a.transport.send({2: [message]})
                await asyncio.sleep(0)
            a._task.cancel()
            done, _ = await asyncio.wait([a._task], timeout=5.0)
            assert done, f"it goes on after {turns} turns"
