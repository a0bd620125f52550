"""Row "created": founded exactly once, whatever crashes and whatever is lost; or adopted; or left to a person."""

from dataclasses import replace

import pytest

from raftwright_operator.actions import Bootstrap, CreateSet, GrowSet, RecordIntent
from raftwright_operator.observed import Intent, MembershipSeen, Observed
from raftwright_operator.plan import reasons
from tests.operator import support as s

THREE = tuple((f"db-{ordinal}", s.store(f"db-{ordinal}")) for ordinal in range(3))
INTENT = Intent(cluster_id=s.UID, stores=THREE)


def intended() -> Observed:
    return s.new(intent=INTENT)


def test_sets_are_made_first() -> None:
    seen = s.new(sets={}, pods={}, nodes={}, volumes={})
    assert s.same(s.step(s.spec(), seen), CreateSet(kind="voters", replicas=3, why=""))
    seen = replace(seen, sets={"voters": s.set_of("voters", 3)})
    assert s.same(s.step(s.spec(non_voting=2), seen), CreateSet(kind="non-voting", replicas=2, why=""))


def test_a_set_that_was_made_too_small_grows_before_the_founding() -> None:
    found = s.step(s.spec(), s.with_set(s.without_pods(s.new(), "db-2"), "voters", replicas=2))
    assert s.same(found, GrowSet(kind="voters", uid="uid-voters", resource_version="7", replicas=3, why=""))


def test_the_founding_is_written_down_once_all_wait() -> None:
    assert s.same(s.step(s.spec(), s.new()), RecordIntent(intent=INTENT, resource_version="41", why=""))


@pytest.mark.parametrize(
    "seen",
    [
        pytest.param(s.without_pods(s.new(), "db-2"), id="a pod is missing"),
        pytest.param(s.silent(s.new(), "db-2"), id="a node does not answer"),
        pytest.param(s.with_pod(s.new(), "db-2", terminating=True), id="a pod is going"),
        pytest.param(s.with_pod(s.new(), "db-2", uid="another"), id="the answer is of an older pod"),
        pytest.param(s.with_node(s.new(), "db-2", state="starting"), id="a node is not that far"),
        pytest.param(
            s.silent(s.with_node(s.new(), "db-2", state="removed"), "db-0"),
            id="a store was removed from a cluster that one may have that was not heard yet",
        ),
        pytest.param(s.with_node(s.new(), "db-2", store_id=s.store("db-1")), id="two have the same store"),
        pytest.param(s.with_volume(s.new(), "db-2", terminating=True), id="a claim is going"),
    ],
)
def test_it_waits_for_all(seen: Observed) -> None:
    assert s.waits_for(s.step(s.spec(), seen)) == reasons.FOUNDING


@pytest.mark.parametrize("cluster_id", [None, "some-other-cluster"])
def test_it_says_what_to_do_about_volumes_of_removed_members_that_nobody_knows(cluster_id: str | None) -> None:
    seen = s.with_node(s.new(), "db-2", state="removed", cluster_id=cluster_id)
    assert s.waits_for(s.step(s.spec(), seen)) == reasons.FOREIGN_STORE
    told = s.concern_of(s.spec(), seen, reasons.FOREIGN_STORE)
    assert told.condition == "Degraded"
    assert told.message.endswith("kubectl delete pvc/data-db-2 pod/db-2")


def test_pods_beyond_those_asked_for_have_no_part() -> None:
    found = s.step(s.spec(1), s.new(3))
    intent = Intent(cluster_id=s.UID, stores=THREE[:1])
    assert s.same(found, RecordIntent(intent=intent, resource_version="41", why=""))


