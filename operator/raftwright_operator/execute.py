"""Does one action, with the preconditions that `actions` states. Called by `reconcile` only.

Rule: whatever happens ends as an `Outcome`: that the world moved on since the action was planned is a normal one, and
no action is tried again here, since the next observation tells better what is to be done.
"""

import asyncio
from typing import assert_never

from raftwright.client.errors import RETRIED_KINDS, MembershipRefused, RaftwrightError
from raftwright_operator import execute_nodes, execute_objects
from raftwright_operator.actions import (
    Action,
    AddMembers,
    ApplyBudget,
    ApplyObjects,
    Bootstrap,
    CreateSet,
    DeleteSet,
    DeleteVolume,
    DiscardStore,
    ExpandVolume,
    GrowSet,
    LabelPods,
    OrphanSet,
    PromoteMembers,
    RecordHibernation,
    RecordIntent,
    ReleaseFinalizer,
    RemoveMembers,
    RenewMembership,
    ReplaceMember,
    RestartPod,
    ShrinkSet,
    TransferLeadership,
)
from raftwright_operator.cache import Cache
from raftwright_operator.kube import Kube, KubeError
from raftwright_operator.nodes import Nodes
from raftwright_operator.observe import Sight
from raftwright_operator.outcome import Outcome

ACTION_TIMEOUT_S = 30.0
"""Of one action as a whole, of which each call has a time-out of its own."""
PASSING = RETRIED_KINDS | {"unavailable", "membership-change-undone", "lagging", "transfer-failed"}
"""Refusals by nodes that pass by themselves, such as while a leader is new or unknown, or hands over."""
NodeAction = (
    Bootstrap
    | AddMembers
    | PromoteMembers
    | RemoveMembers
    | RenewMembership
    | ReplaceMember
    | TransferLeadership
    | DiscardStore
)
ObjectAction = (
    ApplyObjects
    | CreateSet
    | GrowSet
    | ShrinkSet
    | OrphanSet
    | DeleteSet
    | ApplyBudget
    | LabelPods
    | RecordIntent
    | RecordHibernation
    | RestartPod
    | ExpandVolume
    | DeleteVolume
    | ReleaseFinalizer
)


class Executor:
    """One for all clusters. What writes answer goes into the cache, where there is one."""

    def __init__(self, kube: Kube, nodes: Nodes, cache: Cache | None = None) -> None:
        self._kube = kube
        self._nodes = nodes
        self._cache = cache

    async def execute(self, action: Action, sight: Sight) -> Outcome:
        """`sight` is what the action was planned from."""
        if action.needs_fresh and not sight.observed.fresh:
            raise AssertionError(f"{type(action).__name__} was planned from a cache")
        try:
            async with asyncio.timeout(ACTION_TIMEOUT_S):
                return await self._done(action, sight)
        except KubeError as error:
            if error.is_conflict or error.is_gone:
                return Outcome.again(error.reason or "Conflict", str(error))
            return Outcome.refused(error.reason or "ApiServer", str(error))
        except RaftwrightError as error:
            kind = error.reason if isinstance(error, MembershipRefused) else error.kind
            made = Outcome.again if kind in PASSING else Outcome.refused
            return made(_word(kind), str(error))
        except TimeoutError:
            return Outcome.refused("Timeout", f"it took more than {ACTION_TIMEOUT_S:.0f} s")

    async def _done(self, action: Action, sight: Sight) -> Outcome:
        if isinstance(action, NodeAction):
            return await self._done_by_nodes(action, sight)
        assert isinstance(action, ObjectAction), f"{type(action).__name__} is no action that is known here"
        return await self._done_by_objects(action, sight)

    async def _done_by_nodes(self, action: NodeAction, sight: Sight) -> Outcome:
        nodes = execute_nodes.Membership(self._kube, self._nodes, sight)
        match action:
            case Bootstrap():
                return await nodes.bootstrap(action)
            case AddMembers():
                return await nodes.add(action)
            case PromoteMembers():
                return await nodes.promote(action)
            case RemoveMembers():
                return await nodes.remove(action)
            case RenewMembership():
                return await nodes.renew(action)
            case ReplaceMember():
                return await nodes.replace(action)
            case TransferLeadership():
                return await nodes.transfer(action)
            case DiscardStore():
                return await nodes.discard(action)
            case _:
                assert_never(action)

    async def _done_by_objects(self, action: ObjectAction, sight: Sight) -> Outcome:
        objects = execute_objects.Objects(self._kube, self._cache, sight)
        match action:
            case ApplyObjects():
                return await objects.apply(action)
            case CreateSet():
                return await objects.create_set(action)
            case GrowSet() | ShrinkSet():
                return await objects.resize_set(action)
            case OrphanSet():
                return await objects.delete_set(action.kind, action.uid, "Orphan")
            case DeleteSet():
                return await objects.delete_set(action.kind, action.uid, "Background")
            case ApplyBudget():
                return await objects.apply_budget(action)
            case LabelPods():
                return await objects.label_pods(action)
            case RecordIntent():
                return await objects.record_intent(action)
            case RecordHibernation():
                return await objects.record_hibernation(action)
            case RestartPod():
                return await objects.restart_pod(action)
            case ExpandVolume():
                return await objects.expand_volume(action)
            case DeleteVolume():
                return await objects.delete_volume(action)
            case ReleaseFinalizer():
                return await objects.release()
            case _:
                assert_never(action)


def _word(kind: str) -> str:
    """`no-quorum-left` as conditions and events have it: NoQuorumLeft."""
    return "".join(part.capitalize() for part in kind.split("-")) or "Refused"
