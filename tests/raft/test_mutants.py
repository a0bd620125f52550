"""The faults that matter most, each built into the core on purpose: the chaos must find every one of them.

A test that cannot fail proves nothing; here the tests are tested.
"""

from dataclasses import replace

import pytest

from raftwright.raft import commitment, election, membership
from raftwright.raft.entries import EntryId
from raftwright.raft.messages import RaftMessage, RequestVote
from raftwright.raft.raft import Raft
from raftwright.raft.roles import Leader
from tests.raft.chaos import Chaos


def finds_something(voters: int, seeds: int = 30) -> bool:
    for seed in range(seeds):
        chaos = Chaos(seed, voters=voters)
        try:
            chaos.run(3000)
            chaos.calm()
        except AssertionError:
            return True
    return False


def test_without_a_fault_nothing_is_found() -> None:
    assert not finds_something(3, seeds=3)


@pytest.mark.parametrize("voters", [2, 4])
def test_a_commit_by_half_of_an_even_cluster_is_found(monkeypatch: pytest.MonkeyPatch, voters: int) -> None:
    monkeypatch.setattr(membership, "quorum_value", lambda values: (ordered := sorted(values))[len(ordered) // 2])
    assert finds_something(voters)


def test_two_votes_in_a_term_are_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(election, "_is_free_to_vote_for", lambda raft, candidate: True)
    assert finds_something(3)


def test_a_commit_of_an_earlier_term_by_counting_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    become_leader = Raft.become_leader

    def careless(raft: Raft) -> None:
        become_leader(raft)
        assert isinstance(raft.role, Leader)
        raft.role.first_index = 0

    monkeypatch.setattr(Raft, "become_leader", careless)
    assert finds_something(3)


def test_a_leader_that_counts_itself_before_its_disk_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    match_index = commitment.match_index

    def early(raft: Raft, leader: Leader, voter: int) -> int:
        return raft.log.last_index if voter == raft.member_id else match_index(raft, leader, voter)

    monkeypatch.setattr(commitment, "match_index", early)
    assert finds_something(3)


def test_a_vote_for_a_log_that_is_behind_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    on_request_vote = election.on_request_vote

    def careless(raft: Raft, message: RequestVote) -> None:
        on_request_vote(raft, replace(message, last=EntryId(1 << 30, 1 << 30)))

    monkeypatch.setattr(election, "on_request_vote", careless)
    monkeypatch.setattr(election, "start_pre_vote", lambda raft: election.start_election(raft, transfer=False))
    assert finds_something(3)


def test_a_promise_that_leaves_before_the_disk_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    def hasty(raft: Raft, message: RaftMessage, *, promises: bool) -> None:
        raft._messages.append(message)

    monkeypatch.setattr(Raft, "send", hasty)
    assert finds_something(3)