def test_volumes_beyond_those_asked_for_are_heard_first_for_they_may_hold_a_cluster() -> None:
    seen = s.with_set(s.without_pods(s.new(3), "db-1", "db-2"), "voters", replicas=1)
    found = s.step(s.spec(1), seen)
    assert s.same(found, GrowSet(kind="voters", uid="uid-voters", resource_version="7", replicas=3, why=""))
    seen = s.silent(s.new(3), "db-2")
    assert s.waits_for(s.step(s.spec(1), seen)) == reasons.FOUNDING
    assert isinstance(s.step(s.spec(1), s.with_volume(seen, "db-2", capacity_bytes=0)), RecordIntent)
    assert s.same(s.step(s.spec(1), s.new(3, sets={}, pods={}, nodes={})), CreateSet(kind="voters", replicas=3, why=""))


def test_the_first_pod_is_told_what_was_written_down() -> None:
    found = s.step(s.spec(), intended())
    assert s.same(found, Bootstrap(pod="db-0", pod_uid="uid-db-0", intent=INTENT, why=""))


@pytest.mark.parametrize("replicas", [1, 5])
def test_the_intent_stands_when_the_spec_changes(replicas: int) -> None:
    assert s.same(
        s.step(s.spec(replicas), intended()), Bootstrap(pod="db-0", pod_uid="uid-db-0", intent=INTENT, why="")
    )


def test_others_may_be_away_while_the_first_is_told() -> None:
    assert isinstance(s.step(s.spec(), s.silent(intended(), "db-1", "db-2")), Bootstrap)


@pytest.mark.parametrize("first", ["starting", "serving", "stopping", "removed"])
def test_it_is_not_told_again_once_it_is_past_waiting(first: str) -> None:
    seen = s.with_node(intended(), "db-0", state=first, cluster_id=s.UID)
    assert s.waits_for(s.step(s.spec(), seen)) == reasons.FOUNDING


def test_a_first_pod_that_is_silent_is_awaited_and_nobody_told_in_its_place() -> None:
    assert s.waits_for(s.step(s.spec(), s.silent(intended(), "db-0"))) == reasons.FOUNDING


def test_a_store_outside_the_intent_is_never_bootstrapped() -> None:
    seen = s.lost_volume(intended(), "db-0")
    assert s.waits_for(s.step(s.spec(), seen)) == reasons.FOUNDING_LOST
    assert reasons.FOUNDING_LOST in s.reasons_of(s.spec(), seen)


def test_a_first_pod_whose_volume_went_later_is_awaited_while_others_carry_the_cluster() -> None:
    seen = s.with_node(s.lost_volume(intended(), "db-0"), "db-1", state="serving", cluster_id=s.UID)
    assert s.waits_for(s.step(s.spec(), seen)) == reasons.FOUNDING
    assert reasons.FOUNDING_LOST not in s.reasons_of(s.spec(), seen)


@pytest.mark.parametrize(("gone", "lost"), [(("db-1",), False), (("db-1", "db-2"), True)])
def test_a_founding_whose_others_lost_their_volumes_after_the_first_was_told(gone: tuple[str, ...], lost: bool) -> None:
    seen = s.with_node(intended(), "db-0", state="serving", cluster_id=s.UID)
    for name in gone:
        seen = s.lost_volume(seen, name)
    assert s.waits_for(s.step(s.spec(), seen)) == (reasons.FOUNDING_LOST if lost else reasons.FOUNDING)
    assert (reasons.FOUNDING_LOST in s.reasons_of(s.spec(), seen)) is lost


def test_another_founder_that_lost_its_volume_is_written_down_anew_while_the_first_waits() -> None:
    stores = (THREE[0], ("db-1", s.store("db-1", 2)), THREE[2])
    found = s.step(s.spec(), s.lost_volume(intended(), "db-1"))
    assert s.same(found, RecordIntent(intent=replace(INTENT, stores=stores), resource_version="41", why=""))


def test_a_founder_that_belongs_to_another_cluster_stops_it() -> None:
    seen = s.with_node(intended(), "db-1", state="serving", cluster_id="some-other-cluster")
    assert s.waits_for(s.step(s.spec(), seen)) == reasons.FOREIGN_STORE
    assert reasons.FOREIGN_STORE in s.reasons_of(s.spec(), seen)


