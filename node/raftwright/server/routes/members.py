"""`/v1/members…`, `/v1/leader/transfer`, `/v1/cluster/bootstrap`: who is in the cluster, and who leads it.

Rule: every change is a `Call` to the leader, whichever node is asked; nothing is decided here.
"""

from typing import Any

import msgspec

from raftwright.client.member_models import (
    BootstrapRequest,
    ChangeRequest,
    NewMember,
    ReplaceRequest,
    TransferRequest,
    UpdateRequest,
)
from raftwright.server.addresses import parse_address
from raftwright.server.api import Api, Call, Parameter
from raftwright.server.bodies import decode_json, read_body
from raftwright.server.membership_requests import Call as LeaderCall
from raftwright.server.membership_requests import Change, addition_of, change_of, replacement_of, update_of
from raftwright.server.problems import FieldInvalid
from raftwright.server.responses import Reply, json_reply
from raftwright.server.routes.parameters import version_of

DRY_RUN = Parameter(
    name="dry_run",
    place="query",
    text="`true`: do nothing; the answer is the plan, with the failures that each step tolerates.",
    schema={"type": "boolean", "default": False},
)
FORCE = Parameter(
    name="force",
    place="query",
    text="`true`: go on although fewer than a quorum of the voters that are left can be reached.",
    schema={"type": "boolean", "default": False},
)
IF_VERSION = Parameter(
    name="If-Match",
    place="header",
    text='Only if the membership is at this version: `"7"`.',
    schema={"type": "string", "pattern": '^"[0-9]+"$'},
)


CONSISTENCY = Parameter(
    name="consistency",
    place="query",
    text="`linearizable`: the committed membership, from a leader that a quorum has confirmed since the call began."
    " Otherwise what the node that leads, or this one without a leader, takes it to be.",
    schema={"type": "string", "enum": ["known", "linearizable"], "default": "known"},
)


async def list_members(api: Api, call: Call) -> Reply:
    linearizable = call.chosen("consistency", ("known", "linearizable")) == "linearizable"
    return _reply(*await api.service.control(LeaderCall(kind="members", linearizable=linearizable)))


async def change_members(api: Api, call: Call) -> Reply:
    return await _change(api, call, change_of(await _body(api, call, ChangeRequest)))


async def add_member(api: Api, call: Call) -> Reply:
    return await _change(api, call, addition_of(await _body(api, call, NewMember)))


async def replace_member(api: Api, call: Call) -> Reply:
    return await _change(api, call, replacement_of(await _body(api, call, ReplaceRequest)))


async def remove_member(api: Api, call: Call) -> Reply:
    return await _change(api, call, Change(remove=[_ref(call)]))


async def promote_member(api: Api, call: Call) -> Reply:
    return await _change(api, call, Change(promote=[_ref(call)]))


async def demote_member(api: Api, call: Call) -> Reply:
    return await _change(api, call, Change(demote=[_ref(call)]))


async def update_member(api: Api, call: Call) -> Reply:
    return await _change(api, call, update_of(_ref(call), await _body(api, call, UpdateRequest)))


async def transfer_leadership(api: Api, call: Call) -> Reply:
    body = await read_body(call.request, api.bodies, api.settings.body_bytes_max)
    request = decode_json(body, TransferRequest) if body.strip() else TransferRequest()
    return _reply(*await api.service.control(LeaderCall(kind="transfer", to=request.to)))


async def bootstrap(api: Api, call: Call) -> Reply:
    request = await _body(api, call, BootstrapRequest)
    for member in request.members:
        _check_addresses(member.addresses)
    return json_reply(await api.service.bootstrap(request))


async def _change(api: Api, call: Call, change: Change) -> Reply:
    for addition in change.add:
        _check_addresses(addition.member.addresses)
    for update in change.update:
        if update.addresses is not None:
            _check_addresses(update.addresses)
    request = LeaderCall(
        kind="change",
        change=change,
        if_match=version_of(call.request),
        force=call.switch("force"),
        dry_run=call.switch("dry_run"),
    )
    return _reply(*await api.service.control(request))


def _reply(status: int, answer: Any) -> Reply:
    reply = json_reply(msgspec.to_builtins(answer), status)
    if hasattr(answer, "version"):
        reply.header_text = f'ETag: "{answer.version}"\r\n'
    return reply


async def _body(api: Api, call: Call, model: type[Any]) -> Any:
    return decode_json(await read_body(call.request, api.bodies, api.settings.body_bytes_max), model)


def _ref(call: Call) -> str:
    """The member of the path: a name, or an id as text."""
    if not call.key:
        raise FieldInvalid("The path has no member", field="member")
    return call.key


def _check_addresses(addresses: Any) -> None:
    for name in ("peer", "client"):
        try:
            if addresses.client or name == "peer":
                parse_address(getattr(addresses, name))
        except ValueError as error:
            raise FieldInvalid(str(error), field=f"addresses.{name}") from error
