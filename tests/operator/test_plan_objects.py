"""Rows "paused", "deleted", "scaled to 0 and back", "storage size up"; drift, missing sets, labels and the budget."""

from dataclasses import replace
from typing import Any

import pytest

from raftwright_operator.actions import (
    ApplyBudget,
    ApplyObjects,
    CreateSet,
    DeleteSet,
    DeleteVolume,
    ExpandVolume,
    GrowSet,
    LabelPods,
    OrphanSet,
    PodLabels,
    RecordHibernation,
    RecordIntent,
    ReleaseFinalizer,
    RemoveMembers,
    RestartPod,
    ShrinkSet,
)
from raftwright_operator.observed import Hibernation, Observed
from raftwright_operator.plan import reasons
from raftwright_operator.spec import Spec
from tests.operator import support as s


def gone(seen: Observed) -> Observed:
    return replace(seen, pods={}, nodes={}, membership=None)


# Drift and sets


def test_what_drifted_is_applied() -> None:
    seen = replace(s.settled(3), drifted=("ConfigMap/db", "StatefulSet/db"))
    assert s.same(s.step(s.spec(), seen), ApplyObjects(objects=("ConfigMap/db", "StatefulSet/db"), why=""))


def test_a_missing_set_is_not_applied_but_created_with_a_pod_for_everyone() -> None:
    seen = replace(s.settled(5), drifted=("StatefulSet/db",))
    seen = replace(seen, sets={"non-voting": s.set_of("non-voting", 0)})
    assert s.same(s.step(s.spec(3), seen), CreateSet(kind="voters", replicas=5, why=""))
    assert s.same(s.step(s.spec(3), s.without_leader(seen)), CreateSet(kind="voters", replicas=5, why=""))
    away = s.without_pods(seen, "db-3", "db-4")
    assert s.same(s.step(s.spec(3), away), CreateSet(kind="voters", replicas=5, why=""))
    assert s.same(s.step(s.spec(3), gone(seen)), CreateSet(kind="voters", replicas=5, why=""))
    seen = s.without_members(seen, 4, 5)
    assert s.same(s.step(s.spec(3), seen), CreateSet(kind="voters", replicas=5, why=""))
    seen = s.without_pods(seen, "db-3", "db-4")
    assert s.same(s.step(s.spec(3), seen), CreateSet(kind="voters", replicas=3, why=""))


def test_a_missing_set_without_a_leader_gets_pods_for_members_and_not_yet_for_what_is_asked_for() -> None:
    seen = replace(s.without_leader(s.settled(3)), sets={"non-voting": s.set_of("non-voting", 0)})
    assert s.same(s.step(s.spec(5), seen), CreateSet(kind="voters", replicas=3, why=""))


def test_a_set_that_is_going_is_awaited() -> None:
    seen = replace(s.with_set(s.settled(3), "voters", terminating=True), drifted=("StatefulSet/db",))
    assert s.waits_for(s.step(s.spec(), seen)) == reasons.CREATING


# Labels and the budget


@pytest.mark.parametrize(("voters", "budget"), [(1, 1), (2, 2), (3, 2), (4, 3), (5, 3)])
def test_the_budget_keeps_a_quorum(voters: int, budget: int) -> None:
    assert s.same(
        s.step(s.spec(voters), replace(s.settled(voters), budget=None)), ApplyBudget(min_available=budget, why="")
    )


def test_the_budget_counts_voters_whose_pods_are_away() -> None:
    assert s.waits_for(s.step(s.spec(), s.without_pods(s.settled(3), "db-2"))) == reasons.POD_NOT_BACK
    seen = replace(s.without_pods(s.settled(3), "db-2"), budget=1)
    assert s.same(s.step(s.spec(), seen), ApplyBudget(min_available=2, why=""))


def test_without_a_leader_a_missing_budget_lets_nobody_go() -> None:
    seen = replace(s.without_leader(s.settled(3)), budget=None)
    assert s.same(s.step(s.spec(), seen), ApplyBudget(min_available=3, why=""))
    assert s.waits_for(s.step(s.spec(), replace(seen, budget=0))) == reasons.NO_LEADER
    for replicas, least in ((1, 3), (5, 5)):  # as many as there are members, or are to be
        assert s.same(s.step(s.spec(replicas), seen), ApplyBudget(min_available=least, why=""))


@pytest.mark.parametrize(
    "out_of_hand",
    [
        pytest.param({"foreign": ("PodDisruptionBudget/db",)}, id="somebody else's"),
        pytest.param({"resisting": {"PodDisruptionBudget/db": "spec"}}, id="changed back each time"),
    ],
)
def test_members_go_on_without_a_budget_that_is_out_of_hand(out_of_hand: dict[str, Any]) -> None:
    seen = replace(s.settled(5), budget=None, **out_of_hand)
    assert isinstance(s.step(s.spec(3), seen), RemoveMembers)
    assert s.waits_for(s.step(s.spec(3), s.without_leader(seen))) == reasons.NO_LEADER
    assert not isinstance(s.step(s.spec(5), replace(seen, budget=1)), ApplyBudget)


