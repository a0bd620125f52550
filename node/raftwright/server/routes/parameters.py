"""Query parameters and headers that several routes take, and how they are read.

The route table and the handlers use it. Rule: a value that is not understood is an error, never taken for its absence.
"""

import re
from hashlib import blake2b
from typing import NamedTuple

from aiohttp import web

from raftwright.client.models import Consistency
from raftwright.server.api import Call, Parameter
from raftwright.server.problems import FieldInvalid
from raftwright.server.reading import Wish

CONSISTENCY = Parameter(
    name="consistency",
    place="query",
    text="`linearizable` sees every write that was answered before; so does `lease`, without a round on the leader;"
    " `stale` answers at once from this node's state.",
    schema={"type": "string", "enum": ["linearizable", "lease", "stale"], "default": "linearizable"},
)
MAX_STALENESS = Parameter(
    name="max_staleness",
    place="query",
    text="With `stale`: for how many seconds at most the answer may have been out of date. If it might be longer, it is"
    " made up to date first.",
    schema={"type": "number", "minimum": 0},
)
MIN_INDEX = Parameter(
    name="min_index",
    place="query",
    text="Wait until this node has applied that log entry: the X-Raft-Index of an earlier answer.",
    schema={"type": "integer", "minimum": 0},
)
READING = (CONSISTENCY, MAX_STALENESS, MIN_INDEX)
"""Of every read."""
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
_SECONDS = re.compile(r"[0-9]{1,9}(\.[0-9]{1,9})?")
_INDEX = re.compile(r"[0-9]{1,19}")
_VISIBLE = re.compile(r"[\x21-\x7e]{1,255}")
_SESSION_BYTES = 16
_PERSON = b"idempotency-key"
_REVISION_MAX = 2**63 - 1

LINEARIZABLE = Wish()


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


def wish_of(call: Call) -> Wish:
    """What a read may be answered from: `consistency`, `max_staleness` and `min_index`."""
    if not call.query:
        return LINEARIZABLE
    consistency = Consistency[call.chosen("consistency", ("linearizable", "lease", "stale")).upper()]
    text, max_staleness_s = call.query.get("max_staleness"), None
    if text is not None:
        if not _SECONDS.fullmatch(text):
            raise FieldInvalid("max_staleness is a number of seconds, as 1.5", field="max_staleness")
        if consistency is not Consistency.STALE:
            raise FieldInvalid("max_staleness goes with consistency=stale only", field="max_staleness")
        max_staleness_s = float(text)
    index = call.query.get("min_index", "0")
    if not _INDEX.fullmatch(index) or int(index) > _REVISION_MAX:
        raise FieldInvalid("min_index is a whole number, as X-Raft-Index has it", field="min_index")
    return Wish(consistency, max_staleness_s, int(index))
