"""The description of the API is that of the API: every route is in it, and the other way round; docs/api.md too."""

import re
from pathlib import Path
from typing import Any

import orjson

from raftwright.kv.store import KvMachine
from raftwright.server.authorize import Permission
from raftwright.server.openapi import document
from raftwright.server.problems import KINDS, PROBLEM_TYPE
from raftwright.server.routes.table import ROUTES, routes_of
from raftwright.server.settings import NodeSettings, declarations, setting_of
from tests.server.local_service import running

DOCUMENT = orjson.loads(document(ROUTES))
OF_STORE = routes_of(KvMachine())
API_MD = (Path(__file__).parents[2] / "docs" / "api.md").read_text()


def test_every_route_is_described_and_nothing_else() -> None:
    described = {(method.upper(), path) for path, methods in DOCUMENT["paths"].items() for method in methods}
    assert described == {(route.method, route.path) for route in ROUTES}
    assert len(described) == len(ROUTES)


def test_names_are_unique_and_every_route_has_a_permission() -> None:
    assert len({route.name for route in ROUTES}) == len(ROUTES)
    assert all(isinstance(route.permission, Permission) for route in ROUTES)
    writing = {
        *(Permission.WRITE, Permission.MEMBERS_WRITE, Permission.LEADER_TRANSFER, Permission.BOOTSTRAP),
        Permission.STORE_DISCARD,
    }
    assert all((route.permission in writing) == route.is_write for route in ROUTES)


async def test_every_described_route_is_served_with_every_described_method() -> None:
    async with running() as server:
        served = await server.ask("GET", "/v1/openapi.json")
        assert served.json == orjson.loads(document(OF_STORE))
        for path, methods in served.json["paths"].items():
            for method in methods:
                heard = await server.ask(method.upper(), path.replace("{key}", "a").replace("{member}", "a"), b"")
                assert heard.status not in (405, 500)
                assert heard.headers["content-type"] != "application/problem+json" or heard.kind != "no-such-route"
                assert str(heard.status) in DOCUMENT["paths"][path][method]["responses"], (path, method, heard)


def references(value: Any) -> set[str]:
    if isinstance(value, dict):
        own = {value["$ref"]} if isinstance(value.get("$ref"), str) else set[str]()
        return own.union(*map(references, value.values()))
    return set[str]().union(*map(references, value)) if isinstance(value, list) else set()


def test_every_reference_leads_somewhere() -> None:
    assert DOCUMENT["openapi"].startswith("3.1.")
    found = references(DOCUMENT)
    assert len(found) > 10
    for reference in found:
        target = DOCUMENT
        for part in reference.removeprefix("#/").split("/"):
            target = target[part]


def test_parameters_of_the_query_are_those_that_are_taken() -> None:
    for route in ROUTES:
        described = DOCUMENT["paths"][route.path][route.method.lower()].get("parameters", [])
        assert {parameter["name"] for parameter in described if parameter["in"] == "query"} == route.query_names
        assert any(parameter["in"] == "path" for parameter in described) == ("{" in route.path)


def test_docs_have_every_route_and_every_problem() -> None:
    for route in ROUTES:
        assert f"`{route.method} {route.path}" in API_MD, route.name
    listed = dict(re.findall(r"^\| `([a-z-]+)` \| (\d{3}) \|", API_MD, re.MULTILINE))
    assert listed == {kind: str(error.status) for kind, error in KINDS.items()}
    assert PROBLEM_TYPE in API_MD


def test_docs_say_the_defaults_of_the_limits() -> None:
    limits = API_MD.partition("## Limits")[2]
    listed = re.findall(r"^\| `([a-z_]+)` \| ([^|]+) \|", limits, re.MULTILINE)
    assert len(listed) > 15
    defaults = NodeSettings(name="n", data_dir=Path("d"))
    for name, shown in listed:
        number, _, unit = shown.strip().partition(" ")
        scale = {"KiB": 1 << 10, "MiB": 1 << 20}.get(unit, 1)
        assert float(number.replace(",", "")) * scale == getattr(defaults, name), name
        if unit not in ("KiB", "MiB"):
            assert unit == setting_of(declarations()[name]).unit, name
