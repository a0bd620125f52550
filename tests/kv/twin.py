"""A dumb twin of the store: a dict, and every rule written out again as plainly as can be."""

from typing import Any

from raftwright.client.models import BatchFailed, NotFound, PreconditionFailed
from raftwright.kv.commands import Batch, Command, Compare, Delete, Operation, Put


class TwinStore:
    def __init__(self) -> None:
        self.data: dict[str, tuple[int, bytes]] = {}
        self.revision = 0
        self.changes: list[tuple[str, int, bytes | None]] = []

    def revision_of(self, key: str) -> int | None:
        return self.data[key][0] if key in self.data else None

    def apply(self, command: Command) -> Any:
        if isinstance(command, Batch):
            return self.apply_batch(command)
        if not self.holds(command):
            return PreconditionFailed(self.revision_of(command.key))
        if isinstance(command, Delete) and command.key not in self.data:
            return NotFound()
        self.revision += 1
        self.change(command, self.revision)
        return self.revision

    def apply_batch(self, batch: Batch) -> Any:
        for position, operation in enumerate(batch.ops):
            if not self.holds(operation):
                return BatchFailed(position, self.revision_of(operation.key))
        before = len(self.changes)
        for operation in batch.ops:
            self.change(operation, self.revision + 1)
        if len(self.changes) > before:
            self.revision += 1
        return self.revision

    def holds(self, operation: Operation) -> bool:
        current = self.revision_of(operation.key)
        if isinstance(operation, Compare):
            return current == operation.revision
        if isinstance(operation, Put) and operation.if_absent and current is not None:
            return False
        return operation.if_revision is None or current == operation.if_revision

    def change(self, operation: Operation, revision: int) -> None:
        if isinstance(operation, Put):
            self.data[operation.key] = (revision, operation.value)
            self.changes.append((operation.key, revision, operation.value))
        elif isinstance(operation, Delete) and operation.key in self.data:
            del self.data[operation.key]
            self.changes.append((operation.key, revision, None))

    def page(
        self, prefix: str, start: str, limit: int, bytes_max: int
    ) -> tuple[list[tuple[str, int, bytes]], str | None]:
        order = sorted(self.data, key=lambda key: key.encode())
        asked = [key for key in order if key.startswith(prefix) and key.encode() >= start.encode()]
        shown: list[str] = []
        for key in asked:
            size = sum(len(each.encode()) + len(self.data[each][1]) for each in [*shown, key])
            if len(shown) == limit or (shown and size > bytes_max):
                return [(each, *self.data[each]) for each in shown], key
            shown.append(key)
        return [(each, *self.data[each]) for each in shown], None
