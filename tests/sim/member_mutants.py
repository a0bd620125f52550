"""Wrong versions of what changes the membership, each of which the simulation must catch. Used by `test_changes.py`.

As in `mutants.py`: each is a mistake that a real implementation has made or could make, as small as it can be.
"""

from dataclasses import replace

import pytest

from raftwright.raft import membership_changes
from raftwright.raft.membership import Membership
from raftwright.raft.raft import Raft
from raftwright.raft.roles import Leader
from raftwright.server.driver import Driver
from raftwright.server.effects import Effects
from raftwright.sim.streams import SimStreams


def change_before_own_commit(patch: pytest.MonkeyPatch) -> None:
    """A leader begins a change before it has committed in its term."""
    propose = membership_changes.propose

    def hasty(raft: Raft, leader: Leader, target: Membership, base_version: int, time_ms: int) -> None:
        first_index, leader.first_index = leader.first_index, 0
        try:
            propose(raft, leader, target, base_version, time_ms)
        finally:
            leader.first_index = first_index

    patch.setattr(membership_changes, "propose", hasty)


def change_in_one_step(patch: pytest.MonkeyPatch) -> None:
    """No membership is joint: the new one is in force as soon as it is in a log, and it alone decides."""
    patch.setattr(
        membership_changes,
        "next_membership",
        lambda current, target: replace(target, version=current.version + 1),
    )


def change_one_server_at_a_time(patch: pytest.MonkeyPatch) -> None:
    """The single-server change as it was before 2015: in one step, and before the leader has committed in its term."""
    change_in_one_step(patch)
    change_before_own_commit(patch)


def tell_of_a_removal_at_once(patch: pytest.MonkeyPatch) -> None:
    """A member takes itself for removed, and others say so, as soon as what removes it is in the log."""
    notice = Driver._notice_membership
    take_part = SimStreams.take_part

    def hasty_notice(driver: Driver, effects: Effects) -> None:
        notice(driver, effects)
        if not driver._seen_removed and driver.raft.membership.was_removed(driver.raft.own_id):
            driver._seen_removed = effects.removed = True

    def hasty_streams(streams: SimStreams, raft: Raft) -> None:
        take_part(streams, raft)
        streams.transport.is_removed = lambda member_id: raft.membership.was_removed(member_id)

    patch.setattr(Driver, "_notice_membership", hasty_notice)
    patch.setattr(SimStreams, "take_part", hasty_streams)
