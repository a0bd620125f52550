"""One key over HTTP: every key string, conditions, results, problems. Real sockets, and bytes as they are."""

import asyncio
from collections.abc import AsyncIterator
from urllib.parse import quote

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from raftwright.server.errors import (
    DiskIsFull,
    NoLeader,
    OutcomeUnknown,
    ProposalRefused,
    RequestTimeout,
    ServiceError,
    TooManyRequests,
)
from raftwright.server.state import ReplicatedState
from raftwright.server.targets import decode_path
from tests.server.local_service import Running, hear, request_bytes, running


@pytest.fixture
async def server() -> AsyncIterator[Running]:
    async with running() as started:
        yield started


KEYS = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=40)


@given(key=KEYS)
@example(key="..")
@example(key=".")
@example(key="/")
@example(key="//")
@example(key="../../etc/passwd")
@example(key="a/../b")
@example(key="%")
@example(key="%2F")
@example(key="%252e%252e")
@example(key="a?b=c&d#e")
@example(key=" ")
@example(key="+")
@example(key="\0\r\n\t")
@example(key="😀 é")
@example(key=":batch")
@example(key="http://x/y")
@settings(max_examples=100)
def test_every_key_string_works_in_a_url(key: str) -> None:
    async def check() -> None:
        async with running() as server:
            # strictly encoded, and with every byte left as it is that a URL's path allows
            for target in {quote(key, safe=""), quote(key, safe="/:@!$&'()*+,;=")}:
                value = target.encode()
                put = await server.ask("PUT", f"/v1/kv/{target}", value)
                assert put.status == 200, put
                assert server.service.machine.get(key) is not None
                got = await server.ask("GET", f"/v1/kv/{target}")
                assert (got.status, got.body) == (200, value)
                page = (await server.ask("GET", "/v1/kv")).json
                assert [item["key"] for item in page["items"]] == [key]
                prefixed = await server.ask("GET", f"/v1/kv?prefix={quote(key, safe='')}")
                assert [item["key"] for item in prefixed.json["items"]] == [key]
                assert (await server.ask("DELETE", f"/v1/kv/{target}")).status == 200
                assert server.service.machine.get(key) is None

    asyncio.run(check())


@given(key=KEYS)
def test_percent_decoding_happens_once(key: str) -> None:
    assert decode_path(quote(key, safe="")) == key
    assert decode_path(quote(quote(key, safe=""), safe="")) == quote(key, safe="")


@pytest.mark.parametrize("target", ["%", "%2", "%zz", "a%", "%ff", "%c3%28", "%ed%a0%80", "%c0%af"])
async def test_what_is_not_percent_encoded_utf8_is_refused(target: str) -> None:
    async with running() as server:
        heard = await server.ask("PUT", f"/v1/kv/{target}", b"v")
        assert (heard.status, heard.kind, heard.json["field"]) == (400, "invalid-request", "path")
        assert heard.json["outcome"] == "none"
        assert len(server.service.machine) == 0


async def test_bytes_that_a_url_cannot_hold_are_refused() -> None:
    async with running() as server:
        for target in ("/v1/kv/é", "/v1/kv/\udcff", "/v1/kv/a b"):
            heard = await server.ask("PUT", target, b"v")
            assert (heard.status, heard.kind, heard.json["outcome"]) == (400, "malformed-request", "none")
        assert server.service.applied_index == 1


async def test_a_value_is_any_bytes_and_its_revision_is_the_etag() -> None:
    async with running() as server:
        value = bytes(range(256)) * 3
        assert (await server.ask("PUT", "/v1/kv/a", value)).json == {"revision": 1}
        assert (await server.ask("PUT", "/v1/kv/b", b"")).json == {"revision": 2}
        got = await server.ask("GET", "/v1/kv/a")
        assert (got.body, got.headers["etag"]) == (value, '"1"')
        assert got.headers["x-raft-term"] == "7"
        assert got.headers["x-raft-index"] == "3"
        empty = await server.ask("GET", "/v1/kv/b")
        assert (empty.status, empty.body) == (200, b"")


async def test_a_head_is_a_get_without_its_body() -> None:
    async with running() as server:
        await server.ask("PUT", "/v1/kv/a", b"value")
        reader, writer = await server.connect()
        writer.write(request_bytes("HEAD", "/v1/kv/a") + request_bytes("GET", "/v1/kv/a"))
        head = await hear(reader, "HEAD")
        assert (head.status, head.headers["etag"], head.headers["content-length"]) == (200, '"1"', "5")
        assert (await hear(reader)).body == b"value"
        writer.close()


