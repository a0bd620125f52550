"""How a store becomes a member: by whom, when, and never twice; on real disks."""

import asyncio
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

from raftwright.client.member_models import BootstrapRequest, FirstMember, MemberAddresses
from raftwright.kv.store import KvMachine
from raftwright.server.addresses import parse_members
from raftwright.server.admission import Admission, founding_of
from raftwright.server.errors import AlreadyBootstrapped, InvalidRequest
from raftwright.server.parts import open_storage
from raftwright.server.settings import NodeSettings
from raftwright.server.wire import PeerHello
from raftwright.storage import identity as identities
from raftwright.storage.errors import DiskFull

CLUSTER = "c" * 32


class Candidate:
    """A node with its storage, before it is a member."""

    def __init__(self, directory: Path, **settings: Any) -> None:
        self.settings = NodeSettings(name="n1", data_dir=directory, **settings)
        self.storage, self.identity = open_storage(self.settings)
        self.said: list[str] = []
        self.admission = Admission(
            settings=self.settings,
            storage=self.storage,
            identity=self.identity,
            machine=KvMachine(),
            say=lambda phase, _: self.said.append(phase),
        )
        self.running = asyncio.create_task(self.admission.run())

    def hello(self, **changed: Any) -> PeerHello:
        fields = {
            "protocol_min": 1,
            "protocol_max": 1,
            "cluster_id": CLUSTER,
            "member_id": 1,
            "store_id": "1" * 32,
            "to_member_id": 4,
            "to_store_id": self.identity.store_id,
            "channel": "control",
            "settled": True,
        }
        return PeerHello(**{**fields, **changed})

    def request(self, *, cluster_id: str = "some-cluster", **more: str) -> BootstrapRequest:
        """A first membership of this node and those given, name to store id."""
        stores = {"n1": self.identity.store_id, **more}
        members = [
            FirstMember(name=name, store_id=store_id, addresses=MemberAddresses(peer=f"{name}:1", client=f"{name}:2"))
            for name, store_id in stores.items()
        ]
        return BootstrapRequest(cluster_id=cluster_id, members=members)

    async def close(self) -> None:
        self.running.cancel()
        await asyncio.gather(self.running, return_exceptions=True)
        self.storage.close()


async def test_a_waiting_node_becomes_what_a_committed_addition_says_durably(tmp_path: Path) -> None:
    node = Candidate(tmp_path)
    await asyncio.sleep(0)
    assert node.said == ["waiting"]
    await node.admission.adopt(node.hello())
    assert await node.running
    assert (node.identity.cluster_id, node.identity.member_id) == (CLUSTER, 4)
    await node.admission.adopt(node.hello(cluster_id="d" * 32, to_member_id=5))
    assert (node.identity.cluster_id, node.identity.member_id) == (CLUSTER, 4), "once and for good"
    await node.close()
    again = Candidate(tmp_path)
    assert await again.running
    assert (again.identity.cluster_id, again.identity.member_id, again.said) == (CLUSTER, 4, [])
    await again.close()


@pytest.mark.parametrize(
    "changed", [{"settled": False}, {"to_store_id": "f" * 32}, {"to_member_id": 0}, {"cluster_id": ""}]
)
async def test_nobody_becomes_a_member_by_what_is_not_committed_or_not_meant(
    tmp_path: Path, changed: dict[str, Any]
) -> None:
    node = Candidate(tmp_path)
    await asyncio.sleep(0)
    await node.admission.adopt(node.hello(**changed))
    assert node.identity.cluster_id is None
    assert not node.running.done()
    await node.close()


async def test_a_node_that_founds_by_its_settings_is_not_taken_in_by_others(tmp_path: Path) -> None:
    node = Candidate(tmp_path, members=tuple(parse_members("n1=127.0.0.1:1,n2=127.0.0.1:2")))
    await asyncio.sleep(0)
    await node.admission.adopt(node.hello())
    assert node.identity.cluster_id is None
    with pytest.raises(AlreadyBootstrapped):
        await node.admission.bootstrap(node.request())
    await node.close()


async def test_a_removed_store_is_never_a_member_again(tmp_path: Path) -> None:
    node = Candidate(tmp_path)
    await asyncio.sleep(0)
    await node.admission.adopt(node.hello())
    node.storage.mark_removed()
    await node.close()
    again = Candidate(tmp_path, join=("127.0.0.1:1",))
    assert not await again.running
    assert again.said == ["removed"]
    await again.admission.adopt(again.hello(to_member_id=9))
    assert again.identity.member_id == 4
    await again.close()


async def test_a_bootstrap_is_durable_and_the_same_again_changes_nothing(tmp_path: Path) -> None:
    node = Candidate(tmp_path)
    await asyncio.sleep(0)
    request = node.request(n2="2" * 32, n0="0" * 32)
    answer = await node.admission.bootstrap(request)
    assert (answer.cluster_id, answer.id) == ("some-cluster", 2), "ids are in the order of names"
    assert await node.running
    assert await node.admission.bootstrap(request) == answer
    for other in (node.request(n2="2" * 32), node.request(cluster_id="other-cluster", n2="2" * 32, n0="0" * 32)):
        with pytest.raises(AlreadyBootstrapped):
            await node.admission.bootstrap(other)
    snapshot = node.storage.recovered.snapshot
    assert snapshot is not None
    assert [member.name for member in snapshot.membership.members.values()] == ["n0", "n1", "n2"]
    await node.close()
    again = Candidate(tmp_path)
    assert await again.running
    assert await again.admission.bootstrap(request) == answer
    with pytest.raises(AlreadyBootstrapped):
        await again.admission.bootstrap(again.request(n2="2" * 32))
    await again.close()


