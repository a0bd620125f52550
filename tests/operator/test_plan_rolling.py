"""Row "image, version or pod spec changes": pods are restarted one by one, the leader last, and stop at trouble."""

from dataclasses import replace

import pytest

from raftwright_operator.actions import RestartPod, TransferLeadership
from raftwright_operator.observed import Observed
from raftwright_operator.plan import reasons
from raftwright_operator.plan.facts import Facts
from tests.operator import support as s


def rolling(voters: int = 3, non_voting: int = 0, done: tuple[str, ...] = ()) -> Observed:
    """The template is newer than all pods but those that are `done`."""
    seen = s.settled(voters, non_voting)
    for kind in seen.sets:
        seen = s.with_set(seen, kind, update_revision=s.NEW)
    for name in done:
        seen = s.with_pod(seen, name, revision=s.NEW)
    return seen


def restart(name: str, *, evict: bool) -> RestartPod:
    return RestartPod(pod=name, uid=f"uid-{name}", evict=evict, why="")


def test_non_voting_first_then_followers_then_the_leader_after_a_transfer() -> None:
    spec = s.spec(3, non_voting=1)
    done: tuple[str, ...] = ()
    for name, evict in (("db-nonvoting-0", False), ("db-2", True), ("db-1", True)):
        assert s.same(s.step(spec, rolling(3, 1, done)), restart(name, evict=evict))
        done = (*done, name)
    assert s.same(s.step(spec, rolling(3, 1, done)), TransferLeadership(to=2, why=""))
    assert s.same(s.step(spec, s.led_by(rolling(3, 1, done), 2)), restart("db-0", evict=True))
    assert s.is_done(s.step(spec, s.led_by(rolling(3, 1, (*done, "db-0")), 2)))


def test_the_leader_is_last_also_where_its_ordinal_is_the_highest() -> None:
    assert s.same(s.step(s.spec(), s.led_by(rolling(3), 3)), restart("db-1", evict=True))


def test_of_two_that_do_not_serve_each_has_its_turn() -> None:
    seen = s.silent(rolling(5), "db-3", "db-4")
    assert s.same(s.step(s.spec(5), seen), restart("db-4", evict=False))
    seen = s.with_pod(seen, "db-4", revision=s.NEW)
    assert s.waits_for(s.step(s.spec(5), seen)) == reasons.ROLLING_OUT


def test_the_leader_hands_over_to_who_is_up_to_date() -> None:
    seen = rolling(3, 0, ("db-1", "db-2"))
    assert s.same(s.step(s.spec(), s.with_member(seen, 2, lag_commands=50)), TransferLeadership(to=3, why=""))


@pytest.mark.parametrize(
    "seen",
    [
        pytest.param(s.with_pod(rolling(3, 0, ("db-2",)), "db-2", ready=False), id="it is not ready"),
        pytest.param(s.with_pod(rolling(3, 0, ("db-2",)), "db-2", terminating=True), id="it is going"),
        pytest.param(s.without_pods(rolling(3, 0, ("db-2",)), "db-2"), id="it is away"),
        pytest.param(s.silent(rolling(3, 0, ("db-2",)), "db-2"), id="it is silent"),
        pytest.param(s.with_node(rolling(3, 0, ("db-2",)), "db-2", state="starting"), id="it starts"),
        pytest.param(s.with_node(rolling(3, 0, ("db-2",)), "db-2", diverged=True), id="its state is being replaced"),
        pytest.param(
            s.with_member(rolling(3, 0, ("db-2",)), 3, lag_commands=5000, lag_seconds=9.0), id="it has not caught up"
        ),
        pytest.param(s.with_member(rolling(3, 0, ("db-2",)), 3, last_contact_s=60.0), id="the leader misses it"),
        pytest.param(s.with_set(rolling(3), "voters", is_observed=False), id="the set is not observed yet"),
        pytest.param(s.without_leader(rolling(3)), id="no leader"),
        pytest.param(s.with_members(rolling(3), joint=True), id="a joint change"),
    ],
)
def test_the_next_one_waits_until_the_one_before_is_back(seen: Observed) -> None:
    assert not isinstance(s.step(s.spec(), seen), (RestartPod, TransferLeadership))


@pytest.mark.parametrize(
    ("seen", "told"),
    [
        (s.with_pod(rolling(3, 0, ("db-2",)), "db-2", ready=False), "db-2 serves, and Kubernetes does not call it"),
        (s.with_node(rolling(3, 0, ("db-2",)), "db-2", diverged=True), "db-2 replaces its state"),
        (s.with_member(rolling(3, 0, ("db-2",)), 3, lag_commands=5000, lag_seconds=9.0), "db-2 serves, and catches up"),
        (s.with_member(rolling(3, 0, ("db-2",)), 3, last_contact_s=60.0), "the leader does not hear from it"),
        (s.with_node(rolling(3, 0, ("db-2",)), "db-2", store_id="another"), "is no member by what the leader says"),
        (s.with_node(rolling(3, 0, ("db-2",)), "db-2", state="starting"), "db-2 is starting"),
    ],
)
def test_it_says_what_a_pod_that_runs_is_waited_for(seen: Observed, told: str) -> None:
    assert told in Facts(s.spec(), seen).why_not("db-2")