async def test_an_absent_key_is_404() -> None:
    async with running() as server:
        got = await server.ask("GET", "/v1/kv/a")
        assert (got.status, got.kind) == (404, "not-found")
        assert "outcome" not in got.json
        deleted = await server.ask("DELETE", "/v1/kv/a")
        assert (deleted.status, deleted.kind, deleted.json["outcome"]) == (404, "not-found", "none")


async def test_conditions() -> None:
    async with running() as server:
        absent = {"If-None-Match": "*"}
        assert (await server.ask("PUT", "/v1/kv/a", b"1", absent)).json == {"revision": 1}
        again = await server.ask("PUT", "/v1/kv/a", b"2", absent)
        assert (again.status, again.kind, again.json["revision"]) == (412, "precondition-failed", 1)
        assert again.json["outcome"] == "none"
        wrong = await server.ask("PUT", "/v1/kv/a", b"2", {"If-Match": '"9"'})
        assert (wrong.status, wrong.json["revision"]) == (412, 1)
        assert (await server.ask("PUT", "/v1/kv/a", b"2", {"If-Match": '"1"'})).json == {"revision": 2}
        stale = await server.ask("DELETE", "/v1/kv/a", None, {"If-Match": '"1"'})
        assert (stale.status, stale.json["revision"]) == (412, 2)
        assert (await server.ask("DELETE", "/v1/kv/a", None, {"If-Match": '"2"'})).json == {"revision": 3}
        gone = await server.ask("PUT", "/v1/kv/a", b"3", {"If-Match": '"2"'})
        assert gone.status == 412
        assert "revision" not in gone.json


@pytest.mark.parametrize(
    ("method", "headers", "field"),
    [
        ("PUT", {"If-Match": "1"}, "If-Match"),
        ("PUT", {"If-Match": "*"}, "If-Match"),
        ("PUT", {"If-Match": '"0"'}, "If-Match"),
        ("PUT", {"If-Match": 'W/"1"'}, "If-Match"),
        ("PUT", {"If-Match": '"9999999999999999999"'}, "If-Match"),
        ("PUT", {"If-None-Match": '"1"'}, "If-None-Match"),
        ("PUT", {"If-Match": '"1"', "If-None-Match": "*"}, "If-None-Match"),
        ("DELETE", {"If-None-Match": "*"}, "If-None-Match"),
        ("PUT", {"Idempotency-Key": ""}, "Idempotency-Key"),
        ("PUT", {"Idempotency-Key": "a b"}, "Idempotency-Key"),
        ("PUT", {"Idempotency-Key": "k" * 256}, "Idempotency-Key"),
        ("PUT", {"Idempotency-Key": "é"}, "Idempotency-Key"),
    ],
)
async def test_a_header_that_is_not_understood_is_refused(method: str, headers: dict[str, str], field: str) -> None:
    async with running() as server:
        heard = await server.ask(method, "/v1/kv/a", b"" if method == "PUT" else None, headers)
        assert (heard.status, heard.kind, heard.json["field"]) == (400, "invalid-request", field)
        assert server.service.applied_index == 1


async def test_a_retry_with_the_same_key_changes_nothing() -> None:
    async with running() as server:
        first = {"Idempotency-Key": "first"}
        assert (await server.ask("PUT", "/v1/kv/a", b"1", first)).json == {"revision": 1}
        assert (await server.ask("PUT", "/v1/kv/a", b"2")).json == {"revision": 2}
        assert (await server.ask("PUT", "/v1/kv/a", b"1", first)).json == {"revision": 1}
        assert (await server.ask("GET", "/v1/kv/a")).body == b"2"
        other = await server.ask("PUT", "/v1/kv/a", b"other", first)
        assert (other.status, other.kind, other.json["outcome"]) == (422, "idempotency-conflict", "none")
        assert (await server.ask("PUT", "/v1/kv/a", b"3", {"Idempotency-Key": "second"})).json == {"revision": 3}


async def test_404_and_412_are_results_and_a_refusal_is_none() -> None:
    async with running() as server:
        key = {"Idempotency-Key": "k"}
        assert (await server.ask("DELETE", "/v1/kv/a", None, key)).status == 404
        await server.ask("PUT", "/v1/kv/a", b"1")
        assert (await server.ask("DELETE", "/v1/kv/a", None, key)).status == 404
        late = {"Idempotency-Key": "late"}
        server.service.refusing = NoLeader()
        assert (await server.ask("DELETE", "/v1/kv/a", None, late)).status == 503
        server.service.refusing = None
        assert (await server.ask("DELETE", "/v1/kv/a", None, late)).status == 200


