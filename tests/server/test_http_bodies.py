"""Bodies over HTTP: batches, pages, and everything that is wrong with what arrives."""

import asyncio
from base64 import b64encode
from collections.abc import AsyncIterator
from typing import Any

import orjson
import pytest

from tests.server.local_service import Heard, Running, hear, request_bytes, running


@pytest.fixture
async def server() -> AsyncIterator[Running]:
    async with running(
        value_bytes_max=1000, batch_ops_max=5, batch_bytes_max=2000, body_bytes_max=10_000, page_items_max=50
    ) as started:
        yield started


async def batch(server: Running, *ops: dict[str, Any], key: str | None = None) -> Heard:
    headers = {} if key is None else {"Idempotency-Key": key}
    return await server.ask("POST", "/v1/kv:batch", orjson.dumps({"ops": ops}), headers)


async def test_a_batch_is_one_revision(server: Running) -> None:
    binary = b"\xff\x00"
    heard = await batch(
        server,
        {"op": "put", "key": "a", "value": "é"},
        {"op": "put", "key": "b", "value": b64encode(binary).decode(), "encoding": "base64"},
        {"op": "compare", "key": "c", "revision": None},
    )
    assert (heard.status, heard.json) == (200, {"revision": 1})
    assert (await server.ask("GET", "/v1/kv/a")).body == "é".encode()
    got = await server.ask("GET", "/v1/kv/b")
    assert (got.body, got.headers["etag"]) == (binary, '"1"')


async def test_a_batch_is_all_or_nothing(server: Running) -> None:
    await batch(server, {"op": "put", "key": "a", "value": "1"})
    heard = await batch(
        server,
        {"op": "put", "key": "b", "value": "2"},
        {"op": "delete", "key": "a", "if_revision": 9},
    )
    assert (heard.status, heard.kind) == (412, "precondition-failed")
    assert (heard.json["position"], heard.json["revision"], heard.json["outcome"]) == (1, 1, "none")
    assert (await server.ask("GET", "/v1/kv/b")).status == 404


async def test_a_batch_with_an_idempotency_key_runs_once(server: Running) -> None:
    op = {"op": "put", "key": "a", "value": "1"}
    assert (await batch(server, op, key="k")).json == {"revision": 1}
    assert (await batch(server, op, key="k")).json == {"revision": 1}
    assert (await batch(server, op, op | {"key": "b"}, key="k")).status == 422


PUT = {"op": "put", "key": "a", "value": "v"}


@pytest.mark.parametrize(
    ("body", "field"),
    [
        (b"", None),
        (b"{", None),
        (b"[]", None),
        (b"null", None),
        (b'{"ops":[]} x', None),
        (b'{"ops": "\xff"}', None),
        (b'{"ops": ["\\ud800"]}', None),
        (b"[" * 5000, None),
        (b"{}", None),
        ({"ops": []}, "ops"),
        ({"ops": [], "extra": 1}, None),
        ({"ops": None}, "ops"),
        ({"ops": [1]}, "ops[0]"),
        ({"ops": [{"key": "a"}]}, "ops[0]"),
        ({"ops": [{"op": "increment", "key": "a"}]}, "ops[0].op"),
        ({"ops": [PUT, PUT | {"value": 1}]}, "ops[1].value"),
        ({"ops": [PUT | {"if_revision": "1"}]}, "ops[0].if_revision"),
        ({"ops": [PUT | {"if_revision": True}]}, "ops[0].if_revision"),
        ({"ops": [PUT | {"if_revision": 0}]}, "ops[0].if_revision"),
        ({"ops": [PUT | {"if_revision": 2**63}]}, "ops[0].if_revision"),
        ({"ops": [PUT | {"ttl": 5}]}, "ops[0]"),
        ({"ops": [PUT | {"encoding": "hex"}]}, "ops[0].encoding"),
        ({"ops": [PUT | {"encoding": "base64", "value": "???"}]}, "ops[0].value"),
        ({"ops": [PUT | {"key": ""}]}, "ops[0].key"),
        ({"ops": [PUT | {"if_absent": True, "if_revision": 1}]}, "ops[0].if_absent"),
        ({"ops": [PUT, PUT]}, "ops[1].key"),
        ({"ops": [{"op": "compare", "key": "a"}]}, "ops[0]"),
    ],
)
async def test_a_bad_batch_names_what_is_wrong(server: Running, body: Any, field: str | None) -> None:
    raw = body if isinstance(body, bytes) else orjson.dumps(body)
    heard = await server.ask("POST", "/v1/kv:batch", raw)
    assert (heard.status, heard.kind, heard.json["outcome"]) == (400, "invalid-request", "none"), heard
    assert heard.json.get("field") == field
    assert heard.json["detail"]
    assert server.service.applied_index == 1


