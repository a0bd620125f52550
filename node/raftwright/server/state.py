"""The replicated state: machine, sessions and system state, and what an entry does to them.

The driver applies committed entries to it in order, and takes snapshots of it. Its one rule: apply reads nothing
but this state and the entry, and is total: the same entries give the same state and the same results on every node.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from enum import Enum
from typing import Any

import msgspec

from raftwright.client.models import Undecodable
from raftwright.raft.entries import ZERO, Entry, EntryId, EntryKind
from raftwright.server import digests
from raftwright.server import sessions as sessions_module
from raftwright.server.blobs import PAYLOAD_VERSION, Blob, InvalidPayload, Origin, decode_payload
from raftwright.server.digests import INTERVAL_BYTES, INTERVAL_ENTRIES, StateDigest, WrongState
from raftwright.server.machine import ApplyContext, Change, InvalidCommand, InvalidSnapshot, Machine
from raftwright.server.replaying import Waiting
from raftwright.server.sessions import Sessions, Verdict, fingerprint_of
from raftwright.server.system import FEATURE_LEVEL_MAX, SYSTEM_VERSION, UnsupportedEntry, decode_system_command

Section = tuple[str, int, bool, Iterator[bytes]]
"""Part of a snapshot: name, format version, whether a reader must know it, and its bytes in slices."""

SYSTEM_SECTION = "system"
SESSIONS_SECTION = "sessions"
DIGEST_SECTION = "digest"
MACHINE_SECTION = "machine"
SYSTEM_SECTION_VERSION = 1
_SYSTEM_SECTION_BYTES_MAX = 1 << 16

# What replicas must agree on to the byte never quotes a library's message.
UNDECODABLE_PAYLOAD = "the entry's payload cannot be decoded"
UNDECODABLE_BLOB = "the blob of commands cannot be decoded"
UNDECODABLE_COUNT = "the blob does not hold as many commands as its origin says"
UNDECODABLE_SYSTEM = "the system command cannot be decoded"

_NO_ORIGIN = Origin()


class Status(Enum):
    APPLIED = "applied"
    REPLAYED = "replayed"
    """It had run before: these are the results of that run, and nothing changed."""
    CONFLICT = "conflict"
    """Not run: another request has its numbers in this session (422)."""
    EXPIRED = "expired"
    """Not run: whether it ran before is forgotten."""
    UNDECODABLE = "undecodable"
    """Nothing of it ran: every command's result says why."""


# Names of their own, since a look-up in an enum takes its time, and entries of one command are many at a restart.
_APPLIED = Status.APPLIED
_FRESH = Verdict.FRESH
_COMMANDS = EntryKind.COMMANDS


class BlobOutcome(msgspec.Struct, gc=False):
    """What became of one blob. Without results where it was neither run nor replayed."""

    origin: Origin
    status: Status
    results: list[Any] | None = None
    """One a command; None of a blob that was REPLAYED (see `encoded`), CONFLICT or EXPIRED."""
    changes: list[Change] = []
    results_bytes: bytes | None = None
    """What `encoded` keeps."""

    def encoded(self, machine: Machine) -> bytes:
        """The results as the client gets them. Only for a blob that has some."""
        if self.results_bytes is None:
            assert self.results is not None, f"a blob that is {self.status.value} has no results"
            self.results_bytes = machine.encode_results(self.results)
        return self.results_bytes


