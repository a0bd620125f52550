"""Calls about members and the leader on whole drivers: from any node, through joint changes, with every refusal."""

from typing import Any

import pytest

from raftwright.client.member_models import (
    MemberAddresses,
    MembersAnswer,
    NewMember,
    PlanAnswer,
    ReplaceRequest,
    TransferAnswer,
    UpdateRequest,
)
from raftwright.server.effects import ControlDone
from raftwright.server.errors import (
    ChangeUndone,
    LastVoter,
    MembershipOutdated,
    NotCommittedInTerm,
    ServiceError,
    ShuttingDown,
)
from raftwright.server.membership_requests import Call, Change, addition_of, replacement_of, update_of
from tests.server.drivers import Cluster


def node(number: int, **known: Any) -> NewMember:
    addresses = MemberAddresses(peer=f"h{number}:1", client=f"h{number}:2")
    return NewMember(**{"name": f"n{number}", "store_id": f"{number:032x}", "addresses": addresses, **known})


def change(**parts: Any) -> Call:
    options = {name: parts.pop(name) for name in ("if_match", "force", "dry_run") if name in parts}
    return Call(kind="change", change=Change(**parts), **options)


def cluster_of(size: int = 3, **settings: Any) -> tuple[Cluster, int, int]:
    """A cluster with its leader and another member."""
    cluster = Cluster(size, **settings)
    leader = cluster.elect()
    return cluster, leader, next((number for number in cluster.drivers if number != leader), leader)


def members(done: ControlDone) -> MembersAnswer:
    assert done.error is None, done.error
    assert isinstance(done.answer, MembersAnswer)
    return done.answer


def roles(done: ControlDone) -> dict[int, str]:
    answer = members(done)
    assert not answer.joint
    return {member.id: member.role for member in answer.members}


def refusal(done: ControlDone) -> ServiceError:
    assert done.error is not None, done.answer
    assert done.error.outcome == "none"
    return done.error


# Done


@pytest.mark.parametrize("at", ["leader", "follower"])
def test_a_voter_is_added_by_a_call_to_any_node(at: str) -> None:
    cluster, leader, other = cluster_of(3)
    cluster.start(4)
    done = cluster.ask(leader if at == "leader" else other, Call(kind="change", change=addition_of(node(4))))
    assert done.status == 200
    assert roles(done) == {1: "voter", 2: "voter", 3: "voter", 4: "voter"}


def test_a_voter_that_does_not_come_is_answered_202_and_promoted_later() -> None:
    cluster, leader, _ = cluster_of(1, request_timeout_s=1.0)
    call = Call(kind="change", change=addition_of(node(2)))
    done = cluster.ask(leader, call)
    assert done.status == 202
    assert roles(done) == {1: "voter", 2: "learner"}
    assert members(done).members[1].intent == {"promote": 2}
    cluster.start(2)
    again = cluster.ask(leader, call)
    assert (again.status, roles(again)) == (200, {1: "voter", 2: "voter"})


def test_one_to_three_in_one_change() -> None:
    cluster, leader, _ = cluster_of(1)
    for number in (2, 3):
        cluster.start(number)
    change_ = Change(add=[*addition_of(node(2)).add, *addition_of(node(3)).add])
    assert roles(cluster.ask(leader, Call(kind="change", change=change_))) == {1: "voter", 2: "voter", 3: "voter"}
    assert cluster[leader].raft.membership.version == 4, "learners, joint, final: no even number of voters in between"


def test_a_learner_enters_at_once_and_is_promoted_and_demoted_by_call() -> None:
    cluster, leader, other = cluster_of(3)
    cluster.start(4)
    added = cluster.ask(other, Call(kind="change", change=addition_of(node(4, role="learner"))))
    assert roles(added)[4] == "learner"
    cluster.wait(0.3)
    assert roles(cluster.ask(other, change(promote=["n4"])))[4] == "voter"
    assert roles(cluster.ask(other, change(demote=[4])))[4] == "learner"
    assert roles(cluster.ask(leader, change(demote=[4])))[4] == "learner", "again"


def test_the_leader_is_removed_by_a_call_to_itself_and_hands_over_first() -> None:
    cluster, leader, _ = cluster_of(3)
    term = cluster[leader].raft.term
    done = cluster.ask(leader, change(remove=[leader]))
    assert set(roles(done)) == {1, 2, 3} - {leader}
    cluster.wait(1.0)
    (now,) = (number for number, driver in cluster.drivers.items() if driver.is_leader)
    assert cluster[now].raft.term == term + 1
    assert cluster[leader].raft.committed_membership.was_removed(leader)


def test_a_dead_voter_is_replaced_in_one_joint_change() -> None:
    cluster, leader, other = cluster_of(3)
    third = ({1, 2, 3} - {leader, other}).pop()
    del cluster.drivers[third]
    del cluster.persists[third]
    cluster.wait(1.0)
    cluster.start(4)
    request = ReplaceRequest(old=third, new=node(4, name=f"n{third}"))
    done = cluster.ask(other, Call(kind="change", change=replacement_of(request, only_dead=True)))
    assert roles(done) == {leader: "voter", other: "voter", 4: "voter"}
    assert next(member.name for member in members(done).members if member.id == 4) == f"n{third}"
    again = cluster.ask(leader, Call(kind="change", change=replacement_of(request)))
    assert again.status == 200 and roles(again) == roles(done)