async def test_a_batch_over_its_limits(server: Running) -> None:
    many = await batch(server, *({"op": "delete", "key": str(number)} for number in range(6)))
    assert (many.status, many.kind, many.json["field"]) == (413, "too-large", "ops")
    value = await batch(server, PUT | {"value": "v" * 1001})
    assert (value.status, value.json["field"]) == (413, "ops[0].value")
    key = await batch(server, PUT | {"key": "k" * 1025})
    assert (key.status, key.json["field"]) == (413, "ops[0].key")
    heavy = await batch(server, *(PUT | {"key": str(number), "value": "v" * 900} for number in range(3)))
    assert (heavy.status, heavy.json["field"]) == (413, "ops")
    body = await server.ask("POST", "/v1/kv:batch", b" " * 10_001)
    assert (body.status, body.kind) == (413, "too-large")
    assert server.service.applied_index == 1


async def test_a_value_over_its_limit_is_refused_before_it_is_read(server: Running) -> None:
    assert (await server.ask("PUT", "/v1/kv/a", b"v" * 1000)).status == 200
    arrived = await server.ask("PUT", "/v1/kv/a", b"v" * 1001)
    assert (arrived.status, arrived.kind, arrived.json["outcome"]) == (413, "too-large", "none")
    reader, writer = await server.connect()
    writer.write(request_bytes("PUT", "/v1/kv/a", b"", {"Content-Length": "1000000000"}))
    promised = await hear(reader)
    assert (promised.status, promised.kind) == (413, "too-large")
    writer.close()


async def test_a_chunked_body_is_a_body_and_is_bounded(server: Running) -> None:
    chunked = {"Transfer-Encoding": "chunked"}
    reader, writer = await server.connect()
    writer.write(request_bytes("PUT", "/v1/kv/a", None, chunked) + b"3\r\nabc\r\n")
    await asyncio.sleep(0.01)
    writer.write(b"2\r\nde\r\n0\r\n\r\n")
    assert (await hear(reader)).status == 200
    assert (await server.ask("GET", "/v1/kv/a")).body == b"abcde"
    writer.write(request_bytes("PUT", "/v1/kv/a", None, chunked))
    for _ in range(3):
        writer.write(b"190\r\n" + b"x" * 400 + b"\r\n")
        await asyncio.sleep(0.01)
    assert (await hear(reader)).kind == "too-large"
    writer.close()
    assert server.metrics.bodies_pending_bytes == 0


async def test_a_body_that_breaks_its_own_framing(server: Running) -> None:
    for tail in (b"zz\r\nabc\r\n", b"3\r\nabcdef\r\n0\r\n\r\n"):
        reader, writer = await server.connect()
        writer.write(request_bytes("PUT", "/v1/kv/a", None, {"Transfer-Encoding": "chunked"}))
        await asyncio.sleep(0.01)
        writer.write(tail)
        heard = await hear(reader)
        assert (heard.status, heard.kind, heard.json["outcome"]) == (400, "malformed-request", "none")
        assert await reader.read() == b""
        writer.close()
    assert server.service.applied_index == 1


async def test_a_client_that_leaves_within_its_body_writes_nothing(server: Running) -> None:
    reader, writer = await server.connect()
    writer.write(request_bytes("PUT", "/v1/kv/a", b"part", {"Content-Length": "100"}))
    await server.until(lambda: server.metrics.bodies_pending_bytes)
    writer.close()
    await server.until(lambda: not server.metrics.connections)
    assert server.service.applied_index == 1
    assert server.metrics.bodies_pending_bytes == 0
    del reader


async def test_a_client_that_asks_before_it_sends_is_answered(server: Running) -> None:
    reader, writer = await server.connect()
    writer.write(request_bytes("PUT", "/v1/kv/a", b"", {"Content-Length": "5", "Expect": "100-continue"}))
    assert await reader.readuntil(b"\r\n\r\n") == b"HTTP/1.1 100 Continue\r\n\r\n"
    writer.write(b"hello")
    assert (await hear(reader)).status == 200
    writer.close()


async def test_an_encoded_body_is_refused_not_stored(server: Running) -> None:
    heard = await server.ask("PUT", "/v1/kv/a", b"\x1f\x8b", {"Content-Encoding": "gzip"})
    assert (heard.status, heard.kind, heard.json["outcome"]) == (415, "unsupported-encoding", "none")
    assert server.service.applied_index == 1


