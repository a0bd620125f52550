"""The built-in state machine: an ordered key-value store with revisions.

The driver applies commands to it and reads from it. Its one rule is that of every machine: apply reads nothing but
the state and the commands; limits are checked before proposing and never here.

Every changing command gives the store the next revision, and the keys it changes get it; a failed one gives none.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from raftwright.client.models import (
    BatchFailed,
    NotFound,
    PreconditionFailed,
    Result,
    Undecodable,
    decode_results,
    encode_results,
)
from raftwright.kv import snapshot
from raftwright.kv.commands import (
    Batch,
    Command,
    CommandLimits,
    Compare,
    Delete,
    Put,
    check_limits,
    decode_blob,
    encode_blob,
)
from raftwright.kv.index import RUN_KEYS, KeyIndex, merged_from
from raftwright.kv.snapshot import Item
from raftwright.server.machine import Applied, ApplyContext, Change


@dataclass(frozen=True, slots=True)
class Page:
    """Items in the order of keys. `next` is the key that the next page starts from, None after the last page."""

    items: list[Item]
    next: str | None
    revision: int


class KvMachine:
    """Commands in, results out: see `server/machine.py` for what each method promises."""

    name = "kv"
    version = snapshot.VERSION
    ignores_context = True
    """What a command does here depends on the state alone."""

    def __init__(self, limits: CommandLimits | None = None) -> None:
        self.limits = limits or CommandLimits()
        self.revision = 0
        """Of the newest changing command."""
        self._items: dict[str, Item] = {}
        self._index = KeyIndex()

    # --- commands

    def join(self, encoded: Sequence[bytes]) -> bytes:
        return encode_blob(encoded)

    def decode(self, blob: bytes) -> list[Any]:
        return decode_blob(blob)

    def check(self, commands: list[Any]) -> None:
        check_limits(commands, self.limits)

    def encode_results(self, results: list[Any]) -> bytes:
        return encode_results(results)

    def decode_results(self, data: bytes) -> list[Any]:
        return decode_results(data)

    def undecodable(self, count: int, reason: str) -> list[Any]:
        return [Undecodable(reason)] * count

    def apply(self, commands: list[Command], context: ApplyContext) -> Applied:
        items = self._items
        fresh = self._index.fresh
        revision = self.revision
        results: list[Result] = []
        changes: list[Change] = []
        for command in commands:
            if type(command) is Put:
                key = command.key
                if command.if_revision is not None or command.if_absent:
                    current = items.get(key)
                    if not _may_put(command, current):
                        results.append(PreconditionFailed(current.revision if current else None))
                        continue
                revision += 1
                item = Item(key, revision, command.value)
                if key not in items:
                    fresh.add(key)
                items[key] = item
                changes.append(item)
                results.append(revision)
            else:
                self.revision = revision
                # mypy does not narrow a negative `type(...) is`
                results.append(self._apply_seldom(command, changes))  # type: ignore[arg-type]
                revision = self.revision
        self.revision = revision
        if len(fresh) >= RUN_KEYS or self._index.dead > RUN_KEYS:
            self._index.settle(items)
        return Applied(results, changes)

    def _apply_seldom(self, command: Delete | Batch, changes: list[Change]) -> Result:
        if isinstance(command, Batch):
            return self._apply_batch(command, changes)
        item = self._items.get(command.key)
        if command.if_revision is not None and (item is None or item.revision != command.if_revision):
            return PreconditionFailed(item.revision if item else None)
        if item is None:
            return NotFound()
        self.revision += 1
        self._delete(command.key, changes)
        return self.revision

    def _apply_batch(self, batch: Batch, changes: list[Change]) -> Result:
        """All conditions first, by the state before the batch; then every effect under one revision. A batch that
        changes nothing (compares only, say) succeeds with the revision there is."""
        items = self._items
        for position, operation in enumerate(batch.ops):
            current = items.get(operation.key)
            if not _holds(operation, current):
                return BatchFailed(position, current.revision if current else None)
        before = len(changes)
        self.revision += 1
        for operation in batch.ops:
            if isinstance(operation, Put):
                item = Item(operation.key, self.revision, operation.value)
                if operation.key not in items:
                    self._index.fresh.add(operation.key)
                items[operation.key] = item
                changes.append(item)
            elif isinstance(operation, Delete) and operation.key in items:
                self._delete(operation.key, changes)
        if len(changes) == before:
            self.revision -= 1
        return self.revision

    def _delete(self, key: str, changes: list[Change]) -> None:
        del self._items[key]
        self._index.discard(key)
        changes.append(Change(key, self.revision, None))

    # --- reads

    def __len__(self) -> int:
        return len(self._items)

    def get(self, key: str) -> Item | None:
        return self._items.get(key)

    def page(self, *, prefix: str = "", start: str = "", limit: int = 100, bytes_max: int = 1 << 20) -> Page:
        """Keys that begin with `prefix` and are not less than `start`: at most `limit` (≥ 1), and at most `bytes_max`
        bytes of keys and values but at least one item."""
        items = self._items
        found: list[Item] = []
        size = 0
        skipped = 0
        next_key = last = None
        for key in merged_from(self._index.runs(), max(prefix, start)):
            if not key.startswith(prefix):
                break
            item = items.get(key)
            if item is None or key == last:
                skipped += 1
                continue
            last = key
            size += len(key.encode()) + len(item.value)
            if len(found) >= limit or (found and size > bytes_max):
                next_key = key
                break
            found.append(item)
        if skipped > RUN_KEYS:
            self._index.compact(items)
        return Page(found, next_key, self.revision)

    # --- snapshots

    def snapshot(self) -> Iterator[bytes]:
        """Freezing copies the hash table, not the items: for a million keys about 15 ms, and 40 MiB until the end."""
        return snapshot.encode(self._items.copy(), merged_from(self._index.runs(), ""), self.revision)

    def restore(self, chunks: Iterable[bytes]) -> None:
        items, ordered, revision = snapshot.decode(chunks)
        self._items = items
        self._index = KeyIndex(ordered)
        self.revision = revision


def _may_put(put: Put, current: Item | None) -> bool:
    if put.if_absent and current is not None:
        return False
    return put.if_revision is None or (current is not None and current.revision == put.if_revision)


def _holds(operation: Put | Delete | Compare, current: Item | None) -> bool:
    """Whether the condition of an operation of a batch, if it has one, is met."""
    if isinstance(operation, Put):
        return _may_put(operation, current)
    if isinstance(operation, Delete):
        return operation.if_revision is None or (current is not None and current.revision == operation.if_revision)
    return (current.revision if current else None) == operation.revision
