"""The sans-I/O driver: what is answered when, what shares a round, and what every failed write says."""

import pytest

from raftwright.client.models import NotFound
from raftwright.kv.commands import Delete, encode_command
from raftwright.raft.entries import SnapshotMeta
from raftwright.raft.messages import AppendEntries, VoteReply
from raftwright.raft.ready import ReadAnswer
from raftwright.server.effects import Effects
from raftwright.server.errors import (
    DiskIsFull,
    NoLeader,
    OutcomeUnknown,
    ProposalRefused,
    RequestTimeout,
    ShuttingDown,
    TooManyRequests,
)
from raftwright.server.reads import Reads
from raftwright.server.wire import Forward
from raftwright.storage.room import CONTROL_BYTES, NO_ROOM, Room, sizes_of
from tests.server.drivers import Cluster, put

SESSION = b"0123456789abcdef"


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


def test_a_follower_forwards_and_answers() -> None:
    cluster = Cluster(3)
    leader = cluster.elect()
    follower = next(number for number in cluster.drivers if number != leader)
    cluster.write(follower, "k", "write")
    cluster.settle()
    answer = cluster.answer_of("write")
    assert answer is not None
    assert cluster[follower].state.machine.decode_results(answer.encoded or b"") == [1]
    assert cluster[follower].writes.commands == cluster[leader].writes.commands == 0


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


def test_a_forward_whose_stream_broke_is_unknown_without_a_session_and_repeated_with_one() -> None:
    cluster = Cluster(3)
    leader = cluster.elect()
    follower = next(number for number in cluster.drivers if number != leader)
    cluster.write(follower, "a", "anonymous")
    cluster.write(follower, "s", "session", session=SESSION, first_seq=1)
    cluster.run(follower)
    cluster.deliver()  # the leader has them; its answers are lost with the stream
    cluster.settle_without_answers_to(follower)
    cluster[follower].stream_lost(leader, cluster.now)
    cluster.wait(0.2)
    anonymous, session = cluster.answer_of("anonymous"), cluster.answer_of("session")
    assert anonymous is not None
    assert isinstance(anonymous.error, OutcomeUnknown)
    assert session is not None
    assert session.error is None
    assert cluster[leader].state.machine.revision == 2  # type: ignore[attr-defined]  # the session's ran once


def test_a_forward_that_never_left_waits_for_the_stream_and_is_made_once() -> None:
    cluster = Cluster(3)
    leader = cluster.elect()
    follower = next(number for number in cluster.drivers if number != leader)
    for key in "abc":
        cluster.write(follower, key, key)
        cluster.run(follower)
    unsent = [message.id for _, message in cluster.network if isinstance(message, Forward)]
    cluster.network.clear()  # there is no stream to the leader, though the leader's to this node is up
    assert len(unsent) == 3
    cluster[follower].unsent(leader, unsent)
    cluster.run(follower)
    assert not [message for _, message in cluster.network if isinstance(message, Forward)], "nothing is tried in vain"
    cluster.wait(0.3)
    answers = [cluster.answer_of(key) for key in "abc"]
    assert [answer and answer.error for answer in answers] == [None, None, None]
    machine = cluster[leader].state.machine
    revisions = [machine.decode_results(answer.encoded or b"") for answer in answers if answer]
    assert revisions == [[1], [2], [3]], "in the order in which they came"


def test_a_repeated_write_that_fails_in_the_end_does_not_say_that_it_never_happened() -> None:
    cluster = Cluster(3)
    leader = cluster.elect()
    follower = next(number for number in cluster.drivers if number != leader)
    cluster.write(follower, "s", "session", session=SESSION, first_seq=1)
    cluster.run(follower)
    cluster.cut = set(cluster.drivers)
    cluster.network.clear()
    cluster.wait(2.0, settle=False)
    assert cluster[follower].raft.leader_id is None
    cluster[follower].stream_lost(leader, cluster.now)
    cluster.wait(4.0, settle=False)
    answer = cluster.answer_of("session")
    assert answer is not None
    assert answer.error is not None
    assert answer.error.outcome == "unknown"


