"""Replies of the HTTP API, rendered straight into bytes.

The routes make them, aiohttp's protocol sends them. Rule: one write a reply, and no header that is not ours: on the
hot path aiohttp's own response, with its dictionary of headers, costs more than all the rest of a request.
"""

import time
from email.utils import formatdate
from http import HTTPStatus
from typing import Any

import msgspec
import orjson
from aiohttp import HttpVersion11, web
from aiohttp.abc import AbstractStreamWriter

from raftwright.server.errors import ServiceError
from raftwright.server.problems import PROBLEM_JSON, MethodNotAllowed, problem_of

JSON = "application/json"
_STATUS_LINES = {status.value: f"HTTP/1.1 {status.value} {status.phrase}\r\n" for status in HTTPStatus}


class Reply(web.StreamResponse):
    """Status, type, body, and further headers as text: lines ended by CR LF, made of our own words and numbers only."""

    def __init__(self, status: int, content_type: str, body: bytes, headers: str = "") -> None:
        # aiohttp's own __init__ makes what this class does without.
        self._status = status
        self._content_type_text = content_type
        self.body_bytes = body
        self.header_text = headers
        self.raft_index = 0
        """The newest log entry that the reply reflects, where that is not what is applied when it is made."""

    async def prepare(self, request: web.BaseRequest) -> AbstractStreamWriter | None:
        """Called by aiohttp's protocol: the whole reply goes out here."""
        transport = request.transport
        if transport is None:
            raise ConnectionResetError("the client is gone")
        keep_alive = self._keep_alive
        if keep_alive is None:
            keep_alive = self._keep_alive = request.keep_alive
        if not keep_alive:
            self.header_text += "Connection: close\r\n"
        elif request.version != HttpVersion11:
            self.header_text += "Connection: keep-alive\r\n"
        head = _head(self._status, self._content_type_text, len(self.body_bytes), self.header_text)
        transport.write(head if request.method == "HEAD" else head + self.body_bytes)
        self._request = request
        return None

    async def write_eof(self, data: bytes = b"") -> None:
        """Waits while the client does not read."""
        if self._request.protocol.writing_paused:
            await self._request.writer.drain()


def _head(status: int, content_type: str, length: int, headers: str) -> bytes:
    return (
        f"{_STATUS_LINES[status]}Content-Type: {content_type}\r\nContent-Length: {length}\r\n"
        f"{headers}Date: {_date()}\r\n\r\n"
    ).encode("latin-1")


_date_second = 0
_date_text = ""


def _date() -> str:
    global _date_second, _date_text
    second = int(time.time())
    if second != _date_second:
        _date_second, _date_text = second, formatdate(second, usegmt=True)
    return _date_text


def json_reply(value: Any, status: int = 200) -> Reply:
    """`value` is a struct of `client.models`, or what orjson takes."""
    if isinstance(value, msgspec.Struct):
        value = msgspec.to_builtins(value)
    return Reply(status, JSON, orjson.dumps(value))


def problem_reply(error: ServiceError, *, is_write: bool) -> Reply:
    """What a caller is told when something went wrong."""
    headers = ""
    if error.retry_after_s is not None:
        # whole seconds are all that the header can say; the body has the exact time
        headers += f"Retry-After: {max(1, round(error.retry_after_s))}\r\n"
    if isinstance(error, MethodNotAllowed):
        headers += f"Allow: {', '.join(error.allowed)}\r\n"
    body = orjson.dumps(msgspec.to_builtins(problem_of(error, is_write=is_write)))
    return Reply(error.status, PROBLEM_JSON, body, headers)


def raw_problem(error: ServiceError) -> bytes:
    """A whole reply for a connection that is closed without having been a request."""
    reply = problem_reply(error, is_write=True)
    body, headers = reply.body_bytes, reply.header_text + "Connection: close\r\n"
    return _head(reply.status, PROBLEM_JSON, len(body), headers) + body
