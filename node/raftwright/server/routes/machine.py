"""`POST /v1/propose` and `POST /v1/query`: a user's own state machine over HTTP.

Rule: a JSON body is for any client and names the command and its fields; a body of `application/octet-stream` is the
command as the machine's own codec encodes it, and is answered in the same way.
"""

from typing import Any

import msgspec

from raftwright.client.models import ProposeRequest, QueryRequest
from raftwright.machine.adapter import ENVIRONMENT, AdaptedMachine
from raftwright.machine.outcomes import Failed, Outcome, Succeeded, Undecodable, failed
from raftwright.machine.registry import Declared
from raftwright.server.api import Api, Call
from raftwright.server.blobs import Blob, Origin
from raftwright.server.bodies import read_body
from raftwright.server.errors import NotServing, ServiceError
from raftwright.server.machine import InvalidCommand
from raftwright.server.problems import CommandFailed, FieldInvalid, QueryFailed
from raftwright.server.reading import read_as_asked
from raftwright.server.responses import JSON, Reply
from raftwright.server.routes.parameters import session_of, wish_of

OCTETS = "application/octet-stream"

_propose_decoder = msgspec.json.Decoder(ProposeRequest)
_query_decoder = msgspec.json.Decoder(QueryRequest)


async def propose(api: Api, call: Call) -> Reply:
    machine = own_machine(api)
    body = await read_body(call.request, api.bodies, api.settings.body_bytes_max)
    is_raw = _is_raw(call)
    encoded = _raw_command(machine, call, body) if is_raw else _json_command(machine, call, body)
    try:
        command = machine.decode_one(encoded)
    except InvalidCommand as error:
        raise FieldInvalid(error.reason, field="command") from error
    declared = machine.declared_of(command)
    outcome, index = await _proposed(api, call, machine, command, encoded)
    refused: ServiceError
    match outcome:
        case Succeeded():
            result = outcome.data if is_raw else b'{"result":%b}' % _json_result(machine, outcome, declared)
            reply = Reply(200, OCTETS if is_raw else JSON, result)
            reply.raft_index = index
            return reply
        case Failed():
            refused = CommandFailed(outcome.message, error=outcome.error)
        case Undecodable():
            refused = FieldInvalid(outcome.reason, field="command")
    refused.index = index
    raise refused


async def query(api: Api, call: Call) -> Reply:
    machine = own_machine(api)
    body = await read_body(call.request, api.bodies, api.settings.body_bytes_max)
    is_raw = _is_raw(call)
    request: Any = body
    if not is_raw:
        try:
            request = _query_decoder.decode(body).request
        except ValueError as error:
            raise FieldInvalid(f"The body is not a query: {error}") from error
    answer = await read_as_asked(api, wish_of(call), lambda: _asked(machine, request, is_raw=is_raw))
    if isinstance(answer, ServiceError):
        raise answer
    return Reply(200, OCTETS if is_raw else JSON, answer)


def _asked(machine: AdaptedMachine, request: Any, *, is_raw: bool) -> bytes | ServiceError:
    """The answer of the machine, encoded; an error of its own is an answer too."""
    if machine.is_restoring:
        return NotServing("a snapshot is being restored")
    try:
        answer = machine.query(request)
        return machine.codec.encode(answer) if is_raw else b'{"result":%b}' % msgspec.json.encode(answer)
    except InvalidCommand as error:
        return FieldInvalid(error.reason)
    except ENVIRONMENT:
        raise
    except Exception as error:
        said = failed(error)
        return QueryFailed(said.message, error=said.error)


def own_machine(api: Api) -> AdaptedMachine:
    machine = api.service.machine
    assert isinstance(machine, AdaptedMachine), "the table gives these routes to users' machines only"
    return machine


async def _proposed(api: Api, call: Call, machine: AdaptedMachine, command: Any, encoded: bytes) -> tuple[Outcome, int]:
    """What became of the command, and the index of its entry."""
    session = session_of(call.request)
    outcome: Outcome
    if session is None:
        future = api.service.write_one(command, encoded)
        outcome = await future
    else:
        origin = Origin(session, 1, 1, 0, True, call.principal.name)
        future = api.service.write_blob(Blob(origin, machine.join([encoded])), [command])
        (outcome,) = machine.decode_results(await future)
    return outcome, future.index


def _is_raw(call: Call) -> bool:
    return call.request.headers.get("Content-Type", JSON).partition(";")[0].strip().lower() == OCTETS


def _raw_command(machine: AdaptedMachine, call: Call, body: bytes) -> bytes:
    name = call.query.get("command", "")
    if machine.registry and not name:
        raise FieldInvalid(f"command is one of {', '.join(machine.registry.names)}", field="command")
    return machine.encoded(name, body)


def _json_command(machine: AdaptedMachine, call: Call, body: bytes) -> bytes:
    if "command" in call.query:
        raise FieldInvalid(f"The parameter command is for a body of {OCTETS}", field="command")
    if not machine.registry:
        raise FieldInvalid(f"{machine.name} takes plain bytes: send them as {OCTETS}", field="command")
    try:
        asked = _propose_decoder.decode(body)
    except ValueError as error:
        raise FieldInvalid(f"The body is not a command: {error}") from error
    declared = machine.registry.named(asked.command)
    if declared is None:
        names = ", ".join(machine.registry.names)
        raise FieldInvalid(f"{machine.name} has no command {asked.command!r}; it has {names}", field="command")
    try:
        return machine.encode(msgspec.json.decode(asked.fields, type=declared.kind))
    except (ValueError, InvalidCommand) as error:
        raise FieldInvalid(f"These are not the fields of {declared.name}: {error}", field="fields") from error
    except TypeError as error:
        raise FieldInvalid(f"{declared.name} has no form in JSON: send it encoded, as {OCTETS}") from error


def _json_result(machine: AdaptedMachine, outcome: Succeeded, declared: Declared | None) -> bytes:
    value = machine.value_of(outcome, declared)
    try:
        return msgspec.json.encode(value)
    except (TypeError, ValueError):
        return msgspec.json.encode(outcome.data)