def test_labels_follow_the_leader_and_the_voters() -> None:
    seen = replace(s.led_by(s.settled(3, 1), 2), pods=s.settled(3, 1).pods)
    labels = (
        PodLabels(pod="db-0", uid="uid-db-0", voter=True, leader=False),
        PodLabels(pod="db-1", uid="uid-db-1", voter=True, leader=True),
    )
    assert s.same(s.step(s.spec(3, non_voting=1), seen), LabelPods(pods=labels, why=""))
    seen = s.with_pod(s.settled(3, 1), "db-nonvoting-0", voter_label=True)
    assert s.same(s.step(s.spec(3, non_voting=1), seen), ApplyBudget(min_available=3, why=""))
    label = PodLabels(pod="db-nonvoting-0", uid="uid-db-nonvoting-0", voter=False, leader=False)
    assert s.same(s.step(s.spec(3, non_voting=1), replace(seen, budget=3)), LabelPods(pods=(label,), why=""))


def test_a_pod_that_is_going_is_not_labelled() -> None:
    seen = s.with_pod(s.settled(3), "db-2", terminating=True, voter_label=False)
    assert s.waits_for(s.step(s.spec(), seen)) == reasons.POD_NOT_BACK


# Pause


def test_nothing_is_touched_while_paused() -> None:
    seen = replace(s.settled(3), drifted=("ConfigMap/db",), sets={})
    assert s.waits_for(s.step(s.spec(5, paused=True), seen)) == reasons.PAUSED
    assert s.waits_for(s.step(s.spec(0, paused=True), s.settled(3))) == reasons.PAUSED


def test_a_pause_holds_up_no_deletion() -> None:
    assert isinstance(s.step(s.spec(3, paused=True), replace(s.settled(3), deleting=True)), ReleaseFinalizer)


# Deletion


@pytest.mark.parametrize(
    "seen",
    [
        pytest.param(s.settled(3), id="settled"),
        pytest.param(s.without_leader(s.settled(3)), id="no leader"),
        pytest.param(s.new(), id="never founded"),
        pytest.param(s.with_set(gone(s.settled(3)), "voters", replicas=0), id="hibernating"),
        pytest.param(s.new(sets={}, pods={}, nodes={}, volumes={}), id="nothing made yet"),
    ],
)
def test_deletion_that_keeps_data_lets_go_at_once(seen: Observed) -> None:
    assert isinstance(s.step(s.spec(3), replace(seen, deleting=True)), ReleaseFinalizer)
    assert not s.reasons_of(s.spec(2), replace(seen, deleting=True))


def test_deletion_with_data_takes_sets_then_pods_then_volumes_then_lets_go() -> None:
    spec = s.spec(1, on_deletion="Delete")
    seen = replace(s.with_volume(s.settled(1), "db-4"), deleting=True)
    assert s.same(s.step(spec, seen), DeleteSet(kind="voters", uid="uid-voters", why=""))
    seen = s.with_set(seen, "voters", terminating=True)
    assert s.same(s.step(spec, seen), DeleteSet(kind="non-voting", uid="uid-non-voting", why=""))
    seen = s.with_set(seen, "non-voting", terminating=True)
    assert s.waits_for(s.step(spec, seen)) == reasons.DELETING
    seen = replace(s.with_pod(seen, "db-0", terminating=True), sets={})
    assert s.waits_for(s.step(spec, seen)) == reasons.DELETING
    going = s.set_of("voters", 1, terminating=True)
    assert s.waits_for(s.step(spec, replace(gone(seen), sets={"voters": going}))) == reasons.DELETING
    seen = gone(seen)
    assert s.same(s.step(spec, seen), DeleteVolume(claim="data-db-0", uid="uid-data-db-0", why=""))
    seen = s.with_volume(seen, "db-0", terminating=True)
    assert s.same(s.step(spec, seen), DeleteVolume(claim="data-db-4", uid="uid-data-db-4", why=""))
    assert isinstance(s.step(spec, replace(seen, volumes={})), ReleaseFinalizer)


@pytest.mark.parametrize("retention", ["Retain", "Delete"])
def test_deletion_takes_pods_along_that_have_no_set_at_the_moment(retention: str) -> None:
    seen = replace(s.settled(1), deleting=True, sets={"non-voting": s.set_of("non-voting", 0, terminating=True)})
    found = s.step(s.spec(1, on_deletion=retention), seen)
    assert s.same(found, RestartPod(pod="db-0", uid="uid-db-0", evict=False, why=""))


