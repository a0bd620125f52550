"""The sans-I/O driver: what is answered when, what shares a round, and what every failed write says."""

import pytest

from raftwright.client.models import NotFound
from raftwright.kv.commands import Delete, encode_command
from raftwright.raft.messages import AppendEntries, VoteReply
from raftwright.raft.ready import ReadAnswer
from raftwright.server.effects import Effects
from raftwright.server.errors import (
    NoLeader,
    ProposalRefused,
    RequestTimeout,
    ShuttingDown,
    TooManyRequests,
)
from raftwright.server.reads import Reads
from tests.server.drivers import Cluster, put


def test_a_write_is_answered_once_it_is_durable_on_a_quorum_and_applied() -> None:
    cluster = Cluster(3)
    leader = cluster.elect()
    followers = [number for number in cluster.drivers if number != leader]
    cluster.write(leader, "k", "write")
    cluster.run(leader)
    cluster.deliver()
    assert cluster.answer_of("write") is None, "nobody has it on disk"
    cluster.sync(leader)
    cluster.deliver()
    assert cluster.answer_of("write") is None, "the leader alone has it on disk"
    cluster.sync(followers[0])
    cluster.deliver()
    answer = cluster.answer_of("write")
    assert answer is not None
    assert answer.error is None
    assert cluster[leader].state.machine.decode_results(answer.encoded or b"") == [1]


def test_two_followers_commit_before_the_leaders_own_disk_is_done() -> None:
    cluster = Cluster(3)
    leader = cluster.elect()
    cluster.write(leader, "k", "write")
    cluster.run(leader)
    cluster.deliver()
    for follower in set(cluster.drivers) - {leader}:
        cluster.sync(follower)
    cluster.deliver()
    assert cluster.persists[leader], "the leader's own write is still under way"
    assert cluster.answer_of("write") is not None


def test_no_vote_leaves_before_it_is_on_disk() -> None:
    cluster = Cluster(3)
    cluster.wait(0.6, settle=False)
    while not any(cluster.persists.values()):
        cluster.wait(0.01, settle=False)
        cluster.deliver()
    candidate = next(number for number, waiting in cluster.persists.items() if waiting)
    cluster.sync(candidate)
    cluster.deliver()
    voters = [number for number in cluster.drivers if number != candidate]
    assert all(cluster.persists[voter][0].hard_state is not None for voter in voters)
    assert not cluster[candidate].is_leader, "votes counted that are on no disk"
    cluster.sync(voters[0])
    votes = [message for _, message in cluster.network if isinstance(message, VoteReply)]
    assert [vote.from_id for vote in votes] == [voters[0]]
    cluster.deliver()
    assert cluster[candidate].is_leader


def test_what_arrives_during_a_round_shares_the_next_entry_and_its_one_write() -> None:
    cluster = Cluster(1)
    cluster.elect()
    cluster.write(1, "first", "first")
    cluster.run(1)
    for number in range(50):
        cluster.write(1, f"k{number}", number)
        cluster.run(1)
    assert len(cluster.persists[1]) == 1
    last = cluster[1].raft.log.last_id.index
    cluster.sync(1)
    assert cluster[1].raft.log.last_id.index == last + 1, "fifty writes are one entry"
    assert len(cluster.persists[1]) == 1
    cluster.settle()
    assert all(cluster.answer_of(number) is not None for number in range(50))


def test_an_entry_is_bounded_and_a_round_may_hold_several() -> None:
    cluster = Cluster(1, entry_bytes_max=1000)
    cluster.elect()
    before = cluster[1].raft.log.last_id.index
    for number in range(30):
        cluster.write(1, f"{number:0100}", number)
    cluster.run(1)
    assert 3 < cluster[1].raft.log.last_id.index - before < 10
    assert len(cluster.persists[1]) == 1
    cluster.settle()
    assert all(cluster.answer_of(number) is not None for number in range(30))


def test_single_commands_of_one_run_share_a_blob_and_each_gets_its_result() -> None:
    cluster = Cluster(1)
    cluster.elect()
    for number in range(3):
        cluster[1].write_one(*put(f"k{number}"), number)
    missing = Delete("absent")
    cluster[1].write_one(missing, encode_command(missing), 3)
    cluster.settle()
    (answer,) = cluster.answers
    assert answer.token == [0, 1, 2, 3]
    assert answer.results == [1, 2, 3, NotFound()]


def test_writes_wait_for_a_leader_and_say_none_when_there_is_none_in_time() -> None:
    cluster = Cluster(3)
    cluster.cut = {1, 2, 3}
    cluster.write(1, "k", "write")
    cluster.wait(5.2, settle=False)
    answer = cluster.answer_of("write")
    assert answer is not None
    assert isinstance(answer.error, RequestTimeout)
    assert answer.error.outcome == "none"


def test_a_write_proposed_without_a_quorum_is_unknown_when_leadership_is_lost() -> None:
    cluster = Cluster(3)
    leader = cluster.elect()
    cluster.cut = {leader}
    cluster.write(leader, "k", "write")
    cluster.wait(3.0)
    answer = cluster.answer_of("write")
    assert answer is not None
    assert answer.error is not None
    assert answer.error.outcome == "unknown"