async def test_a_member_that_was_added_by_a_bootstrapped_node_says_yes_to_that_bootstrap_only(tmp_path: Path) -> None:
    node = Candidate(tmp_path)
    await asyncio.sleep(0)
    request = node.request(n2="2" * 32)
    await node.admission.adopt(node.hello(cluster_id=request.cluster_id))
    assert (await node.admission.bootstrap(request)).id == 4
    with pytest.raises(AlreadyBootstrapped):
        await node.admission.bootstrap(node.request(cluster_id="other-cluster"))
    await node.close()


async def test_the_order_of_the_members_makes_no_other_cluster_and_everything_else_does(tmp_path: Path) -> None:
    node = Candidate(tmp_path)
    await asyncio.sleep(0)
    request = node.request(n2="2" * 32)
    answer = await node.admission.bootstrap(request)
    assert await node.admission.bootstrap(replace(request, members=request.members[::-1])) == answer
    own, other = request.members
    for changed in (
        replace(other, name="n3"),
        replace(other, store_id="3" * 32),
        replace(other, addresses=MemberAddresses(peer="127.0.0.1:9", client=other.addresses.client)),
        replace(other, addresses=MemberAddresses(peer=other.addresses.peer, client="127.0.0.1:9")),
        replace(other, role="learner"),
    ):
        with pytest.raises(AlreadyBootstrapped, match=f"founded as {node.identity.founding}, and the request founds"):
            await node.admission.bootstrap(replace(request, members=[own, changed]))
    await node.close()


async def test_who_is_added_takes_over_what_the_cluster_was_founded_as(tmp_path: Path) -> None:
    founder = Candidate(tmp_path / "founder")
    await asyncio.sleep(0)
    await founder.admission.bootstrap(founder.request())
    founding = founder.identity.founding
    assert founding is not None
    node = Candidate(tmp_path / "node")
    await asyncio.sleep(0)
    await node.admission.adopt(node.hello(founding=founding))
    assert node.identity.founding == founding
    await node.admission.learn_founding("f" * 32)
    assert node.identity.founding == founding, "once it is known it stays"
    await node.close()
    again = Candidate(tmp_path / "node")
    assert (again.identity.founding, await again.running) == (founding, True)
    await again.close()
    await founder.close()


async def test_a_member_that_does_not_know_what_its_cluster_was_founded_as_learns_it_for_good(tmp_path: Path) -> None:
    node = Candidate(tmp_path)
    await asyncio.sleep(0)
    await node.admission.learn_founding("e" * 32)
    assert node.storage.identity.founding is None, "it is in no cluster"
    await node.admission.adopt(node.hello())
    assert (node.identity.member_id, node.storage.identity.founding) == (4, None)
    await asyncio.gather(*(node.admission.learn_founding(each * 32) for each in "cd"))
    assert node.identity.founding == "c" * 32
    await node.close()
    again = Candidate(tmp_path)
    assert again.identity.founding == "c" * 32
    await again.close()


async def test_a_first_membership_that_cannot_be_is_refused(tmp_path: Path) -> None:
    node = Candidate(tmp_path)
    good = node.request(n2="2" * 32)
    bad = {
        "two members have the same store_id": node.request(n2="2" * 32, n3="2" * 32),
        "two members have the same name": BootstrapRequest(
            cluster_id="some-cluster", members=[*good.members, good.members[1]]
        ),
        "two members have the same address for members": BootstrapRequest(
            cluster_id="some-cluster",
            members=[good.members[0], replace(good.members[1], addresses=good.members[0].addresses)],
        ),
        "is not among the members": BootstrapRequest(cluster_id="some-cluster", members=good.members[1:]),
        "no member has a vote": BootstrapRequest(
            cluster_id="some-cluster",
            members=[
                FirstMember(name=one.name, store_id=one.store_id, addresses=one.addresses, role="learner")
                for one in good.members
            ],
        ),
    }
    for why, request in bad.items():
        with pytest.raises(InvalidRequest, match=why):
            founding_of(request, node.identity)
    await node.close()


async def test_a_full_disk_keeps_a_member_from_learning_and_from_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    node = Candidate(tmp_path)
    await asyncio.sleep(0)
    await node.admission.adopt(node.hello())

    def full(*_: object) -> None:
        raise DiskFull("store.json.tmp", "no space")

    with monkeypatch.context() as patch:
        patch.setattr(identities, "save_copy", full)
        await node.admission.learn_founding("d" * 32)
        assert node.storage.identity.founding is None
    await node.admission.learn_founding("c" * 32)
    assert node.identity.founding == "c" * 32
    await node.close()