def test_addresses_and_metadata_change_without_votes() -> None:
    cluster, leader, other = cluster_of(3)
    moved = MemberAddresses(peer="new:1", client="new:2")
    request = UpdateRequest(addresses=moved, metadata={"zone": "b"})
    done = cluster.ask(other, Call(kind="change", change=update_of(leader, request)))
    found = next(member for member in members(done).members if member.id == leader)
    assert (found.addresses, found.metadata) == (moved, {"zone": "b"})
    assert cluster[leader].is_leader, "it goes on leading under its new address"
    assert members(done).version == 2


def test_a_change_is_answered_although_the_leader_that_took_it_dies() -> None:
    cluster, leader, other = cluster_of(3)
    cluster.start(4)
    token = object()
    cluster[other].ask(Call(kind="change", change=addition_of(node(4))), token, cluster.now)
    cluster.run(other)
    cluster.deliver()
    cluster.cut.add(leader)
    cluster.wait(3.0)
    (done,) = (done for done in cluster.controls if done.token is token)
    assert set(roles(done)) == {1, 2, 3, 4}


def test_a_change_in_the_log_of_a_leader_that_lost_it_is_asked_again() -> None:
    cluster, leader, _ = cluster_of(3)
    cluster.cut.add(leader)
    token = object()
    cluster[leader].ask(Call(kind="change", change=addition_of(node(4, role="learner"))), token, cluster.now)
    cluster.run(leader)
    assert cluster[leader].raft.membership.version == 2, "in its log only"
    cluster.wait(2.0)
    assert not cluster[leader].is_leader
    cluster.cut.clear()
    cluster.wait(2.0)
    (done,) = (done for done in cluster.controls if done.token is token)
    assert roles(done)[4] == "learner"


def test_what_somebody_undid_meanwhile_is_not_done_anew() -> None:
    cluster, leader, other = cluster_of(3)
    token = object()
    cluster[other].ask(Call(kind="change", change=addition_of(node(4))), token, cluster.now)
    cluster.wait(0.3)
    assert 4 in cluster[leader].raft.committed_membership.members
    cluster.ask(leader, change(remove=[4]))
    cluster.wait(0.3)
    (done,) = (done for done in cluster.controls if done.token is token)
    assert isinstance(done.error, ChangeUndone)
    assert 4 not in cluster[leader].raft.membership.members
    assert cluster[leader].raft.membership.last_member_id == 4


def test_a_node_that_stops_answers_the_calls_that_wait() -> None:
    cluster, leader, other = cluster_of(3)
    waiting, asked = object(), object()
    cluster[other].ask(Call(kind="change", change=addition_of(node(4))), waiting, cluster.now)
    cluster.wait(0.5)
    cluster.cut.add(other)
    cluster[other].ask(change(demote=[leader]), asked, cluster.now)
    cluster.run(other)
    cluster[other].close()
    cluster.run(other)
    done = {done.token: done for done in cluster.controls}
    assert done[waiting].status == 202
    error = done[asked].error
    assert error is not None and error.outcome == "unknown"
    with pytest.raises(ShuttingDown):
        cluster[other].ask(change(demote=[leader]), object(), cluster.now)


def test_a_repeat_holds_before_anything_else_is_looked_at() -> None:
    cluster, leader, _ = cluster_of(3)
    cluster.start(4)
    call = Call(kind="change", change=addition_of(node(4, role="learner")), if_match=1)
    version = members(cluster.ask(leader, call)).version
    again = cluster.ask(leader, call)
    assert (again.status, members(again).version) == (200, version), "though the version is not 1 any more"
    removal = change(remove=["n4"], if_match=version)
    assert 4 not in roles(cluster.ask(leader, removal))
    assert cluster.ask(leader, removal).status == 200


def test_two_controllers_that_saw_the_same_version_do_not_both_act() -> None:
    cluster, leader, other = cluster_of(5)
    first, second = object(), object()
    voters = sorted(set(cluster.drivers) - {leader, other})
    cluster[leader].ask(change(remove=[voters[0]], if_match=1), first, cluster.now)
    cluster[other].ask(change(remove=[voters[1]], if_match=1), second, cluster.now)
    cluster.wait(1.0)
    done = {done.token: done for done in cluster.controls}
    assert isinstance(refusal(done[second]), MembershipOutdated)
    assert voters[0] not in roles(done[first]) and voters[1] in roles(done[first])


def test_leadership_goes_to_whom_it_is_asked_to_and_the_answer_waits_for_it() -> None:
    cluster, leader, other = cluster_of(3)
    done = cluster.ask(other, Call(kind="transfer", to=f"n{other}"))
    assert isinstance(done.answer, TransferAnswer)
    assert done.answer.leader == other and cluster[other].is_leader
    assert cluster.ask(leader, Call(kind="transfer", to=other)).answer.leader == other, "it leads already"
    third = cluster.ask(leader, Call(kind="transfer"))
    assert third.answer.leader != other


