"""Rows "a volume is lost", "a retained volume is mounted again" and "a pod dies"."""

from dataclasses import replace

import pytest

from raftwright_operator.actions import (
    AddMembers,
    ApplyBudget,
    DiscardStore,
    GrowSet,
    Joiner,
    LabelPods,
    RemoveMembers,
    ReplaceMember,
    RestartPod,
    ShrinkSet,
    Wait,
)
from raftwright_operator.observed import Hibernation, Observed
from raftwright_operator.plan import reasons
from tests.operator import support as s


def replacing(*, store_id: str = s.store("db-2", 2), **intent: int) -> Observed:
    """Member 3 (db-2) lost its volume, and member 4 is to take its place."""
    seen = s.with_member(s.lost_volume(s.settled(3), "db-2"), 3, intent={"remove": 11})
    new = s.member_of(4, "db-2", "learner", store_id=store_id, intent={"promote": 11, "replaces": 3, **intent})
    return s.with_members(seen, new)


def test_the_member_is_replaced_by_the_new_store() -> None:
    found = s.step(s.spec(), s.lost_volume(s.settled(3), "db-2"))
    joiner = Joiner(pod="db-2", store_id=s.store("db-2", 2))
    assert s.same(found, ReplaceMember(old=3, joiner=joiner, if_version=10, why=""))
    assert reasons.VOLUME_LOST in s.reasons_of(s.spec(), s.lost_volume(s.settled(3), "db-2"))


def test_its_pod_has_the_label_of_a_voter_first() -> None:
    seen = s.with_pod(s.lost_volume(s.settled(3), "db-2"), "db-2", voter_label=False)
    assert isinstance(s.step(s.spec(), seen), LabelPods)


def test_until_its_vote_is_back_one_less_may_be_evicted() -> None:
    """Its pod has the label, and is ready once the new store is a learner: it must not count as a voter that is up."""
    for seen in (s.lost_volume(s.settled(3), "db-2"), s.with_node(replacing(), "db-2", state="serving")):
        assert s.same(s.step(s.spec(), replace(seen, budget=2)), ApplyBudget(min_available=3, why=""))


@pytest.mark.parametrize(
    "seen",
    [
        pytest.param(s.silent(s.settled(3), "db-2"), id="it is only silent"),
        pytest.param(s.without_pods(s.settled(3), "db-2"), id="its pod is away"),
        pytest.param(s.with_node(s.settled(3), "db-2", state="starting"), id="it starts with its store"),
        pytest.param(s.with_node(s.settled(3), "db-2", state="waiting", cluster_id=None), id="it waits with its store"),
        pytest.param(s.with_node(s.lost_volume(s.settled(3), "db-2"), "db-2", state="removed"), id="it was removed"),
        pytest.param(s.with_node(s.lost_volume(s.settled(3), "db-2"), "db-2", cluster_id="some-other"), id="foreign"),
        pytest.param(s.with_pod(s.lost_volume(s.settled(3), "db-2"), "db-2", terminating=True), id="its pod is going"),
        pytest.param(
            s.with_volume(s.lost_volume(s.settled(3), "db-2"), "db-2", terminating=True), id="so is the new claim"
        ),
        pytest.param(s.silent(s.lost_volume(s.settled(3), "db-2"), "db-1"), id="no live quorum is left"),
        pytest.param(s.without_leader(s.lost_volume(s.settled(3), "db-2")), id="no leader"),
        pytest.param(s.with_members(s.lost_volume(s.settled(3), "db-2"), joint=True), id="a joint change"),
        pytest.param(replacing(), id="it is being replaced"),
    ],
)
def test_no_member_is_replaced_for(seen: Observed) -> None:
    assert not isinstance(s.step(s.spec(), seen), (ReplaceMember, AddMembers, RemoveMembers))


def test_a_member_that_is_not_asked_for_leaves_and_is_not_replaced() -> None:
    found = s.step(s.spec(), replace(s.lost_volume(s.settled(5), "db-4"), budget=5, budget_ready_for="10 remove 4, 5"))
    assert s.same(found, RemoveMembers(ids=(4, 5), if_version=10, why=""))


