"""Kubernetes events of actions and concerns. Called by `reconcile` after an action was done, or when a concern is new.

Rule: an event for what a person would ask about afterwards; none for what happens all the time.
"""

from typing import Literal, NamedTuple

from raftwright_operator import actions
from raftwright_operator.actions import Action, Concern

EventType = Literal["Normal", "Warning"]


class Event(NamedTuple):
    type: EventType
    reason: str
    message: str


_REASONS: dict[type[Action], tuple[EventType, str]] = {
    actions.ApplyObjects: ("Normal", "ObjectsApplied"),
    actions.CreateSet: ("Normal", "SetCreated"),
    actions.GrowSet: ("Normal", "SetGrown"),
    actions.ShrinkSet: ("Normal", "SetShrunk"),
    actions.OrphanSet: ("Normal", "SetRecreated"),
    actions.DeleteSet: ("Normal", "SetDeleted"),
    actions.Bootstrap: ("Normal", "Bootstrapped"),
    actions.AddMembers: ("Normal", "MembersAdded"),
    actions.PromoteMembers: ("Normal", "MembersPromoted"),
    actions.RemoveMembers: ("Normal", "MembersRemoved"),
    actions.ReplaceMember: ("Warning", "MemberReplaced"),
    actions.TransferLeadership: ("Normal", "LeadershipTransferred"),
    actions.DiscardStore: ("Normal", "StoreDiscarded"),
    actions.RestartPod: ("Normal", "PodRestarted"),
    actions.ExpandVolume: ("Normal", "VolumeExpanded"),
    actions.DeleteVolume: ("Normal", "VolumeDeleted"),
}


def event_of(action: Action) -> Event | None:
    """None for labels, budgets, the finalizer, and a membership that only gets another version."""
    match action:
        case actions.RecordIntent(intent=intent):
            if intent.bootstrapped:
                return Event("Normal", "Founded" if intent.stores else "Adopted", action.why)
            return Event("Normal", "Founding" if intent.stores else "Adopted", action.why)
        case actions.RecordHibernation(hibernation=hibernation):
            return Event("Normal", "WokenUp" if hibernation is None else "Hibernating", action.why)
    if type(action) not in _REASONS:
        return None
    kind, reason = _REASONS[type(action)]
    return Event(kind, reason, action.why)


def event_of_concern(concern: Concern) -> Event:
    """To be said once, when it begins."""
    return Event("Warning", concern.reason, concern.message)
