"""`GET /v1/kv`: one page of keys and values, in order."""

from base64 import b64encode

from raftwright.server.api import Api, Call
from raftwright.server.reading import read_as_asked
from raftwright.server.responses import Reply, json_reply
from raftwright.server.routes.parameters import wish_of

LIMIT_DEFAULT = 100


async def list_keys(api: Api, call: Call) -> Reply:
    settings = api.settings
    limit = call.number("limit", min(LIMIT_DEFAULT, settings.page_items_max), 1, settings.page_items_max)
    page = await read_as_asked(
        api,
        wish_of(call),
        lambda: api.kv.page(
            prefix=call.query.get("prefix", ""),
            start=call.query.get("start", ""),
            limit=limit,
            bytes_max=settings.page_bytes_max,
        ),
    )
    # dictionaries, not structs: a page may have thousands of items, and this is made on the event loop
    items = [_item(item.key, item.value or b"", item.revision) for item in page.items]
    return json_reply({"items": items, "next": page.next, "revision": page.revision})


def _item(key: str, value: bytes, revision: int) -> dict[str, object]:
    try:
        text, encoding = value.decode(), "utf-8"
    except UnicodeDecodeError:
        text, encoding = b64encode(value).decode(), "base64"
    return {"key": key, "value": text, "encoding": encoding, "revision": revision}
