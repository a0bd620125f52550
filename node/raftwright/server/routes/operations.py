"""Routes for whoever runs the node: its settings, and a snapshot now."""

from raftwright.client.models import DiscardRequest, SettingsAnswer, SettingsChange
from raftwright.server.api import Api, Call
from raftwright.server.bodies import decode_json, read_body
from raftwright.server.live_settings import SettingRefused, changeable, document
from raftwright.server.problems import FieldInvalid
from raftwright.server.responses import Reply, json_reply
from raftwright.server.settings import NodeSettings


async def get_settings(api: Api, call: Call) -> Reply:
    return _reply(api.settings)


async def patch_settings(api: Api, call: Call) -> Reply:
    body = await read_body(call.request, api.bodies, api.settings.body_bytes_max)
    asked = decode_json(body, SettingsChange)
    try:
        return _reply(api.service.change_settings(asked.settings))
    except SettingRefused as error:
        raise FieldInvalid(str(error), field=f"settings.{error.name}" if error.name else "settings") from error


async def take_snapshot(api: Api, call: Call) -> Reply:
    return json_reply(await api.service.take_snapshot())


async def discard_store(api: Api, call: Call) -> Reply:
    body = await read_body(call.request, api.bodies, api.settings.body_bytes_max)
    return json_reply(await api.service.discard_store(decode_json(body, DiscardRequest).store_id))


def _reply(settings: NodeSettings) -> Reply:
    return json_reply(SettingsAnswer(settings=document(settings), changeable=changeable()))
