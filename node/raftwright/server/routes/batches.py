"""`POST /v1/kv:batch`: puts, deletes and compares as one command."""

import binascii
from base64 import b64decode

from raftwright.client.models import BatchRequest, CompareOp, DeleteOp, PutOp
from raftwright.kv.commands import Batch, Compare, Delete, Operation, Put
from raftwright.server.api import Api, Call
from raftwright.server.bodies import decode_json, read_body
from raftwright.server.problems import FieldInvalid, FieldTooLarge
from raftwright.server.responses import Reply
from raftwright.server.routes.writes import write


async def batch(api: Api, call: Call) -> Reply:
    body = await read_body(call.request, api.bodies, api.settings.body_bytes_max)
    asked = decode_json(body, BatchRequest)
    allowed = api.settings.batch_ops_max
    if len(asked.ops) > allowed:
        raise FieldTooLarge(f"{len(asked.ops):,} operations are more than the {allowed:,} allowed", field="ops")
    return await write(api, call, Batch([_operation(number, op) for number, op in enumerate(asked.ops)]))


def _operation(number: int, op: PutOp | DeleteOp | CompareOp) -> Operation:
    match op:
        case PutOp():
            return Put(op.key, _value(number, op), op.if_revision, op.if_absent)
        case DeleteOp():
            return Delete(op.key, op.if_revision)
        case CompareOp():
            return Compare(op.key, op.revision)


def _value(number: int, op: PutOp) -> bytes:
    if op.encoding == "utf-8":
        return op.value.encode()
    try:
        return b64decode(op.value, validate=True)
    except binascii.Error as error:
        raise FieldInvalid(f"The value is not base64: {error}", field=f"ops[{number}].value") from error
