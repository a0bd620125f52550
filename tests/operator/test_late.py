"""Actions that come late, on a real API server with a real node: what has ended since is not done any more."""

import uuid
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest

from raftwright_operator.actions import AddMembers, ApplyBudget, Joiner, ShrinkSet
from raftwright_operator.execute_nodes import RENEWED
from tests.operator.apiserver import ApiServer
from tests.operator.world import NAME, World, world

WHY = "for the test"


@pytest.fixture
async def place(api_server: ApiServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[World]:
    async with world(api_server, tmp_path, monkeypatch) as made:
        yield made


async def test_a_set_is_not_resized_as_an_older_spec_asked_for(place: World) -> None:
    """Nothing of the set but its mark is changed by the newer spec."""
    await place.create(replicas=1)
    async with place.operator(), place.runtime() as other:
        await place.settled(1)
        assert other._tools is not None
        sight = await other._tools.observer.look((place.namespace, NAME), fresh=True)
        assert sight is not None
        found = sight.observed.sets["voters"]
        await place.change(service={"annotations": {"some": "thing"}})
        await place.settled(1)
        late = ShrinkSet(kind="voters", uid=found.uid, resource_version=found.resource_version, replicas=0, why=WHY)
        assert (await other._tools.executor.execute(late, sight)).what == "again"


async def test_a_change_that_nobody_wants_any_more_ends_with_the_version_of_the_membership(place: World) -> None:
    await place.create(replicas=1)
    async with place.operator():
        await place.settled(1)
    async with place.runtime() as other:
        assert other._tools is not None
        observer, executor = other._tools.observer, other._tools.executor
        sight = await observer.look((place.namespace, NAME), fresh=True)
        assert sight is not None
        assert sight.observed.membership is not None
        version = sight.observed.membership.version

        async def is_raised() -> bool:
            # What the operator sent last may arrive after its end: then the budget is another one than was seen.
            seen = await observer.look((place.namespace, NAME), fresh=True)
            assert seen is not None
            raised = ApplyBudget(
                min_available=1,
                resource_version=seen.observed.budget_version,
                ready_for=f"{version} promote 99",
                why=WHY,
            )
            return (await executor.execute(raised, seen)).what == "done"

        await place.eventually(is_raised, "the budget notes a change of votes")
        async with place.operator():

            async def is_renewed() -> bool:
                return "RenewMembership" in place.actions

            await place.eventually(is_renewed, "the membership gets another version")
            await place.settled(1)
        assert place.actions.count("RenewMembership") == 1
        late = AddMembers(joiners=(Joiner(pod="db-1", store_id="0" * 32),), if_version=version, why=WHY)
        assert (await executor.execute(late, sight)).what == "again"
        async with await place.client_of("db-0") as client:
            members = await client.members.list(linearizable=True)
        assert members.version == version + 1
        assert [member.metadata[RENEWED] for member in members.members] == [str(version)]


async def test_a_node_of_another_cluster_that_got_the_address_is_not_changed(place: World) -> None:
    """Its members have the same ids, and its membership is at the same version."""
    for name in (NAME, "another"):
        await place.create(name, replicas=1)
        async with place.operator(name):
            await place.settled(1, name=name)
    async with place.runtime() as runtime:
        assert runtime._tools is not None
        observer, executor = runtime._tools.observer, runtime._tools.executor
        ours = await observer.look((place.namespace, NAME), fresh=True)
        theirs = await observer.look((place.namespace, "another"), fresh=True)
        assert ours is not None
        assert theirs is not None
        assert ours.observed.membership is not None
        assert theirs.observed.membership is not None
        version = ours.observed.membership.version
        assert theirs.observed.membership.version == version
        moved = replace(ours.places[f"{NAME}-0"], endpoint=theirs.places["another-0"].endpoint)
        late = AddMembers(joiners=(Joiner(pod=f"{NAME}-1", store_id=uuid.uuid4().hex),), if_version=version, why=WHY)
        outcome = await executor.execute(late, replace(ours, places={f"{NAME}-0": moved}))
        assert outcome.what == "again"
        assert "this node is of the cluster" in outcome.message
        after = await observer.look((place.namespace, "another"), fresh=True)
        assert after is not None
        assert after.observed.membership is not None
        assert after.observed.membership.version == version
