"""The Lease on a real API server: one holds it, the next takes over, and who cannot renew it is not the leader."""

import asyncio
import os
import time
import uuid
from collections.abc import AsyncIterator
from typing import Any

import pytest

from raftwright_operator.kube import Kube, KubeError, Object
from raftwright_operator.leadership import LEASE_NAME, Leadership, LeadershipLost
from tests.operator.apiserver import ApiServer

TIMES = {"lease_s": 1.5, "deadline_s": 1.0, "retry_s": 0.2}


class Place:
    """A namespace with a Lease in it."""

    def __init__(self, kube: Kube, namespace: str) -> None:
        self.kube = kube
        self.namespace = namespace

    def candidate(self, name: str, kube: Kube | None = None, pod_uid: str = "", **times: float) -> Leadership:
        return Leadership(kube or self.kube, self.namespace, name, pod_uid=pod_uid, **{**TIMES, **times})

    async def holder(self) -> str:
        found = await self.kube.get("Lease", self.namespace, LEASE_NAME)
        assert found is not None
        return str(found["spec"]["holderIdentity"])


class CutOff(Kube):
    """A connection to the API server that can be cut."""

    is_cut = False

    async def call(self, *arguments: Any, **options: Any) -> Object:
        if self.is_cut:
            raise KubeError(0, "Unreachable", "cut off")
        return await super().call(*arguments, **options)


@pytest.fixture
async def place(api_server: ApiServer, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Place]:
    monkeypatch.setitem(os.environ, "KUBECONFIG", str(api_server.kubeconfig))
    namespace = f"lease-{uuid.uuid4().hex[:8]}"
    await asyncio.to_thread(api_server.create_namespace, namespace)
    kube = await CutOff.connect()
    yield Place(kube, namespace)
    await kube.close()


async def test_one_of_two_holds_it(place: Place) -> None:
    both = [asyncio.create_task(place.candidate(name).acquire()) for name in "ab"]
    done, waiting = await asyncio.wait(both, timeout=1.0)
    assert (len(done), len(waiting)) == (1, 1)
    assert await place.holder() in ("a", "b")
    for task in waiting:
        task.cancel()


async def test_the_next_takes_over_at_once_when_it_is_released(place: Place) -> None:
    first, second = place.candidate("a"), place.candidate("b", lease_s=60)
    await first.acquire()
    taking = asyncio.create_task(second.acquire())
    await asyncio.sleep(0.3)
    assert not taking.done()
    await first.release()
    await asyncio.wait_for(taking, 2)
    assert await place.holder() == "b"


async def test_the_next_takes_over_when_the_holder_is_dead_but_not_before(place: Place) -> None:
    await place.candidate("a").acquire()
    began = time.monotonic()
    await asyncio.wait_for(place.candidate("b").acquire(), 5)
    assert time.monotonic() - began >= TIMES["lease_s"]
    assert await place.holder() == "b"


async def test_a_living_holder_is_never_robbed(place: Place) -> None:
    first = place.candidate("a")
    await first.acquire()
    keeping = asyncio.create_task(first.keep())
    taking = asyncio.create_task(place.candidate("b").acquire())
    done, _ = await asyncio.wait((keeping, taking), timeout=2.5)
    assert not done
    assert await place.holder() == "a"
    for task in (keeping, taking):
        task.cancel()


async def test_who_cannot_renew_loses_it_before_another_may_have_it(place: Place) -> None:
    cut = await CutOff.connect()
    try:
        first = place.candidate("a", cut)
        await first.acquire()
        began = time.monotonic()
        cut.is_cut = True
        with pytest.raises(LeadershipLost):
            await first.keep()
        assert time.monotonic() - began < TIMES["lease_s"]
        await asyncio.wait_for(place.candidate("b").acquire(), 5)
    finally:
        await cut.close()


async def test_who_was_robbed_notices_with_its_next_renewal(place: Place) -> None:
    first = place.candidate("a")
    await first.acquire()
    await place.kube.patch("Lease", place.namespace, LEASE_NAME, {"spec": {"holderIdentity": "b"}})
    with pytest.raises(LeadershipLost):
        await asyncio.wait_for(first.keep(), 5)
    await first.release()
    assert await place.holder() == "b"


async def test_a_lost_answer_does_not_cost_the_lease(place: Place) -> None:
    """The renewal came to pass, but under another version than the holder knows."""
    first = place.candidate("a")
    await first.acquire()
    await place.kube.patch("Lease", place.namespace, LEASE_NAME, {"metadata": {"labels": {"touched": "true"}}})
    keeping = asyncio.create_task(first.keep())
    done, _ = await asyncio.wait((keeping,), timeout=1.5)
    assert not done
    keeping.cancel()


async def test_it_belongs_to_the_pod_that_holds_it_and_to_no_pod_before_it(place: Place) -> None:
    """So that it is collected with the pod, where the right to release it went first."""
    owners = []
    for name, uid in (("a", "uid-a"), ("b", "uid-b"), ("c", "")):
        holder = place.candidate(name, pod_uid=uid)
        await asyncio.wait_for(holder.acquire(), 5)
        found = await place.kube.get("Lease", place.namespace, LEASE_NAME)
        assert found is not None
        owners.append([each["uid"] for each in found["metadata"].get("ownerReferences") or ()])
        await holder.release()
    assert owners == [["uid-a"], ["uid-b"], []]


async def test_who_holds_one_that_is_collected_is_the_leader_no_more(place: Place) -> None:
    first = place.candidate("a")
    await first.acquire()
    found = await place.kube.get("Lease", place.namespace, LEASE_NAME)
    assert found is not None
    await place.kube.delete("Lease", place.namespace, LEASE_NAME, uid=found["metadata"]["uid"])
    with pytest.raises(LeadershipLost):
        await asyncio.wait_for(first.keep(), 5)
    await asyncio.wait_for(place.candidate("b").acquire(), 5)
