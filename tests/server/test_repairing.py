"""How a wrong state is replaced: what must be durable first, what becomes of writes, and who leads next."""

from collections import deque

from raftwright.raft.entries import HardState
from raftwright.raft.messages import AppendEntries
from raftwright.raft.ready import Ready, SnapshotChunk
from raftwright.server.digests import INTERVAL_ENTRIES
from raftwright.server.effects import Effects
from raftwright.server.errors import OutcomeUnknown
from raftwright.server.rounds import Rounds
from raftwright.server.tallying import Tallies
from raftwright.server.wire import PeerMessage, StateRequest
from tests.server.replicas import Replicas
from tests.server.test_checks import led_by, step, until_diverged, wrong


def test_a_state_is_adopted_only_once_the_own_log_leads_up_to_it_on_disk() -> None:
    """Else a crash would leave a snapshot with a log that ends before it."""
    cluster = led_by(Replicas(3, machine=wrong(2)), 1)
    until_diverged(cluster, 2)
    while cluster.persists[2]:
        cluster.sync(2)
    cluster.cut = {2}
    cluster.network.clear()
    cluster.writes(5)  # the snapshot will be of an entry that member 2 does not have
    cluster.cut = set()

    def move(*, with_entries: bool) -> None:
        """Either no entry reaches member 2, or its disk is never done with one."""
        cluster.now += 0.005
        for number in cluster.drivers:
            cluster.run(number)
        for _ in range(len(cluster.network)):
            to, message = cluster.network.popleft()
            if with_entries or to != 2 or not (isinstance(message, AppendEntries) and message.entries):
                cluster[to].receive([message], cluster.now)
                cluster.run(to)
        for number, waiting in cluster.persists.items():
            if waiting and not (number == 2 and waiting[0].entries):
                cluster.sync(number)

    repair = cluster[2].checks.repair
    for _ in range(1000):
        move(with_entries=False)
        if repair._is_whole:
            break
    assert repair._is_whole and repair._meta is not None
    index = repair._meta.id.index
    raft = cluster[2].raft
    for _ in range(1000):
        move(with_entries=True)
        if raft.commit_index >= index:
            break
    move(with_entries=True)
    assert raft.commit_index >= index > raft.durability.persisted_index
    assert cluster.adopted == []
    while cluster.persists[2]:
        cluster.sync(2)
    assert cluster.adopted == [2]
    cluster.wait(2.0)
    assert len(set(cluster.states().values())) == 1


def ready(number: int, term: int) -> Ready:
    return Ready(
        number=number,
        hard_state=HardState(term=term),
        snapshot=None,
        chunks=(),
        entries=(),
        messages=(),
        messages_after=(),
        commit_index=0,
        reads=(),
        loads=(),
    )


def test_a_chunk_that_came_past_the_core_makes_nothing_later_durable() -> None:
    """The round of a chunk says to the core what was in earlier rounds, and nothing of a Ready that is in the next."""
    cluster = Replicas(1)
    chunk = SnapshotChunk(meta=cluster.disks[1].meta, offset=0, data=b"x", done=False)
    rounds, effects = Rounds(), Effects()
    rounds.add(ready(7, term=3), effects)
    rounds.start(effects)
    rounds.add_chunk(chunk)
    assert rounds.done(effects).ready == 7
    rounds.start(effects)
    assert [(batch.ready, batch.chunks) for batch in (rounds.current,) if batch] == [(7, [chunk])]
    rounds.add(ready(8, term=4), effects)
    assert rounds.done(effects).ready == 7
    rounds.add_chunk(chunk)
    rounds.start(effects)
    assert [batch.ready for batch in (rounds.current,) if batch] == [8]


def test_writes_that_the_new_state_leaps_over_are_answered_at_once() -> None:
    """They were proposed by a leader whose state was wrong; what they came to, only others know."""
    cluster = led_by(Replicas(3, machine=wrong(1), election_timeout_s=2.0), 1)
    for position in range(INTERVAL_ENTRIES + 5):
        cluster.write(1, f"k{position}", f"w{position}")
        cluster.run(1)
        cluster.deliver()
        if cluster[1].checks.divergence is not None:
            break
        for number in cluster.drivers:
            while cluster.persists[number]:
                cluster.sync(number)
    assert cluster[1].checks.divergence is not None
    assert cluster[1].writes.proposed, "it has no answer to them, and never will"
    waiting = [write for proposed in cluster[1].writes.proposed for write in proposed.writes]
    last = cluster[1].raft.log.last_index
    held: list[tuple[int, PeerMessage]] = []
    for _ in range(4000):
        if cluster.adopted:
            break
        # The snapshot is to be of a state in which they have run: nobody is asked for it before.
        held += [item for item in cluster.network if isinstance(item[1], StateRequest)]
        cluster.network = deque(item for item in cluster.network if not isinstance(item[1], StateRequest))
        if all(cluster[number].state.applied_index >= last for number in (2, 3)):
            cluster.network.extend(held)
            held.clear()
        step(cluster)
        cluster.now += 0.001
    assert cluster.adopted == [1]
    cluster.run(1)
    assert all(write.token is None for write in waiting)
    assert any(isinstance(answer.error, OutcomeUnknown) for answer in cluster.answers)


def test_the_next_leader_is_the_most_up_to_date_of_those_whose_state_is_right() -> None:
    for behind, best in ((3, 2), (2, 3)):
        cluster = led_by(Replicas(3), 1)
        cluster.cut = {behind}
        cluster.writes(3)
        leader = cluster[1].raft.leader_role
        assert leader is not None
        assert leader.progress[behind].match_index < leader.progress[best].match_index
        tallies = Tallies(cluster[1].raft)
        right, bad = ("v", b"right"), ("v", b"wrong")
        assert tallies.successor(leader) is None, "nobody is known to be right"
        tallies.add(256, 1, bad, None, cluster.now)
        tallies.add(256, behind, right, None, cluster.now)
        tallies.add(256, best, right, None, cluster.now)
        assert tallies.minority.keys() == {1}
        assert tallies.successor(leader) == best