@pytest.mark.parametrize("name", ["db-2", "db-nonvoting-0"])
def test_it_stops_at_a_pod_that_does_not_come_back_and_names_it(name: str) -> None:
    spec = s.spec(3, non_voting=1)
    seen = s.broken(rolling(3, 1, ("db-nonvoting-0", "db-2")), name, "ImagePullBackOff: no such image")
    found = s.step(spec, seen)
    assert s.waits_for(found) == reasons.ROLLOUT_STUCK
    assert "ImagePullBackOff: no such image" in str(found)
    assert reasons.ROLLOUT_STUCK in s.reasons_of(spec, seen)


def test_a_bad_image_is_left_by_the_next_one() -> None:
    """The broken pod has the second template, the set a third one: it goes first, and needs nobody."""
    seen = s.broken(rolling(3), "db-2", revision="rev-bad")
    assert s.same(s.step(s.spec(), seen), restart("db-2", evict=False))
    for name in ("db-1", "db-2"):
        seen = s.broken(seen, name, revision="rev-bad")
    assert isinstance(s.step(s.spec(), s.without_leader(seen)), RestartPod)


def test_a_bad_image_is_left_before_the_founding_too() -> None:
    seen = s.with_set(s.broken(s.new(), "db-1"), "voters", update_revision=s.NEW)
    assert s.same(s.step(s.spec(), seen), restart("db-1", evict=False))


def test_a_broken_pod_of_the_newest_template_is_let_alone() -> None:
    assert not isinstance(s.step(s.spec(), s.broken(rolling(3, 0, ("db-2",)), "db-2")), RestartPod)


def test_who_is_only_silent_is_not_taken_for_broken_without_a_leader() -> None:
    assert not isinstance(s.step(s.spec(), s.without_leader(s.silent(rolling(3), "db-1", "db-2"))), RestartPod)


def test_who_serves_is_not_broken() -> None:
    seen = s.without_leader(s.with_pod(rolling(3), "db-2", ready=False, problem="its probe fails"))
    assert not isinstance(s.step(s.spec(), seen), RestartPod)


def test_who_does_not_serve_goes_first_by_deletion_while_the_others_are_a_quorum() -> None:
    assert s.same(s.step(s.spec(), s.silent(rolling(3), "db-1")), restart("db-1", evict=False))
    assert not isinstance(s.step(s.spec(), s.silent(rolling(3), "db-1", "db-2")), RestartPod)


def test_a_live_voter_that_is_not_ready_has_its_turn_like_a_ready_one_but_by_deletion() -> None:
    seen = s.with_pod(rolling(3), "db-2", ready=False)
    assert s.same(s.step(s.spec(), seen), restart("db-2", evict=False))
    seen = s.with_pod(rolling(3), "db-1", ready=False)  # db-2 would be first, and waits for it
    assert not isinstance(s.step(s.spec(), seen), RestartPod)


@pytest.mark.parametrize(("voters", "evict"), [(1, False), (3, True), (5, True)])
def test_voters_are_evicted_where_the_budget_can_spare_one(voters: int, evict: bool) -> None:
    name = f"db-{voters - 1}"
    assert s.same(s.step(s.spec(voters), rolling(voters)), restart(name, evict=evict))


def test_two_voters_are_restarted_by_deletion_and_only_while_both_are_live() -> None:
    assert s.same(s.step(s.spec(2), rolling(2)), restart("db-1", evict=False))
    assert not isinstance(s.step(s.spec(2), s.silent(rolling(2, 0, ("db-0",)), "db-1")), RestartPod)


def test_a_voter_elsewhere_that_is_away_stops_it() -> None:
    seen = s.with_members(rolling(3), s.member_of(9, "elsewhere", last_contact_s=60.0))
    assert s.waits_for(s.step(s.spec(), replace(seen, budget=3))) == reasons.ROLLING_OUT


def test_nobody_is_restarted_while_members_come_in() -> None:
    seen = s.with_set(s.settled(3), "voters", replicas=4)
    seen = s.with_set(s.with_pods(seen, s.pod_of("db-3", revision=s.NEW, ready=False)), "voters", update_revision=s.NEW)
    found = s.step(s.spec(4), seen)
    assert s.waits_for(found) == reasons.SCALING_UP


def test_a_broken_pod_that_is_to_join_is_restarted_with_the_newer_template() -> None:
    seen = s.with_set(s.settled(3), "voters", replicas=4, update_revision=s.NEW)
    seen = s.with_pods(seen, s.pod_of("db-3", ready=False, problem="ImagePullBackOff"))
    assert s.same(s.step(s.spec(4), seen), restart("db-3", evict=False))
