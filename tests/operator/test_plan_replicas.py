"""Rows "replicas up", "replicas down", "scaled 1 → 5, 5 → 1, or changed mid-way" and "nonVoting.replicas"."""

from dataclasses import replace

import pytest

from raftwright_operator.actions import (
    AddMembers,
    ApplyBudget,
    DeleteVolume,
    GrowSet,
    Joiner,
    LabelPods,
    PodLabels,
    PromoteMembers,
    RemoveMembers,
    RenewMembership,
    RestartPod,
    ShrinkSet,
    TransferLeadership,
)
from raftwright_operator.observed import Observed
from raftwright_operator.plan import reasons, volumes
from raftwright_operator.plan.facts import Facts
from tests.operator import support as s


def joined(seen: Observed, *names: str, first_id: int = 4) -> Observed:
    """With pods that have joined as learners and caught up."""
    for number, name in enumerate(names, first_id):
        seen = s.with_pods(seen, s.pod_of(name))
        seen = s.with_nodes(seen, {name: s.node_of(name, member_id=number)})
        seen = s.with_volume(s.with_members(seen, s.member_of(number, name, "learner")), name)
    return seen


def grown(voters: int, pods: int, **changes: object) -> Observed:
    """Settled, with pods beyond that wait."""
    seen = s.with_set(s.settled(voters), "voters", replicas=pods)
    for name in s.pod_names("voters", pods)[voters:]:
        seen = s.with_pods(seen, s.pod_of(name, ready=False))
        seen = s.with_volume(s.with_nodes(seen, {name: s.empty_node(name)}), name)
    return seen


def learning(voters: int, pods: int) -> Observed:
    """Settled, with learners beyond that have caught up."""
    return joined(grown(voters, pods), *s.pod_names("voters", pods)[voters:], first_id=voters + 1)


def guarded(seen: Observed, budget: int) -> Observed:
    """With the labels and the budget that the promotion of all learning voters needs."""
    pods = {name: replace(pod, voter_label=pod.kind == "voters") for name, pod in seen.pods.items()}
    members = seen.membership.members if seen.membership is not None else ()
    ids = ", ".join(str(one.id) for one in members if one.role == "learner" and s.place(one.name)[0] == "voters")
    return replace(seen, pods=pods, budget=budget, budget_ready_for=f"10 promote {ids}")


def test_what_is_as_asked_for_is_left_alone() -> None:
    for replicas in (1, 2, 3, 5):
        assert s.is_done(s.step(s.spec(replicas), s.settled(replicas)))
    assert s.is_done(s.step(s.spec(3, non_voting=2), s.settled(3, 2)))


# Up


@pytest.mark.parametrize(("now", "wanted"), [(1, 3), (3, 5), (1, 5), (3, 4)])
def test_up_the_set_grows(now: int, wanted: int) -> None:
    found = s.step(s.spec(wanted), s.settled(now))
    assert s.same(found, GrowSet(kind="voters", uid="uid-voters", resource_version="7", replicas=wanted, why=""))


def test_up_who_waits_is_added_and_who_does_not_holds_it_up_not() -> None:
    both = (Joiner(pod="db-3", store_id="db-3/1"), Joiner(pod="db-4", store_id="db-4/1"))
    assert s.same(s.step(s.spec(5), grown(3, 5)), AddMembers(joiners=both, if_version=10, why=""))
    found = s.step(s.spec(5), s.broken(grown(3, 5), "db-3"))
    assert s.same(found, AddMembers(joiners=both[1:], if_version=10, why=""))


@pytest.mark.parametrize(
    "seen",
    [
        pytest.param(s.with_node(grown(3, 4), "db-3", state="serving"), id="it serves somebody"),
        pytest.param(
            s.with_node(grown(3, 4), "db-3", cluster_id="some-other-cluster"), id="it belongs to another cluster"
        ),
        pytest.param(s.with_node(grown(3, 4), "db-3", store_id=s.store("db-1")), id="its store is a member already"),
        pytest.param(s.with_pod(grown(3, 4), "db-3", terminating=True), id="its pod is going"),
        pytest.param(s.with_pod(grown(3, 4), "db-3", uid="another"), id="an older pod answered"),
        pytest.param(s.with_volume(grown(3, 4), "db-3", terminating=True), id="its claim is going"),
        pytest.param(s.without_leader(grown(3, 4)), id="no leader"),
        pytest.param(s.with_members(grown(3, 4), joint=True), id="a joint change"),
    ],
)
def test_up_what_is_not_added(seen: Observed) -> None:
    assert not isinstance(s.step(s.spec(4), seen), AddMembers)