def test_writes_forwarded_while_leadership_moves_reach_the_next_leader() -> None:
    cluster = Cluster(3)
    leader = cluster.elect()
    target, asked = (number for number in cluster.drivers if number != leader)
    cluster[leader].transfer_leadership(target, cluster.now)
    cluster.write(asked, "k", "write")
    cluster.run(asked)
    forwards = [message for _, message in cluster.network if isinstance(message, Forward)]
    assert [forward.to_id for forward in forwards] == [leader]
    cluster.wait(1.0)
    assert cluster[target].is_leader
    answer = cluster.answer_of("write")
    assert answer is not None
    assert answer.error is None
    assert cluster[target].state.machine.revision == 1  # type: ignore[attr-defined]
    assert {message.from_id for message in cluster.sent if isinstance(message, Forward)} == {asked}


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


def test_a_forward_is_never_forwarded_again() -> None:
    cluster = Cluster(3)
    leader = cluster.elect()
    asked, other = (number for number in cluster.drivers if number != leader)
    cluster.write(asked, "k", "write")
    cluster.run(asked)
    forwards = [(to, message) for to, message in cluster.network if to == leader]
    cluster.network.clear()
    for _, message in forwards:
        cluster[other].receive([message], cluster.now)
    effects = cluster.run(other)
    assert set(effects.sends) == {asked}, "it is refused to who sent it, and goes no further"


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


def test_a_full_disk_refuses_client_writes_and_hands_leadership_over() -> None:
    cluster = Cluster(3)
    leader = cluster.elect()
    cluster[leader].set_room(NO_ROOM, disk_is_full=True)
    cluster.write(leader, "k", "write")
    cluster.settle()
    answer = cluster.answer_of("write")
    assert answer is not None
    assert isinstance(answer.error, DiskIsFull)
    assert answer.error.outcome == "none"
    cluster.wait(0.2)
    assert not cluster[leader].is_leader
    assert any(driver.is_leader for driver in cluster.drivers.values())


def test_writes_wait_for_a_segment_that_is_on_its_way() -> None:
    cluster = Cluster(1)
    cluster.elect()
    cluster[1].set_room(NO_ROOM, disk_is_full=False)
    cluster.write(1, "k", "write")
    cluster.settle()
    assert cluster.answer_of("write") is None
    assert not cluster[1].proposer.is_full
    cluster[1].set_room(Room(1 << 30), disk_is_full=False)
    cluster.settle()
    answer = cluster.answer_of("write")
    assert answer is not None
    assert answer.error is None


def test_a_follower_with_a_full_disk_takes_no_commands_but_follows() -> None:
    cluster = Cluster(3)
    leader = cluster.elect()
    full = next(number for number in cluster.drivers if number != leader)
    cluster[full].set_room(NO_ROOM, disk_is_full=True)
    before = cluster[full].raft.log.last_id
    cluster.write(leader, "k", "write")
    cluster.wait(1.5)
    assert cluster.answer_of("write") is not None
    assert cluster[full].raft.log.last_id == before
    assert cluster[leader].is_leader
    cluster[full].set_room(Room(1 << 30), disk_is_full=False)
    cluster.wait(0.5)
    assert cluster[full].raft.log.last_id == cluster[leader].raft.log.last_id


def test_a_leader_asks_for_the_room_that_its_writes_wait_for() -> None:
    cluster = Cluster(1, entry_bytes_max=1000)
    cluster.elect()
    cluster[1].set_room(Room(5000, (500, 500)), disk_is_full=False)
    for number in range(40):
        cluster.write(1, f"{number:0100}", number)
    proposed = cluster.run(1)
    assert proposed.persist is not None
    sizes = sizes_of(proposed.persist.entries)
    assert 2 < len(sizes) < 8
    assert proposed.prepare[:-1] == tuple(sizes)
    assert proposed.prepare[-1] > 1000
    assert Room(5000, (500, 500)).after(proposed.prepare) is None
    cluster[1].set_room(Room(5000, (500, 500, 5000, 5000)), disk_is_full=False)
    assert not cluster.run(1).prepare, "a round is under way"
    cluster.settle()
    assert all(cluster.answer_of(number) is not None for number in range(40))


