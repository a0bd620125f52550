"""The sans-I/O driver when the log has no room: what is refused, what waits, and what is asked for."""

from raftwright.raft.entries import SnapshotMeta
from raftwright.raft.messages import AppendEntries
from raftwright.server.errors import DiskIsFull
from raftwright.storage.room import CONTROL_BYTES, NO_ROOM, Room, sizes_of
from tests.server.drivers import Cluster, put


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
