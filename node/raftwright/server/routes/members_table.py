"""The routes about members and the leader: a part of the table of `table.py`."""

from raftwright.client.member_models import (
    BootstrapAnswer,
    BootstrapRequest,
    ChangeRequest,
    MembersAnswer,
    NewMember,
    PlanAnswer,
    ReplaceRequest,
    TransferAnswer,
    TransferRequest,
    UpdateRequest,
)
from raftwright.server.api import Answer, Handler, Route
from raftwright.server.authorize import Permission
from raftwright.server.routes import members
from raftwright.server.routes.members import CONSISTENCY, DRY_RUN, FORCE, IF_VERSION

_MEMBER = "/v1/members/{member}"
_CHANGED = (
    Answer(
        status=200,
        text="The membership after the change; with `dry_run`, the plan.",
        model=MembersAnswer,
        or_model=PlanAnswer,
    ),
    Answer(status=202, text="A learner has not caught up yet; the change goes on by itself.", model=MembersAnswer),
)
_PROBLEMS = (404, 408, 409, 412, 413, 429, 503, 504)
_OPTIONS = (IF_VERSION, DRY_RUN, FORCE)


def _change(method: str, path: str, name: str, handler: Handler, summary: str, body: type | None) -> Route:
    return Route(
        method=method,
        path=path,
        name=name,
        handler=handler,
        permission=Permission.MEMBERS_WRITE,
        summary=summary,
        answers=_CHANGED,
        problems=_PROBLEMS,
        parameters=_OPTIONS,
        body=body,
        is_write=True,
    )


MEMBER_ROUTES = (
    Route(
        method="GET",
        path="/v1/members",
        name="members",
        handler=members.list_members,
        permission=Permission.MEMBERS_READ,
        summary="The members, how far each is, and the version of the membership as ETag.",
        answers=(Answer(status=200, text="The membership.", model=MembersAnswer),),
        parameters=(CONSISTENCY,),
        problems=(429, 503, 504),
    ),
    _change(
        "POST",
        "/v1/members:change",
        "change_members",
        members.change_members,
        "Add, promote, demote and remove members, all in one joint change.",
        ChangeRequest,
    ),
    _change(
        "POST",
        "/v1/members",
        "add_member",
        members.add_member,
        "Add a node; a voter enters as a learner and is promoted when it has caught up.",
        NewMember,
    ),
    _change(
        "POST",
        "/v1/members:replace",
        "replace_member",
        members.replace_member,
        "One joint change: the old member out and the new one in, once it has caught up.",
        ReplaceRequest,
    ),
    _change("DELETE", _MEMBER, "remove_member", members.remove_member, "Remove a member, and its intent.", None),
    _change("PATCH", _MEMBER, "update_member", members.update_member, "New addresses or metadata.", UpdateRequest),
    _change(
        "POST", f"{_MEMBER}/promote", "promote_member", members.promote_member, "Give a caught-up learner a vote.", None
    ),
    _change("POST", f"{_MEMBER}/demote", "demote_member", members.demote_member, "Make a voter a learner.", None),
    Route(
        method="POST",
        path="/v1/leader/transfer",
        name="transfer_leadership",
        handler=members.transfer_leadership,
        permission=Permission.LEADER_TRANSFER,
        summary="Hand leadership to a voter, or to the most up-to-date one; answers when it is done.",
        answers=(Answer(status=200, text="The new leader.", model=TransferAnswer),),
        problems=(404, 408, 413, 429, 503, 504),
        body=TransferRequest,
        is_write=True,
    ),
    Route(
        method="POST",
        path="/v1/cluster/bootstrap",
        name="bootstrap",
        handler=members.bootstrap,
        permission=Permission.BOOTSTRAP,
        summary="Give a node that waits for it the first membership of a new cluster.",
        answers=(Answer(status=200, text="The node is a member of the cluster.", model=BootstrapAnswer),),
        problems=(408, 409, 413, 503),
        body=BootstrapRequest,
        is_write=True,
    ),
)
