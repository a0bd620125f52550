"""A digest of the replicated state at agreed indexes, so that replicas can be compared (`server/checks.py` does it).

`server/state.py` calls it with each entry. Rules: what it says depends on the log and the state alone, so that every
replica makes the same digests at the same indexes; and it costs little, since it runs with every entry.

A machine that has a `digest()` is asked for it. For any other the digest is a chain: of what every command came to, in
order, since the chain began. A difference in it never goes away, so it is found also by a later check; a state that
differs without any result that says so is not found. The chain begins anew at agreed indexes far apart (`EPOCH_…`),
so that replicas of which one could not go on with its chain, after an upgrade, become comparable again.
"""

import logging
from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from hashlib import blake2b
from typing import Annotated, Any
from zlib import crc32

import msgspec
from msgspec import Meta

from raftwright.server.machine import InvalidSnapshot, Machine

_log = logging.getLogger(__name__)

SECTION_VERSION = 1
CHAIN_VERSION = 1
"""Of how the chain is made. Digests of unequal versions are not compared."""

INTERVAL_ENTRIES = 256
"""A digest is made at every multiple of this index…"""
INTERVAL_BYTES = 1 << 20
"""…and of the entry with which the payloads since the last digest reach this…"""
INTERVAL_MS = 10_000
"""…and of the first entry in each such span of log time."""
EPOCH_ENTRIES = 65_536
"""The chain begins anew behind the digest at every multiple of this index…"""
EPOCH_MS = 86_400_000
"""…and behind the first entry of each day of log time."""
HISTORY = 64
"""So many of the newest digests are part of the state, and of snapshots: a snapshot can be judged by them."""

_VALUE_BYTES = 8
_SECTION_BYTES_MAX = 64 << 20

Digest = tuple[int, bytes]
"""Index and value."""


class WrongState(InvalidSnapshot):
    """The snapshot is of a state that is known not to be the majority's."""


class _Section(msgspec.Struct, array_like=True, frozen=True):
    version: Annotated[str, Meta(max_length=512)]
    chain: bytes | None
    results: bytes
    """Since the newest digest, encoded."""
    marks: int
    size: int
    history: list[tuple[int, bytes]]


_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder(_Section)


class StateDigest:
    """The rolling digest as of the newest entry applied."""

    __slots__ = (
        "_chain",
        "_day_ends",
        "_failed",
        "_machine",
        "_made",
        "_marks",
        "_own",
        "history",
        "results",
        "size",
        "span_ends",
        "version",
    )

    def __init__(self, machine: Machine, time_ms: int = 0) -> None:
        self._machine = machine
        own = getattr(machine, "digest", None)
        self._own = own if callable(own) else None
        source = "machine" if self._own is not None else f"results-{CHAIN_VERSION}"
        self.version = f"{source}:{machine.name}:{machine.version}.{getattr(machine, 'digest_version', 1)}"
        """Only digests of equal versions can be compared."""
        self.history: deque[Digest] = deque(maxlen=HISTORY)
        self.size = 0
        """Bytes of payloads since the last digest: `state.py` adds to it."""
        self.results: list[Any] = []
        """Of the commands since then, likewise."""
        self.span_ends = 0
        """Log time from which on the next entry makes a digest."""
        self._day_ends = 0
        self._made: list[tuple[int, bytes | None]] = []
        self._chain: bytes | None = b""
        """None: not known, until the next epoch."""
        self._marks = 0
        self._failed = False
        self._set_time(time_ms)

    def _set_time(self, time_ms: int) -> None:
        self.span_ends = (time_ms // INTERVAL_MS + 1) * INTERVAL_MS
        self._day_ends = (time_ms // EPOCH_MS + 1) * EPOCH_MS

    # With each entry; what is done with every one is in `state.py`, for its speed.

    def mark(self, mark: str) -> None:
        """Something came to pass that is no result of the machine's."""
        self._marks = crc32(mark.encode(), self._marks)

    def make(self, index: int, time_ms: int) -> None:
        """The digest at `index` is due: its entry, of this log time, is applied."""
        value = self._machines_own() if self._own is not None else self._next_of_chain(index)
        if value is not None:
            self.history.append((index, value))
        self._made.append((index, value))
        self.size = 0
        self.results.clear()
        if index % EPOCH_ENTRIES == 0 or time_ms >= self._day_ends:
            self._chain = index.to_bytes(8, "big")
        self._set_time(time_ms)

    def _machines_own(self) -> bytes | None:
        """None where the machine cannot say: a check that cannot be made."""
        assert self._own is not None
        try:
            data = self._own()
        except (MemoryError, OSError):
            raise
        except Exception:
            if not self._failed:
                _log.exception("%s.digest() failed: this replica cannot be compared with the others", self.version)
            self._failed = True
            return None
        return None if data is None else blake2b(data, digest_size=_VALUE_BYTES).digest()

    def _next_of_chain(self, index: int) -> bytes | None:
        # Encoded by the hundred: that is far cheaper than one by one. What becomes one group depends on the log alone.
        checksum = crc32(self._machine.encode_results(self.results))
        marks, self._marks = self._marks, 0
        if self._chain is not None:
            revision = getattr(self._machine, "revision", 0)
            link = b"%b %d %d %d %d" % (self._chain, index, checksum, marks, revision)
            self._chain = blake2b(link, digest_size=_VALUE_BYTES).digest()
        return self._chain

    # Out

    def take(self) -> Sequence[tuple[int, bytes | None]]:
        """The digests made since the last call; None for one that could not be made."""
        if not self._made:
            return ()
        made, self._made = self._made, []
        return made

    def contradicts(self, known: Mapping[int, tuple[str, bytes]]) -> int | None:
        """The newest index at which both have a digest, if this one is another there than the one that is known to be
        right. An older one does not count against it: who was the majority then may have lost its state since, by a
        crash, and then nobody has what was known to be right."""
        for index, value in reversed(self.history):
            version, right = known.get(index, ("", b""))
            if version == self.version:
                return None if value == right else index
        return None

    # Snapshots

    def section(self) -> bytes:
        results = [] if self._own is not None else self.results
        return _encoder.encode(
            _Section(
                version=self.version,
                chain=self._chain,
                results=self._machine.encode_results(results) if results else b"",
                marks=self._marks,
                size=self.size,
                history=list(self.history),
            )
        )

    @classmethod
    def unknown(cls, machine: Machine, time_ms: int) -> "StateDigest":
        """Of a state of which the chain is not known: it is not compared before the next epoch."""
        digest = cls(machine, time_ms)
        digest._chain = None
        return digest

    @classmethod
    def restored(cls, machine: Machine, time_ms: int, chunks: Iterable[bytes]) -> "StateDigest":
        """Raises InvalidSnapshot, or what reading raises. Of another version: unknown."""
        data = bytearray()
        for chunk in chunks:
            data += chunk
            if len(data) > _SECTION_BYTES_MAX:
                raise InvalidSnapshot("the section 'digest' is too long")
        digest = cls.unknown(machine, time_ms)
        try:
            section: _Section = _decoder.decode(data)
            digest.size = section.size
            if section.version == digest.version:
                digest.results = machine.decode_results(section.results) if section.results else []
                digest._chain = section.chain
                digest._marks = section.marks
                digest.history.extend(section.history)
        except ValueError as error:
            raise InvalidSnapshot(f"the section 'digest' cannot be decoded: {error}") from error
        return digest
