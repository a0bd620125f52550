"""Calls about members and the leader, on their way: asked anywhere, decided by the leader, watched here until done.

The driver calls it. Rules: a call is forwarded once and never by who got it forwarded; it may be asked again, since a
call whose result holds does nothing; whoever was asked answers when the membership that its own log says is committed
shows the result, whatever became of the leader meanwhile.
"""

from dataclasses import dataclass
from typing import Any

import msgspec

from raftwright.client.member_models import MembersAnswer, PlanAnswer, TransferAnswer
from raftwright.raft.errors import MembershipChangePending, NotLeader, Refusal, TransferImpossible
from raftwright.raft.errors import MembershipOutdated as OutdatedInCore
from raftwright.raft.events import ProposeMembership, TransferLeadership
from raftwright.raft.raft import Raft
from raftwright.server.effects import ControlDone, Effects
from raftwright.server.errors import (
    ERRORS,
    ChangePending,
    ChangeUndone,
    InvalidRequest,
    MembershipOutdated,
    NoLeader,
    NotCommittedInTerm,
    RequestTimeout,
    ServiceError,
    ShuttingDown,
    TooManyRequests,
    TransferFailed,
    UnknownMember,
)
from raftwright.server.lags import Lags
from raftwright.server.member_info import members_answer, view_of
from raftwright.server.membership_plans import Standing, plan, resolve, standing
from raftwright.server.membership_requests import Call, decode_call, encode_call
from raftwright.server.membership_steps import plan_answer
from raftwright.server.wire import ControlReply, ControlRequest

CALLS_MAX = 1000
ASK_AGAIN_S = 0.25
"""A call without an answer is asked again after this: a stream may have lost it."""
_ASK_AGAIN = frozenset({NoLeader.kind, ShuttingDown.kind, NotCommittedInTerm.kind})
"""Refusals that pass by themselves: the caller hears of one only if it lasts for the request's whole time."""


class Reply(msgspec.Struct, frozen=True, kw_only=True):
    """What the leader says to a call: an answer, or what to watch for."""

    members: MembersAnswer | None = None
    plan: PlanAnswer | None = None
    version: int | None = None
    """The change is in the log as this version of the membership."""
    target: int | None = None
    """Who is to lead next…"""
    term: int = 0
    """…after this term."""


@dataclass(slots=True)
class _Pending:
    call: Call
    token: Any
    deadline: float
    asked_at: float = float("-inf")
    asked: int | None = None
    """The member that was asked."""
    reply: Reply | None = None
    term: int = 0
    """In which it was taken."""
    trouble: ServiceError | None = None
    """Why it was not taken when it was asked last."""
    give_up_at: float = float("inf")
    """Of a transfer: when it has failed."""