# Hibernation


def test_hibernation_is_noted_then_pods_stop_and_volumes_stay() -> None:
    spec, seen = s.spec(0, non_voting=1, on_scale_down="Delete"), s.settled(3, 1)
    record = Hibernation(voters=3, non_voting=1)
    assert s.same(s.step(spec, seen), RecordHibernation(hibernation=record, resource_version="41", why=""))
    seen = replace(seen, hibernation=record)
    found = s.step(spec, seen)
    assert s.same(found, ShrinkSet(kind="non-voting", uid="uid-non-voting", resource_version="7", replicas=0, why=""))
    seen = s.with_set(seen, "non-voting", replicas=0)
    found = s.step(spec, seen)
    assert s.same(found, ShrinkSet(kind="voters", uid="uid-voters", resource_version="7", replicas=0, why=""))
    seen = s.with_set(seen, "voters", replicas=0)
    assert s.waits_for(s.step(spec, seen)) == reasons.HIBERNATING
    assert s.is_done(s.step(spec, gone(seen)))
    assert not s.reasons_of(spec, gone(seen))


def test_what_is_noted_has_every_member_also_where_a_set_was_shrunk_by_hand() -> None:
    seen = s.with_set(s.without_leader(s.without_pods(s.settled(3), "db-1", "db-2")), "voters", replicas=1)
    found = s.step(s.spec(0), seen)
    assert s.same(
        found, RecordHibernation(hibernation=Hibernation(voters=3, non_voting=0), resource_version="41", why="")
    )


@pytest.mark.parametrize("wanted", [1, 3, 5])
def test_coming_back_the_same_members_start_first(wanted: int) -> None:
    record = Hibernation(voters=3, non_voting=1)
    seen = s.with_set(gone(replace(s.settled(3, 1), hibernation=record)), "voters", replicas=0)
    seen = s.with_set(seen, "non-voting", replicas=0)
    found = s.step(s.spec(wanted), seen)
    assert s.same(found, GrowSet(kind="voters", uid="uid-voters", resource_version="7", replicas=3, why=""))
    found = s.step(s.spec(wanted), s.with_set(seen, "voters", replicas=3))
    assert s.same(found, GrowSet(kind="non-voting", uid="uid-non-voting", resource_version="7", replicas=1, why=""))
    seen = replace(s.without_leader(s.settled(3, 1)), hibernation=record)
    assert s.waits_for(s.step(s.spec(wanted), seen)) == reasons.NO_LEADER
    seen = replace(s.settled(3, 1), hibernation=record)
    found = s.step(s.spec(wanted), seen)
    assert s.same(found, RecordHibernation(hibernation=None, resource_version="41", why=""))


def test_a_set_that_is_missing_in_hibernation_stays_at_nothing_and_comes_back_whole() -> None:
    record = Hibernation(voters=3, non_voting=0)
    seen = replace(gone(s.settled(3)), hibernation=record, sets={"non-voting": s.set_of("non-voting", 0)})
    assert s.same(s.step(s.spec(0), seen), CreateSet(kind="voters", replicas=0, why=""))
    assert s.same(s.step(s.spec(5), seen), CreateSet(kind="voters", replicas=3, why=""))


def test_a_cluster_that_was_not_founded_yet_hibernates_likewise() -> None:
    record = Hibernation(voters=3, non_voting=0)
    found = s.step(s.spec(0), s.new())
    assert s.same(found, RecordHibernation(hibernation=record, resource_version="41", why=""))
    found = s.step(s.spec(0), s.new(hibernation=record))
    assert s.same(found, ShrinkSet(kind="voters", uid="uid-voters", resource_version="7", replicas=0, why=""))
    assert isinstance(s.step(s.spec(3), s.new(hibernation=record)), RecordIntent)


def test_a_cluster_that_never_had_a_pod_has_nothing_to_note() -> None:
    nothing = s.new(sets={}, pods={}, nodes={}, volumes={}, budget=None)
    assert s.same(s.step(s.spec(0), nothing), CreateSet(kind="voters", replicas=0, why=""))
    sets = s.settled(0).sets
    assert s.is_done(s.step(s.spec(0), replace(nothing, sets=sets)))
    found = s.step(s.spec(3), replace(nothing, sets=sets))
    assert s.same(found, GrowSet(kind="voters", uid="uid-voters", resource_version="7", replicas=3, why=""))


# Larger volumes


