"""The first start: the same answers give the same cluster, and an empty disk never comes back as somebody."""

import pytest

from raftwright.server.addresses import parse_members
from raftwright.server.founding import Identity, Stranger, WrongMembers, decide, found
from raftwright.server.peers import LocalIdentity

MEMBERS = parse_members("a=127.0.0.1:1/127.0.0.1:11;b=127.0.0.1:2/127.0.0.1:12;c=127.0.0.1:3,nonVoting")


def local(name: str, store_id: str) -> LocalIdentity:
    return LocalIdentity(name=name, store_id=store_id, client=f"{name}:7001")


def answers(**cluster_ids: str) -> dict[str, Identity]:
    return {
        name: Identity(name=name, store_id=name * 32, client=f"{name}:7001", cluster_id=cluster_ids.get(name))
        for name in "abc"
    }


def test_every_founding_node_computes_the_same_cluster() -> None:
    foundings = [decide(local(name, name * 32), MEMBERS, answers()) for name in "abc"]
    assert len({founding.cluster_id for founding in foundings}) == 1
    assert len({founding.membership.encode() for founding in foundings}) == 1
    assert [founding.member_id for founding in foundings] == [1, 2, 3]
    assert foundings[0].membership.voters == {1, 2}
    assert foundings[0].membership.learners == {3}


def test_the_order_of_the_list_does_not_matter() -> None:
    forwards = decide(local("a", "a" * 32), MEMBERS, answers())
    backwards = decide(local("a", "a" * 32), MEMBERS[::-1], answers())
    assert forwards.cluster_id == backwards.cluster_id


def test_client_addresses_come_from_the_list_or_from_the_node_itself() -> None:
    membership = decide(local("a", "a" * 32), MEMBERS, answers()).membership
    assert membership.members[1].addresses.client == "127.0.0.1:11"
    assert membership.members[3].addresses.client == "c:7001"


def test_a_node_that_was_not_yet_durable_joins_the_founded_cluster_with_the_same_store() -> None:
    cluster_id = decide(local("a", "a" * 32), MEMBERS, answers()).cluster_id
    assert decide(local("b", "b" * 32), MEMBERS, answers(a=cluster_id)).cluster_id == cluster_id


def test_a_disk_that_came_back_empty_is_a_stranger() -> None:
    cluster_id = decide(local("a", "a" * 32), MEMBERS, answers()).cluster_id
    known = answers(a=cluster_id, c=cluster_id)
    known["b"] = Identity(name="b", store_id="f" * 32, client="b:7001")
    with pytest.raises(Stranger, match="forgot its vote"):
        decide(local("b", "f" * 32), MEMBERS, known)


async def test_a_name_that_is_not_in_the_list_is_refused_before_anyone_is_asked() -> None:
    with pytest.raises(WrongMembers, match="'z', is not in the list"):
        await found(local("z", "z" * 32), MEMBERS)