@pytest.mark.parametrize(
    ("error", "status", "outcome"),
    [
        (NoLeader(leader="127.0.0.1:7002"), 503, "none"),
        (OutcomeUnknown(), 503, "unknown"),
        (ProposalRefused(), 503, "none"),
        (RequestTimeout(), 504, "unknown"),
        (RequestTimeout(outcome="none"), 504, "none"),
        (TooManyRequests(), 429, "none"),
        (DiskIsFull(), 507, "none"),
        (ServiceError(), 500, "unknown"),
    ],
)
async def test_every_failed_write_says_its_outcome(error: ServiceError, status: int, outcome: str) -> None:
    async with running() as server:
        server.service.refusing = error
        for method, target, body in (
            ("PUT", "/v1/kv/a", b"v"),
            ("DELETE", "/v1/kv/a", None),
            ("POST", "/v1/kv:batch", b'{"ops":[{"op":"delete","key":"a"}]}'),
        ):
            heard = await server.ask(method, target, body)
            assert (heard.status, heard.kind, heard.json["outcome"]) == (status, error.kind, outcome)
            assert heard.json.get("leader") == error.leader
            if error.retry_after_s is not None:
                assert heard.json["retry_after_s"] == error.retry_after_s
                assert int(heard.headers["retry-after"]) >= 1
        read = await server.ask("GET", "/v1/kv/a")
        assert read.status == status
        assert "outcome" not in read.json


async def test_a_bug_is_a_500_that_says_nothing_and_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    async with running() as server:
        server.service.refusing = ZeroDivisionError("secret")  # type: ignore[assignment]
        heard = await server.ask("PUT", "/v1/kv/a", b"v")
        assert (heard.status, heard.kind, heard.json["outcome"]) == (500, "internal", "unknown")
        assert b"secret" not in heard.body
        assert "secret" in caplog.text


async def test_consistency() -> None:
    async with running() as server:
        await server.ask("PUT", "/v1/kv/a", b"v")
        assert (await server.ask("GET", "/v1/kv/a?consistency=stale")).body == b"v"
        assert (await server.ask("GET", "/v1/kv?consistency=stale")).status == 200
        assert server.service.barriers == 0
        assert (await server.ask("GET", "/v1/kv/a")).body == b"v"
        assert (await server.ask("GET", "/v1/kv/a?consistency=linearizable")).body == b"v"
        assert (await server.ask("GET", "/v1/kv?limit=1")).status == 200
        assert server.service.barriers == 3


@pytest.mark.parametrize(
    ("target", "field"),
    [
        ("/v1/kv/a?consistency=eventual", "consistency"),
        ("/v1/kv/a?consistency=stale&consistency=stale", "consistency"),
        ("/v1/kv/a?consistancy=stale", "consistancy"),
        ("/v1/kv/a?prefix=b", "prefix"),
        ("/v1/kv?limit=0", "limit"),
        ("/v1/kv?limit=1001", "limit"),
        ("/v1/kv?limit=-1", "limit"),
        ("/v1/kv?limit=ten", "limit"),
        ("/v1/kv?limit=%D9%A3", "limit"),
        ("/v1/kv?prefix=%ff", "prefix"),
        ("/v1/status?verbose=1", "verbose"),
    ],
)
async def test_a_query_that_is_not_understood_is_refused(target: str, field: str) -> None:
    async with running() as server:
        heard = await server.ask("GET", target)
        assert (heard.status, heard.kind, heard.json["field"]) == (400, "invalid-request", field)


async def test_keys_out_of_bounds(server: Running) -> None:
    for method in ("PUT", "GET", "DELETE"):
        body = b"v" if method == "PUT" else None
        empty = await server.ask(method, "/v1/kv/", body)
        assert (empty.status, empty.kind, empty.json["field"]) == (400, "invalid-request", "key")
        long = await server.ask(method, "/v1/kv/" + quote("é" * 513), body)
        assert (long.status, long.kind, long.json["field"]) == (413, "too-large", "key")
    assert (await server.ask("PUT", "/v1/kv/" + quote("é" * 512), b"v")).status == 200


async def test_a_node_without_any_state_says_so_rather_than_that_keys_are_absent(server: Running) -> None:
    server.service.state = ReplicatedState(server.service.machine)
    for target in ("/v1/kv/a?consistency=stale", "/v1/kv?consistency=stale"):
        heard = await server.ask("GET", target)
        assert (heard.status, heard.kind) == (503, "not-serving")
