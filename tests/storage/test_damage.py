"""A log that is cut or flipped anywhere: what is left is a true prefix, or an error; never wrong data.

And nothing that a later record says was durable is ever lost.
"""

from dataclasses import dataclass

import pytest

from raftwright.raft.entries import Entry, HardState
from raftwright.sim.disk import SimFiles
from raftwright.storage.errors import CorruptLog
from raftwright.storage.segments import segment_path
from raftwright.storage.storage import Storage
from tests.storage.support import disk, entries, founded, opened, whole_log


@dataclass(frozen=True)
class Stage:
    """What was acknowledged once the segment was written up to `end`."""

    end: int
    state: HardState
    log: list[Entry]


@dataclass(frozen=True)
class Written:
    disk: SimFiles
    path: str
    content: bytes
    stages: list[Stage]


def write_rounds() -> Written:
    files = disk()
    store = founded(files)
    segment = store._log._index.current
    stages: list[Stage] = []

    def note() -> None:
        stages.append(Stage(segment.end, store._log.hard_state, whole_log(store)))

    note()
    store.write(entries=entries(2, 4))
    note()
    store.write(hard_state=HardState(2, 3), entries=entries(5, 5, term=2))
    note()
    store.write(hard_state=HardState(3, None), entries=entries(4, 6, term=3, size=33))
    note()
    store.write(entries=entries(7, 8, term=3, size=9))
    note()
    files.power_loss("drop")
    return Written(files, segment.path, files.content(segment.path), stages)


def recover(written: Written, content: bytes) -> tuple[HardState, list[Entry]] | None:
    """What a store finds whose only segment holds `content`; None if it refuses."""
    written.disk.kill()
    written.disk.damage(written.path, content)
    try:
        store = opened(written.disk)
    except CorruptLog as error:
        assert written.disk.content(written.path) == content, "a refused log must not be changed"
        assert error.file == written.path
        return None
    found = (store.recovered.hard_state, whole_log(store))
    assert list(store.recovered.tail) == found[1]
    return found


def is_prefix_of_history(found: tuple[HardState, list[Entry]], stages: list[Stage], from_stage: int) -> bool:
    """Whether this is what some crash after `from_stage` could have left: a stage and a part of the next write."""
    state, log = found
    for number in range(from_stage, len(stages)):
        before = stages[number]
        if (state, log) == (before.state, before.log):
            return True
        if number + 1 == len(stages):
            continue
        after = stages[number + 1]
        kept = [entry for entry in before.log if entry in after.log]
        partial = [after.log[:size] for size in range(len(kept), len(after.log) + 1)]
        if state == after.state and (log == before.log or log in partial):
            return True
    return False


def test_a_log_cut_at_every_byte_is_a_prefix_with_everything_before_the_cut() -> None:
    written = write_rounds()
    end = written.stages[-1].end
    for cut in range(written.stages[0].end, end + 1):
        content = written.content[:cut] + bytes(len(written.content) - cut)
        found = recover(written, content)
        stage = max(number for number, stage in enumerate(written.stages) if stage.end <= cut)
        assert found is not None
        assert is_prefix_of_history(found, written.stages[: stage + 2], stage), cut


def test_a_file_shorter_than_it_was_made_is_damage() -> None:
    written = write_rounds()
    for size in range(0, len(written.content), 8):
        assert recover(written, written.content[:size]) is None


@pytest.mark.parametrize("flip", [0x01, 0x80, 0xFF])
def test_a_log_with_any_byte_flipped_loses_nothing_that_a_later_record_says_was_durable(flip: int) -> None:
    written = write_rounds()
    last_but_one = written.stages[-2]
    refused = 0
    for offset in range(written.stages[-1].end):
        damaged = bytearray(written.content)
        damaged[offset] ^= flip
        found = recover(written, bytes(damaged))
        if found is None:
            refused += 1
            assert offset < last_but_one.end, "damage in the last round cannot be told from a tear"
        else:
            assert is_prefix_of_history(found, written.stages, len(written.stages) - 2), offset
            whole = found == (written.stages[-1].state, written.stages[-1].log)
            assert offset >= last_but_one.end or whole, "damage before the last round must be refused"
    assert refused > last_but_one.end * 0.9


@pytest.mark.parametrize("fill", [0x00, 0xFF])
def test_a_lost_sector_is_refused_before_the_last_round_and_cut_in_it(fill: int) -> None:
    written = write_rounds()
    for start in range(0, written.stages[-1].end, 64):
        content = written.content[:start] + bytes([fill]) * 64 + written.content[start + 64 :]
        found = recover(written, content)
        if start + 64 <= written.stages[-2].end:
            assert found is None, start
        elif found is not None:
            assert is_prefix_of_history(found, written.stages, len(written.stages) - 2)


def test_damage_in_an_earlier_segment_is_refused_up_to_its_end() -> None:
    files = disk()
    store = founded(files)
    first = store._log._index.current
    store.write(entries=entries(2, 20))
    store.write(entries=entries(21, 60))
    assert store._log._index.current is not first
    sound = files.content(first.path)
    records_end = first.offsets[-1]
    for offset in range(0, records_end, 7):
        damaged = bytearray(sound)
        damaged[offset] ^= 0x10
        files.kill()
        files.damage(first.path, bytes(damaged))
        if sound[offset] == 0 and offset % 8:  # it may be padding, which stands for nothing
            continue
        with pytest.raises(CorruptLog) as caught:
            opened(files)
        assert caught.value.file == first.path
        assert caught.value.offset <= offset


def test_a_missing_segment_is_refused() -> None:
    files = disk()
    store = founded(files)
    store.write(entries=entries(2, 120))
    paths = [segment.path for segment in store._log._index.segments]
    assert len(paths) >= 3
    files.kill()
    files.remove(paths[1])
    with pytest.raises(CorruptLog, match="missing"):
        opened(files)


def test_a_log_that_is_gone_is_refused() -> None:
    files = disk()
    store = founded(files)
    path = store._log._index.current.path
    files.kill()
    for name in files.list("log"):
        files.remove(f"log/{name}")
    with pytest.raises(CorruptLog) as caught:
        opened(files)
    assert "add it again" in caught.value.what_to_do
    assert path.startswith("log/")


def test_damage_under_a_running_store_is_seen_by_a_read() -> None:
    files = disk()
    store: Storage = founded(files)
    store.write(entries=entries(2, 9))
    path = segment_path(store._log._index.current.generation)
    content = bytearray(files.content(path))
    offset = store._log._index.current.offsets[4] + 70
    content[offset] ^= 1
    files._cached.files[path].cached[:] = content
    assert [found.index for found in store.read(2, 1 << 20, 5)] == [2, 3, 4, 5]
    with pytest.raises(CorruptLog):
        store.read(2, 1 << 20, 9)
