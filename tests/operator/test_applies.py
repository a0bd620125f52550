"""What others change back whenever it is applied is left alone for a while, and said: with a real webhook."""

import asyncio
import base64
import json
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from raftwright_operator.actions import ApplyBudget, ApplyObjects, Done
from raftwright_operator.applies import TIMES_MAX, WINDOW_S, Applies
from raftwright_operator.names import LABEL_LEADER
from tests.operator.apiserver import ApiServer
from tests.operator.world import World, world

WEBHOOKS = "/apis/admissionregistration.k8s.io/v1/mutatingwebhookconfigurations"
FIELDS: dict[str, tuple[str, str, str, Any]] = {
    "Service/db-leader": ("", "services", f"/spec/selector/{LABEL_LEADER.replace('/', '~1')}", "theirs"),
    "PodDisruptionBudget/db": ("policy", "poddisruptionbudgets", "/spec/minAvailable", 7),
}
"""Group, resource, and what the webhook makes of which field."""


def objects(*names: str) -> ApplyObjects:
    return ApplyObjects(objects=names, why="A test.")


def test_an_object_is_applied_so_often_and_then_not_for_a_while() -> None:
    applies = Applies()
    for second in range(TIMES_MAX):
        assert applies.spent(objects("Service/a", "Service/b"), "db", 1, float(second)) == ()
        applies.note(objects("Service/a"), "db", 1, float(second))
    assert applies.spent(objects("Service/a", "Service/b"), "db", 1, WINDOW_S - 0.1) == ("Service/a",)
    assert applies.spent(objects("Service/a", "Service/b"), "db", 1, WINDOW_S) == ()


def test_it_is_applied_at_once_where_something_else_is_wanted() -> None:
    applies = Applies()
    for _ in range(TIMES_MAX):
        applies.note(objects("Service/a"), "db", 1, 0.0)
        applies.note(ApplyBudget(min_available=2, why="A test."), "db", 1, 0.0)
    assert applies.spent(objects("Service/a"), "db", 1, 1.0)
    assert not applies.spent(objects("Service/a"), "db", 2, 1.0)
    assert applies.spent(ApplyBudget(min_available=2, why="A test."), "db", 2, 1.0) == ("PodDisruptionBudget/db",)
    assert not applies.spent(ApplyBudget(min_available=3, why="A test."), "db", 1, 1.0)
    assert applies.spent(Done(), "db", 1, 1.0) == ()


@pytest.fixture
async def place(api_server: ApiServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[World]:
    async with world(api_server, tmp_path, monkeypatch) as made:
        yield made


@asynccontextmanager
async def webhook(place: World, group: str, resource: str, path: str, value: Any) -> AsyncIterator[None]:
    """One that changes a field of every such object in the namespace, until the block is left."""

    async def mutate(request: web.Request) -> web.Response:
        asked = (await request.json())["request"]
        patch = []
        field: Any = asked["object"]
        for part in path.split("/")[1:]:
            field = field.get(part.replace("~1", "/")) if field else None
        if field is not None:
            patch = [{"op": "replace", "path": path, "value": value}]
        answer = {"uid": asked["uid"], "allowed": True, "patchType": "JSONPatch"}
        answer["patch"] = base64.b64encode(json.dumps(patch).encode()).decode()
        return web.json_response({"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview", "response": answer})

    app = web.Application()
    app.router.add_post("/", mutate)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    # The server's own certificate, which is for this address.
    tls = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    tls.load_cert_chain(place.server.ca_file, place.server.ca_file.with_suffix(".key"))
    await web.TCPSite(runner, "127.0.0.1", 0, ssl_context=tls).start()
    bundle = base64.b64encode(place.server.ca_file.read_bytes()).decode()
    where = {"url": f"https://127.0.0.1:{runner.addresses[0][1]}/", "caBundle": bundle}
    rule = {"apiGroups": [group], "apiVersions": ["v1"], "resources": [resource], "operations": ["CREATE", "UPDATE"]}
    configuration = {
        "metadata": {"name": place.namespace},
        "webhooks": [
            {
                "name": "mutates.example.com",
                "clientConfig": where,
                "rules": [rule],
                "namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": place.namespace}},
                "sideEffects": "None",
                "admissionReviewVersions": ["v1"],
            }
        ],
    }
    await asyncio.to_thread(place.server.request, "POST", WEBHOOKS, configuration)
    try:
        yield
    finally:
        await asyncio.to_thread(place.server.request, "DELETE", f"{WEBHOOKS}/{place.namespace}")
        await runner.cleanup()


@pytest.mark.slow
@pytest.mark.parametrize("key", FIELDS)
async def test_what_a_webhook_changes_each_time_is_said_and_holds_up_nothing(place: World, key: str) -> None:
    async with webhook(place, *FIELDS[key]):
        # A server takes a moment to heed it.
        await asyncio.sleep(1.5)
        await place.create(replicas=1)
        field = FIELDS[key][2].replace("/", ".").replace("~1", "/").strip(".")
        said = f"{key} ({field})"

        async def is_said() -> bool:
            found = await place.condition("Degraded")
            return found.get("reason") == "ChangedByOthers" and said in found["message"]

        async with place.operator():
            await place.settled(1)
            await place.eventually(is_said, said, lambda: place.actions)
            done = len(place.actions)
            await place.settled(1)
            await asyncio.sleep(5.0)  # two resyncs and more
            assert len(place.actions) == done
    if key.startswith("Service"):

        async def is_well() -> bool:
            return bool((await place.condition("Degraded"))["status"] == "False")

        async with place.operator():
            await place.eventually(is_well, "it is applied again", lambda: place.actions)
