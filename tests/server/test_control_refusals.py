"""Calls about members and the leader that are refused, each by its name."""

from raftwright.client.member_models import (
    ReplaceRequest,
)
from raftwright.server.errors import (
    ChangePending,
    Lagging,
    LastVoter,
    MemberAlive,
    MembershipOutdated,
    NameTaken,
    NoQuorumLeft,
    NotCommittedInTerm,
    StoreTaken,
    TransferFailed,
    UnknownMember,
)
from raftwright.server.membership_requests import Call, addition_of, replacement_of
from tests.server.drivers import Cluster
from tests.server.test_control import change, cluster_of, node, refusal, roles

# Refused, each by its name


def test_refused_a_second_change_while_one_is_in_flight() -> None:
    cluster, leader, other = cluster_of(3)
    cluster[leader].ask(change(remove=[other]), object(), cluster.now)
    cluster.run(leader)
    third = ({1, 2, 3} - {leader, other}).pop()
    token = object()
    cluster[leader].ask(change(demote=[third]), token, cluster.now)
    cluster.run(leader)
    (done,) = (done for done in cluster.controls if done.token is token)
    assert isinstance(refusal(done), ChangePending)


def new_leader(cluster: Cluster, leader: int, other: int) -> None:
    """Hand leadership over, up to where the new leader has committed nothing yet."""
    cluster[leader].transfer_leadership(other, cluster.now)
    for number in [*cluster.drivers] * 20:
        if not cluster[other].is_leader:
            cluster.run(number)
        if not cluster[other].is_leader:
            cluster.deliver()
        if cluster.persists[number] and not cluster[other].is_leader:
            cluster.sync(number)
    assert cluster[other].is_leader


def test_refused_while_the_leader_has_not_committed_in_its_term() -> None:
    cluster, leader, other = cluster_of(3, request_timeout_s=0.3)
    new_leader(cluster, leader, other)
    cluster.network.clear()
    cluster.cut.update(set(cluster.drivers) - {other})
    assert isinstance(refusal(cluster.ask(other, change(demote=[leader]))), NotCommittedInTerm)


def test_a_change_waits_for_the_leader_to_commit_in_its_term() -> None:
    cluster, leader, other = cluster_of(3)
    new_leader(cluster, leader, other)
    assert roles(cluster.ask(other, change(demote=[leader])))[leader] == "learner"


def test_refused_the_last_voter() -> None:
    cluster, leader, _ = cluster_of(1)
    assert isinstance(refusal(cluster.ask(leader, change(remove=[leader]))), LastVoter)
    assert isinstance(refusal(cluster.ask(leader, change(demote=[leader], force=True))), LastVoter)


def test_refused_too_few_reachable_voters_unless_forced() -> None:
    cluster, leader, other = cluster_of(3)
    third = ({1, 2, 3} - {leader, other}).pop()
    cluster.cut.add(third)
    cluster.wait(1.0)
    done = cluster.ask(leader, change(remove=[other]))
    assert isinstance(refusal(done), NoQuorumLeft)
    assert f"n{third}" in refusal(done).detail
    cluster[leader].ask(change(remove=[other], force=True), object(), cluster.now)
    cluster.run(leader)
    assert cluster[leader].raft.membership.is_joint
    cluster.cut.clear()
    cluster.wait(1.0)
    assert not cluster[leader].raft.membership.is_joint


def test_refused_an_outdated_view() -> None:
    cluster, _, other = cluster_of(3)
    assert isinstance(refusal(cluster.ask(other, change(remove=[other], if_match=9))), MembershipOutdated)


def test_refused_to_promote_one_that_lags_with_its_lag() -> None:
    cluster, leader, _ = cluster_of(3)
    cluster.ask(leader, Call(kind="change", change=addition_of(node(4, role="learner"))))
    cluster.write(leader, "k", 1)
    cluster.wait(1.0)
    error = refusal(cluster.ask(leader, change(promote=[4])))
    assert isinstance(error, Lagging)
    assert "1 commands" in error.detail


def test_refused_a_name_or_store_of_another() -> None:
    cluster, leader, _ = cluster_of(3)
    taken = cluster.ask(leader, Call(kind="change", change=addition_of(node(2, store_id="f" * 32))))
    assert isinstance(refusal(taken), NameTaken)
    assert "--rejoin" in refusal(taken).detail
    twice = cluster.ask(leader, Call(kind="change", change=addition_of(node(2, name="other"))))
    assert isinstance(refusal(twice), StoreTaken)


def test_refused_to_replace_one_that_lives_where_only_a_dead_one_is_meant() -> None:
    cluster, leader, other = cluster_of(3)
    request = ReplaceRequest(old=f"n{other}", new=node(4, name=f"n{other}"))
    done = cluster.ask(leader, Call(kind="change", change=replacement_of(request, only_dead=True)))
    assert isinstance(refusal(done), MemberAlive)


def test_refused_unknown_members() -> None:
    cluster, leader, _ = cluster_of(3)
    for call in (change(promote=["nobody"]), change(demote=[9]), change(remove=[9])):
        assert isinstance(refusal(cluster.ask(leader, call)), UnknownMember)


def test_refused_leadership_for_a_learner() -> None:
    cluster, leader, _ = cluster_of(3)
    cluster.start(4)
    cluster.ask(leader, Call(kind="change", change=addition_of(node(4, role="learner"))))
    assert isinstance(refusal(cluster.ask(leader, Call(kind="transfer", to=4))), TransferFailed)