def test_a_write_whose_place_another_leaders_entry_took_never_happened() -> None:
    cluster = Cluster(3)
    leader = cluster.elect()
    cluster.cut = {leader}
    cluster.write(leader, "lost", "write")
    cluster.run(leader)
    cluster.sync(leader)
    others = [number for number in cluster.drivers if number != leader]
    while not any(cluster[number].is_leader for number in others):
        cluster.wait(0.01)
    cluster.cut = set()
    cluster.wait(0.3)
    answer = cluster.answer_of("write")
    assert answer is not None
    assert isinstance(answer.error, ProposalRefused)
    assert answer.error.outcome == "none"
    assert all(cluster[number].state.machine.revision == 0 for number in cluster.drivers)  # type: ignore[attr-defined]


def test_a_write_that_the_next_leader_commits_is_answered_as_done() -> None:
    cluster = Cluster(3)
    leader = cluster.elect()
    cluster.write(leader, "k", "write")
    cluster.run(leader)
    cluster.deliver()
    cluster.cut = {leader}
    cluster.network.clear()
    others = [number for number in cluster.drivers if number != leader]
    while not any(cluster[number].is_leader for number in others):
        cluster.wait(0.01)
    cluster.cut = set()
    cluster.wait(0.3)
    answer = cluster.answer_of("write")
    assert answer is not None
    assert answer.error is None


def test_a_promise_about_what_a_write_under_way_holds_waits_for_that_write() -> None:
    cluster = Cluster(3)
    leader = cluster.elect()
    follower = next(number for number in cluster.drivers if number != leader)
    cluster.write(leader, "k", "write")
    effects = cluster.run(leader)
    (append,) = (m for m in effects.sends[follower] if isinstance(m, AppendEntries))
    cluster.deliver()
    cluster[follower].receive([append], cluster.now)  # once more: it has it in memory already
    again = cluster.run(follower)
    assert again.persist is None
    assert not again.sends, "it acknowledges what is not on its disk"
    cluster.sync(follower)
    assert len(cluster.effects[follower].sends[leader]) == 2


def test_a_full_queue_refuses_at_once() -> None:
    cluster = Cluster(1, pending_commands_max=2)
    cluster.elect()
    cluster.write(1, "a", "a")
    cluster.write(1, "b", "b")
    with pytest.raises(TooManyRequests):
        cluster.write(1, "c", "c")
    with pytest.raises(TooManyRequests):
        cluster[1].write_one(*put("d"), "d")
    cluster.settle()
    cluster.write(1, "c", "c")
    cluster.settle()
    assert cluster.answer_of("c") is not None


def test_all_reads_of_a_run_share_one_round() -> None:
    cluster = Cluster(3)
    leader = cluster.elect()
    before = cluster[leader].raft.read_rounds
    for number in range(64):
        cluster[leader].read(number, cluster.now)
    cluster.settle()
    assert [token for done in cluster.reads for token in done.tokens] == list(range(64))
    assert cluster[leader].raft.read_rounds == before + 1


def test_a_read_at_a_follower_waits_until_it_has_applied_what_the_leader_committed() -> None:
    cluster = Cluster(3)
    leader = cluster.elect()
    follower = next(number for number in cluster.drivers if number != leader)
    cluster.write(leader, "k", "write")
    cluster.settle()
    cluster[follower].read("read", cluster.now)
    cluster.settle()
    (done,) = cluster.reads
    assert done.error is None
    assert done.index >= cluster[leader].raft.commit_index


def test_a_read_waits_for_apply() -> None:
    reads, effects = Reads(reads_max=10), Effects()
    reads.add("read", deadline=9.0)
    context = reads.next_context(now=1.0)
    assert context is not None
    reads.answered(ReadAnswer(context=context, index=7), retry_at=1.0)
    reads.applied(6, effects)
    assert not effects.reads
    reads.applied(7, effects)
    assert [done.tokens for done in effects.reads] == [["read"]]


def test_a_read_without_a_leader_fails_in_time() -> None:
    cluster = Cluster(3)
    cluster.cut = {1, 2, 3}
    cluster[1].read("read", cluster.now)
    cluster.wait(5.2, settle=False)
    (done,) = cluster.reads
    assert isinstance(done.error, NoLeader)


def test_a_leader_that_is_cut_off_answers_no_read() -> None:
    cluster = Cluster(3)
    leader = cluster.elect()
    cluster.cut = {leader}
    cluster[leader].read("read", cluster.now)
    cluster.wait(4.9)
    assert not cluster.reads


def test_a_driver_that_closes_takes_nothing_new_and_finishes_what_it_has() -> None:
    cluster = Cluster(1)
    cluster.elect()
    cluster.write(1, "k", "write")
    cluster.run(1)
    cluster[1].close()
    with pytest.raises(ShuttingDown):
        cluster.write(1, "l", "late")
    cluster.settle()
    answer = cluster.answer_of("write")
    assert answer is not None
    assert answer.error is None


def test_the_leaders_appends_leave_before_its_own_disk_is_done() -> None:
    cluster = Cluster(3)
    leader = cluster.elect()
    cluster.write(leader, "k", "write")
    effects = cluster.run(leader)
    appends = [m for sends in effects.sends.values() for m in sends if isinstance(m, AppendEntries) and m.entries]
    assert len(appends) == 2
    assert cluster.persists[leader]


def test_a_snapshot_is_asked_for_after_so_many_commands_and_carries_the_membership() -> None:
    cluster = Cluster(1, snapshot_commands=10)
    cluster.elect()
    for number in range(10):
        cluster.write(1, f"k{number}", number)
    cluster.run(1)
    cluster.sync(1)
    job = cluster.effects[1].snapshot
    assert job is not None
    assert job.id.index == cluster[1].state.applied_index
    assert job.membership.voters == {1}
    assert {name for name, *_ in job.sections} == {"system", "sessions", "digest", "machine"}
