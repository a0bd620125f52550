"""State machines that nodes run in the place of `tests.machine.machines.Table`: one is wrong once, and of the other no
snapshot ends before a file is there."""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from raftwright.server.machine import ApplyContext
from tests.machine.machines import Append, Fail, Set, Table

UNLUCKY = 13
RELEASE = "SNAPSHOTS_MAY_END"
"""The variable with the name of that file."""


class WrongTable(Table):
    name = "Table"

    def apply(self, command: Set | Append | Fail, context: ApplyContext) -> Any:
        result = super().apply(command, context)
        if isinstance(command, Set) and command.value == UNLUCKY:
            self.applied += 1
            self.items[command.key] = [-UNLUCKY]
        return result


class HeldTable(Table):
    name = "Table"

    def snapshot(self) -> Iterator[bytes]:
        parts = super().snapshot()
        yield next(parts)
        while self.applied and not Path(os.environ[RELEASE]).exists():
            yield b""
        yield from parts
