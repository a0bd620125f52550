"""Events tell what a person would ask about afterwards."""

from dataclasses import fields, replace
from typing import Any

from raftwright_operator import actions, status
from raftwright_operator.actions import Action, Joiner
from raftwright_operator.observed import Hibernation, Intent


def everything() -> list[Action]:
    """One of each action."""
    values: dict[str, Any] = {
        "why": "Because.",
        "objects": (),
        "kind": "voters",
        "replicas": 1,
        "uid": "u",
        "resource_version": "1",
        "min_available": 1,
        "ready_for": "",
        "pods": (),
        "intent": Intent(cluster_id="c", stores=()),
        "hibernation": None,
        "pod": "db-0",
        "pod_uid": "u",
        "joiners": (),
        "if_version": 1,
        "ids": (),
        "old": 1,
        "joiner": Joiner(pod="db-0", store_id="s"),
        "to": 1,
        "store_id": "s",
        "evict": True,
        "claim": "c",
        "size_bytes": 1,
    }
    # A dataclass with slots is made of another class, which is a subclass too.
    kinds = [kind for kind in Action.__subclasses__() if kind is getattr(actions, kind.__name__)]
    return [kind(**{one.name: values[one.name] for one in fields(kind)}) for kind in kinds]


def test_every_action_but_the_everyday_ones_is_an_event() -> None:
    silent = {type(action).__name__ for action in everything() if status.event_of(action) is None}
    assert silent == {"ApplyBudget", "LabelPods", "ReleaseFinalizer", "RenewMembership"}
    for action in everything():
        event = status.event_of(action)
        assert event is None or (event.message == "Because." and event.reason.isalpha())


def test_a_replaced_member_is_a_warning() -> None:
    action = actions.ReplaceMember(old=3, joiner=Joiner(pod="db-2", store_id="s"), if_version=1, why="db-2 lost it.")
    assert status.event_of(action) == status.Event("Warning", "MemberReplaced", "db-2 lost it.")


def test_a_founding_a_falling_asleep_and_a_waking_are_told_apart() -> None:
    def reason(action: Action) -> str | None:
        event = status.event_of(action)
        return event and event.reason

    stores = (("db-0", "s"),)
    new, old = Intent(cluster_id="c", stores=stores), Intent(cluster_id="c", stores=(), bootstrapped=True)
    done = replace(new, bootstrapped=True)
    intents = [actions.RecordIntent(intent=one, resource_version="1", why="x") for one in (new, done, old)]
    assert [reason(one) for one in intents] == ["Founding", "Founded", "Adopted"]
    asleep = actions.RecordHibernation(hibernation=Hibernation(voters=3, non_voting=0), resource_version="1", why="x")
    assert [reason(asleep), reason(replace(asleep, hibernation=None))] == ["Hibernating", "WokenUp"]
