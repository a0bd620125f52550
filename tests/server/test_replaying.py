"""A replay: entries that nobody here waits for come to the same in groups as one by one."""

import pytest
from hypothesis import example as also_for
from hypothesis import given, settings
from hypothesis import strategies as st

from raftwright.kv.commands import Command, Delete, Put, encode_blob, encode_command
from raftwright.kv.store import KvMachine
from raftwright.raft.entries import Entry, EntryKind
from raftwright.server import sessions
from raftwright.server.blobs import Blob, Origin, encode_payload
from raftwright.server.machine import Applied, ApplyContext
from raftwright.server.sessions import RETENTION_MS
from raftwright.server.state import ReplicatedState
from tests.server.test_state import SESSION, apply, blob, entry, fresh, section_bytes, steps_of_a_log


@settings(max_examples=150)
@given(steps_of_a_log, st.lists(st.integers(1, 400), min_size=1, max_size=5), st.booleans())
def test_a_replay_comes_to_the_same_as_entry_by_entry(
    steps: list[tuple[bytes, int, bool]], cuts: list[int], has_long_tail: bool
) -> None:
    entries: list[Entry] = []
    time_ms = 0
    for payload, passed_ms, _ in steps:
        time_ms += passed_ms
        entries.append(entry(len(entries) + 1, payload, time_ms=time_ms))
    if has_long_tail:  # over the index at which a digest is made
        plain = [encode_payload([blob(Put(f"k{number % 7}", b"v"), Delete("k0"))]) for number in range(300)]
        entries += [entry(len(entries) + 1 + n, payload, time_ms=time_ms + n) for n, payload in enumerate(plain)]
        entries.append(entry(len(entries) + 1, b"", EntryKind.NOOP, time_ms=time_ms + 300))
    one_by_one, replayed = fresh(), fresh()
    count = sum(outcome.origin.count for one in entries for outcome in one_by_one.apply(one))
    replayed_count = start = 0
    for cut in cuts * (len(entries) // min(cuts) + 1):
        if start < len(entries):
            replayed_count += replayed.replay(entries[start : start + cut])
            start += cut
    assert replayed_count == count
    assert section_bytes(replayed) == section_bytes(one_by_one)
    assert list(replayed.digest.history) == list(one_by_one.digest.history)


_uses = st.lists(
    st.tuples(st.sampled_from("abcdef"), st.integers(1, 3), st.booleans(), st.sampled_from([0, 1, RETENTION_MS])),
    max_size=40,
)


@settings(max_examples=150)
@given(_uses)
@also_for([("a", 1, True, 0), ("b", 1, True, 1), ("c", 1, True, RETENTION_MS)])
def test_a_replay_forgets_sessions_as_entry_by_entry_does(uses: list[tuple[str, int, bool, int]]) -> None:
    """Few are kept, so that a session that opens pushes out one that is used again."""
    entries: list[Entry] = []
    time_ms = 0
    for name, first_seq, opens, passed_ms in uses:
        time_ms += passed_ms
        one = blob(Put(name, b"%d" % first_seq), session=name.encode() * 16, first_seq=first_seq, opens=opens)
        entries.append(entry(len(entries) + 1, encode_payload([one]), time_ms=time_ms))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sessions, "SESSIONS_MAX", 3)
        one_by_one, replayed = fresh(), fresh()
        for each in entries:
            one_by_one.apply(each)
        if entries:
            replayed.replay(entries)
    assert section_bytes(replayed) == section_bytes(one_by_one)
    assert list(replayed.digest.history) == list(one_by_one.digest.history)


def test_a_replay_runs_no_blob_whose_count_is_wrong() -> None:
    lying = Blob(Origin(count=3), encode_blob([encode_command(Put("a", b"1"))]))
    state = fresh()
    assert state.replay([entry(1, encode_payload([lying]))]) == 3
    assert state.machine.get("a") is None  # type: ignore[attr-defined]


def test_sessions_are_forgotten_in_a_replay_as_log_time_passes() -> None:
    plain = encode_payload([blob(Put("a", b"1"))])
    state = fresh()
    apply(state, blob(Put("s", b""), session=SESSION, first_seq=1), time_ms=1)
    state.replay([entry(2, plain, time_ms=RETENTION_MS)])
    assert len(state.sessions) == 1
    state.replay([entry(3, plain, time_ms=RETENTION_MS + 2)])
    assert len(state.sessions) == 0


def test_a_machine_that_reads_its_context_is_never_given_several_entries_at_once() -> None:
    class Careful(KvMachine):
        ignores_context = False

        def __init__(self) -> None:
            super().__init__()
            self.indexes: list[int] = []

        def apply(self, commands: list[Command], context: ApplyContext) -> Applied:
            self.indexes.append(context.index)
            return super().apply(commands, context)

    machine = Careful()
    state = ReplicatedState(machine)
    assert state.replay([entry(n, encode_payload([blob(Put("a", b"1"))])) for n in range(1, 5)]) == 4
    assert machine.indexes == [1, 2, 3, 4]
