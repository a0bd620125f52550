"""A crash at every single effect on the disk: what the store returned for is there afterwards, in one piece.

A script of everything that a store does is run up to each effect, with each way in which a machine may forget. Then
the store goes on, the power fails once more, and nothing that was visible in between may be missing.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from errno import EIO
from typing import Literal

import pytest

from raftwright.raft.entries import ZERO, Entry, EntryId, HardState
from raftwright.sim.disk import SimFiles, SimulatedCrash, Unsynced
from raftwright.storage.errors import SyncFailed
from raftwright.storage.storage import Storage
from tests.storage.support import FOUNDING, disk, entries, entry, founded, opened, take_snapshot, transfer, whole_log

NOTHING = HardState()
Loss = Unsynced | Literal["kill"]


@dataclass(frozen=True)
class State:
    """What a store holds. `log` has every entry since the last reset; the store may have let go of older ones."""

    hard_state: HardState = NOTHING
    snapshot: EntryId | None = None
    start: EntryId = ZERO
    log: tuple[Entry, ...] = ()
    keep_from: int = 0
    name: str | None = None

    @property
    def last(self) -> EntryId:
        return self.log[-1].id if self.log else self.start

    def reset(self, at: EntryId) -> "State":
        return replace(self, start=at, log=(), keep_from=at.index + 1)

    def reconciled(self) -> "State":
        """A snapshot that the log does not lead up to replaces it, and its term is known."""
        at = self.snapshot
        if at is None:
            return self
        raised = replace(self, hard_state=HardState(at.term)) if self.hard_state.term < at.term else self
        return raised if at == self.start or any(each.id == at for each in self.log) else raised.reset(at)

    def written(self, hard_state: HardState | None, new: list[Entry]) -> list["State"]:
        """Every state that a torn write may leave, in the order of its records."""
        states = [self]
        if hard_state is not None:
            states.append(replace(states[-1], hard_state=hard_state))
        if new and new[0].index <= self.last.index:
            states.append(replace(states[-1], log=tuple(each for each in self.log if each.index < new[0].index)))
        for each in new:
            states.append(replace(states[-1], log=(*states[-1].log, each)))
        return states


def seen(store: Storage) -> State:
    recovered = store.recovered
    meta = recovered.snapshot
    log = tuple(whole_log(store))
    assert recovered.last == (log[-1].id if log else recovered.base)
    assert recovered.tail == log[len(log) - len(recovered.tail) :]
    return State(recovered.hard_state, None if meta is None else meta.id, recovered.base, log, 0, store.identity.name)


def fits(found: State, allowed: State) -> bool:
    """Whether `found` is `allowed`, save for entries that may have been let go of."""
    allowed = allowed.reconciled()
    if (found.hard_state, found.snapshot, found.name) != (allowed.hard_state, allowed.snapshot, allowed.name):
        return False
    if found.start.index >= max(allowed.keep_from, allowed.start.index + 1):
        return False
    expected = tuple(each for each in allowed.log if each.index > found.start.index)
    known = {allowed.start, *(each.id for each in allowed.log)}
    return found.log == expected and found.start in known


class Script:
    """Everything that a store does, with what is acknowledged and what may be there while it is under way."""

    def __init__(self, files: SimFiles) -> None:
        self.files = files
        self.acknowledged = State()
        self.possible: list[State] = [State()]
        self.store: Storage | None = None

    def step(self, possible: list[State], act: Callable[[Storage], object]) -> None:
        assert self.store is not None
        self.possible = [self.acknowledged, *possible]
        act(self.store)
        self.acknowledged = possible[-1]
        self.possible = [self.acknowledged]

    def write(self, hard_state: HardState | None = None, new: list[Entry] | None = None) -> None:
        new = new or []
        self.step(
            self.acknowledged.written(hard_state, new),
            lambda store: store.write(hard_state=hard_state, entries=new),
        )

    def snapshot(self, at: EntryId) -> None:
        after = replace(self.acknowledged, snapshot=at)
        if self.acknowledged.snapshot is None:
            after = after.reset(at)
        self.step([after], lambda store: take_snapshot(store, at, bytes(2000)))

    def compact(self, keep_from: int) -> None:
        after = replace(self.acknowledged, keep_from=keep_from)
        self.step([after], lambda store: store.compact(keep_from))

    def receive(self, at: EntryId, hard_state: HardState) -> None:
        sent = transfer(at)
        for chunk in sent.chunks():
            self.step([self.acknowledged], lambda store, chunk=chunk: store.write(chunks=[chunk]))  # type: ignore[misc]
        self.step([self.acknowledged], lambda store: store.finish_received(sent.meta) or pytest.fail("not whole"))
        named = replace(self.acknowledged, snapshot=at)
        with_term = replace(named, hard_state=hard_state)
        self.step(
            [named, with_term, with_term.reset(at)],
            lambda store: store.write(hard_state=hard_state, snapshot=sent.meta),
        )

    def run(self) -> None:
        self.store = opened(self.files)
        self.snapshot(FOUNDING)
        self.write(HardState(1))
        self.write(HardState(2, 3), entries(2, 6, term=2))
        self.step([replace(self.acknowledged, name="a")], lambda store: store.save_identity("cluster", 1, "a"))
        self.step([self.acknowledged], lambda store: store.prepare())
        self.write(new=entries(7, 50, term=2, size=90))
        self.write(HardState(3, 1), entries(45, 60, term=3, size=90))
        self.snapshot(EntryId(3, 55))
        self.compact(40)
        self.step([self.acknowledged], lambda store: store.prepare())
        self.write(new=entries(61, 130, term=3, size=90))
        self.write(HardState(4, None), [entry(120, term=4)])
        self.receive(EntryId(5, 500), HardState(5))
        self.write(new=entries(501, 520, term=5, size=70))
        self.write(HardState(6, 2))
        self.snapshot(EntryId(5, 519))
        self.compact(520)


def count_effects() -> int:
    files = disk()
    Script(files).run()
    return files.effects


def check_goes_on(files: SimFiles, found: State) -> None:
    """Another process and another power loss later, everything that was visible once is there."""
    if found.snapshot is not None:
        store = opened(files)
        new = entry(found.last.index + 1, term=9)
        store.write(hard_state=HardState(9, 1), entries=[new])
        found = replace(found, hard_state=HardState(9, 1), log=(*found.log, new))
    files.power_loss("drop")
    assert seen(opened(files)) == found


@pytest.mark.parametrize("seed", [1, 2])
@pytest.mark.parametrize("loss", ["drop", "keep", "mix", "kill"])
def test_a_crash_at_every_effect_loses_nothing_that_was_acknowledged(
    loss: Unsynced | Literal["kill"], seed: int
) -> None:
    total = count_effects()
    assert total > 100
    for number in range(1, total + 1):
        files = disk(seed * 1000 + number)
        files.crash_at = number
        script = Script(files)
        with pytest.raises(SimulatedCrash):
            script.run()
        if loss == "kill":
            files.kill()
        else:
            files.power_loss(loss)
        found = seen(opened(files))
        assert any(fits(found, allowed) for allowed in script.possible), (number, found, script.possible)
        files.kill()
        check_goes_on(files, found)


@pytest.mark.parametrize("name", ["sync", "sync_directory", "pwrite", "rename"])
def test_an_error_of_any_write_or_sync_ends_the_store_and_loses_nothing(name: str) -> None:
    """After a failed sync the page cache shows what the disk has not: it is written again before it counts."""
    number = 0
    while True:
        number += 1
        files = disk(number)
        left = [number]

        def fault(effect: str, path: str, left: list[int] = left) -> OSError | None:
            left[0] -= effect == name
            return OSError(EIO, "input/output error", path) if effect == name and left[0] == 0 else None

        files.fault = fault
        script = Script(files)
        try:
            script.run()
        except SyncFailed:
            files.fault = None
        else:
            break
        files.kill()
        found = seen(opened(files))
        assert any(fits(found, allowed) for allowed in script.possible), (number, found)
        files.kill()
        check_goes_on(files, found)
    assert number > 3


@pytest.mark.parametrize("crash_at", [30, 75, 110])
def test_a_crash_at_every_effect_of_a_recovery_loses_nothing(crash_at: int) -> None:
    def crashed(seed: int) -> Script:
        files = disk(seed)
        files.crash_at = crash_at
        script = Script(files)
        with pytest.raises(SimulatedCrash):
            script.run()
        files.power_loss("mix")
        return script

    for seed in range(20):
        for number in range(1, 60):
            script = crashed(seed)
            files = script.files
            files.effects = 0
            files.crash_at = number
            try:
                opened(files)
            except SimulatedCrash:
                files.power_loss("mix")
                found = seen(opened(files))
                assert any(fits(found, allowed) for allowed in script.possible), (seed, number, found)
            else:
                assert number > 4
                break


def test_after_an_error_in_the_log_nothing_more_is_taken() -> None:
    files = disk()
    store = founded(files)
    files.fault = lambda effect, path: OSError(EIO, "input/output error", path) if effect == "sync" else None
    with pytest.raises(SyncFailed, match="segment"):
        store.write(entries=[entry(2)])
    files.fault = None
    with pytest.raises(SyncFailed, match="earlier"):
        store.write(entries=[entry(2)])
    assert store.last_id == FOUNDING