async def test_pages(server: Running) -> None:
    for number in range(7):
        await server.ask("PUT", f"/v1/kv/k{number}", b"%d" % number)
    await server.ask("PUT", "/v1/kv/l", b"\xff")
    seen: list[tuple[str, str, str]] = []
    start: str | None = ""
    for _ in range(3):
        page = (await server.ask("GET", f"/v1/kv?prefix=k&limit=3&start={start}")).json
        seen += [(item["key"], item["value"], item["encoding"]) for item in page["items"]]
        start = page["next"]
    assert start is None
    assert seen == [(f"k{number}", str(number), "utf-8") for number in range(7)]
    last = (await server.ask("GET", "/v1/kv?start=l")).json
    assert last == {
        "items": [{"key": "l", "value": "/w==", "encoding": "base64", "revision": 8}],
        "next": None,
        "revision": 8,
    }


async def test_a_plus_in_a_query_is_a_space(server: Running) -> None:
    await server.ask("PUT", "/v1/kv/a%20b", b"1")
    await server.ask("PUT", "/v1/kv/a+b", b"2")
    assert [item["key"] for item in (await server.ask("GET", "/v1/kv?prefix=a+")).json["items"]] == ["a b"]
    assert [item["key"] for item in (await server.ask("GET", "/v1/kv?prefix=a%2B")).json["items"]] == ["a+b"]


async def test_a_page_is_bounded_in_bytes() -> None:
    async with running(page_bytes_max=1024) as server:
        for number in range(5):
            await server.ask("PUT", f"/v1/kv/{number}", b"v" * 500)
        page = (await server.ask("GET", "/v1/kv")).json
        assert [item["key"] for item in page["items"]] == ["0", "1"]
        assert page["next"] == "2"


async def test_paths_and_methods_that_are_not_there(server: Running) -> None:
    for target in ("/", "/v1", "/v2/kv/a", "/v1/kvx", "/livez/"):
        heard = await server.ask("GET", target)
        assert (heard.status, heard.kind) == (404, "no-such-route"), target
    for method, target, allowed in (
        ("POST", "/v1/kv/a", "PUT, GET, DELETE, HEAD"),
        ("PUT", "/v1/kv:batch", "POST"),
        ("DELETE", "/livez", "GET, HEAD"),
    ):
        heard = await server.ask(method, target, b"")
        assert (heard.status, heard.kind, heard.headers["allow"]) == (405, "method-not-allowed", allowed)
    assert (await server.ask("POST", "/v1/kv%3Abatch", orjson.dumps({"ops": [PUT]}))).status == 200
    assert (await server.ask("GET", "http://elsewhere/v1/kv/a")).status == 200


async def test_health_status_and_metrics(server: Running) -> None:
    assert (await server.ask("GET", "/livez")).json == {"alive": True}
    assert (await server.ask("GET", "/readyz")).json == {"ready": True}
    server.service.unready = "no leader is known"
    unready = await server.ask("GET", "/readyz")
    assert (unready.status, unready.kind, unready.json["detail"]) == (503, "not-ready", "no leader is known")
    assert (await server.ask("GET", "/livez")).status == 200
    status = (await server.ask("GET", "/v1/status")).json
    assert (status["name"], status["state"], status["members"]) == ("n1", "serving", [])
    metrics = await server.ask("GET", "/metrics")
    assert metrics.headers["content-type"].startswith("text/plain")
    assert 'raftwright_http_requests_total{route="readyz",status="5xx"} 1.0' in metrics.body.decode()


async def test_metrics_hold_no_input(server: Running) -> None:
    before = len((await server.ask("GET", "/metrics")).body.splitlines())
    for number in range(30):
        await server.ask("PUT", f"/v1/kv/needle-{number}", b"needle", {"X-Needle": "needle"})
        await server.ask("GET", f"/needle-{number}?needle=needle")
        await server.ask("GET", f"/v1/kv?needle-{number}=1")
        await server.ask("NEEDLE", "/v1/kv")
    after = (await server.ask("GET", "/metrics")).body
    assert b"needle" not in after.lower()
    assert len(after.splitlines()) - before < 8


async def test_pipelined_requests_are_answered_in_order(server: Running) -> None:
    reader, writer = await server.connect()
    writer.write(b"".join(request_bytes("PUT", f"/v1/kv/{number}", b"v") for number in range(100)))
    assert [(await hear(reader)).json["revision"] for _ in range(100)] == list(range(1, 101))
    writer.close()


async def test_http_1_0_and_connection_close(server: Running) -> None:
    reader, writer = await server.connect()
    writer.write(b"GET /livez HTTP/1.0\r\nConnection: keep-alive\r\n\r\n")
    assert (await hear(reader)).headers["connection"] == "keep-alive"
    writer.write(request_bytes("GET", "/livez", None, {"Connection": "close"}))
    assert (await hear(reader)).headers["connection"] == "close"
    assert await reader.read() == b""
    writer.close()
