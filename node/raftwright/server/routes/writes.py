"""From a command to its reply: what every writing route has in common.

`keys.py` and `batches.py` call `write`. Rule: a command is checked before it is proposed; a result of the state
machine, 404 and 412 too, is an answer that a retry gets again.
"""

from typing import Any

from raftwright.client.models import BatchFailed, NotFound, PreconditionFailed, Undecodable
from raftwright.kv.commands import Command, InvalidCommand, encode_blob, encode_command
from raftwright.server.api import Api, Call
from raftwright.server.blobs import Blob, Origin
from raftwright.server.errors import ServiceError
from raftwright.server.problems import ConditionFailed, FieldInvalid, KeyNotFound, error_of_command
from raftwright.server.responses import JSON, Reply
from raftwright.server.routes.parameters import session_of


async def write(api: Api, call: Call, command: Command) -> Reply:
    """Propose the command and answer with the store's revision after it."""
    service = api.service
    check(api, command)
    session = session_of(call.request)
    encoded = encode_command(command)
    result: Any
    if session is None:
        future = service.write_one(command, encoded)
        result = await future
    else:
        origin = Origin(session, 1, 1, 0, True, call.principal.name)
        future = service.write_blob(Blob(origin, encode_blob([encoded])), [command])
        result = service.machine.decode_results(await future)[0]
    if type(result) is not int:
        failure = _failure(result)
        failure.index = future.index
        raise failure
    reply = Reply(200, JSON, b'{"revision":%d}' % result)
    reply.raft_index = future.index
    return reply


def check(api: Api, command: Command) -> None:
    """Raises the ServiceError of a command that no node takes."""
    try:
        api.kv.check([command])
    except InvalidCommand as error:
        raise error_of_command(error, alone=True) from error


def _failure(result: Any) -> ServiceError:
    match result:
        case NotFound():
            return KeyNotFound()
        case PreconditionFailed(revision=revision):
            return ConditionFailed(_found(revision), revision=revision)
        case BatchFailed(position=position, revision=revision):
            detail = f"Operation {position}: {_found(revision)[0].lower()}{_found(revision)[1:]}"
            return ConditionFailed(detail, revision=revision, position=position)
        case Undecodable(reason=reason):
            return FieldInvalid(reason)
        case _:
            raise TypeError(f"the state machine answered {type(result).__name__}")


def _found(revision: int | None) -> str:
    return "There is no such key" if revision is None else f"The key is at revision {revision}"
