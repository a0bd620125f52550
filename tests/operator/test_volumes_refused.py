"""Volumes that the API server refuses to enlarge, on a real one: it is said, and all else goes on."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from raftwright_operator.actions import ExpandVolume
from raftwright_operator.outcome import Outcome
from raftwright_operator.plan import reasons
from raftwright_operator.refusals import REST_S, Refusals
from tests.operator.apiserver import ApiServer
from tests.operator.world import World, world

EXPAND = ExpandVolume(claim="data-db-0", uid="1", size_bytes=2 << 30, why="for the test")
FORBIDDEN = Outcome.refused("Forbidden", "the storageclass must support resize")


@pytest.fixture
async def place(api_server: ApiServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[World]:
    async with world(api_server, tmp_path, monkeypatch) as made:
        yield made


async def test_it_is_said_and_a_pod_is_restarted_all_the_same(place: World) -> None:
    """No StorageClass of theirs lets the claims grow."""
    await place.create(replicas=1)
    async with place.operator():
        await place.settled(1)
        assert "RestartPod" not in place.actions
        await place.change(storage={"size": "2Gi"})

        async def is_said() -> bool:
            return (await place.condition("Degraded")).get("reason") == reasons.VOLUME_NOT_ENLARGED

        await place.eventually(is_said, "the refusal is in the status")
        message = (await place.condition("Degraded"))["message"]
        assert "data-db-0" in message
        assert "allowVolumeExpansion" in message
        await place.change(podTemplate={"annotations": {"some": "thing"}})

        async def is_restarted() -> bool:
            return "RestartPod" in place.actions

        await place.eventually(is_restarted, "the pod is made anew", lambda: place.actions)
        await place.eventually(lambda: _is_at_rest(place), "it waits for nothing else")
        assert await is_said()
    assert "ExpandVolume" not in place.actions
    assert "OrphanSet" not in place.actions


async def _is_at_rest(place: World) -> bool:
    progressing, ready = await place.condition("Progressing"), await place.condition("Ready")
    is_waiting = (progressing.get("status"), progressing.get("reason")) == ("False", reasons.VOLUME_NOT_ENLARGED)
    return is_waiting and ready.get("status") == "True"


def test_what_was_refused_rests_and_is_known_until_it_is_done() -> None:
    refusals = Refusals()
    assert refusals.note(EXPAND, FORBIDDEN, 100.0)
    assert refusals.resting(99.0 + REST_S) == refusals.known() == {"data-db-0": FORBIDDEN.message}
    assert refusals.resting(100.0 + REST_S) == {}
    assert refusals.known() == {"data-db-0": FORBIDDEN.message}
    assert not refusals.note(EXPAND, Outcome.done(), 200.0)
    assert refusals.known() == {}


def test_what_may_pass_by_itself_does_not_rest() -> None:
    refusals = Refusals()
    assert not refusals.note(EXPAND, Outcome.refused("Timeout", "it took long"), 100.0)
    assert not refusals.note(EXPAND, Outcome.again("Conflict", "another uid"), 100.0)
    assert refusals.known() == {}
