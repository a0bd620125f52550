"""What must be true of who is a member: ids, stores, versions, and what becomes of who was removed.

`checkers.py` asks it about each start, each message and each membership that is applied. Rule: it believes nothing that
a node says of itself, and goes by which disk is in which machine and by the memberships that are committed.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from raftwright.raft.entries import Entry, EntryId, EntryKind
from raftwright.raft.membership import Membership
from raftwright.raft.messages import AppendReply, RequestVote, VoteReply
from raftwright.raft.raft import Raft
from raftwright.server.wire import PeerMessage

if TYPE_CHECKING:
    from raftwright.sim.node import SimNode

ONE_STORE = "membership: a member id is of one store for ever, and an empty disk never votes or counts under an old one"
IDS = "membership: an id is never used twice, and versions go up by one"
NOT_A_MEMBER = "membership: who was removed is never elected, and knows it for good once it does"
TOLD_EARLY = "rule: nobody is told of a removal before what removes it is committed"
OWN_TERM = "rule: a leader begins no change of the membership before it has committed in its term (§4.1)"


@dataclass(slots=True)
class MemberRules:
    fail: Callable[[str, str], None]
    committed: Membership | None = None
    """The newest that was applied anywhere."""
    committed_at: int = 0
    stores: dict[int, str] = field(default_factory=dict)
    """By member id: the one store that ever acts under it."""
    begun: dict[EntryId, Membership] = field(default_factory=dict)
    """Every membership that was ever in a log, committed or not."""
    _removed: dict[str, int] = field(default_factory=dict)
    """By store that believes so: the member that it was."""

    def founded(self, membership: Membership) -> None:
        """The first membership, which is committed from the start."""
        if self.committed is None:
            self.applied(1, membership)

    def acts(self, node: "SimNode") -> None:
        """A node takes part, with the disk that is in its machine now."""
        member_id = node.identity.member_id or 0
        store = self.stores.setdefault(member_id, node.store_id)
        if store != node.store_id:
            self.fail(ONE_STORE, f"{node} acts as member {member_id} with disk {node.store_id}, and that was {store}")

    def sent(self, node: "SimNode", messages: Sequence[PeerMessage]) -> None:
        if any(isinstance(message, VoteReply | RequestVote | AppendReply) for message in messages):
            self.acts(node)
        if messages and node.store_id in self._removed:
            self.fail(NOT_A_MEMBER, f"{node} knew that it was removed, and sends {messages[0]}")

    def appended(self, entry: Entry) -> None:
        """An entry is in a log for the first time."""
        if entry.kind == EntryKind.MEMBERSHIP:
            self.begun[EntryId(entry.term, entry.index)] = Membership.decode(entry.payload)

    def leads(self, node: "SimNode", raft: Raft, committed: EntryId | None) -> None:
        """A leader has taken a step, and `committed` is the newest entry that it committed."""
        index = raft.log.membership_index
        changes = raft.log.term_at(index) == raft.term
        if changes and (committed is None or committed.term != raft.term):
            self.fail(OWN_TERM, f"{node} begins {raft.membership.voters} at {index} in term {raft.term}")

    def knows_of_removal(self, node: "SimNode", committed: Mapping[int, EntryId]) -> None:
        member_id = node.identity.member_id or 0
        self._removed[node.store_id] = member_id
        removals = (entry_id for entry_id, membership in self.begun.items() if membership.was_removed(member_id))
        if not any(committed.get(entry_id.index) == entry_id for entry_id in removals):
            self.fail(TOLD_EARLY, f"{node} knows that member {member_id} was removed, and that is not committed")

    def ended(self) -> None:
        """What was believed to be committed has been applied by now."""
        for store, member_id in self._removed.items():
            if self.committed is None or not self.committed.was_removed(member_id):
                self.fail(NOT_A_MEMBER, f"store {store} believes that member {member_id} was removed, and it was not")

    def elected(self, node: "SimNode") -> None:
        self.acts(node)
        member_id = node.identity.member_id or 0
        if self.committed is not None and self.committed.was_removed(member_id):
            self.fail(NOT_A_MEMBER, f"{node} is elected, and member {member_id} was removed")

    def applied(self, index: int, membership: Membership) -> None:
        """The next membership is committed."""
        if index <= self.committed_at:
            return
        before, self.committed, self.committed_at = self.committed, membership, index
        if membership.last_member_id < max(membership.members, default=0):
            self.fail(IDS, f"ids are counted to {membership.last_member_id}, and there is {max(membership.members)}")
        for member_id, member in membership.members.items():
            store = self.stores.setdefault(member_id, member.store_id)
            if store != member.store_id:
                self.fail(ONE_STORE, f"member {member_id} has store {member.store_id} at {index}, and had {store}")
        if before is None:
            return
        if membership.version != before.version + 1:
            self.fail(IDS, f"version {membership.version} at {index} follows on {before.version}")
        again = [key for key in membership.members if key not in before.members and key <= before.last_member_id]
        if again:
            self.fail(IDS, f"members {again} are there again at {index}")
