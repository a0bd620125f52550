"""Refusals of the core: typed, raised by `Raft.step` before anything changes."""


class Refusal(Exception):
    """The core refuses; nothing has changed and nothing will (`outcome` is `none`)."""


class NotLeader(Refusal):
    """Only the leader can do this. `leader` is its member id, if this server knows one."""

    def __init__(self, leader: int | None) -> None:
        super().__init__(f"not the leader; the leader is {'unknown' if leader is None else f'member {leader}'}")
        self.leader = leader


class ProposalDropped(Refusal):
    """The leader takes no proposals now: leadership is being transferred, or too much is uncommitted."""


class MembershipChangePending(Refusal):
    """Another membership change is in flight, or nothing is committed in this term yet (§4.1)."""


class MembershipOutdated(Refusal):
    """The change is based on a membership that is no longer the newest."""


class InvalidMembership(Refusal):
    """The membership asked for cannot be: it has no voter, or ids that were removed."""


class TransferImpossible(Refusal):
    """No voter that could take over, or not that one."""
