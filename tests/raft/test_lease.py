"""The leader's lease among several servers (§6.4.1): clocks that run at different rates, restarts, late messages.

What is checked throughout: while a leader believes that it has a lease, no majority would elect anybody else.
"""

from copy import deepcopy
from dataclasses import replace

import pytest

from raftwright.raft import lease
from raftwright.raft.events import ProposeMembership, Receive, TransferLeadership
from raftwright.raft.messages import AppendEntries, AppendReply, RaftMessage, RequestPreVote, TimeoutNow
from raftwright.raft.raft import Raft, RaftSettings
from raftwright.raft.roles import Leader
from tests.paper.server import START, Server, T, append
from tests.raft.cluster import Cluster

STEP_S = 0.001


def would_vote(raft: Raft, now: float, *, for_member: int) -> bool:
    """Whether this server, asked at `now`, would help to elect another leader. Changes nothing."""
    asked = deepcopy(raft)
    asked.step(
        Receive(
            now=now,
            message=RequestPreVote(from_id=for_member, to_id=asked.own_id, term=asked.term + 1, last=asked.log.last_id),
        )
    )
    ready = asked.ready()
    return any(getattr(message, "granted", False) for message in (*ready.messages, *ready.messages_after))


# -- clocks -----------------------------------------------------------------------------------------------------


def overlap_s(*, leader_rate: float, voter_rate: float, drift: float) -> float:
    """How long a leader that is cut off thinks that it has a lease while the voter that confirmed it would vote again,
    in true seconds. One round is sent and arrives at once, which is the worst case."""
    settings = RaftSettings(lease_clock_drift=drift)
    leader, voter = Server(settings=settings), Server(settings=settings)
    leader.lead()
    leader.matched(2, 2)
    leader.time_out()
    rounds = [message for message in leader.said() if isinstance(message, AppendEntries) and message.to_id == 2]
    voter.receive(append(2, START, commit_index=1, of=3))
    (said,) = (message for message in voter.said() if isinstance(message, AppendReply))
    leader.receive(replace(said, from_id=2, to_id=1, term=2, round=rounds[-1].round, match_index=2))
    begin_leader, begin_voter = leader.now, voter.now
    overlap = 0.0
    for step in range(int(3 * T / STEP_S)):
        true_s = step * STEP_S
        has_lease = begin_leader + true_s * leader_rate < leader.raft.lease_until
        if has_lease and would_vote(voter.raft, begin_voter + true_s * voter_rate, for_member=2):
            overlap += STEP_S
    return overlap


@pytest.mark.parametrize(
    ("leader_rate", "voter_rate"), [(1.0, 1.0), (0.95, 1.05), (0.9, 1.0), (1.0, 1.11), (1.05, 0.95)]
)
def test_a_lease_is_safe_while_clocks_keep_to_the_bound(leader_rate: float, voter_rate: float) -> None:
    assert overlap_s(leader_rate=leader_rate, voter_rate=voter_rate, drift=0.1) == 0.0


def test_a_lease_is_not_safe_beyond_the_bound() -> None:
    """So the bound is what makes it safe, and the test above can fail."""
    assert overlap_s(leader_rate=0.85, voter_rate=1.05, drift=0.1) > 0.05
    assert overlap_s(leader_rate=0.95, voter_rate=1.05, drift=0.0) > 0.05


# -- a whole cluster --------------------------------------------------------------------------------------------


def check_lease(cluster: Cluster, leader: int) -> None:
    """While `leader` has a lease, nobody leads a later term, and the others are no majority that would elect one."""
    raft = cluster[leader].raft
    if cluster.now >= raft.lease_until:
        return
    for store in cluster.stores.values():
        assert not (isinstance(store.raft.role, Leader) and store.raft.term > raft.term), "two leaders, and a lease"
    others = raft.membership.all_voters - {leader}
    for candidate in others:
        # A candidate votes for itself no sooner than for others: its own election timeout must have passed, too.
        willing = {
            n
            for n in others
            if would_vote(cluster[n].raft, cluster.now, for_member=leader if n == candidate else candidate)
        }
        assert not raft.membership.has_quorum(willing), f"{candidate} could be elected within the lease"


def pass_time(cluster: Cluster, leader: int, seconds: float) -> bool:
    """Let time pass in small steps, checking the lease at each; whether another leader came."""
    end = cluster.now + seconds
    while cluster.now < end:
        cluster.run(0.01)
        check_lease(cluster, leader)
    return cluster.leader.member_id != leader


@pytest.mark.parametrize("voters", [3, 4, 5])
def test_a_leader_that_is_cut_off_has_no_lease_once_another_can_be_elected(voters: int) -> None:
    cluster = Cluster(voters)
    cluster.elect(1)
    cluster.run(0.5)
    assert cluster[1].raft.lease_until > cluster.now
    cluster.cut_off(1)
    assert pass_time(cluster, 1, 4.0), "the others elect a leader: else this tests nothing"


def test_learners_alone_keep_no_lease_alive() -> None:
    cluster = Cluster(3, learners=2)
    cluster.elect(1)
    cluster.run(0.5)
    for voter in (2, 3):
        cluster.cuts |= {(1, voter), (voter, 1)}
    assert pass_time(cluster, 1, 4.0)