def test_a_write_larger_than_any_segment_waits_for_one_of_its_own() -> None:
    cluster = Cluster(1)
    cluster.elect()
    cluster[1].set_room(Room(1 << 20, (1 << 18, 1 << 18)), disk_is_full=False)
    command, encoded = put("k", bytes(3 << 20))
    cluster[1].write_one(command, encoded, "large")
    (needed,) = cluster.run(1).prepare
    assert needed > len(encoded)
    assert cluster.answer_of("large") is None
    cluster[1].set_room(Room(1 << 20, (1 << 18, 1 << 18, needed)), disk_is_full=False)
    cluster.settle()
    answer = next(answer for answer in cluster.answers if answer.token == ["large"])
    assert answer.error is None


def test_a_follower_counts_what_is_on_its_way_and_asks_for_room_for_the_rest() -> None:
    """Appends come faster than the disk takes them: each would fit, and all of them do not."""
    cluster = Cluster(3)
    leader = cluster.elect()
    slow = next(number for number in cluster.drivers if number != leader)
    room = Room(2000, (1000,))
    cluster[slow].set_room(room, disk_is_full=False)
    before = cluster[slow].raft.log.last_id.index
    wanted: list[tuple[int, ...]] = []
    for number in range(20):
        cluster.write(leader, f"{number:0100}", number)
        cluster.run(leader)
        cluster.deliver()
        wanted += [cluster.effects[slow].prepare] if cluster.effects[slow].prepare else []
        for other in cluster.drivers:
            if other != slow and cluster.persists[other]:
                cluster.sync(other)
    cluster.deliver()
    assert len(cluster.persists[slow]) == 1
    written = sizes_of(cluster[slow].raft.log.entries(before + 1, cluster[slow].raft.log.last_id.index, 1 << 20) or ())
    assert 2 < len(written) < 20
    assert room.after(written) is not None
    assert wanted
    assert all(room.after(sizes) is None for sizes in wanted)
    cluster[slow].set_room(Room(1 << 20), disk_is_full=False)
    cluster.wait(1.0)
    assert cluster[slow].raft.log.last_id == cluster[leader].raft.log.last_id


def test_entries_that_a_follower_has_already_cost_no_room() -> None:
    cluster = Cluster(3)
    leader = cluster.elect()
    cluster.write(leader, f"{1:0100}", "write")
    cluster.settle()
    follower = next(number for number in cluster.drivers if number != leader)
    append = next(
        message
        for message in reversed(cluster.sent)
        if isinstance(message, AppendEntries) and message.to_id == follower and message.entries
    )
    cluster[follower].set_room(Room(CONTROL_BYTES + sum(sizes_of(append.entries))), disk_is_full=False)
    for _ in range(5):
        cluster[follower].receive([append], cluster.clock(follower))
        assert not cluster.run(follower).prepare


def test_a_follower_with_a_full_disk_takes_a_snapshot_and_knows_when_it_is_over() -> None:
    cluster = Cluster(3)
    leader = cluster.elect()
    full = next(number for number in cluster.drivers if number != leader)
    cluster.write(leader, "before", "before")
    cluster.wait(0.2)
    cluster[full].set_room(NO_ROOM, disk_is_full=True)
    cluster.write(leader, "k", "write")
    cluster.wait(0.2)
    assert cluster[full].snapshotting.is_running
    assert cluster[full].proposer.is_full
    cluster[full].set_room(NO_ROOM, disk_is_full=False)
    assert not cluster[full].proposer.is_full


def test_a_full_disk_lets_go_of_the_log_before_the_newest_snapshot() -> None:
    """That needs no space, where another snapshot may find none."""
    cluster = Cluster(1, snapshot_commands=10)
    cluster.elect()
    job = None
    while job is None:
        cluster.write(1, "k", object())
        cluster.settle()
        job = cluster.effects[1].snapshot
    meta = SnapshotMeta(id=job.id, time_ms=job.time_ms, membership=job.membership, size=1)
    cluster[1].snapshot_taken(job, meta, cluster.now)
    cluster.settle()
    assert job.keep_from < job.id.index
    assert cluster[1].raft.log.first_index == job.keep_from, "some of it stays for followers"
    cluster[1].set_room(NO_ROOM, disk_is_full=True)
    cluster.write(1, "k", "refused")
    cuts = []
    for _ in range(5):
        cuts += [cluster.run(1).compact]
    assert [cut for cut in cuts if cut] == [job.id.index + 1], "once"
    assert cluster[1].raft.log.first_index == job.id.index + 1


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