def test_up_a_broken_pod_leaves_the_voters_as_they_are_and_is_named() -> None:
    seen = s.broken(grown(3, 4), "db-3", "Unschedulable: no node fits")
    found = s.step(s.spec(4), seen)
    assert s.waits_for(found) == reasons.SCALING_UP
    assert "Unschedulable: no node fits" in str(found)


def test_up_budget_then_labels_then_votes_all_at_once() -> None:
    seen = learning(3, 5)
    assert s.same(s.step(s.spec(5), seen), ApplyBudget(min_available=4, ready_for="10 promote 4, 5", why=""))
    seen = replace(seen, budget=4, budget_ready_for="10 promote 4, 5")
    labels = tuple(PodLabels(pod=pod, uid=f"uid-{pod}", voter=True, leader=False) for pod in ("db-3", "db-4"))
    assert s.same(s.step(s.spec(5), seen), LabelPods(pods=labels, why=""))
    found = s.step(s.spec(5), guarded(seen, 4))
    assert s.same(found, PromoteMembers(ids=(4, 5), if_version=10, why=""))


def test_up_one_to_five_is_one_change() -> None:
    raised = ApplyBudget(min_available=5, ready_for="10 promote 2, 3, 4, 5", why="")
    assert s.same(s.step(s.spec(5), learning(1, 5)), raised)
    found = s.step(s.spec(5), guarded(learning(1, 5), 5))
    assert s.same(found, PromoteMembers(ids=(2, 3, 4, 5), if_version=10, why=""))


@pytest.mark.parametrize(
    "seen",
    [
        pytest.param(s.with_member(learning(3, 5), 5, lag_commands=9999, lag_seconds=9.0), id="one lags"),
        pytest.param(s.with_member(learning(3, 5), 5, lag_commands=None, lag_seconds=None), id="nobody knows its lag"),
        pytest.param(s.silent(learning(3, 5), "db-4"), id="one is silent"),
        pytest.param(s.with_node(learning(3, 5), "db-4", state="starting"), id="one starts"),
        pytest.param(s.without_members(learning(3, 5), 5), id="one is no member yet"),
        pytest.param(s.with_volume(learning(3, 5), "db-4", terminating=True), id="a claim is going"),
        pytest.param(s.silent(learning(3, 5), "db-1", "db-2"), id="the voters of now have no live quorum"),
        pytest.param(s.with_members(learning(3, 5), joint=True), id="a joint change"),
    ],
)
def test_up_no_vote_is_given_for_only_some_nor_without_a_live_quorum(seen: Observed) -> None:
    assert not isinstance(s.step(s.spec(5), guarded(seen, 4)), PromoteMembers)


def test_up_votes_are_given_with_one_old_voter_away() -> None:
    assert isinstance(s.step(s.spec(5), guarded(s.silent(learning(3, 5), "db-2"), 4)), PromoteMembers)


def test_up_a_non_voting_member_is_never_promoted() -> None:
    seen = s.settled(3, 2)
    assert s.is_done(s.step(s.spec(3, non_voting=2), seen))


# Down


def test_down_the_leader_hands_over_first_to_who_stays() -> None:
    seen = s.led_by(s.settled(5), 5)
    assert s.same(s.step(s.spec(3), seen), TransferLeadership(to=1, why=""))
    seen = s.with_member(seen, 1, lag_commands=5000, lag_seconds=8.0)
    assert s.same(s.step(s.spec(3), seen), TransferLeadership(to=2, why=""))


def test_down_the_leader_hands_over_to_nobody_who_is_silent() -> None:
    seen = s.silent(s.led_by(s.settled(5), 5), "db-0")
    assert s.same(s.step(s.spec(3), seen), TransferLeadership(to=2, why=""))


def test_down_the_budget_covers_both_sides_and_then_all_leave_in_one_change() -> None:
    raised = ApplyBudget(min_available=4, ready_for="10 remove 4, 5", why="")
    assert s.same(s.step(s.spec(3), s.settled(5)), raised)
    assert s.same(s.step(s.spec(3), replace(s.settled(5), budget=4)), raised)
    found = s.step(s.spec(3), replace(s.settled(5), budget=4, budget_ready_for="10 remove 4, 5"))
    assert s.same(found, RemoveMembers(ids=(4, 5), if_version=10, why=""))
    found = s.step(s.spec(1), replace(s.settled(5), budget=5, budget_ready_for="10 remove 2, 3, 4, 5"))
    assert s.same(found, RemoveMembers(ids=(2, 3, 4, 5), if_version=10, why=""))


