"""What must be true of a cluster, checked after every event by one who sees all of its nodes.

The nodes call it at each step. Rules: it only looks, and it believes nothing that a node says of itself: it keeps its
own record of every entry that was ever in a log, of what is committed, of what was applied and of what clients were
told. Figure 3.2 of the dissertation names the five properties of Raft.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING
from zlib import crc32

from raftwright.kv.commands import InvalidCommand, Put, decode_blob
from raftwright.kv.store import KvMachine
from raftwright.raft import invariants
from raftwright.raft.entries import Entry, EntryId, EntryKind
from raftwright.raft.membership import Membership
from raftwright.raft.messages import AppendEntries, RequestVote, VoteReply
from raftwright.raft.roles import Candidate, Leader, PreCandidate
from raftwright.server.blobs import ANONYMOUS_PRINCIPAL, Blob, decode_payload
from raftwright.server.founding import FOUNDING_ID
from raftwright.server.machine import Machine
from raftwright.server.state import BlobOutcome, ReplicatedState, Status
from raftwright.server.wire import PeerMessage
from raftwright.sim.member_rules import OWN_TERM, TOLD_EARLY, MemberRules
from raftwright.sim.session_rules import SessionRules
from raftwright.sim.world import Violation, World

if TYPE_CHECKING:
    from raftwright.sim.node import SimNode

ELECTION_SAFETY = "election safety: at most one leader a term"
APPEND_ONLY = "leader append-only: a leader never overwrites or deletes entries in its log"
LOG_MATCHING = "log matching: entries of one index and term are equal, and so is all before them"
COMPLETENESS = "leader completeness: what is committed is in the log of every later leader"
MACHINE_SAFETY = "state machine safety: servers apply the same entry at an index"
NOT_LOST = "no acknowledged write is lost"
NONE = "a write whose outcome was none never happens"
ONCE = "a write happens at most once"
RESULT = "a write's answer is that of its execution"
VOTE_ONCE = "rule: a server votes once a term, whatever crashes in between"
COMMIT_QUORUM = "rule: a majority of the voters has an entry on disk before it is committed"
LEASE = "rule: nobody is elected while another leader has a lease by its own clock"
RULES = (VOTE_ONCE, COMMIT_QUORUM, LEASE, OWN_TERM, TOLD_EARLY)
"""Rules of the algorithm that the properties follow from. A test may leave them out, to see the properties fail."""


@dataclass(frozen=True, slots=True)
class Known:
    """An entry as it was first seen."""

    checksum: int
    kind: int
    before: int
    """Term of the entry before it."""


@dataclass(slots=True)
class Attempt:
    """One sending of a write."""

    executed_at: int | None = None
    """Index of the entry that ran it."""
    applied_s: float = 0.0
    """When that was applied first."""
    results: bytes = b""
    """Encoded; empty for a write that shared a blob with others."""
    outcome: str | None = None
    """What the client was told."""


@dataclass(slots=True)
class Checker:
    world: World
    without: frozenset[str] = frozenset()
    """Rules that are not checked."""
    machine: Callable[[], Machine] = KvMachine
    nodes: dict[int, "SimNode"] = field(default_factory=dict)
    leaders: dict[int, int] = field(default_factory=dict)
    votes: dict[tuple[int, int], int] = field(default_factory=dict)
    """By voter and term."""
    entries: dict[EntryId, Known] = field(default_factory=dict)
    committed: dict[int, EntryId] = field(default_factory=dict)
    committed_last: int = 0
    digests: dict[int, int] = field(default_factory=dict)
    """Of the whole state after each index."""
    attempts: dict[str, Attempt] = field(default_factory=dict)
    writes: dict[str, str] = field(default_factory=dict)
    """By write, the attempt that ran."""
    on_disk: dict[int, dict[int, int]] = field(default_factory=dict)
    """By member: the term of each entry that its disk is known to hold."""
    members: MemberRules = field(init=False)
    sessions: SessionRules = field(init=False)
    reference: ReplicatedState = field(init=False)
    """Gets every committed entry, one by one: what all nodes have to come to, in whatever groups they apply."""

    def __post_init__(self) -> None:
        self.members = MemberRules(self.fail)
        self.sessions = SessionRules(self.fail)
        self.reference = ReplicatedState(self.machine(), applied=FOUNDING_ID)

    def fail(self, rule: str, detail: str) -> None:
        if rule not in self.without:
            raise Violation(rule, detail)

    # What the nodes report

    def started(self, node: "SimNode") -> None:
        assert node.driver is not None
        raft = node.driver.raft
        self.nodes[raft.own_id] = node
        recovered = node.recovered
        if recovered.snapshot is not None:
            self.members.founded(recovered.snapshot.membership)
        self.members.acts(node)
        for entry in (*recovered.tail, *recovered.memberships):
            self._know(node, entry, raft.log.term_at(entry.index - 1))
        if recovered.snapshot is not None:
            self._commit(node, recovered.snapshot.id)
        held = {index: entry.term for index, entry in self.committed.items() if index <= raft.log.base.index}
        held.update(
            {index: raft.log.term_at(index) or 0 for index in range(raft.log.first_index, raft.log.last_index + 1)}
        )
        self.on_disk[raft.own_id] = held
        if recovered.snapshot is not None:
            self.restored(node)

    def stepped(self, node: "SimNode", before: invariants.Captured) -> None:
        assert node.driver is not None
        raft = node.driver.raft
        leads = isinstance(raft.role, Leader)
        if leads and not before.leads:
            self._elected(node)
        if leads and before.leads and before.hard_state.term == raft.term:
            kept = raft.log.term_at(before.last.index)
            if (kept is not None and kept != before.last.term) or raft.log.last_index < before.last.index:
                self.fail(APPEND_ONLY, f"{node} leads term {raft.term} and dropped {before.last}")
        if before.leads and not leads:
            self.world.counts["leaders deposed"] += 1
        if raft.log.last_id < before.last or raft.log.term_at(before.last.index) not in (None, before.last.term):
            self.world.counts["truncations"] += 1
        if isinstance(raft.role, PreCandidate | Candidate) and before.hard_state.term != raft.term:
            self.world.counts["candidacies"] += 1
        if raft.commit_index > before.commit_index:
            for index in range(before.commit_index + 1, raft.commit_index + 1):
                entry_id = raft.log.id_at(index)
                if entry_id is not None:
                    self._commit(node, entry_id)
            if leads:
                self._check_quorum(node)
        if leads:
            self.members.leads(node, raft, self.committed.get(raft.commit_index))

    def _elected(self, node: "SimNode") -> None:
        """Election safety, and leader completeness (§3.6.3)."""
        assert node.driver is not None
        raft = node.driver.raft
        self.world.counts["elections"] += 1
        self.world.trace(f"{node} is elected in term {raft.term}")
        other = self.leaders.setdefault(raft.term, raft.own_id)
        if other != raft.own_id:
            self.fail(ELECTION_SAFETY, f"members {other} and {raft.own_id} both lead term {raft.term}")
        self.members.elected(node)
        for former in self.nodes.values():
            if former is not node and former.driver is not None and former.clock < former.driver.raft.lease_until:
                self.fail(LEASE, f"{node} is elected in term {raft.term}, and {former} has a lease still")
        log = raft.log
        if log.last_index < self.committed_last:
            self._lost(node, self.committed[self.committed_last])
        for index in range(log.base.index, min(log.last_index, self.committed_last) + 1):
            entry_id = self.committed.get(index)
            if entry_id is not None and not log.holds(entry_id):
                self._lost(node, entry_id)

    def _lost(self, node: "SimNode", entry_id: EntryId) -> None:
        lost = [
            name
            for name, attempt in self.attempts.items()
            if attempt.outcome == "ok" and attempt.executed_at == entry_id.index
        ]
        self.fail(COMPLETENESS, f"{node} leads without {entry_id}, acknowledged in it: {lost}")

    def _know(self, node: object, entry: Entry, before: int | None) -> None:
        """Log matching, by induction: one (term, index) is one entry, with one entry before it.

        Only what was synced or sent counts: a lone voter that crashes before either may use its term again.
        """
        entry_id = EntryId(entry.term, entry.index)
        known = self.entries.get(entry_id)
        if crc32(entry.payload) != entry.checksum:
            self.fail(LOG_MATCHING, f"{node}: the payload of {entry_id} does not fit its checksum")
        if known is None:
            if before is not None:
                self.entries[entry_id] = Known(entry.checksum, entry.kind, before)
                self.members.appended(entry)
        elif (known.checksum, known.kind) != (entry.checksum, entry.kind) or before not in (None, known.before):
            self.fail(LOG_MATCHING, f"{node}: {entry_id} differs from what another log has, or the one before it does")

    def _know_all(self, node: object, entries: Sequence[Entry], before: int | None) -> None:
        for entry in entries:
            self._know(node, entry, before)
            before = entry.term

    def _commit(self, node: "SimNode", entry_id: EntryId) -> None:
        """What is committed stays: the root of every other promise."""
        other = self.committed.setdefault(entry_id.index, entry_id)
        if other != entry_id:
            self.fail(COMPLETENESS, f"{node} commits {entry_id} where {other} was committed")
        self.committed_last = max(self.committed_last, entry_id.index)

    def _check_quorum(self, node: "SimNode") -> None:
        """By own arithmetic and by what the disks hold."""
        assert node.driver is not None
        raft = node.driver.raft
        entry_id = raft.log.id_at(raft.commit_index)
        if entry_id is None or entry_id.term != raft.term:
            return
        memberships = [raft.committed_membership, raft.membership]
        halves = {half for each in memberships for half in (each.voters, each.outgoing_voters) if half}
        for half in sorted(halves, key=sorted):
            holders = [voter for voter in sorted(half) if self._has_on_disk(voter, entry_id)]
            in_force = half in (raft.membership.voters, raft.membership.outgoing_voters)
            if in_force and len(holders) < len(half) // 2 + 1:
                self.fail(COMMIT_QUORUM, f"{node} commits {entry_id}; of {sorted(half)} only {holders} have it")

    def _has_on_disk(self, voter: int, entry_id: EntryId) -> bool:
        return self.on_disk.get(voter, {}).get(entry_id.index) == entry_id.term

    def written(self, node: "SimNode", entries: Sequence[Entry], snapshot: EntryId | None) -> None:
        """A write of `node` has just been synced."""
        self.members.acts(node)
        held = self.on_disk.setdefault(node.identity.member_id or 0, {})
        self._know_all(node, entries, held.get(entries[0].index - 1) if entries else None)
        if snapshot is not None:
            held.clear()
            held.update({index: entry.term for index, entry in self.committed.items() if index <= snapshot.index})
        if entries:
            held.update({entry.index: entry.term for entry in entries})
            index = entries[-1].index + 1
            while held.pop(index, None) is not None:
                index += 1

    # What is applied

    def applied(self, node: "SimNode", entries: Sequence[Entry]) -> None:
        for entry in entries:
            entry_id = EntryId(entry.term, entry.index)
            committed = self.committed.get(entry.index)
            if committed != entry_id:
                self.fail(MACHINE_SAFETY, f"{node} applies {entry_id}, and {committed} is committed there")
            known = self.entries.get(entry_id)
            if known is not None and known.checksum != entry.checksum:
                self.fail(MACHINE_SAFETY, f"{node} applies something else than what is at {entry_id}")
            if entry.index > self.reference.applied_index:
                self._apply(entry)
        self._compare_state(node, node.state)

    def _apply(self, entry: Entry) -> None:
        """It is applied for the first time."""
        self.sessions.applied(entry)
        outcomes = self.reference.apply(entry)
        self.digests[entry.index] = state_digest(self.reference)
        if entry.kind == EntryKind.COMMANDS:
            self._execute(entry, outcomes)
        elif entry.kind == EntryKind.MEMBERSHIP:
            self.members.applied(entry.index, Membership.decode(entry.payload))

    def restored(self, node: "SimNode") -> None:
        self._compare_state(node, node.state)

    def _compare_state(self, node: "SimNode", state: ReplicatedState) -> None:
        digest = state_digest(state)
        if self.digests.setdefault(state.applied_index, digest) != digest:
            self.fail(MACHINE_SAFETY, f"{node} has another state than others had after index {state.applied_index}")

    def _execute(self, entry: Entry, outcomes: Sequence[BlobOutcome]) -> None:
        """Note which writes ran in this entry."""
        blobs = decode_payload(entry.payload)
        assert isinstance(blobs, list)
        for blob, outcome in zip(blobs, outcomes, strict=True):
            if outcome.status is Status.REPLAYED:
                self.world.counts["replays"] += 1
            for name in attempt_names(blob):
                attempt = self.attempts.setdefault(name, Attempt())
                alone = blob.origin.principal != ANONYMOUS_PRINCIPAL
                applied = outcome.status is Status.APPLIED
                results = outcome.encoded(self.reference.machine) if alone and applied else b""
                if blob.origin.session:
                    before = name.partition("/")[0] in self.writes
                    self.sessions.met(name, blob.origin, outcome.status, results, ran_before=before)
                if applied:
                    self._run(name, attempt, entry, results)
                if outcome.status in (Status.APPLIED, Status.REPLAYED) and attempt.outcome == "none":
                    self.fail(NONE, f"{name} was answered as if it never happened, and is applied at {entry.index}")

    def _run(self, name: str, attempt: Attempt, entry: Entry, results: bytes) -> None:
        write = name.partition("/")[0]
        if write in self.writes:
            self.fail(ONCE, f"{name} runs at index {entry.index}, and ran before as {self.writes[write]}")
        self.writes[write] = name
        attempt.executed_at, attempt.applied_s, attempt.results = entry.index, self.world.now, results

    # What clients are told

    def answered(self, name: str, outcome: str, results: bytes | None) -> None:
        """`outcome` is ok, none or unknown. `results` are given where they can be compared byte by byte."""
        attempt = self.attempts.setdefault(name, Attempt())
        attempt.outcome = outcome
        if outcome == "none" and attempt.executed_at is not None:
            self.fail(NONE, f"{name} was answered as if it never happened, and ran at {attempt.executed_at}")
        if outcome == "ok":
            ran = self.writes.get(name.partition("/")[0])
            if ran is None:
                self.fail(NOT_LOST, f"{name} is acknowledged and was never applied")
            elif results is not None and self.attempts[ran].results != results:
                self.fail(RESULT, f"{name} got another answer than {ran} had when it ran")

    def sent(self, node: "SimNode", messages: Sequence[PeerMessage]) -> None:
        """A vote that leaves is a promise for the rest of its term (§3.4), and an entry for ever."""
        self.members.sent(node, messages)
        sender = node.identity.member_id or 0
        for message in messages:
            match message:
                case AppendEntries(entries=entries, prev=prev) if entries:
                    self._know_all(node, entries, prev.term)
                case VoteReply(granted=True, to_id=candidate, term=term):
                    self._vote(sender, term, candidate)
                case RequestVote(term=term):
                    self._vote(sender, term, sender)

    def removed(self, node: "SimNode") -> None:
        self.members.knows_of_removal(node, self.committed)

    def _vote(self, voter: int, term: int, candidate: int) -> None:
        other = self.votes.setdefault((voter, term), candidate)
        if other != candidate:
            self.fail(VOTE_ONCE, f"member {voter} votes in term {term} for {candidate}, and voted for {other}")


def attempt_names(blob: Blob) -> Iterator[str]:
    """Which writes a blob carries: clients name them in the principal, or in the value of a single put."""
    if blob.origin.principal != ANONYMOUS_PRINCIPAL:
        yield blob.origin.principal
        return
    try:
        commands = decode_blob(blob.data)
    except InvalidCommand:
        return
    for command in commands:
        if isinstance(command, Put):
            yield command.value.decode()


def state_digest(state: ReplicatedState) -> int:
    digest = 0
    for _, _, _, chunks in state.sections():
        for chunk in chunks:
            digest = crc32(chunk, digest)
    return digest