def test_members_are_listed_with_their_lag() -> None:
    cluster, leader, other = cluster_of(3)
    third = ({1, 2, 3} - {leader, other}).pop()
    cluster.cut.add(third)
    for number in range(5):
        cluster.write(leader, f"k{number}", number)
        cluster.settle()
    cluster.wait(0.5)
    found = {member.id: member for member in members(cluster.ask(other, Call(kind="members"))).members}
    behind, level = found[third].lag, found[other].lag
    assert behind is not None and level is not None
    assert (behind.commands, level.commands) == (5, 0)
    assert behind.bytes > 0 and 0.4 < behind.seconds < 0.7
    assert 0.4 < (found[third].last_contact_s or 0) < 0.7
    assert found[other].match_index == cluster[leader].raft.log.last_index


# Plans


def plan_of(cluster: Cluster, leader: int, call: Call) -> list[tuple[str, int, int, int]]:
    before = cluster[leader].raft.log.last_id
    done = cluster.ask(leader, call)
    assert isinstance(done.answer, PlanAnswer), done.error
    assert cluster[leader].raft.log.last_id == before, "a plan changes nothing"
    return [(s.step, s.tolerated_before, s.tolerated_during, s.tolerated_after) for s in done.answer.steps]


def test_a_plan_says_its_steps_and_what_each_tolerates() -> None:
    cluster, leader, _ = cluster_of(1)
    grow = Change(add=[*addition_of(node(2)).add, *addition_of(node(3)).add])
    assert plan_of(cluster, leader, Call(kind="change", change=grow, dry_run=True)) == [
        ("add n2, n3 as non-voting; wait until n2, n3 caught up", 0, 0, 0),
        ("in one joint change: promote n2, n3", 0, 0, 1),
    ]


def test_a_plan_to_remove_the_leader_begins_with_the_hand_over() -> None:
    cluster, leader, _ = cluster_of(3)
    steps = plan_of(cluster, leader, change(remove=[leader], dry_run=True))
    assert [step for step, *_ in steps] == [
        "note what is to be done",
        "the leader hands leadership over to a voter that stays",
        f"in one joint change: remove n{leader}",
    ]
    assert steps[-1][1:] == (1, 0, 0)


def test_a_plan_counts_those_that_are_away() -> None:
    cluster, leader, other = cluster_of(3)
    third = ({1, 2, 3} - {leader, other}).pop()
    cluster.cut.add(third)
    cluster.wait(1.0)
    replace_ = ReplaceRequest(old=third, new=node(4))
    steps = plan_of(cluster, leader, Call(kind="change", change=replacement_of(replace_), dry_run=True))
    assert [numbers for _, *numbers in steps] == [[0, 0, 0], [0, 0, 1]]


def test_a_plan_for_what_holds_already_is_empty_and_a_refusal_is_one() -> None:
    cluster, leader, _ = cluster_of(1)
    assert plan_of(cluster, leader, change(promote=[leader], dry_run=True)) == []
    assert isinstance(refusal(cluster.ask(leader, change(remove=[leader], dry_run=True))), LastVoter)


# The committed membership, for who deletes by it


def test_a_linearizable_membership_is_the_committed_one() -> None:
    cluster, leader, _ = cluster_of(3)
    cluster.cut = {leader}
    cluster[leader].ask(change(demote=[leader % 3 + 1]), object(), cluster.now)
    cluster.wait(0.05)
    raft = cluster[leader].raft
    assert raft.membership.version > raft.committed_membership.version, "proposed, and nobody else has it"
    known = members(cluster.ask(leader, Call(kind="members")))
    assert (known.version, known.joint) == (raft.membership.version, True)
    committed = members(cluster.ask(leader, Call(kind="members", linearizable=True)))
    assert (committed.version, committed.joint) == (raft.committed_membership.version, False)
    assert {member.role for member in committed.members} == {"voter"}


@pytest.mark.parametrize("bound", ["term_min", "version_min"])
def test_a_leader_that_is_behind_does_not_answer_for_the_membership(bound: str) -> None:
    cluster, leader, other = cluster_of(3, request_timeout_s=1.0)
    raft = cluster[leader].raft
    now: dict[str, Any] = {"term_min": raft.term, "version_min": raft.committed_membership.version}
    for asked in (leader, other):
        assert members(cluster.ask(asked, Call(kind="members", linearizable=True, **now))).leader == leader
        later = {**now, bound: now[bound] + 1}
        refused = refusal(cluster.ask(asked, Call(kind="members", linearizable=True, **later)))
        assert isinstance(refused, NotCommittedInTerm)


def test_without_a_leader_there_is_no_linearizable_membership() -> None:
    cluster, _, other = cluster_of(3, request_timeout_s=1.0)
    for number in {1, 2, 3} - {other}:
        del cluster.drivers[number]
        del cluster.persists[number]
    cluster.wait(3.0)
    assert members(cluster.ask(other, Call(kind="members"))).leader is None
    assert refusal(cluster.ask(other, Call(kind="members", linearizable=True))).kind == "no-leader"
