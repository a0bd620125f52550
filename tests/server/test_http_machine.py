"""A user's own state machine over HTTP: commands and queries, as JSON and as the machine encodes them."""

from typing import Any

import orjson
import pytest

from raftwright.machine.adapter import AdaptedMachine
from tests.machine.machines import Append, Bytes, Table
from tests.server.local_service import Heard, Running, running

RAW = {"Content-Type": "application/octet-stream"}


async def propose(server: Running, document: Any, **headers: str) -> Heard:
    named = {name.replace("_", "-"): text for name, text in headers.items()}
    return await server.ask("POST", "/v1/propose", orjson.dumps(document), named)


async def query(server: Running, request: Any, target: str = "/v1/query") -> Heard:
    return await server.ask("POST", target, orjson.dumps({"request": request}))


async def test_a_command_is_named_with_its_fields_and_answers_with_its_result() -> None:
    async with running(AdaptedMachine(Table())) as server:
        heard = await propose(server, {"command": "append", "fields": {"key": "a", "values": [1, 2]}})
        assert (heard.status, heard.json) == (200, {"result": [1, 2]})
        assert heard.headers["x-raft-index"] == "2"
        heard = await query(server, "a")
        assert (heard.status, heard.json) == (200, {"result": [1, 2]})
        assert server.service.barriers == 1
        assert (await query(server, "a", "/v1/query?consistency=stale")).json == {"result": [1, 2]}
        assert server.service.barriers == 1


@pytest.mark.parametrize("asked", ["", "?consistency=lease", "?consistency=stale"])
async def test_a_machine_that_went_wrong_is_not_asked(asked: str) -> None:
    async with running(AdaptedMachine(Table())) as server:
        await propose(server, {"command": "append", "fields": {"key": "a", "values": [1]}})
        server.service.is_wrong = True
        heard = await query(server, "a", "/v1/query" + asked)
        assert (heard.status, heard.kind) == (503, "state-diverged")
        assert (await propose(server, {"command": "append", "fields": {"key": "a", "values": [2]}})).status == 200


async def test_an_exception_of_the_machine_is_told_with_its_class() -> None:
    async with running(AdaptedMachine(Table())) as server:
        heard = await propose(server, {"command": "fail", "fields": {"how": "value", "text": "no luck"}})
        assert (heard.status, heard.kind, heard.headers["x-raft-index"]) == (422, "command-failed", "2")
        assert (heard.json["error"], heard.json["detail"], heard.json["outcome"]) == ("ValueError", "no luck", "none")
        heard = await query(server, "missing")
        assert (heard.status, heard.kind, heard.json["error"]) == (422, "query-failed", "KeyError")


@pytest.mark.parametrize(
    ("body", "field"),
    [
        (b"{", None),
        (b'{"fields": {}}', None),
        (b'{"command": "nothing"}', "command"),
        (b'{"command": "set", "fields": {"key": "a"}}', "fields"),
        (b'{"command": "set", "fields": {"key": "a", "value": "x"}}', "fields"),
        (b'{"command": "set", "fields": {"key": "a", "value": 1}, "more": 1}', None),
        (b"[" * 100_000, None),
    ],
)
async def test_what_is_no_command_is_refused_and_never_proposed(body: bytes, field: str | None) -> None:
    async with running(AdaptedMachine(Table())) as server:
        heard = await server.ask("POST", "/v1/propose", body)
        assert (heard.status, heard.kind, heard.json.get("field")) == (400, "invalid-request", field)
        assert server.service.applied_index == 1


async def test_a_repeat_under_its_key_gives_the_first_result_and_does_nothing() -> None:
    async with running(AdaptedMachine(Table())) as server:
        command = {"command": "append", "fields": {"key": "a", "values": [1]}}
        for _ in range(2):
            assert (await propose(server, command, Idempotency_Key="k")).json == {"result": [1]}
        assert (await query(server, "a")).json == {"result": [1]}
        other = {"command": "append", "fields": {"key": "a", "values": [2]}}
        assert (await propose(server, other, Idempotency_Key="k")).kind == "idempotency-conflict"


async def test_a_command_may_come_as_the_machine_encodes_it() -> None:
    machine = AdaptedMachine(Table())
    async with running(machine) as server:
        body = machine.codec.encode(Append("a", [7]))
        heard = await server.ask("POST", "/v1/propose?command=append", body, RAW)
        assert (heard.status, heard.headers["content-type"]) == (200, "application/octet-stream")
        assert machine.codec.decode(heard.body, list[int]) == [7]
        refused = await server.ask("POST", "/v1/propose", body, RAW)
        assert (refused.kind, refused.json["field"]) == ("invalid-request", "command")
        refused = await server.ask("POST", "/v1/propose?command=set", b"\xc1", RAW)
        assert refused.kind == "invalid-request"
        refused = await server.ask("POST", "/v1/propose?command=set", b"{}")
        assert refused.kind == "invalid-request"


async def test_a_machine_of_plain_bytes() -> None:
    async with running(AdaptedMachine(Bytes())) as server:
        heard = await server.ask("POST", "/v1/propose", b"\x00abc", RAW)
        assert (heard.status, heard.body) == (200, b"cba\x00")
        assert (await server.ask("POST", "/v1/propose", b"{}")).status == 400
        assert (await server.ask("POST", "/v1/propose?command=x", b"", RAW)).status == 400
        assert (await query(server, "a")).status == 400


async def test_each_machine_has_its_own_routes_only() -> None:
    async with running(AdaptedMachine(Table())) as own, running() as store:
        for target in ("/v1/kv/a", "/v1/kv", "/v1/stream"):
            assert (await own.ask("GET", target)).kind == "no-such-route"
        for target in ("/v1/propose", "/v1/query"):
            assert (await store.ask("POST", target, b"{}")).kind == "no-such-route"
        described = (await own.ask("GET", "/v1/openapi.json")).json["paths"]
        assert "/v1/propose" in described
        assert "/v1/kv/{key}" not in described
        assert (await own.ask("GET", "/v1/status")).status == 200