def test_a_membership_that_a_quorum_confirms_ends_the_founding() -> None:
    seen = replace(s.settled(), intent=INTENT)
    found = s.step(s.spec(), seen)
    assert s.same(found, RecordIntent(intent=replace(INTENT, bootstrapped=True), resource_version="41", why=""))


def test_a_cluster_that_is_founded_is_never_founded_again_also_with_all_volumes_lost() -> None:
    seen = s.settled()
    for name in tuple(seen.pods):
        seen = s.lost_volume(seen, name)
    seen = s.without_leader(seen)
    assert s.waits_for(s.step(s.spec(), seen)) == reasons.QUORUM_LOST
    assert reasons.QUORUM_LOST in s.reasons_of(s.spec(), seen)


def test_nothing_is_founded_again_where_all_volumes_went_before_that_was_written_down() -> None:
    seen = intended()
    for name in tuple(seen.pods):
        seen = s.lost_volume(seen, name)
    assert s.waits_for(s.step(s.spec(), seen)) == reasons.FOUNDING_LOST


# Adoption


def test_a_cluster_that_all_nodes_report_is_adopted() -> None:
    seen = replace(s.settled(), intent=None, uid="another-uid")
    intent = Intent(cluster_id=s.UID, stores=(), bootstrapped=True)
    assert s.same(s.step(s.spec(), seen), RecordIntent(intent=intent, resource_version="41", why=""))
    assert s.is_done(s.step(s.spec(), replace(seen, intent=intent)))


def test_adoption_waits_for_silent_pods_unless_a_leader_vouches_for_the_cluster() -> None:
    seen = replace(s.silent(s.settled(), "db-2"), intent=None)
    assert isinstance(s.step(s.spec(), seen), RecordIntent)
    assert s.waits_for(s.step(s.spec(), s.without_leader(seen))) == reasons.ADOPTING


def test_a_cluster_is_adopted_also_where_one_volume_is_empty() -> None:
    seen = replace(s.lost_volume(s.settled(), "db-2"), intent=None)
    found = s.step(s.spec(), seen)
    assert isinstance(found, RecordIntent)
    assert found.intent.cluster_id == s.UID


def test_nodes_of_different_clusters_are_left_to_a_person() -> None:
    seen = s.with_node(replace(s.settled(), intent=None), "db-2", cluster_id="some-other-cluster")
    assert s.waits_for(s.step(s.spec(), seen)) == reasons.DIFFERENT_CLUSTERS
    assert reasons.DIFFERENT_CLUSTERS in s.reasons_of(s.spec(), seen)


def test_an_adopted_cluster_without_a_leader_gets_a_pod_for_every_volume() -> None:
    seen = s.settled(5, intent=Intent(cluster_id=s.UID, stores=(), bootstrapped=True), recorded_members=())
    seen = s.with_set(s.without_leader(s.without_pods(seen, "db-1", "db-2", "db-3", "db-4")), "voters", replicas=1)
    found = s.step(s.spec(1), seen)
    assert s.same(found, GrowSet(kind="voters", uid="uid-voters", resource_version="7", replicas=5, why=""))


def test_the_membership_of_another_cluster_is_none_of_ours() -> None:
    seen = s.settled()
    nodes = {name: replace(node, cluster_id="some-other-cluster") for name, node in seen.nodes.items()}
    found = s.step(s.spec(5), s.with_nodes(seen, nodes))
    assert s.waits_for(found) == reasons.NO_LEADER


def test_a_founding_with_one_voter() -> None:
    assert isinstance(s.step(s.spec(1), s.new(1)), RecordIntent)
    intent = Intent(cluster_id=s.UID, stores=THREE[:1])
    assert isinstance(s.step(s.spec(1), s.new(1, intent=intent)), Bootstrap)
    one = MembershipSeen(version=1, joint=False, leader=1, members=(s.member_of(1, "db-0", last_contact_s=None),))
    assert isinstance(s.step(s.spec(1), s.settled(1, intent=intent, membership=one)), RecordIntent)