@pytest.mark.parametrize(
    ("wanted", "seen"),
    [
        pytest.param(5, replace(s.settled(5), budget=4, budget_ready_for="10 remove 4, 5"), id="none is to go now"),
        pytest.param(1, replace(s.settled(5), budget=4, budget_ready_for="10 remove 4, 5"), id="more are to go now"),
        pytest.param(1, guarded(learning(1, 3), 3), id="the learners are to go now"),
        pytest.param(3, s.silent(guarded(learning(1, 3), 3), "db-2"), id="one has to be waited for"),
    ],
)
def test_a_change_that_the_budget_was_raised_for_ends_with_its_version_before_anything_is_taken_back(
    wanted: int, seen: Observed
) -> None:
    """Somebody who is late could still make it."""
    assert s.same(s.step(s.spec(wanted), seen), RenewMembership(if_version=10, why=""))
    assert seen.membership is not None
    renewed = replace(seen, membership=replace(seen.membership, version=11))
    assert isinstance(s.step(s.spec(wanted), renewed), (ApplyBudget, LabelPods))


def test_down_labels_go_then_the_budget_falls_then_the_set_shrinks() -> None:
    seen = replace(s.without_members(s.settled(5), 4, 5), budget=4)
    labels = tuple(PodLabels(pod=pod, uid=f"uid-{pod}", voter=False, leader=False) for pod in ("db-3", "db-4"))
    assert s.same(s.step(s.spec(3), seen), LabelPods(pods=labels, why=""))
    seen = s.with_pod(s.with_pod(seen, "db-3", voter_label=False), "db-4", voter_label=False)
    assert s.same(s.step(s.spec(3), seen), ApplyBudget(min_available=2, why=""))
    found = s.step(s.spec(3), replace(seen, budget=2))
    assert s.same(found, ShrinkSet(kind="voters", uid="uid-voters", resource_version="7", replicas=3, why=""))


@pytest.mark.parametrize(
    "seen",
    [
        pytest.param(s.settled(5), id="they are members"),
        pytest.param(s.with_members(s.without_members(s.settled(5), 4, 5), joint=True), id="a joint change"),
        pytest.param(s.without_leader(s.settled(5)), id="nobody knows the membership"),
    ],
)
def test_down_the_set_does_not_shrink_while(seen: Observed) -> None:
    assert not isinstance(s.step(s.spec(3), replace(seen, budget=4)), ShrinkSet)


def test_down_the_set_shrinks_no_further_than_the_highest_member() -> None:
    seen = s.without_members(s.settled(5), 2, 5)
    seen = s.silent(replace(seen, budget=3), "db-0")  # db-0 leads and db-3 cannot be removed
    for name in ("db-1", "db-4"):
        seen = s.with_pod(seen, name, voter_label=False)
    found = s.step(s.spec(1), seen)
    assert s.same(found, ApplyBudget(min_available=2, why=""))
    found = s.step(s.spec(1), replace(seen, budget=2))
    assert s.same(found, ShrinkSet(kind="voters", uid="uid-voters", resource_version="7", replicas=4, why=""))


@pytest.mark.parametrize(
    ("wanted", "down", "blocked"),
    [
        (2, ("db-0",), True),
        (1, ("db-0",), True),
        (1, ("db-1",), False),
        (2, ("db-2",), False),
        (2, ("db-1", "db-2"), True),
        (1, ("db-1", "db-2"), True),
    ],
)
def test_down_is_blocked_where_no_quorum_of_live_voters_would_be_left(
    wanted: int, down: tuple[str, ...], blocked: bool
) -> None:
    seen = replace(s.silent(s.led_by(s.settled(3), 2 if "db-0" in down else 1), *down), budget=3)
    seen = replace(seen, budget_ready_for="10 remove 3" if wanted == 2 else "10 remove 2, 3")
    found = s.step(s.spec(wanted), seen)
    assert isinstance(found, (RemoveMembers, TransferLeadership)) is not blocked
    assert (reasons.SCALE_DOWN_BLOCKED in s.reasons_of(s.spec(wanted), seen)) is blocked


def test_down_blocked_says_why_and_what_to_do() -> None:
    seen = s.broken(s.led_by(s.settled(3), 2), "db-0", "Unschedulable: no node fits")
    found = s.concern_of(s.spec(2), seen, reasons.SCALE_DOWN_BLOCKED)
    assert found.condition == "ScaleDownBlocked"
    assert "Unschedulable: no node fits" in found.message
    assert "replicas" in found.message
    assert s.waits_for(s.step(s.spec(2), seen)) == reasons.SCALE_DOWN_BLOCKED