def test_who_repairs_comes_before_who_shrinks() -> None:
    assert isinstance(s.step(s.spec(3), s.lost_volume(s.settled(5), "db-1")), ReplaceMember)


def test_a_replacement_that_was_called_off_is_asked_for_again() -> None:
    seen = s.with_member(replacing(), 4, intent={"replaces": 3})
    seen = s.with_node(seen, "db-2", state="serving", cluster_id=s.UID)
    assert isinstance(s.step(s.spec(), seen), ReplaceMember)


def test_no_other_voter_is_spared_while_a_pod_may_be_ready_without_the_vote_it_is_counted_for() -> None:
    seen = replace(s.silent(replacing(), "db-2"), budget=2)
    assert s.same(s.step(s.spec(), seen), ApplyBudget(min_available=3, why=""))


def test_the_node_of_another_store_makes_no_old_member_live() -> None:
    """db-2 serves as the new learner; of the voters only db-0 is live, whatever the leader heard of member 3 before."""
    seen = s.with_member(s.silent(replacing(), "db-1"), 4, intent={"replaces": 3})
    seen = s.with_member(s.with_node(seen, "db-2", state="serving", cluster_id=s.UID), 3, last_contact_s=0.1)
    assert s.waits_for(s.step(s.spec(), seen)) == reasons.REPLACING_MEMBER


def test_a_replacement_whose_new_volume_is_lost_too_ends_and_begins_anew() -> None:
    found = s.step(s.spec(), replacing(store_id="an-older-store"))
    assert s.same(found, RemoveMembers(ids=(4,), if_version=10, why=""))


def test_a_learner_leaves_and_joins_anew() -> None:
    seen = s.lost_volume(s.settled(3, 1), "db-nonvoting-0")
    seen = s.with_pod(seen, "db-nonvoting-0", voter_label=False)
    assert s.same(s.step(s.spec(3, non_voting=1), seen), RemoveMembers(ids=(4,), if_version=10, why=""))
    joiner = Joiner(pod="db-nonvoting-0", store_id=s.store("db-nonvoting-0", 2))
    found = s.step(s.spec(3, non_voting=1), s.without_members(seen, 4))
    assert s.same(found, AddMembers(joiners=(joiner,), if_version=10, why=""))


def test_a_learner_whose_pod_has_another_clusters_store_is_left_alone() -> None:
    seen = s.with_node(s.lost_volume(s.settled(3, 1), "db-nonvoting-0"), "db-nonvoting-0", cluster_id="some-other")
    seen = s.with_pod(seen, "db-nonvoting-0", voter_label=False)
    assert s.waits_for(s.step(s.spec(3, non_voting=1), seen)) == reasons.POD_NOT_BACK
    assert reasons.FOREIGN_STORE in s.reasons_of(s.spec(3, non_voting=1), seen)


def test_two_of_five_are_replaced_one_after_the_other_and_three_are_a_lost_quorum() -> None:
    seen = s.lost_volume(s.lost_volume(s.settled(5), "db-3"), "db-4")
    found = s.step(s.spec(5), seen)
    assert isinstance(found, ReplaceMember)
    assert found.old == 4
    lost = s.without_leader(s.lost_volume(seen, "db-2"))
    assert reasons.QUORUM_LOST in s.reasons_of(s.spec(5), lost)
    assert reasons.QUORUM_LOST not in s.reasons_of(s.spec(5), s.without_leader(seen))


def test_silent_nodes_are_no_lost_quorum() -> None:
    seen = s.without_leader(s.broken(s.lost_volume(s.settled(3), "db-1"), "db-2", "Unschedulable: no node fits"))
    found = s.concern_of(s.spec(), seen, reasons.NO_LEADER)
    assert "volume lost: db-1" in found.message
    assert "Unschedulable: no node fits" in found.message
    assert s.waits_for(s.step(s.spec(), seen)) == reasons.NO_LEADER


