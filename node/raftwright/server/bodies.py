"""Bodies of requests: read whole, bounded, and into JSON strictly.

The routes call it. Rule: a body over its limit is refused before it is read, by the length that it declares, and while
it is read, by what arrived; what is held in part counts against the bound of all bodies together.
"""

from typing import TypeVar

import msgspec
import orjson
from aiohttp import web

from raftwright.server.errors import CommandTooLarge, TooManyRequests
from raftwright.server.metrics import Metrics
from raftwright.server.problems import EncodingUnsupported, FieldInvalid, MalformedRequest

_Model = TypeVar("_Model")


class Bodies:
    """The bytes of all bodies that have arrived in part."""

    def __init__(self, bytes_max: int, metrics: Metrics) -> None:
        self.bytes_max = bytes_max
        self.metrics = metrics

    def take(self, size: int) -> None:
        """Raises TooManyRequests if there is no room."""
        if self.metrics.bodies_pending_bytes + size > self.bytes_max:
            self.metrics.bodies_refused += 1
            raise TooManyRequests("too many bodies are on their way to this node")
        self.metrics.bodies_pending_bytes += size

    def give_back(self, size: int) -> None:
        self.metrics.bodies_pending_bytes -= size


async def read_body(request: web.BaseRequest, bodies: Bodies, bytes_max: int) -> bytes:
    """The whole body. CommandTooLarge, BodyTooSlow, TooManyRequests, EncodingUnsupported or MalformedRequest if not."""
    content = request.content
    headers = request.headers
    if "Content-Encoding" in headers and headers["Content-Encoding"].lower() != "identity":
        raise EncodingUnsupported("send the body without Content-Encoding")
    if content.is_eof() and content.exception() is None:
        body = content.read_nowait(-1)
        if len(body) > bytes_max:
            raise _too_large(len(body), bytes_max)
        return body
    declared = headers.get("Content-Length")
    if declared is not None and int(declared) > bytes_max:
        raise _too_large(int(declared), bytes_max)
    if headers.get("Expect", "").lower() == "100-continue" and request.transport is not None:
        request.transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")
    return await _read_pieces(request, bodies, bytes_max)


async def _read_pieces(request: web.BaseRequest, bodies: Bodies, bytes_max: int) -> bytes:
    pieces: list[bytes] = []
    size = 0
    try:
        while piece := await request.content.readany():
            bodies.take(len(piece))
            size += len(piece)
            pieces.append(piece)
            if size > bytes_max:
                raise _too_large(None, bytes_max)
    except web.RequestPayloadError as error:
        raise MalformedRequest("the body breaks off, or is not what its headers say") from error
    finally:
        bodies.give_back(size)
    return b"".join(pieces)


def _too_large(size: int | None, bytes_max: int) -> CommandTooLarge:
    shown = "The body" if size is None else f"The body of {size:,} bytes"
    return CommandTooLarge(f"{shown} is longer than the {bytes_max:,} bytes allowed here")


def decode_json(body: bytes, model: type[_Model]) -> _Model:
    """The body as `model`. FieldInvalid, with the path of the field, for anything else: unknown fields too."""
    try:
        document = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise FieldInvalid(f"The body is not JSON: {error.msg} at byte {error.pos}") from error
    try:
        return msgspec.convert(document, model)
    except msgspec.ValidationError as error:
        reason, _, path = str(error).partition(" - at `$")
        raise FieldInvalid(reason, field=path.rstrip("`").lstrip(".") or None) from error