def test_down_blocked_holds_up_no_learner_that_leaves() -> None:
    seen = s.silent(s.led_by(learning(3, 5), 2), "db-0")
    found = s.step(s.spec(2), replace(seen, budget=2))
    assert s.same(found, RemoveMembers(ids=(4, 5), if_version=10, why=""))


def test_down_waits_until_who_stays_has_caught_up() -> None:
    seen = s.with_member(s.with_member(s.settled(5), 2, lag_commands=5000, lag_seconds=9.0), 3, lag_commands=5000)
    seen = s.with_member(seen, 3, lag_seconds=9.0)
    assert s.waits_for(s.step(s.spec(3), seen)) == reasons.CATCHING_UP


# Changed mid-way


def test_mid_way_learners_that_are_not_asked_for_any_more_leave_and_their_pods_with_them() -> None:
    assert s.same(s.step(s.spec(3), learning(3, 5)), RemoveMembers(ids=(4, 5), if_version=10, why=""))
    found = s.step(s.spec(3), s.without_members(learning(3, 5), 4, 5))
    assert s.same(found, ShrinkSet(kind="voters", uid="uid-voters", resource_version="7", replicas=3, why=""))


def test_mid_way_pods_that_never_joined_go() -> None:
    found = s.step(s.spec(3), grown(3, 5))
    assert s.same(found, ShrinkSet(kind="voters", uid="uid-voters", resource_version="7", replicas=3, why=""))


def test_mid_way_more_is_asked_for_and_votes_wait_for_all() -> None:
    labels = tuple(PodLabels(pod=pod, uid=f"uid-{pod}", voter=False, leader=False) for pod in ("db-1", "db-2"))
    seen = replace(guarded(learning(1, 3), 3), budget_ready_for="")
    assert s.same(s.step(s.spec(5), seen), LabelPods(pods=labels, why=""))
    seen = learning(1, 3)
    found = s.step(s.spec(5), seen)
    assert s.same(found, GrowSet(kind="voters", uid="uid-voters", resource_version="7", replicas=5, why=""))
    assert s.waits_for(s.step(s.spec(5), s.with_set(seen, "voters", replicas=5))) == reasons.SCALING_UP


def test_mid_way_what_was_removed_and_is_wanted_again_is_added_anew() -> None:
    """Its node says `removed`, or, if it did not hear of it, has the store of nobody: never its old self."""
    seen = s.without_members(s.settled(3), 3)
    found = s.step(s.spec(3), replace(seen, budget=2))
    assert not isinstance(found, (AddMembers, PromoteMembers))


# Volumes of pods that are gone


def shrunk(**changes: object) -> Observed:
    return s.with_volume(s.with_volume(s.settled(3), "db-3"), "db-nonvoting-0")


def test_volumes_stay_or_go_as_asked() -> None:
    assert s.is_done(s.step(s.spec(3), shrunk()))
    found = s.step(s.spec(3, on_scale_down="Delete"), shrunk())
    assert s.same(found, DeleteVolume(claim="data-db-3", uid="uid-data-db-3", why=""))
    found = s.step(s.spec(3, on_scale_down="Delete"), s.with_volume(shrunk(), "db-3", terminating=True))
    assert s.same(found, DeleteVolume(claim="data-db-nonvoting-0", uid="uid-data-db-nonvoting-0", why=""))


@pytest.mark.parametrize(
    "seen",
    [
        pytest.param(
            s.with_pods(s.with_volume(s.settled(3), "db-3"), s.pod_of("db-3", terminating=True)), id="its pod"
        ),
        pytest.param(s.with_set(s.with_volume(s.settled(3), "db-3"), "voters", replicas=4), id="its set asks for it"),
        pytest.param(s.with_members(s.with_volume(s.settled(3), "db-3"), s.member_of(9, "db-3")), id="a member"),
        pytest.param(s.without_leader(s.with_volume(s.settled(3), "db-3")), id="nobody knows the membership"),
        pytest.param(s.with_members(s.with_volume(s.settled(3), "db-3"), joint=True), id="a joint change"),
    ],
)
def test_a_volume_is_not_deleted_while_it_may_be_needed(seen: Observed) -> None:
    assert not isinstance(s.step(s.spec(3, on_scale_down="Delete"), seen), DeleteVolume)
    assert not isinstance(s.step(s.spec(4, on_scale_down="Delete"), seen), DeleteVolume)