class Control:
    def __init__(self, *, raft: Raft, lags: Lags, first_request: int) -> None:
        self._raft = raft
        self._lags = lags
        self._pending: dict[int, _Pending] = {}
        self._count = first_request
        self._requests: list[ControlRequest] = []
        self._is_closed = False

    @property
    def is_waiting(self) -> bool:
        return bool(self._pending)

    def ask(self, call: Call, token: Any, deadline: float) -> None:
        """Queue a call; `Effects.controls` answers it. Raises TooManyRequests or ShuttingDown."""
        if self._is_closed:
            raise ShuttingDown
        if len(self._pending) >= CALLS_MAX:
            raise TooManyRequests(f"{CALLS_MAX} calls about members wait already")
        self._count += 1
        self._pending[self._count] = _Pending(call, token, deadline)

    def close(self) -> None:
        """Take no more calls, and answer those that wait with what is known by now."""
        self._is_closed = True
        for pending in self._pending.values():
            pending.deadline = float("-inf")

    def receive(self, message: ControlRequest | ControlReply, now: float, effects: Effects) -> None:
        if isinstance(message, ControlRequest):
            self._requests.append(message)
            return
        pending = self._pending.get(message.id)
        if pending is None or pending.reply is not None or pending.asked != message.from_id:
            return
        if message.error is None:
            try:
                self._accepted(pending, msgspec.json.decode(message.body, type=Reply), now)
            except msgspec.DecodeError as why:
                self._refused(message.id, pending, ServiceError(f"the leader's answer is none: {why}"), effects)
        else:
            error = ERRORS.get(message.error, ServiceError)(message.detail)
            error.outcome = "none" if message.outcome == "none" else "unknown"
            self._refused(message.id, pending, error, effects)

    def _refused(self, number: int, pending: _Pending, error: ServiceError, effects: Effects) -> None:
        pending.trouble = error
        if error.kind not in _ASK_AGAIN:
            self._finish(number, effects, ControlDone(token=pending.token, error=error))

    def run(self, now: float, wall_ms: int, effects: Effects) -> None:
        """Decide what was asked of this node, and ask the leader what was asked here."""
        requests, self._requests = self._requests, []
        for request in requests:
            effects.send([self._answer(request, now, wall_ms)])
        for number, pending in list(self._pending.items()):
            if self._may_be_lost(pending):
                pending.reply = pending.asked = None
            if pending.reply is None:
                self._ask_leader(number, pending, now, wall_ms, effects)

    def _may_be_lost(self, pending: _Pending) -> bool:
        """Whether the change is in the log of a leader of before, and not seen to be committed: the present one's log
        may have something else there. If it has this, nothing happens for being asked again."""
        if pending.reply is None or pending.reply.version is None or pending.term == self._raft.term:
            return False
        return self._raft.committed_membership.version < pending.reply.version

    def _ask_leader(self, number: int, pending: _Pending, now: float, wall_ms: int, effects: Effects) -> None:
        leader = self._raft.leader_id
        if leader is None and pending.call.kind == "members" and not pending.call.linearizable:
            # What is known here is better than nothing; that nobody leads is said in the answer.
            self._finish(number, effects, ControlDone(token=pending.token, answer=self._members(wall_ms)))
        if leader is None or (pending.asked == leader and now < pending.asked_at + ASK_AGAIN_S):
            return
        pending.asked, pending.asked_at = leader, now
        if leader != self._raft.member_id:
            effects.send(
                [ControlRequest(from_id=self._raft.own_id, to_id=leader, id=number, body=encode_call(pending.call))]
            )
            return
        try:
            self._accepted(pending, self._decide(pending.call, now, wall_ms), now)
        except ServiceError as error:
            self._refused(number, pending, error, effects)

    def _accepted(self, pending: _Pending, reply: Reply, now: float) -> None:
        pending.reply, pending.term = reply, self._raft.term
        if reply.target is not None:
            pending.give_up_at = now + 3 * self._raft.settings.election_timeout_s

    def settle(self, now: float, wall_ms: int, effects: Effects) -> None:
        """Answer what is done, or too late."""
        for number, pending in list(self._pending.items()):
            done = self._result(pending, now, wall_ms)
            if done is None and now >= pending.deadline:
                done = self._late(pending, wall_ms)
            if done is not None:
                self._finish(number, effects, done)

    def _finish(self, number: int, effects: Effects, done: ControlDone) -> None:
        self._pending.pop(number, None)
        effects.controls.append(done)

    def _result(self, pending: _Pending, now: float, wall_ms: int) -> ControlDone | None:
        reply = pending.reply
        if reply is None:
            return None
        if reply.members is not None or reply.plan is not None:
            return ControlDone(token=pending.token, answer=reply.members or reply.plan)
        if reply.target is not None:
            return self._transferred(pending, reply, now)
        membership = self._raft.committed_membership
        if membership.is_joint or reply.version is None or membership.version < reply.version:
            return None
        try:
            found = standing(membership, pending.call.change)
        except (UnknownMember, InvalidRequest):
            found = Standing.DONE  # what it was about was removed since
        if found is Standing.DONE:
            return ControlDone(token=pending.token, answer=self._members(wall_ms))
        if found is Standing.OPEN:
            # Not asked again: what somebody has undone since must not be done anew.
            return ControlDone(token=pending.token, error=ChangeUndone())
        return None

    def _transferred(self, pending: _Pending, reply: Reply, now: float) -> ControlDone | None:
        raft = self._raft
        leader = raft.leader_id
        if leader is not None and (leader == reply.target and (raft.term > reply.term or reply.term == 0)):
            name = raft.membership.members[leader].name
            return ControlDone(token=pending.token, answer=TransferAnswer(leader=leader, name=name, term=raft.term))
        if leader is not None and (raft.term > reply.term or now >= pending.give_up_at):
            found = raft.membership.members.get(leader)
            detail = f"the leader is member {leader}{f', {found.name}' if found else ''}"
            return ControlDone(token=pending.token, error=TransferFailed(detail, outcome="unknown"))
        return None

    def _late(self, pending: _Pending, wall_ms: int) -> ControlDone:
        if pending.reply is None and (pending.asked is None or pending.trouble is not None):
            return ControlDone(token=pending.token, error=pending.trouble or NoLeader())
        membership = self._raft.committed_membership
        try:
            is_pending = standing(membership, pending.call.change) is Standing.PENDING
        except (UnknownMember, InvalidRequest):
            is_pending = False
        if pending.reply is not None and pending.call.kind == "change" and is_pending:
            return ControlDone(token=pending.token, status=202, answer=self._members(wall_ms))
        return ControlDone(token=pending.token, error=RequestTimeout("the change was not seen to end in time"))

    def _members(self, wall_ms: int) -> MembersAnswer:
        return members_answer(self._raft, self._raft.committed_membership, self._lags, wall_ms)

    # The leader's part

    def _answer(self, request: ControlRequest, now: float, wall_ms: int) -> ControlReply:
        head: dict[str, Any] = {"from_id": self._raft.own_id, "to_id": request.from_id, "id": request.id}
        try:
            reply = self._decide(decode_call(request.body), now, wall_ms)
        except ServiceError as error:
            return ControlReply(**head, error=error.kind, detail=error.detail, outcome=error.outcome)
        except msgspec.DecodeError as error:
            return ControlReply(**head, error=InvalidRequest.kind, detail=str(error), outcome="none")
        return ControlReply(**head, body=msgspec.json.encode(reply))

    def _decide(self, call: Call, now: float, wall_ms: int) -> Reply:
        raft = self._raft
        if raft.leader_role is None:
            raise NoLeader("this node is not the leader")
        match call.kind:
            case "members":
                return Reply(members=self._as_asked(call, wall_ms))
            case "transfer":
                return self._transfer(call, now)
            case "change":
                return self._change(call, now, wall_ms)

    def _as_asked(self, call: Call, wall_ms: int) -> MembersAnswer:
        """The caller saw `term_min` after a quorum had confirmed its leader. A leader of that term or of a later one is
        that leader, or was elected since; whom a quorum has left behind is of an older one."""
        raft = self._raft
        if not call.linearizable:
            return members_answer(raft, raft.membership, self._lags, wall_ms)
        committed = raft.committed_membership
        if raft.term < call.term_min or committed.version < call.version_min:
            raise NotCommittedInTerm("this leader is behind what a quorum confirmed")
        return members_answer(raft, committed, self._lags, wall_ms)

    def _transfer(self, call: Call, now: float) -> Reply:
        raft = self._raft
        target = None if call.to is None else resolve(raft.membership, call.to)
        if target == raft.member_id:
            return Reply(target=target)
        try:
            raft.step(TransferLeadership(now=now, target=target))
        except TransferImpossible as error:
            raise TransferFailed(str(error), outcome="none") from error
        leader = raft.leader_role
        assert leader is not None and leader.transfer is not None
        return Reply(target=leader.transfer.target, term=raft.term)

    def _change(self, call: Call, now: float, wall_ms: int) -> Reply:
        raft = self._raft
        membership = raft.membership
        view = view_of(raft, self._lags, wall_ms)
        if standing(membership, call.change) is not Standing.OPEN:
            return Reply(plan=plan_answer(view, None)) if call.dry_run else Reply(version=membership.version)
        if call.if_match is not None and call.if_match != membership.version:
            raise MembershipOutdated(f"the membership is at version {membership.version}, not {call.if_match}")
        leader = raft.leader_role
        assert leader is not None
        if raft.commit_index < leader.first_index:
            raise NotCommittedInTerm
        if membership.is_joint or raft.log.membership_index > raft.commit_index:
            raise ChangePending
        found = plan(view, call.change, force=call.force)
        if call.dry_run:
            return Reply(plan=plan_answer(view, found))
        try:
            raft.step(ProposeMembership(now=now, target=found.target, base_version=membership.version, time_ms=wall_ms))
        except (MembershipChangePending, OutdatedInCore) as error:
            raise ChangePending(str(error)) from error
        except NotLeader as error:
            raise NoLeader from error
        except Refusal as error:
            raise ChangePending(str(error)) from error
        return Reply(version=raft.membership.version)
