"""Query parameters and headers that several routes take, and how they are read.

The route table and the handlers use it. Rule: a value that is not understood is an error, never taken for its absence.
"""

import re
from hashlib import blake2b
from typing import NamedTuple

from aiohttp import web

from raftwright.server.api import Api, Call, Parameter
from raftwright.server.errors import NotServing
from raftwright.server.problems import FieldInvalid

CONSISTENCY = Parameter(
    name="consistency",
    place="query",
    text="`linearizable` sees every write that was answered before; `stale` answers at once from this node's state.",
    schema={"type": "string", "enum": ["linearizable", "stale"], "default": "linearizable"},
)
IF_MATCH = Parameter(
    name="If-Match",
    place="header",
    text='Only if the key is at this revision: `"17"`.',
    schema={"type": "string", "pattern": '^"[0-9]+"$'},
)
IF_NONE_MATCH = Parameter(
    name="If-None-Match",
    place="header",
    text="Only if there is no such key: `*`.",
    schema={"type": "string", "enum": ["*"]},
)
IDEMPOTENCY_KEY = Parameter(
    name="Idempotency-Key",
    place="header",
    text="A retry with the same key gives the first result and changes nothing. Random, and new for each write.",
    schema={"type": "string", "minLength": 1, "maxLength": 255},
)

_ENTITY_TAG = re.compile(r'"([0-9]{1,19})"')
_VISIBLE = re.compile(r"[\x21-\x7e]{1,255}")
_SESSION_BYTES = 16
_PERSON = b"idempotency-key"
_REVISION_MAX = 2**63 - 1


class Conditions(NamedTuple):
    if_revision: int | None
    if_absent: bool


NO_CONDITIONS = Conditions(None, False)


def conditions_of(request: web.BaseRequest) -> Conditions:
    """`If-Match: "<revision>"` and `If-None-Match: *`."""
    headers = request.headers
    match, none_match = headers.get("If-Match"), headers.get("If-None-Match")
    if match is None and none_match is None:
        return NO_CONDITIONS
    if match is not None and none_match is not None:
        raise FieldInvalid("If-Match and If-None-Match exclude each other", field="If-None-Match")
    if none_match is not None:
        if none_match.strip() != "*":
            raise FieldInvalid("On a write, If-None-Match is *", field="If-None-Match")
        return Conditions(None, True)
    found = _ENTITY_TAG.fullmatch((match or "").strip())
    if not found or not 1 <= int(found[1]) <= _REVISION_MAX:
        raise FieldInvalid('If-Match is one revision in quotation marks, as "17"', field="If-Match")
    return Conditions(int(found[1]), False)


def version_of(request: web.BaseRequest) -> int | None:
    """The version of the membership in `If-Match: "7"`; None without the header."""
    text = request.headers.get("If-Match")
    if text is None:
        return None
    found = _ENTITY_TAG.fullmatch(text.strip())
    if not found:
        raise FieldInvalid('If-Match is one version in quotation marks, as "7"', field="If-Match")
    return int(found[1])


def session_of(request: web.BaseRequest) -> bytes | None:
    """The id of the session that an `Idempotency-Key` is; None without the header."""
    keys = request.headers.getall("Idempotency-Key", None)
    if keys is None:
        return None
    if len(keys) != 1 or not _VISIBLE.fullmatch(keys[0]):
        raise FieldInvalid("Idempotency-Key is one value of 1 to 255 visible ASCII characters", field="Idempotency-Key")
    return session_of_key(keys[0])


def session_of_key(key: str) -> bytes:
    """A key is a session of its own, which has one request."""
    return blake2b(key.encode(), digest_size=_SESSION_BYTES, person=_PERSON).digest()


async def wait_until_readable(api: Api, call: Call) -> None:
    """Returns once the local state may be read as the caller asked."""
    if not call.query or call.chosen("consistency", ("linearizable", "stale")) == "linearizable":
        await api.service.read_barrier()
        api.metrics.reads_linearizable += 1
    else:
        must_have_state(api)


def must_have_state(api: Api) -> None:
    """NotServing where nothing is applied yet, not even a first membership: there every key would seem absent."""
    if api.service.applied_index == 0:
        raise NotServing("this node has no state yet")