def test_claims_grow_then_the_set_is_made_anew_around_its_pods() -> None:
    spec, seen = s.spec(1, size_bytes=2 * s.SIZE), s.with_volume(s.settled(1), "db-7")
    assert s.same(
        s.step(spec, seen), ExpandVolume(claim="data-db-0", uid="uid-data-db-0", size_bytes=2 * s.SIZE, why="")
    )
    seen = s.with_volume(seen, "db-0", requested_bytes=2 * s.SIZE)
    assert s.same(s.step(spec, seen), OrphanSet(kind="voters", uid="uid-voters", why=""))
    seen = s.with_set(seen, "voters", volume_bytes=2 * s.SIZE)
    assert s.same(s.step(spec, seen), OrphanSet(kind="non-voting", uid="uid-non-voting", why=""))
    seen = s.with_set(seen, "non-voting", volume_bytes=2 * s.SIZE)
    assert s.waits_for(s.step(spec, seen)) == reasons.VOLUMES_GROWING
    assert s.is_done(s.step(spec, s.with_volume(seen, "db-0", capacity_bytes=2 * s.SIZE)))


@pytest.mark.parametrize(
    "seen",
    [
        pytest.param(s.without_pods(s.settled(3), "db-2"), id="a pod is missing"),
        pytest.param(s.with_pod(s.settled(3), "db-2", terminating=True), id="a pod is going"),
    ],
)
def test_a_set_is_not_orphaned_while(seen: Observed) -> None:
    for name in ("db-0", "db-1", "db-2"):
        seen = s.with_volume(seen, name, requested_bytes=2 * s.SIZE)
    seen = s.with_set(seen, "non-voting", volume_bytes=2 * s.SIZE)
    assert not isinstance(s.step(s.spec(3, size_bytes=2 * s.SIZE), seen), OrphanSet)


REFUSED = {"data-db-0": "the storageclass must support resize"}


def test_a_claim_that_may_not_grow_is_named_and_left_alone_for_a_while() -> None:
    spec, seen = s.spec(3, size_bytes=2 * s.SIZE), replace(s.settled(3), refused_volumes=REFUSED)
    assert s.same(
        s.step(spec, seen), ExpandVolume(claim="data-db-1", uid="uid-data-db-1", size_bytes=2 * s.SIZE, why="")
    )
    seen = replace(seen, refused_volumes={f"data-db-{ordinal}": "no" for ordinal in range(3)})
    assert s.waits_for(s.step(spec, seen)) == reasons.VOLUME_NOT_ENLARGED
    found = s.concern_of(spec, seen, reasons.VOLUME_NOT_ENLARGED)
    assert found.condition == "Degraded"
    assert "data-db-0, data-db-1, data-db-2" in found.message
    assert "allowVolumeExpansion" in found.message


def test_a_claim_that_may_not_grow_holds_up_nothing_else() -> None:
    spec, seen = s.spec(1, size_bytes=2 * s.SIZE), replace(s.settled(1), refused_volumes=REFUSED)
    outdated = s.with_set(seen, "voters", update_revision=s.NEW)
    assert isinstance(s.step(spec, outdated), RestartPod)
    assert isinstance(s.step(replace(spec, replicas=3), seen), GrowSet)
    asleep = gone(replace(s.with_set(seen, "voters", replicas=0), hibernation=Hibernation(voters=1, non_voting=0)))
    assert s.waits_for(s.step(replace(spec, replicas=0), asleep)) == reasons.VOLUME_NOT_ENLARGED
    assert reasons.VOLUME_NOT_ENLARGED in s.reasons_of(replace(spec, replicas=0), asleep)


@pytest.mark.parametrize(
    ("spec", "seen"),
    [
        pytest.param(s.spec(1), s.settled(1), id="the larger size is not asked for any more"),
        pytest.param(
            s.spec(1, size_bytes=2 * s.SIZE),
            s.with_volume(s.settled(1), "db-0", requested_bytes=2 * s.SIZE),
            id="somebody enlarged it",
        ),
        pytest.param(s.spec(0, size_bytes=2 * s.SIZE), replace(gone(s.settled(1)), sets={}), id="it is in no set"),
    ],
)
def test_a_refusal_of_before_is_said_no_more_where(spec: Spec, seen: Observed) -> None:
    assert reasons.VOLUME_NOT_ENLARGED not in s.reasons_of(spec, replace(seen, refused_volumes=REFUSED))


def test_a_claim_that_is_not_bound_yet_cannot_grow() -> None:
    seen = s.with_set(s.with_volume(s.settled(1), "db-0", capacity_bytes=0), "voters", volume_bytes=2 * s.SIZE)
    seen = s.with_set(seen, "non-voting", volume_bytes=2 * s.SIZE)
    assert s.is_done(s.step(s.spec(1, size_bytes=2 * s.SIZE), seen))


def test_volumes_grow_while_the_cluster_sleeps() -> None:
    seen = gone(replace(s.settled(1), hibernation=Hibernation(voters=1, non_voting=0)))
    seen = s.with_set(seen, "voters", replicas=0)
    assert isinstance(s.step(s.spec(0, size_bytes=2 * s.SIZE), seen), ExpandVolume)