@pytest.mark.parametrize(
    ("wanted", "seen"),
    [
        pytest.param(3, s.with_members(s.with_volume(s.settled(3), "db-3"), s.member_of(9, "db-3")), id="a member"),
        pytest.param(
            3, s.with_set(s.with_volume(s.settled(3), "db-3"), "voters", replicas=4), id="its set asks for it"
        ),
        pytest.param(4, s.with_volume(s.settled(3), "db-3"), id="the spec asks for it"),
    ],
)
def test_the_rule_of_volumes_itself_spares_what_the_rules_before_it_would_have_seen_to(
    wanted: int, seen: Observed
) -> None:
    spec = s.spec(wanted, on_scale_down="Delete")
    assert volumes.delete(Facts(spec, seen)) is None
    assert volumes.delete(Facts(s.spec(3, on_scale_down="Delete"), s.with_volume(s.settled(3), "db-3"))) is not None


@pytest.mark.parametrize("retention", ["Retain", "Delete"])
def test_down_is_over_when_the_pods_are_gone(retention: str) -> None:
    spec, seen = s.spec(1, on_scale_down=retention), s.settled(1)
    going = s.with_pods(seen, s.pod_of("db-1", terminating=True), s.pod_of("db-2"))
    found = s.step(spec, going)
    assert s.waits_for(found) == reasons.SCALING_DOWN
    assert "db-1, db-2" in str(found)
    assert isinstance(s.step(s.spec(3, on_scale_down=retention), going), GrowSet)
    outdated = s.with_set(going, "voters", update_revision=s.NEW)
    assert s.same(s.step(spec, outdated), RestartPod(pod="db-0", uid="uid-db-0", evict=False, why=""))
    assert s.is_done(s.step(spec, s.without_pods(going, "db-1", "db-2")))


# Non-voting


def test_non_voting_pods_come_and_go_likewise() -> None:
    seen = s.settled(3)
    found = s.step(s.spec(3, non_voting=1), seen)
    assert s.same(found, GrowSet(kind="non-voting", uid="uid-non-voting", resource_version="7", replicas=1, why=""))
    name = "db-nonvoting-0"
    seen = s.with_set(s.with_pods(seen, s.pod_of(name, ready=False)), "non-voting", replicas=1)
    seen = s.with_nodes(seen, {name: s.empty_node(name)})
    joiner = Joiner(pod=name, store_id=s.store(name))
    assert s.same(s.step(s.spec(3, non_voting=1), seen), AddMembers(joiners=(joiner,), if_version=10, why=""))
    assert s.same(s.step(s.spec(3), s.settled(3, 2)), RemoveMembers(ids=(4, 5), if_version=10, why=""))
    found = s.step(s.spec(3), s.without_members(s.settled(3, 2), 4, 5))
    assert s.same(found, ShrinkSet(kind="non-voting", uid="uid-non-voting", resource_version="7", replicas=0, why=""))


def test_a_broken_non_voting_pod_holds_up_no_vote_and_the_other_way_round() -> None:
    seen = joined(
        s.with_set(s.broken(s.settled(3, 1), "db-nonvoting-0"), "voters", replicas=5), "db-3", "db-4", first_id=5
    )
    found = s.step(s.spec(5, non_voting=1), guarded(seen, 4))
    assert s.same(found, PromoteMembers(ids=(5, 6), if_version=10, why=""))
    seen = s.with_set(s.broken(grown(3, 4), "db-3"), "non-voting", replicas=1)
    seen = s.with_nodes(
        s.with_pods(seen, s.pod_of("db-nonvoting-0")), {"db-nonvoting-0": s.empty_node("db-nonvoting-0")}
    )
    assert isinstance(s.step(s.spec(4, non_voting=1), seen), AddMembers)


# Members that are none of our pods


def test_members_of_somebody_else_count_and_are_left_alone() -> None:
    other = s.member_of(9, "elsewhere")
    seen = replace(s.with_members(s.settled(3), other), budget=2)
    assert s.is_done(s.step(s.spec(3), seen))
    assert reasons.FOREIGN_MEMBERS in s.reasons_of(s.spec(3), seen)
    away = s.with_member(seen, 9, last_contact_s=60.0)  # of four voters one is away: no other one may be
    assert s.same(s.step(s.spec(3), away), ApplyBudget(min_available=3, why=""))


def test_an_even_number_is_done_and_remarked_upon() -> None:
    assert reasons.EVEN_VOTERS in s.reasons_of(s.spec(2), s.settled(2))
    assert not s.reasons_of(s.spec(3), s.settled(3))
