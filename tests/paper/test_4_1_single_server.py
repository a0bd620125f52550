"""§4.1 Why a leader changes no membership before it committed in its own term, shown by leaving that out.

Single-server changes need the rule: without it two leaders of different terms each commit a change, the bug found in
2015, for {2, 3, 4} and {1, 2, 3, 4, 5} have majorities without a common voter. Joint changes (§4.3) are safe without
it; it is kept because the dissertation has it, and the simulator looks at the rule itself. Why they are: let A be the
newest membership in the log of a leader of term T, and committed, for else it changes nothing. By leader
completeness (§3.6.3) no newer one was committed in a term before T. Whatever was begun from A since is joint with A, or
has its voters, and so has what this leader begins: all of them elect and commit with a majority of A. Any two of those
share a voter, who holds the newer entry or knows the newer term, and refuses the older one.
"""

from dataclasses import replace

import pytest

from raftwright.raft import membership_changes
from raftwright.raft.errors import MembershipChangePending
from raftwright.raft.membership import Membership
from tests.paper.test_4_membership_failures import elect, leads, only_between
from tests.raft.cluster import Cluster
from tests.sim.member_mutants import change_before_own_commit


def in_one_step(patch: pytest.MonkeyPatch) -> None:
    """Every change is appended as it is asked for, of one server or of none at a time."""

    def single(current: Membership, target: Membership) -> Membership:
        assert len(current.voters ^ target.voters) <= 1
        return replace(target, version=current.version + 1)

    patch.setattr(membership_changes, "next_membership", single)


def elect_unheard(cluster: Cluster, member_id: int) -> None:
    """Let it win, and lose all that it says as a leader."""
    cluster.now += 2 * cluster.settings.election_timeout_s
    cluster.tick(member_id)
    while not leads(cluster, member_id):
        for number in sorted(cluster.stores):
            if not leads(cluster, member_id):
                cluster.settle(number)
        if not leads(cluster, member_id):
            cluster.deliver(cluster.network.pop(0))
    cluster.settle(member_id)
    cluster.network.clear()


def two_changes() -> Cluster:
    """1 appends {1…5} and nobody hears of it; 2 is elected by 3 and 4, and at once takes 1 out with the help of 3."""
    cluster = Cluster(4)
    cluster.start(5)
    elect(cluster, 1)
    only_between(cluster, {2, 3, 4})
    cluster.change([1, 2, 3, 4, 5], at=1)
    cluster.deliver_all()
    elect_unheard(cluster, 2)
    only_between(cluster, {2, 3})
    cluster.change([2, 3, 4], at=2)
    cluster.run(0.3)
    return cluster


def let_1_win_with_4_and_5(cluster: Cluster) -> None:
    only_between(cluster, {1, 4, 5}, {2, 3})
    cluster.run(5.0)


def test_4_1_single_server_changes_without_the_rule_lose_what_is_committed(monkeypatch: pytest.MonkeyPatch) -> None:
    in_one_step(monkeypatch)
    change_before_own_commit(monkeypatch)
    cluster = two_changes()
    assert cluster[2].raft.committed_membership.voters == {2, 3, 4}
    with pytest.raises(AssertionError, match="member 1 applied another"):
        let_1_win_with_4_and_5(cluster)
    assert cluster[1].raft.membership.voters == {1, 2, 3, 4, 5}


def test_4_1_single_server_changes_are_safe_with_the_rule(monkeypatch: pytest.MonkeyPatch) -> None:
    in_one_step(monkeypatch)
    with pytest.raises(MembershipChangePending, match="in its term"):
        two_changes()


def test_4_3_joint_changes_are_safe_without_the_rule(monkeypatch: pytest.MonkeyPatch) -> None:
    change_before_own_commit(monkeypatch)
    cluster = two_changes()
    assert cluster[2].raft.membership.is_joint
    assert cluster[2].raft.committed_membership.version == 1, "2 and 3 are no majority of the four"
    let_1_win_with_4_and_5(cluster)
    assert not leads(cluster, 1), "1, 4 and 5 are none either"
    cluster.heal()
    cluster.run(5.0)
    found = [cluster[number].raft.committed_membership for number in (1, 2, 3, 4)]
    assert len({membership.version for membership in found}) == 1
    assert found[0].voters in ({1, 2, 3, 4, 5}, {2, 3, 4})
    cluster.check_logs_match()