def test_a_voter_that_restarts_within_a_lease_helps_nobody_to_be_elected() -> None:
    cluster = Cluster(3)
    cluster.elect(1)
    cluster.run(0.5)
    cluster.cut_off(1)
    for voter in (2, 3):
        cluster.crash(voter)
        cluster.start(voter)
    assert cluster[1].raft.lease_until > cluster.now
    assert pass_time(cluster, 1, 4.0)


def test_a_membership_without_the_voters_that_confirmed_the_lease_does_not_cut_it_short() -> None:
    """1, 2, 3 confirm, and then 1, 4, 5 are the voters: they heard the leader later than that (§4.3)."""
    cluster = Cluster(3, learners=2)
    cluster.elect(1)
    cluster.run(0.5)
    cluster.change(voters={1, 4, 5})
    cluster.deliver_all()
    assert cluster[1].raft.membership.voters == {1, 4, 5}
    assert not cluster[1].raft.membership.is_joint
    cluster.cut_off(1)
    assert pass_time(cluster, 1, 4.0)


class HoldingCluster(Cluster):
    """Words to campaign do not arrive."""

    held: RaftMessage | None = None

    def deliver(self, message: RaftMessage) -> None:
        if isinstance(message, TimeoutNow):
            self.held = message
        else:
            super().deliver(message)


def test_a_late_word_to_campaign_elects_nobody_while_a_lease_lasts() -> None:
    """The transfer failed long ago, the leader goes on, and only now the target hears that it should campaign."""
    cluster = HoldingCluster(3)
    cluster.elect(1)
    cluster.run(0.5)
    cluster.step(1, TransferLeadership(now=cluster.now, target=3))
    cluster.run(3 * T)
    assert cluster.leader.member_id == 1
    assert cluster.leader.raft.term == 2
    for other in (2, 3):
        cluster.cuts |= {(1, other), (other, 1)}
    assert cluster.held is not None
    cluster.step(3, Receive(now=cluster.now, message=cluster.held))
    cluster.deliver_all()
    assert cluster.leader.member_id == 3, "voters do not hold off an election for a transfer"
    check_lease(cluster, 1)


def test_a_change_of_membership_keeps_the_lease() -> None:
    cluster = Cluster(3, learners=1)
    cluster.elect(1)
    cluster.run(0.5)
    current = cluster[1].raft.membership
    target = replace(current, voters=frozenset({1, 2, 3, 4}), learners=frozenset())
    cluster.step(1, ProposeMembership(now=cluster.now, target=target, base_version=current.version, time_ms=0))
    cluster.run(0.5)
    assert cluster[1].raft.lease_until > cluster.now


# -- unequal election timeouts ----------------------------------------------------------------------------------


def lead_and_be_cut_off(timeouts_s: dict[int, float], *, restart: bool = False) -> None:
    """Member 1 leads, has a lease, and hears and is heard no more; the lease is checked until another leads."""
    cluster = Cluster(len(timeouts_s), election_timeouts_s=timeouts_s)
    cluster.elect(1)
    cluster.run(0.5)
    assert cluster[1].raft.lease_until > cluster.now
    cluster.cut_off(1)
    if restart:
        for voter in set(timeouts_s) - {1}:
            cluster.crash(voter)
            cluster.start(voter)
    assert pass_time(cluster, 1, 8.0), "the others elect a leader: else this tests nothing"


UNEQUAL = [{1: 2.0, 2: 0.3, 3: 0.3}, {1: 2.0, 2: 0.3, 3: 2.0}, {1: 0.4, 2: 2.0, 3: 2.0, 4: 0.3, 5: 0.3}]


@pytest.mark.parametrize("restart", [False, True])
@pytest.mark.parametrize("timeouts_s", UNEQUAL)
def test_voters_with_shorter_election_timeouts_elect_nobody_within_a_lease(
    timeouts_s: dict[int, float], restart: bool
) -> None:
    lead_and_be_cut_off(timeouts_s, restart=restart)


def test_a_lease_by_the_leaders_own_election_timeout_is_not_safe(monkeypatch: pytest.MonkeyPatch) -> None:
    """So what voters promise is what makes it safe, and the test above can fail."""
    counted_s = lease.counted_s
    monkeypatch.setattr(lease, "counted_s", lambda settings, _: counted_s(settings, settings.election_timeout_s))
    with pytest.raises(AssertionError, match=r"within the lease|and a lease"):
        lead_and_be_cut_off(UNEQUAL[0])


def restart_with_shorter_timeouts(after_s: float) -> None:
    """The voters that a leader's lease counts on are stopped, and start again with a shorter election timeout."""
    cluster = Cluster(3, settings=RaftSettings(election_timeout_s=2.0))
    cluster.elect(1)
    cluster.run(0.5)
    cluster.cut_off(1)
    for voter in (2, 3):
        cluster.crash(voter)
    cluster.election_timeouts_s = {2: 0.3, 3: 0.3}
    cluster.run(after_s)
    for voter in (2, 3):
        cluster.start(voter)
    assert pass_time(cluster, 1, 4.0)


def test_who_restarts_with_a_shorter_election_timeout_must_wait_until_the_longer_one_is_over() -> None:
    """As `server/election_timeouts.py` does, by what the store remembers."""
    restart_with_shorter_timeouts(2.0)
    with pytest.raises(AssertionError, match=r"within the lease|and a lease"):
        restart_with_shorter_timeouts(0.0)
