"""The routes about members: what they ask of the leader, and what they answer."""

from typing import Any

import orjson
import pytest

from raftwright.client.member_models import MembersAnswer
from raftwright.server.membership_requests import Call
from tests.server.local_service import Running, running

MEMBER = {"name": "n4", "store_id": "4" * 32, "addresses": {"peer": "h4:8001", "client": "h4:7001"}}


def listening(server: Running, status: int = 200) -> list[Call]:
    """The calls that the service gets from now on; each is answered with an empty membership."""
    calls: list[Call] = []

    async def control(call: Call) -> tuple[int, Any]:
        calls.append(call)
        return status, MembersAnswer(version=7, joint=False, leader=1, members=[])

    server.service.control = control  # type: ignore[method-assign]
    return calls


async def test_every_call_becomes_one_change() -> None:
    async with running() as server:
        calls = listening(server)
        body = orjson.dumps(MEMBER)
        replace = orjson.dumps({"old": 3, "new": MEMBER})
        for method, path, data in (
            ("POST", "/v1/members", body),
            ("DELETE", "/v1/members/n%34", b""),
            ("POST", "/v1/members/4/promote", b""),
            ("POST", "/v1/members/n4/demote", b""),
            ("POST", "/v1/members:replace", replace),
            ("PATCH", "/v1/members/4", b'{"metadata":{"zone":"b"}}'),
            ("POST", "/v1/members:change", orjson.dumps({"add": [MEMBER], "remove": ["n1", 2]})),
        ):
            answer = await server.ask(method, path, data)
            assert answer.status == 200, answer
            assert answer.headers["etag"] == '"7"'
        changes = [call.change for call in calls]
        assert changes[0].add[0].member.name == "n4" and changes[0].add[0].member.promote
        assert changes[1].remove == ["n4"]
        assert changes[2].promote == ["4"]
        assert changes[3].demote == ["n4"]
        assert (changes[4].add[0].replaces, changes[4].add[0].only_dead) == (3, False)
        assert (changes[5].update[0].member, changes[5].update[0].metadata) == ("4", {"zone": "b"})
        assert changes[6].add == changes[0].add and changes[6].remove == ["n1", 2]


async def test_options_are_passed_on() -> None:
    async with running() as server:
        calls = listening(server, 202)
        path = "/v1/members/n1?force=true&dry_run=true"
        answer = await server.ask("DELETE", path, b"", {"If-Match": '"12"'})
        assert answer.status == 202
        await server.ask("DELETE", "/v1/members/n1", b"")
        await server.ask("POST", "/v1/leader/transfer", b"")
        await server.ask("POST", "/v1/leader/transfer", b'{"to":"n2"}')
        assert [(call.kind, call.force, call.dry_run, call.if_match) for call in calls] == [
            ("change", True, True, 12),
            ("change", False, False, None),
            ("transfer", False, False, None),
            ("transfer", False, False, None),
        ]
        assert [call.to for call in calls[2:]] == [None, "n2"]


@pytest.mark.parametrize(
    ("method", "path", "body", "headers", "field"),
    [
        ("POST", "/v1/members", {**MEMBER, "store_id": "short"}, {}, "store_id"),
        ("POST", "/v1/members", {**MEMBER, "name": "not a name"}, {}, "name"),
        ("POST", "/v1/members", {**MEMBER, "role": "king"}, {}, "role"),
        ("POST", "/v1/members", {**MEMBER, "addresses": {"peer": "nowhere", "client": "h:1"}}, {}, "addresses.peer"),
        ("POST", "/v1/members:change", {"ad": []}, {}, None),
        ("PATCH", "/v1/members/n1", {"addresses": {"peer": "h:1", "client": "h:99999"}}, {}, "addresses.client"),
        ("DELETE", "/v1/members/n1?force=perhaps", None, {}, "force"),
        ("DELETE", "/v1/members/n1", None, {"If-Match": "12"}, "If-Match"),
        ("DELETE", "/v1/members/", None, {}, "member"),
        ("POST", "/v1/cluster/bootstrap", {"cluster_id": "c", "members": []}, {}, "cluster_id"),
    ],
)
async def test_what_is_wrong_is_said_with_its_field(
    method: str, path: str, body: Any, headers: dict[str, str], field: str | None
) -> None:
    async with running() as server:
        calls = listening(server)
        answer = await server.ask(method, path, b"" if body is None else orjson.dumps(body), headers)
        assert (answer.status, answer.kind, answer.json.get("field")) == (400, "invalid-request", field)
        assert answer.json["outcome"] == "none"
        assert not calls