class _SystemState(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The section `system` as JSON, so that a person can read where a snapshot stands."""

    machine: str
    applied_index: int
    applied_term: int
    time_ms: int
    feature_level: int


class ReplicatedState:
    """Machine, sessions and system state as of the entry `applied_id`."""

    def __init__(self, machine: Machine, *, applied: EntryId = ZERO, time_ms: int = 0) -> None:
        self.machine = machine
        self.sessions = Sessions()
        self.digest = StateDigest(machine, time_ms)
        self.feature_level = 1
        self.applied_index = applied.index
        self.applied_term = applied.term
        self.time_ms = time_ms
        """Log time of the newest entry applied."""

    @property
    def applied_id(self) -> EntryId:
        return EntryId(self.applied_term, self.applied_index)

    # --- entries

    def apply(self, entry: Entry, decoded: Sequence[list[Any] | None] | None = None) -> list[BlobOutcome]:
        """Apply the next entry: one outcome a blob, in order; none for kinds without commands.

        `decoded` may hold, blob by blob, what `machine.decode` made of it before. MemoryError and OSError of the
        machine pass, and UnsupportedEntry is raised for an entry of newer software: the node must stop.
        """
        index, digest = entry.index, self.digest
        assert index == self.applied_index + 1, f"entry {index} after {self.applied_index}"
        if entry.time_ms > self.time_ms:
            self.time_ms = entry.time_ms
            self.sessions.expire(entry.time_ms)
        kind = entry.kind
        if kind == _COMMANDS:
            outcomes = self._apply_commands(entry, decoded)
        elif kind == EntryKind.SYSTEM:
            outcomes = [self._apply_system(entry)]
            digest.mark(f"feature level {self.feature_level}")
        elif kind in (EntryKind.NOOP, EntryKind.MEMBERSHIP):
            outcomes = []
        else:
            raise UnsupportedEntry(f"entry {index} is of kind {kind}, which this version does not know")
        self.applied_index = index
        self.applied_term = entry.term
        digest.size += len(entry.payload)
        if not index % INTERVAL_ENTRIES or digest.size >= INTERVAL_BYTES or self.time_ms >= digest.span_ends:
            digest.make(index, self.time_ms)
        return outcomes

    def replay(self, entries: Sequence[Entry]) -> int:
        """`apply` for entries whose outcomes nobody here waits for: how many commands they held.

        It comes to the same. But the commands of consecutive entries go in one call to a machine that says that it
        reads no context, which makes a replay of many small entries more than twice as fast.
        """
        if not getattr(self.machine, "ignores_context", False):
            return sum(outcome.origin.count for entry in entries for outcome in self.apply(entry))
        digest, count, waiting = self.digest, 0, Waiting(self)
        for entry in entries:
            # An entry that begins a new span of log time makes a digest: that is for `apply`.
            blobs = _blobs_of(entry) if entry.time_ms < digest.span_ends else None
            if blobs is None:
                waiting.run(entry)
                count += sum(outcome.origin.count for outcome in self.apply(entry))
                continue
            index = entry.index
            assert index == self.applied_index + 1, f"entry {index} after {self.applied_index}"
            if entry.time_ms > self.time_ms:
                if self.sessions.may_expire(entry.time_ms):
                    waiting.run(entry)
                    self.sessions.expire(entry.time_ms)
                self.time_ms = entry.time_ms
            for blob in blobs:
                count += blob.origin.count
                if not waiting.takes(blob, self.time_ms):
                    waiting.run(entry)
                    self._apply_any_blob(blob, None, ApplyContext(index, entry.term, self.time_ms))
            self.applied_index = index
            self.applied_term = entry.term
            digest.size += len(entry.payload)
            if not index % INTERVAL_ENTRIES or digest.size >= INTERVAL_BYTES:
                waiting.run(entry)
                digest.make(index, self.time_ms)
        waiting.run(entries[-1])
        return count

    def _apply_commands(self, entry: Entry, decoded: Sequence[list[Any] | None] | None) -> list[BlobOutcome]:
        if entry.version != PAYLOAD_VERSION:
            raise _unsupported_version(entry, PAYLOAD_VERSION)
        blobs = decode_payload(entry.payload)
        if isinstance(blobs, InvalidPayload):
            results = self.machine.undecodable(1, UNDECODABLE_PAYLOAD)
            self.digest.results += results
            return [BlobOutcome(_NO_ORIGIN, Status.UNDECODABLE, results)]
        assert decoded is None or len(decoded) == len(blobs), "what was decoded is of another entry"
        context = ApplyContext(entry.index, entry.term, self.time_ms)
        outcomes = []
        for position, blob in enumerate(blobs):
            outcomes.append(self._apply_any_blob(blob, decoded[position] if decoded else None, context))
        return outcomes

    def _apply_any_blob(self, blob: Blob, commands: list[Any] | None, context: ApplyContext) -> BlobOutcome:
        if blob.origin.session:
            return self._apply_session_blob(blob, commands, context)
        return self._apply_blob(blob, commands, context)

    def _apply_session_blob(self, blob: Blob, commands: list[Any] | None, context: ApplyContext) -> BlobOutcome:
        """Run the blob unless it ran before, and keep its results for retries (§6.3)."""
        origin = blob.origin
        fingerprint = fingerprint_of(blob.data)
        seen = self.sessions.seen(origin, fingerprint)
        if seen is _FRESH:
            outcome = self._apply_blob(blob, commands, context)
            self.sessions.record(origin, fingerprint, outcome.encoded(self.machine), context.time_ms)
            return outcome
        self.sessions.touch(origin, context.time_ms)
        if isinstance(seen, bytes):
            status = Status.REPLAYED
        else:
            status = Status.CONFLICT if seen is Verdict.CONFLICT else Status.EXPIRED
        self.digest.mark(status.value)
        return BlobOutcome(origin, status, results_bytes=seen if isinstance(seen, bytes) else None)

    def _apply_blob(self, blob: Blob, commands: list[Any] | None, context: ApplyContext) -> BlobOutcome:
        origin = blob.origin
        if commands is None:
            try:
                commands = self.machine.decode(blob.data)
            except InvalidCommand:
                return self._undecodable(origin, UNDECODABLE_BLOB)
        if len(commands) != origin.count:
            return self._undecodable(origin, UNDECODABLE_COUNT)
        applied = self.machine.apply(commands, context)
        self.digest.results += applied.results
        return BlobOutcome(origin, _APPLIED, applied.results, applied.changes)

    def _undecodable(self, origin: Origin, reason: str) -> BlobOutcome:
        results = self.machine.undecodable(origin.count, reason)
        self.digest.results += results
        return BlobOutcome(origin, Status.UNDECODABLE, results)

    def _apply_system(self, entry: Entry) -> BlobOutcome:
        if entry.version != SYSTEM_VERSION:
            raise _unsupported_version(entry, SYSTEM_VERSION)
        command = decode_system_command(entry.payload)
        if command is None:
            return BlobOutcome(_NO_ORIGIN, Status.UNDECODABLE, [Undecodable(UNDECODABLE_SYSTEM)])
        if command.level > FEATURE_LEVEL_MAX:
            reason = f"raises the feature level to {command.level}; up to {FEATURE_LEVEL_MAX} is known"
            raise UnsupportedEntry(f"entry {entry.index} {reason}")
        self.feature_level = max(self.feature_level, command.level)
        return BlobOutcome(_NO_ORIGIN, Status.APPLIED, [self.feature_level])

    # --- snapshots

    def sections(self) -> list[Section]:
        """The state as it is now, frozen at once; the bytes are made as they are taken, while apply goes on."""
        system = _SystemState(
            machine=self.machine.name,
            applied_index=self.applied_index,
            applied_term=self.applied_term,
            time_ms=self.time_ms,
            feature_level=self.feature_level,
        )
        return [
            (SYSTEM_SECTION, SYSTEM_SECTION_VERSION, True, iter([msgspec.json.encode(system)])),
            (SESSIONS_SECTION, sessions_module.VERSION, True, self.sessions.snapshot()),
            # Not required: who does not know it goes on without comparing.
            (DIGEST_SECTION, digests.SECTION_VERSION, False, iter([self.digest.section()])),
            (MACHINE_SECTION, self.machine.version, True, self.machine.snapshot()),
        ]

    def restore(
        self,
        sections: Iterable[tuple[str, int, bool, Iterable[bytes]]],
        known: Mapping[int, tuple[str, bytes]] | None = None,
    ) -> None:
        """Replace everything by what `sections` made. Sections are read in the order they come, the machine's last.

        Raises InvalidSnapshot, or what reading raises, and then all is as before; save where something required
        follows the machine's section, which no writer makes: then this state must be thrown away. WrongState is an
        InvalidSnapshot by whose digests it is of another state than the digests that are `known` to be right.
        """
        system: _SystemState | None = None
        sessions: Sessions | None = None
        digest: StateDigest | None = None
        restored = False
        for name, version, required, chunks in sections:
            if restored and (required or name in _VERSIONS):
                raise InvalidSnapshot(f"the section {name!r} comes after the machine's")
            if name == MACHINE_SECTION:
                self._check_machine(version, system, sessions)
                _check_digest(digest, known)
                self.machine.restore(chunks)
                restored = True
            elif name == DIGEST_SECTION and system is not None and version == digests.SECTION_VERSION:
                digest = StateDigest.restored(self.machine, system.time_ms, chunks)
            elif name not in _VERSIONS:
                if required:
                    raise InvalidSnapshot(f"the section {name!r} is required, and this version does not know it")
                for _ in chunks:
                    pass  # read over it
            elif version != _VERSIONS[name]:
                raise InvalidSnapshot(f"the section {name!r} has version {version}; {_VERSIONS[name]} is known")
            elif name == SYSTEM_SECTION:
                system = _decode_system(chunks)
            else:
                sessions = Sessions.restored(chunks)
        if not restored or system is None or sessions is None:
            raise InvalidSnapshot("the machine's section is missing")
        self.sessions = sessions
        self.digest = digest or StateDigest.unknown(self.machine, system.time_ms)
        self.feature_level = system.feature_level
        self.applied_index = system.applied_index
        self.applied_term = system.applied_term
        self.time_ms = system.time_ms

    def _check_machine(self, version: int, system: _SystemState | None, sessions: Sessions | None) -> None:
        if system is None or sessions is None:
            raise InvalidSnapshot("the sections system and sessions must come before the machine's")
        if system.machine != self.machine.name:
            raise InvalidSnapshot(f"it is of the machine {system.machine!r}, and this node runs {self.machine.name!r}")
        if version > self.machine.version:
            raise InvalidSnapshot(f"the machine's section has version {version}; up to {self.machine.version} is known")
        if system.feature_level > FEATURE_LEVEL_MAX:
            raise InvalidSnapshot(f"its feature level is {system.feature_level}; up to {FEATURE_LEVEL_MAX} is known")


_VERSIONS = {SYSTEM_SECTION: SYSTEM_SECTION_VERSION, SESSIONS_SECTION: sessions_module.VERSION}


def _blobs_of(entry: Entry) -> list[Blob] | None:
    """The blobs of an entry of commands that can be decoded; None of any other."""
    if entry.kind != _COMMANDS or entry.version != PAYLOAD_VERSION:
        return None
    blobs = decode_payload(entry.payload)
    return None if isinstance(blobs, InvalidPayload) else blobs


def _check_digest(digest: StateDigest | None, known: Mapping[int, tuple[str, bytes]] | None) -> None:
    index = digest.contradicts(known) if digest and known else None
    if index is not None:
        raise WrongState(f"its digest at index {index} is not that of the majority")


def _unsupported_version(entry: Entry, known: int) -> UnsupportedEntry:
    return UnsupportedEntry(f"entry {entry.index} has payload version {entry.version}; {known} is known")


def _decode_system(chunks: Iterable[bytes]) -> _SystemState:
    data = b""
    for chunk in chunks:
        data += chunk
        if len(data) > _SYSTEM_SECTION_BYTES_MAX:
            raise InvalidSnapshot("the section 'system' is too long")
    try:
        return msgspec.json.decode(data, type=_SystemState)
    except ValueError as error:
        raise InvalidSnapshot(f"the section 'system' cannot be decoded: {error}") from error
