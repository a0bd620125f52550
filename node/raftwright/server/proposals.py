"""From an object that a program proposes to a command of the node's machine, and from its outcome to a value.

`embedded.py` uses it, so that the key-value store and a user's machine look alike to it. Rule: a command is what its
bytes say; the caller's own object never reaches the state.
"""

from typing import Any

from raftwright.client.errors import CommandFailed, InvalidRequest, QueryFailed, RaftwrightError
from raftwright.client.results import error_of_result
from raftwright.kv.commands import InvalidCommand, decode_blob, encode_blob, encode_command
from raftwright.kv.store import KvMachine
from raftwright.machine.adapter import ENVIRONMENT, AdaptedMachine
from raftwright.machine.outcomes import Failed, Succeeded
from raftwright.machine.outcomes import failed as outcome_of
from raftwright.server.machine import Machine


class Proposals:
    """For one machine."""

    def __init__(self, machine: Machine) -> None:
        self._machine = machine

    def encode(self, command: Any) -> tuple[Any, bytes]:
        """The command as apply will get it, and its bytes. InvalidRequest if the machine does not take it."""
        machine = self._machine
        try:
            if isinstance(machine, AdaptedMachine):
                encoded = machine.encode(command)
                return machine.decode_one(encoded), encoded
            encoded = encode_command(command)
            (decoded,) = decode_blob(encode_blob([encoded]))
            machine.check([decoded])
            return decoded, encoded
        except InvalidCommand as error:
            raise InvalidRequest(error.reason) from error
        except TypeError as error:
            raise InvalidRequest(f"{type(command).__name__} is no command of {machine.name}: {error}") from error

    def value(self, command: Any, outcome: Any) -> Any:
        """The result, or the error that it stands for, raised."""
        machine = self._machine
        if not isinstance(machine, AdaptedMachine):
            if type(outcome) is int:
                return outcome
            raise error_of_result(getattr(command, "key", ""), outcome)
        if isinstance(outcome, Succeeded):
            return machine.value_of(outcome, machine.declared_of(command))
        if isinstance(outcome, Failed):
            raise CommandFailed(outcome.message, error=outcome.error)
        raise InvalidRequest(f"the machine could not read the command: {outcome.reason}")

    def query(self, request: Any) -> Any:
        """What the machine says now: the store's item of a key, or the answer of a user's `query`."""
        machine = self._machine
        if isinstance(machine, KvMachine):
            return machine.get(request)
        assert isinstance(machine, AdaptedMachine), f"{machine.name} answers no queries"
        if machine.is_restoring:
            raise RaftwrightError("a snapshot is being restored", outcome="none")
        try:
            return machine.query(request)
        except InvalidCommand as error:
            raise InvalidRequest(error.reason) from error
        except ENVIRONMENT:
            raise
        except Exception as error:
            said = outcome_of(error)
            raise QueryFailed(said.message, error=said.error) from error
