"""Quorum arithmetic against a dumb twin that counts every subset."""

from itertools import combinations

from hypothesis import given
from hypothesis import strategies as st

from raftwright.raft.membership import Membership

VOTERS = st.frozensets(st.integers(1, 6), min_size=1, max_size=6)


def is_quorum(half: frozenset[int], agreeing: set[int]) -> bool:
    """The definition: no other set of the same kind fits beside it."""
    return len(half & agreeing) > len(half - agreeing)


def subsets(half: frozenset[int]) -> list[set[int]]:
    return [set(chosen) for size in range(len(half) + 1) for chosen in combinations(sorted(half), size)]


@given(voters=VOTERS, outgoing=VOTERS | st.just(frozenset()), agreeing=st.sets(st.integers(1, 8)))
def test_a_quorum_is_a_majority_of_every_half(
    voters: frozenset[int], outgoing: frozenset[int], agreeing: set[int]
) -> None:
    membership = Membership(voters=voters, outgoing_voters=outgoing)
    expected = is_quorum(voters, agreeing) and (not outgoing or is_quorum(outgoing, agreeing))
    assert membership.has_quorum(agreeing) == expected


@given(
    voters=VOTERS, outgoing=VOTERS | st.just(frozenset()), matches=st.lists(st.integers(0, 9), min_size=7, max_size=7)
)
def test_the_committed_index_is_the_highest_that_some_quorum_holds(
    voters: frozenset[int], outgoing: frozenset[int], matches: list[int]
) -> None:
    membership = Membership(voters=voters, outgoing_voters=outgoing)

    def held_by_a_quorum(index: int) -> bool:
        holding = {voter for voter in voters | outgoing if matches[voter] >= index}
        return is_quorum(voters, holding) and (not outgoing or is_quorum(outgoing, holding))

    committed = membership.committed_index(lambda voter: matches[voter])
    assert committed == max(index for index in range(10) if held_by_a_quorum(index))
    heard = membership.quorum_time(lambda voter: float(matches[voter]))
    assert heard == committed


@given(voters=VOTERS, learners=st.frozensets(st.integers(7, 9)))
def test_learners_count_in_no_quorum(voters: frozenset[int], learners: frozenset[int]) -> None:
    membership = Membership(voters=voters, learners=learners)
    assert not membership.has_quorum(learners)
    assert membership.committed_index(lambda member: 5 if member in learners else 1) == 1


@given(voters=VOTERS)
def test_any_two_quorums_share_a_voter(voters: frozenset[int]) -> None:
    membership = Membership(voters=voters)
    quorums = [chosen for chosen in subsets(voters) if membership.has_quorum(chosen)]
    assert quorums
    assert all(one & other for one in quorums for other in quorums)


@given(voters=VOTERS, outgoing=VOTERS)
def test_a_joint_quorum_overlaps_with_every_quorum_of_either_half(
    voters: frozenset[int], outgoing: frozenset[int]
) -> None:
    joint = Membership(voters=voters, outgoing_voters=outgoing)
    for half in (voters, outgoing):
        alone = [chosen for chosen in subsets(half) if Membership(voters=half).has_quorum(chosen)]
        together = [chosen for chosen in subsets(voters | outgoing) if joint.has_quorum(chosen)]
        assert all(one & other for one in alone for other in together)


@given(voters=VOTERS, refusing=st.sets(st.integers(1, 6)))
def test_an_election_is_lost_when_the_rest_is_no_quorum(voters: frozenset[int], refusing: set[int]) -> None:
    membership = Membership(voters=voters)
    assert membership.has_lost(refusing) == (not membership.has_quorum(voters - refusing))


def test_a_membership_without_voters_decides_nothing() -> None:
    assert not Membership().has_quorum({1, 2, 3})
    assert Membership().committed_index(lambda _: 9) == 0
    assert Membership().quorum_time(lambda _: 9.0) == float("-inf")