# A store that was removed


def removed(**changes: object) -> Observed:
    """db-2 is wanted again, and has the volume of a member that was removed."""
    seen = s.with_pod(s.without_members(s.silent(s.settled(3), "db-2"), 3), "db-2", voter_label=False)
    return s.with_nodes(seen, {"db-2": s.node_of("db-2", state="removed", **changes)})


# A claim is deleted by hand while its pod runs


def going(seen: Observed, *pods: str) -> Observed:
    for pod in pods:
        seen = s.with_volume(seen, pod, terminating=True)
    return seen


@pytest.mark.parametrize("voters", [1, 2])
def test_a_claim_that_goes_takes_no_only_copy_along(voters: int) -> None:
    seen = going(s.settled(voters), "db-0")
    assert s.waits_for(s.step(s.spec(voters), seen)) == reasons.VOLUME_GOING
    outdated = s.with_set(seen, "voters", update_revision=s.NEW)
    if voters == 1:
        assert s.waits_for(s.step(s.spec(voters), outdated)) == reasons.VOLUME_GOING
    found = s.concern_of(s.spec(voters), seen, reasons.VOLUME_GOING)
    assert "three voters or more" in found.message
    assert isinstance(s.step(s.spec(3), seen), GrowSet)
    assert isinstance(s.step(s.spec(3), going(s.settled(3), "db-2")), RestartPod)


def test_a_pod_that_does_not_run_keeps_a_claim_that_goes_while_no_leader_is_known() -> None:
    seen = s.without_leader(s.broken(s.with_set(s.settled(3), "voters", update_revision=s.NEW), "db-2"))
    assert s.same(s.step(s.spec(), seen), RestartPod(pod="db-2", uid="uid-db-2", evict=False, why=""))
    assert s.waits_for(s.step(s.spec(), going(seen, "db-2"))) == reasons.NO_LEADER


def test_voters_are_not_removed_before_those_that_stay_have_volumes_that_last() -> None:
    seen = replace(s.led_by(going(s.settled(3), "db-0"), 2), budget=2)
    found = s.step(s.spec(1), seen)
    assert s.same(found, RestartPod(pod="db-0", uid="uid-db-0", evict=True, why=""))
    going_to_two = s.step(s.spec(3), replace(going(s.settled(5), "db-0"), budget=4, budget_ready_for="10 remove 4, 5"))
    assert isinstance(going_to_two, RemoveMembers)
    both = s.lost_volume(going(s.settled(3), "db-0"), "db-1")
    assert isinstance(s.step(s.spec(1), both), ReplaceMember)


@pytest.mark.parametrize(
    ("seen", "sleeps"),
    [
        pytest.param(going(s.settled(1), "db-0"), False, id="of one"),
        pytest.param(going(s.settled(3), "db-0"), True, id="of three one"),
        pytest.param(going(s.settled(3), "db-0", "db-1"), False, id="of three two"),
        pytest.param(s.without_leader(going(s.settled(3), "db-0", "db-1")), False, id="of three two, and no leader"),
        pytest.param(s.lost_volume(going(s.settled(3), "db-0"), "db-1"), False, id="of three one, and one was lost"),
        pytest.param(s.with_members(going(s.settled(3), "db-0"), joint=True), False, id="a joint change"),
    ],
)
def test_nobody_sleeps_where_too_few_volumes_would_be_left(seen: Observed, sleeps: bool) -> None:
    seen = replace(seen, hibernation=Hibernation(voters=len(seen.recorded_voters), non_voting=0))
    found = s.step(s.spec(0), seen)
    assert isinstance(found, ShrinkSet) is sleeps
    assert sleeps or s.waits_for(found) == reasons.VOLUME_GOING


def test_a_removed_store_is_set_aside() -> None:
    found = s.step(s.spec(), removed())
    assert s.same(found, DiscardStore(pod="db-2", pod_uid="uid-db-2", store_id=s.store("db-2"), why=""))


