"""Facts from Kubernetes' objects and nodes' answers."""

from typing import Any

import pytest

from raftwright.client.member_models import MembersAnswer
from raftwright.client.models import NodeStatus
from raftwright_operator import seeing
from raftwright_operator.kube import merge_patch
from raftwright_operator.nodes import Place
from raftwright_operator.observe import cluster_places
from raftwright_operator.observed import Hibernation, Intent
from tests.operator.support import node_of, settled

WAITING = {"name": "node", "state": {"waiting": {"reason": "CrashLoopBackOff", "message": "back-off 10s"}}}
STARTING = {"name": "node", "state": {"waiting": {"reason": "ContainerCreating"}}}
KILLED = {"name": "node", "state": {"terminated": {"exitCode": 137, "reason": "OOMKilled"}}}
ENDED = {"name": "node", "state": {"terminated": {"exitCode": 0, "reason": "Completed"}}}
UNSCHEDULABLE = {"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": "0/1 nodes"}


@pytest.mark.parametrize(
    ("status", "problem"),
    [
        ({"containerStatuses": [WAITING]}, "CrashLoopBackOff: back-off 10s"),
        ({"containerStatuses": [STARTING]}, None),
        ({"containerStatuses": [KILLED]}, "OOMKilled: exit code 137"),
        ({"containerStatuses": [ENDED]}, None),
        ({"initContainerStatuses": [WAITING], "containerStatuses": [STARTING]}, "CrashLoopBackOff: back-off 10s"),
        ({"conditions": [UNSCHEDULABLE]}, "Unschedulable: 0/1 nodes"),
        ({"phase": "Failed", "reason": "Evicted", "message": "disk"}, "Evicted: disk"),
        ({"phase": "Running", "containerStatuses": None}, None),
        ({}, None),
    ],
)
def test_why_a_pod_does_not_run(status: dict[str, Any], problem: str | None) -> None:
    assert seeing.problem_of({"status": status}) == problem


def test_the_intent_is_by_ordinal_and_not_by_letter() -> None:
    stores = {f"db-{number}": str(number) for number in (10, 2, 0)}
    resource = {"metadata": {"name": "db"}, "status": {"cluster": {"id": "x", "stores": stores}}}
    assert seeing.intent_of(resource) == Intent(cluster_id="x", stores=(("db-0", "0"), ("db-2", "2"), ("db-10", "10")))
    assert seeing.intent_of({"metadata": {"name": "db"}}) is None


def test_a_record_of_nothing_is_a_record() -> None:
    resource = {"status": {"hibernation": {"voters": 3, "nonVoting": 0}}}
    assert seeing.hibernation_of(resource) == Hibernation(voters=3, non_voting=0)
    assert seeing.hibernation_of({}) is None


def test_recorded_members_are_those_with_an_id() -> None:
    members = [
        {"name": "db-0", "id": 1, "role": "voter"},
        {"name": "db-1"},
        {"name": "x", "id": 2, "role": "nonVoting"},
    ]
    resource = {"status": {"members": members}}
    assert seeing.recorded(resource) == ("db-0", "x")
    assert seeing.recorded(resource, voters_only=True) == ("db-0",)


def test_claims_of_other_names_are_not_ours() -> None:
    def claim(name: str) -> dict[str, Any]:
        spec = {"resources": {"requests": {"storage": "1Gi"}}}
        return {"metadata": {"name": name, "uid": name}, "spec": spec, "status": {"capacity": {"storage": "2Gi"}}}

    names = ("data-db-0", "data-db-nonvoting-1", "data-db-x", "db-0", "data-other-0", "data-db-01")
    seen = seeing.volumes_of("db", [claim(name) for name in names])
    assert set(seen) == {"data-db-0", "data-db-nonvoting-1"}
    assert (seen["data-db-0"].requested_bytes, seen["data-db-0"].capacity_bytes) == (1 << 30, 2 << 30)


def test_a_set_is_observed_once_its_controller_has_seen_its_newest_generation() -> None:
    def seen(generation: int) -> bool:
        meta = {"name": "db", "uid": "u", "resourceVersion": "1", "generation": 2}
        status = {"observedGeneration": generation, "updateRevision": "r"}
        return seeing.sets_of("db", [{"metadata": meta, "spec": {"replicas": 0}, "status": status}])[
            "voters"
        ].is_observed

    assert not seen(1)
    assert seen(2)


def test_a_node_without_a_store_and_a_membership_without_a_leader_are_nothing() -> None:
    assert seeing.node_of("u", NodeStatus(name="db-0", state="starting", version="1", uptime_s=1)) is None
    assert seeing.membership_of(MembersAnswer(version=1, joint=False, leader=None, members=[])) is None


def test_only_nodes_of_our_cluster_are_asked_and_the_leader_first() -> None:
    observed = settled()
    assert observed.intent is not None
    ours = observed.intent.cluster_id
    nodes = {
        "db-0": node_of("db-0", cluster_id=ours, member_id=1, leader=2),
        "db-1": node_of("db-1", cluster_id=ours, member_id=2, leader=2),
        "db-2": node_of("db-2", cluster_id="another", member_id=1, leader=1),
    }
    places = {name: Place(name, f"uid-{name}", f"{name}:7001") for name in nodes}
    assert [place.pod for place in cluster_places(observed, nodes, places)] == ["db-1", "db-0"]


@pytest.mark.parametrize(
    ("old", "new", "patch"),
    [
        ({}, {"a": 1}, {"a": 1}),
        ({"a": 1}, {}, {"a": None}),
        ({"a": {"b": 1, "c": 2}}, {"a": {"b": 1}}, {"a": {"c": None}}),
        ({"a": [1, 2]}, {"a": [1]}, {"a": [1]}),
        ({"a": {"b": 1}}, {"a": {"b": 1}}, {}),
        ({"a": {}}, {"a": None}, {"a": None}),
    ],
)
def test_a_merge_patch_makes_one_into_the_other(old: Any, new: Any, patch: Any) -> None:
    assert merge_patch(old, new) == patch
