"""A state machine that one node runs in the place of `tests.machine.machines.Table`, and that is wrong once."""

from typing import Any

from raftwright.server.machine import ApplyContext
from tests.machine.machines import Append, Fail, Set, Table

UNLUCKY = 13


class WrongTable(Table):
    name = "Table"

    def apply(self, command: Set | Append | Fail, context: ApplyContext) -> Any:
        result = super().apply(command, context)
        if isinstance(command, Set) and command.value == UNLUCKY:
            self.applied += 1
            self.items[command.key] = [-UNLUCKY]
        return result