@pytest.mark.parametrize(
    "seen",
    [
        pytest.param(
            s.with_pod(s.with_members(removed(), s.member_of(3, "db-2")), "db-2", voter_label=True),
            id="the membership has that store",
        ),
        pytest.param(removed(cluster_id="some-other-cluster"), id="another cluster's"),
        pytest.param(removed(pod_uid="another"), id="an older pod answered"),
        pytest.param(s.without_leader(removed()), id="nobody knows the membership"),
        pytest.param(s.with_members(removed(), joint=True), id="a joint change"),
        pytest.param(s.with_node(removed(), "db-2", state="starting"), id="it has not said so"),
    ],
)
def test_a_store_is_not_set_aside_for(seen: Observed) -> None:
    assert not isinstance(s.step(s.spec(), seen), DiscardStore)


def test_a_removed_store_in_a_pod_that_is_not_asked_for_stays_as_it_is() -> None:
    seen = s.with_pods(s.with_set(removed(), "voters", replicas=4), s.pod_of("db-3", voter_label=True))
    seen = s.with_nodes(s.with_members(s.led_by(seen, 2), s.member_of(4, "db-3")), {"db-3": s.node_of("db-3")})
    seen = s.silent(seen, "db-0")  # so that db-3 cannot be removed, nor the set shrink
    assert s.waits_for(s.step(s.spec(2), seen)) == reasons.SCALE_DOWN_BLOCKED


def test_a_member_whose_pod_has_the_store_of_before_is_replaced_after_that_is_set_aside() -> None:
    seen = s.with_node(s.lost_volume(s.settled(3), "db-2"), "db-2", state="removed", cluster_id=s.UID)
    assert isinstance(s.step(s.spec(), seen), DiscardStore)


# A claim that goes under its pod


def test_a_pod_whose_claim_goes_is_restarted_before_it_gets_a_vote() -> None:
    seen = s.with_volume(removed(), "db-2", terminating=True)
    assert s.same(s.step(s.spec(), seen), RestartPod(pod="db-2", uid="uid-db-2", evict=False, why=""))


def test_voters_whose_claims_go_are_restarted_one_by_one() -> None:
    seen = s.with_volume(s.with_volume(s.settled(3), "db-1", terminating=True), "db-2", terminating=True)
    assert s.same(s.step(s.spec(), seen), RestartPod(pod="db-2", uid="uid-db-2", evict=True, why=""))
    seen = s.without_pods(seen, "db-2")
    assert isinstance(s.step(s.spec(), seen), Wait)
    assert reasons.VOLUME_GOING in s.reasons_of(s.spec(), seen)


# A pod dies


@pytest.mark.parametrize("name", ["db-0", "db-2", "db-nonvoting-0"])
def test_a_pod_that_died_is_awaited_and_nothing_else_touched(name: str) -> None:
    seen = s.without_pods(s.settled(3, 1), name)
    if name == "db-0":
        assert s.waits_for(s.step(s.spec(3, non_voting=1), s.without_leader(seen))) == reasons.NO_LEADER
        seen = s.led_by(seen, 2)
        seen = s.with_member(seen, 1, last_contact_s=60.0)
    assert s.waits_for(s.step(s.spec(3, non_voting=1), seen)) == reasons.POD_NOT_BACK


def test_a_set_that_somebody_shrank_gets_its_members_pods_back() -> None:
    seen = s.with_set(s.without_leader(s.without_pods(s.settled(3), "db-1", "db-2")), "voters", replicas=1)
    found = s.step(s.spec(3), seen)
    assert type(found).__name__ == "GrowSet"
    assert getattr(found, "replicas", None) == 3


def test_a_state_that_diverged_is_remarked_upon() -> None:
    seen = s.with_node(s.settled(3), "db-1", diverged=True)
    assert reasons.STATE_DIVERGED in s.reasons_of(s.spec(), seen)
    assert s.waits_for(s.step(s.spec(), seen)) == reasons.POD_NOT_BACK
