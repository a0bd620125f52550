"""The status tells what is, in conditions that people can act on, and never loses what must outlive the operator."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from raftwright_operator import actions, status
from raftwright_operator.actions import Concern, Done, Step, Wait
from raftwright_operator.observed import Hibernation, Intent, Observed
from raftwright_operator.plan import concerns, plan
from raftwright_operator.spec import Spec
from tests.operator import support

NOW, LATER = "2026-05-01T10:00:00Z", "2026-05-01T11:00:00Z"
TYPES = ["Ready", "Progressing", "Degraded", "QuorumAvailable", "MembershipInSync", "ScaleDownBlocked", "Paused"]
SCHEMA = Path(__file__).parents[2] / "charts/raftwright/crd/raftclusters.yaml"
Found = dict[str, Any]


def status_of(
    spec: Spec, seen: Observed, step: Step | None = None, previous: Found | None = None, now: str = NOW
) -> Found:
    """With the step and the concerns that `plan` has for it, unless another step is given."""
    decided = step or plan(spec, seen, support.NOW)
    return status.status_of(spec, seen, decided, concerns(spec, seen, support.NOW), previous or {}, now)


def condition(found: Found, name: str) -> tuple[str, str]:
    one = next(each for each in found["conditions"] if each["type"] == name)
    return one["status"], one["reason"]


def message(found: Found, name: str) -> str:
    text: str = next(each["message"] for each in found["conditions"] if each["type"] == name)
    return text


def test_a_settled_cluster_is_told_whole() -> None:
    found = status_of(support.spec(3, non_voting=1), support.settled(3, 1))
    assert {each["type"]: each["status"] for each in found["conditions"]} == {
        "Ready": "True",
        "Progressing": "False",
        "Degraded": "False",
        "QuorumAvailable": "True",
        "MembershipInSync": "True",
        "ScaleDownBlocked": "False",
        "Paused": "False",
    }
    assert [each["type"] for each in found["conditions"]] == TYPES
    assert (found["voters"], found["nonVoting"], found["replicas"], found["leader"]) == ("3/3", "1/1", 3, "db-0")
    assert found["selector"] == "raftwright.io/cluster=db,raftwright.io/set=voters"
    assert found["observedGeneration"] == 1
    assert found["members"][1] == {
        "name": "db-1",
        "id": 2,
        "role": "voter",
        "storeId": "db-1/1",
        "pod": "db-1",
        "matchIndex": 100,
        "lagCommands": 0,
        "lagSeconds": 0.0,
        "ready": True,
    }
    assert [(one["name"], one["role"]) for one in found["members"]][-1] == ("db-nonvoting-0", "nonVoting")


def test_the_status_fits_the_schema() -> None:
    schema = yaml.safe_load(SCHEMA.read_text())["spec"]["versions"][0]["schema"]["openAPIV3Schema"]
    known = schema["properties"]["status"]["properties"]
    seen = support.with_pod(support.settled(3, 1), "db-1", node="worker")
    seen = support.with_node(seen, "db-1", version="1.0")
    seen = replace(seen, generation=7)
    found = status_of(
        support.spec(3, non_voting=1), seen, previous={"cluster": {"id": "x"}, "hibernation": {"voters": 3}}
    )
    assert found.keys() == known.keys()
    member = known["members"]["items"]["properties"]
    assert found["members"][1].keys() == member.keys()
    assert {one["role"] for one in found["members"]} <= set(member["role"].get("enum", ["voter", "nonVoting"]))
    assert found["conditions"][0].keys() == known["conditions"]["items"]["properties"].keys()
    assert {each["observedGeneration"] for each in found["conditions"]} == {7}


def joint() -> Observed:
    return support.with_members(support.settled(), joint=True)


def replaced() -> Observed:
    """The old member and the new one have one name for a while, and the pod serves already."""
    return support.with_members(support.settled(), support.member_of(9, "db-2", "learner", store_id="db-2/2"))


SETTLED = support.settled()
CASES: dict[str, tuple[Spec, Observed, dict[str, tuple[str, str]]]] = {
    "new": (
        support.spec(),
        support.new(),
        {
            "Ready": ("False", "Founding"),
            "QuorumAvailable": ("False", "Founding"),
            "MembershipInSync": ("Unknown", "MembershipUnknown"),
        },
    ),
    "led, and not all founders seen": (
        support.spec(),
        support.settled(intent=Intent(cluster_id=support.UID, stores=(("db-0", "db-0/1"),))),
        {"Ready": ("False", "Founding"), "QuorumAvailable": ("True", "LeaderConfirmed")},
    ),
    "in a joint change": (
        support.spec(),
        joint(),
        {"Ready": ("False", "MembershipChanging"), "MembershipInSync": ("False", "MembershipChanging")},
    ),
    "to grow": (
        support.spec(5),
        SETTLED,
        {"Ready": ("False", "VotersMissing"), "MembershipInSync": ("False", "MembersDiffer")},
    ),
    "to shrink": (
        support.spec(1),
        SETTLED,
        {"Ready": ("False", "VotersLeaving"), "MembershipInSync": ("False", "MembersDiffer")},
    ),
    "a learner where a voter is to be": (
        support.spec(),
        support.with_member(SETTLED, 3, role="learner"),
        {"Ready": ("False", "VotersMissing"), "MembershipInSync": ("False", "MembersDiffer")},
    ),
    "a voter that is silent": (
        support.spec(),
        support.silent(SETTLED, "db-2"),
        {
            "Ready": ("False", "VotersNotReady"),
            "Degraded": ("True", "VotersDown"),
            "MembershipInSync": ("True", "AsWanted"),
        },
    ),
    "a member being replaced": (
        support.spec(),
        replaced(),
        {"Ready": ("False", "VotersMissing"), "MembershipInSync": ("False", "MembersDiffer")},
    ),
    "a voter with an intent": (
        support.spec(),
        support.with_member(SETTLED, 3, intent={"remove": 4}),
        {"Ready": ("False", "MembershipChanging")},
    ),
    "non-voting members that are missing leave it ready": (
        support.spec(3, non_voting=2),
        SETTLED,
        {"Ready": ("True", "AllVotersReady"), "MembershipInSync": ("False", "MembersDiffer")},
    ),
    "no leader": (
        support.spec(),
        support.without_leader(support.silent(SETTLED, "db-1", "db-2")),
        {
            "Ready": ("False", "NoLeader"),
            "QuorumAvailable": ("False", "NoLeader"),
            "Degraded": ("True", "NoLeader"),
            "Progressing": ("False", "NoLeader"),
        },
    ),
    "quorum lost for good": (
        support.spec(),
        support.without_leader(support.lost_volume(support.lost_volume(SETTLED, "db-1"), "db-2")),
        {
            "Ready": ("False", "QuorumLost"),
            "QuorumAvailable": ("False", "QuorumLost"),
            "Degraded": ("True", "QuorumLost"),
        },
    ),
    "a scale-down that is blocked": (
        support.spec(2),
        support.silent(SETTLED, "db-0"),
        {"ScaleDownBlocked": ("True", "ScaleDownBlocked"), "Progressing": ("False", "ScaleDownBlocked")},
    ),
    "falling asleep": (
        support.spec(0),
        SETTLED,
        {
            "Ready": ("False", "Hibernating"),
            "MembershipInSync": ("Unknown", "Hibernating"),
            "QuorumAvailable": ("True", "LeaderConfirmed"),
        },
    ),
    "asleep": (
        support.spec(0),
        replace(
            support.without_leader(support.without_pods(SETTLED, *SETTLED.pods)),
            hibernation=Hibernation(voters=3, non_voting=0),
        ),
        {
            "Ready": ("False", "Hibernating"),
            "QuorumAvailable": ("False", "Hibernating"),
            "Degraded": ("False", "AsExpected"),
        },
    ),
    "paused": (
        support.spec(5, paused=True),
        SETTLED,
        {"Paused": ("True", "Paused"), "Progressing": ("False", "Paused"), "Ready": ("False", "VotersMissing")},
    ),
    "being deleted": (support.spec(), replace(SETTLED, deleting=True), {"Ready": ("False", "Deleting")}),
    "with a member of somebody else's": (
        support.spec(),
        support.with_members(SETTLED, support.member_of(8, "laptop", "voter")),
        {"Ready": ("True", "AllVotersReady"), "MembershipInSync": ("False", "MembersDiffer")},
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_conditions_say_what_is(name: str) -> None:
    spec, seen, expected = CASES[name]
    found = status_of(spec, seen)
    assert {each: condition(found, each) for each in expected} == expected
    assert [each["type"] for each in found["conditions"]] == TYPES
    assert all(each["message"] and each["reason"] for each in found["conditions"])


def test_messages_name_whom_they_are_about() -> None:
    assert "db-3, db-4" in message(status_of(support.spec(5), SETTLED), "Ready")
    assert "db-1, db-2" in message(status_of(support.spec(1), SETTLED), "Ready")
    silent = status_of(support.spec(), support.silent(SETTLED, "db-2"))
    assert "kubectl describe pod db-2" in message(silent, "Ready")
    foreign = support.with_members(SETTLED, support.member_of(8, "laptop", "voter"))
    assert "laptop" in message(status_of(support.spec(), foreign), "MembershipInSync")


def test_an_action_is_progress_and_its_reason_is_what_it_is() -> None:
    step = actions.TransferLeadership(to=2, why="db-0 leads, and is restarted next.")
    found = status_of(support.spec(), SETTLED, step)
    assert condition(found, "Progressing") == ("True", "TransferLeadership")
    assert message(found, "Progressing") == "db-0 leads, and is restarted next."


def test_waiting_for_kubernetes_is_progress_and_for_a_person_is_none() -> None:
    found = status_of(support.spec(), SETTLED, Wait(reason="CatchingUp", message="db-3 has 5 to go."))
    assert condition(found, "Progressing") == ("True", "CatchingUp")
    trouble = (Concern(condition="Degraded", reason="RolloutStuck", message="db-2 cannot start"),)
    step = Wait(reason="RolloutStuck", message="db-1 is restarted once db-2 is back.")
    stuck = status.status_of(support.spec(), SETTLED, step, trouble, {}, NOW)
    assert condition(stuck, "Progressing") == ("False", "RolloutStuck")


def test_several_concerns_are_one_condition_with_every_message_once() -> None:
    said = [
        ("VolumeLost", "The volume of db-2 was lost"),
        ("VotersDown", "db-2 is down."),
        ("VotersDown", "db-2 is down."),
    ]
    trouble = tuple(Concern(condition="Degraded", reason=reason, message=text) for reason, text in said)
    found = status.status_of(support.spec(), SETTLED, Done(), trouble, {}, NOW)
    assert condition(found, "Degraded") == ("True", "VolumeLost")
    assert message(found, "Degraded") == "The volume of db-2 was lost. db-2 is down."


def test_a_concern_that_is_an_event_makes_no_condition_true() -> None:
    trouble = (Concern(condition="Event", reason="EvenVoters", message="4 voters"),)
    found = status.status_of(support.spec(), SETTLED, Done(), trouble, {}, NOW)
    assert condition(found, "Degraded") == condition(found, "ScaleDownBlocked") == ("False", "AsExpected")
    assert [each["type"] for each in found["conditions"]] == TYPES


def test_the_time_of_a_transition_moves_only_with_the_status() -> None:
    first = status_of(support.spec(), SETTLED)
    assert {each["lastTransitionTime"] for each in first["conditions"]} == {NOW}
    second = status_of(support.spec(), support.silent(SETTLED, "db-2"), previous=first, now=LATER)
    moved = {each["type"] for each in second["conditions"] if each["lastTransitionTime"] == LATER}
    assert moved == {"Ready", "Degraded", "Progressing"}
    third = status_of(support.spec(), support.silent(SETTLED, "db-1"), previous=second, now="2026-05-01T12:00:00Z")
    assert message(third, "Ready") != message(second, "Ready")
    assert {each["lastTransitionTime"] for each in third["conditions"]} == {NOW, LATER}


def test_voters_are_counted_as_far_as_they_are_wanted() -> None:
    assert status_of(support.spec(), support.silent(SETTLED, "db-2"))["voters"] == "2/3"
    assert status_of(support.spec(5), SETTLED)["voters"] == "3/5"
    assert status_of(support.spec(1), SETTLED)["voters"] == "1/1"
    assert status_of(support.spec(), support.with_member(SETTLED, 3, role="learner"))["voters"] == "2/3"
    assert status_of(support.spec(), support.new())["voters"] == "0/3"
    assert status_of(support.spec(), replaced())["voters"] == "2/3"
    leaving = support.with_member(SETTLED, 3, leaving=True)
    assert status_of(support.spec(), leaving)["voters"] == "2/3"


def test_pods_of_voters_are_counted_for_scale_whatever_they_are_yet() -> None:
    assert status_of(support.spec(5, non_voting=1), support.settled(3, 1))["replicas"] == 3
    assert status_of(support.spec(), support.new())["replicas"] == 3


def test_who_was_a_member_is_remembered_without_a_leader_and_so_is_no_other_pod() -> None:
    spare = support.pod_of("db-3", ready=False)
    before = status_of(support.spec(), support.with_pods(SETTLED, spare))
    assert [(one["name"], one.get("id")) for one in before["members"]] == [
        ("db-0", 1),
        ("db-1", 2),
        ("db-2", 3),
        ("db-3", None),
    ]
    assert before["members"][3] == {"name": "db-3", "pod": "db-3", "ready": False}
    dark = support.without_leader(support.without_pods(SETTLED, "db-1", "db-2"))
    after = status_of(support.spec(), dark, previous=before)
    assert [(one["name"], one["ready"], one.get("pod")) for one in after["members"]] == [
        ("db-0", True, "db-0"),
        ("db-1", False, None),
        ("db-2", False, None),
    ]
    assert [one["id"] for one in after["members"]] == [1, 2, 3]
    assert "leader" not in after


def test_members_are_in_order_and_strangers_last() -> None:
    seen = support.with_members(support.settled(11, 2), support.member_of(99, "a-laptop", "learner"))
    names = [one["name"] for one in status_of(support.spec(11), seen)["members"]]
    assert names == [*(f"db-{number}" for number in range(11)), "db-nonvoting-0", "db-nonvoting-1", "a-laptop"]


@pytest.mark.parametrize(
    ("versions", "expected"),
    [
        (["1.2.0", "1.2.0", "1.2.0"], "1.2.0"),
        (["1.10.0", "1.9.0", "1.10.0"], "1.9.0"),
        (["1.0.0", "", "1.0.0"], "1.0.0"),
        (["dev", "dev", "1.0"], "dev"),
    ],
)
def test_the_version_is_the_lowest_while_they_differ(versions: list[str], expected: str) -> None:
    seen = SETTLED
    for number, version in enumerate(versions):
        seen = support.with_node(seen, f"db-{number}", version=version)
    assert status_of(support.spec(), seen)["version"] == expected


def test_the_version_stays_while_nobody_answers() -> None:
    dark = support.without_leader(support.without_pods(SETTLED, *SETTLED.pods))
    assert status_of(support.spec(), dark, previous={"version": "1.0"})["version"] == "1.0"


RECORDS: Found = {
    "cluster": {"id": "c", "stores": {"db-0": "s"}, "bootstrapped": True},
    "hibernation": {"voters": 3, "nonVoting": 0},
}


@pytest.mark.parametrize("name", CASES)
def test_what_must_outlive_the_operator_is_never_dropped(name: str) -> None:
    spec, seen, _ = CASES[name]
    found = status_of(spec, seen, previous=dict(RECORDS))
    assert {key: found[key] for key in RECORDS} == RECORDS


def merged(old: Found, patch: Found) -> Found:
    """As RFC 7396 has it, for one level."""
    return {key: value for key, value in {**old, **patch}.items() if value is not None}


@given(st.sampled_from(sorted(CASES)), st.sampled_from(sorted(CASES)))
def test_a_patch_leads_from_any_status_to_any_other_and_never_names_the_records(before: str, after: str) -> None:
    old = status_of(*CASES[before][:2], previous=dict(RECORDS))
    new = status_of(*CASES[after][:2], previous=old, now=LATER)
    patch = status.patch_of(old, new)
    assert not patch.keys() & RECORDS.keys()
    assert merged(old, patch) == new
    again = status_of(*CASES[after][:2], previous=new, now="2027-01-01T00:00:00Z")
    assert status.patch_of(new, again) == {}


def test_a_stale_copy_of_the_records_is_in_no_patch() -> None:
    stale = {**status_of(support.spec(), SETTLED), **RECORDS}
    assert status.patch_of({}, stale).keys() == stale.keys() - RECORDS.keys()
