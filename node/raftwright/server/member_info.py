"""The answer of `GET /v1/members`: the membership, with what the leader knows of each member. Read only."""

from raftwright.client.member_models import MemberAddresses, MemberInfo, MemberLag, MembersAnswer
from raftwright.raft import catch_up
from raftwright.raft.membership import Membership
from raftwright.raft.raft import Raft
from raftwright.server.lags import Lags
from raftwright.server.membership_plans import View


def members_answer(raft: Raft, membership: Membership, lags: Lags, now_ms: int) -> MembersAnswer:
    """`membership` as this node knows it; progress only where this node leads."""
    leader = raft.leader_role
    members = []
    for key, member in sorted(membership.members.items()):
        match_index = lag = contact_s = None
        if leader is not None:
            progress = leader.progress.get(key)
            if key == raft.member_id:
                match_index, contact_s = raft.durability.persisted_index, 0.0
            elif progress is not None:
                match_index, contact_s = progress.match_index, round(max(0.0, raft.now - progress.contact_at), 3)
            if match_index is not None:
                lag = MemberLag(**lags.behind(match_index, now_ms)._asdict())
        members.append(
            MemberInfo(
                id=key,
                name=member.name,
                store_id=member.store_id,
                addresses=MemberAddresses(peer=member.addresses.peer, client=member.addresses.client),
                role="voter" if key in membership.all_voters else "learner",
                leaving=key in membership.outgoing_voters - membership.voters,
                leader=key == raft.leader_id,
                intent=dict(member.intent),
                metadata=dict(member.metadata),
                match_index=match_index,
                lag=lag,
                last_contact_s=contact_s,
            )
        )
    return MembersAnswer(version=membership.version, joint=membership.is_joint, leader=raft.leader_id, members=members)


def view_of(raft: Raft, lags: Lags, now_ms: int) -> View:
    """What a plan is made from. This node leads."""
    leader = raft.leader_role
    assert leader is not None
    membership = raft.membership
    behind = {key: lags.behind(progress.match_index, now_ms) for key, progress in leader.progress.items()}
    return View(
        membership=membership,
        leader=raft.own_id,
        reachable=frozenset(key for key in membership.members if catch_up.is_reachable(raft, leader, key)),
        caught_up=frozenset(
            key
            for key in membership.learners
            if key in leader.progress and catch_up.has_caught_up(raft, leader.progress[key])
        ),
        lags={key: f"{lag.commands} commands, {lag.bytes} bytes, {lag.seconds} s" for key, lag in behind.items()},
    )
