"""`PUT`, `GET` and `DELETE /v1/kv/{key}`: one key, whatever it is called."""

from raftwright.kv.commands import Delete, Put
from raftwright.server.api import Api, Call
from raftwright.server.bodies import read_body
from raftwright.server.problems import FieldInvalid, KeyNotFound
from raftwright.server.reading import read_as_asked
from raftwright.server.responses import Reply
from raftwright.server.routes.parameters import conditions_of, wish_of
from raftwright.server.routes.writes import check, write

OCTETS = "application/octet-stream"


async def put_key(api: Api, call: Call) -> Reply:
    if_revision, if_absent = conditions_of(call.request)
    value = await read_body(call.request, api.bodies, api.settings.value_bytes_max)
    return await write(api, call, Put(call.key, value, if_revision, if_absent))


async def get_key(api: Api, call: Call) -> Reply:
    check(api, Delete(call.key))  # a key that nothing could ever have is told so, not 404
    item = await read_as_asked(api, wish_of(call), lambda: api.kv.get(call.key))
    if item is None:
        raise KeyNotFound
    return Reply(200, OCTETS, item.value, f'ETag: "{item.revision}"\r\n')


async def delete_key(api: Api, call: Call) -> Reply:
    if_revision, if_absent = conditions_of(call.request)
    if if_absent:
        raise FieldInvalid("A delete takes If-Match only", field="If-None-Match")
    return await write(api, call, Delete(call.key, if_revision))
