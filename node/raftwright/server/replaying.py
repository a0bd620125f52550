"""Commands of consecutive entries that wait to be applied in one call, since nobody here waits for their outcomes.

`state.py` has one for each replay. Its one rule: it comes to the same, to the byte, as one entry after the other.
"""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from raftwright.raft.entries import Entry
from raftwright.server.blobs import Blob, Origin
from raftwright.server.machine import ApplyContext, InvalidCommand
from raftwright.server.sessions import fingerprint_of

if TYPE_CHECKING:
    from raftwright.server.state import ReplicatedState


class Waiting:
    def __init__(self, state: "ReplicatedState") -> None:
        self._state = state
        self._decode: Callable[[bytes], list[Any]] = state.machine.decode
        self._commands: list[Any] = []
        self._opened: dict[bytes, tuple[Origin, bytes, int, int]] = {}
        """By session: its one blob's origin and fingerprint, the position of its first command, and its log time."""

    def takes(self, blob: Blob, time_ms: int) -> bool:
        """False for a blob with a fault, and for one whose session somebody has used: whether that is to be run
        depends on what ran before. A session that is neither known nor among those that wait begins with its blob."""
        origin = blob.origin
        session = origin.session
        if session and (not origin.opens or session in self._opened or session in self._state.sessions):
            return False
        try:
            commands = self._decode(blob.data)
        except InvalidCommand:
            return False
        if len(commands) != origin.count:
            return False
        if session:
            self._opened[session] = origin, fingerprint_of(blob.data), len(self._commands), time_ms
        self._commands += commands
        return True

    def run(self, last: Entry) -> None:
        """Apply what waits; `last` is the newest entry that any of it is of."""
        if not self._commands:
            return
        state = self._state
        machine, sessions = state.machine, state.sessions
        results = machine.apply(self._commands, ApplyContext(last.index, last.term, state.time_ms)).results
        state.digest.results += results
        for origin, fingerprint, first, time_ms in self._opened.values():
            encoded = machine.encode_results(results[first : first + origin.count])
            sessions.record(origin, fingerprint, encoded, time_ms)
        self._commands = []
        self._opened.clear()
