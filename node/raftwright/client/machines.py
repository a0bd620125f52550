"""The client's calls to a state machine of one's own: commands and queries over HTTP.

Called by `client.py`. Rule: every command goes under an idempotency key, so that it may be sent again to another node
and still happens once; what cannot be known in time is said to be `unknown`.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import aiohttp
import msgspec

from raftwright.client.errors import InvalidRequest, Unavailable
from raftwright.client.http import failure_of, reason_of
from raftwright.client.models import MachineAnswer
from raftwright.machine.registry import declaration_of

JSON, OCTETS = "application/json", "application/octet-stream"


@dataclass(frozen=True, slots=True)
class Asked:
    """One request, and how to read its answer. `result` is None where that is plain bytes."""

    path: str
    query: dict[str, str]
    body: bytes
    media: str
    result: Any


def command_of(command: Any, fields: Mapping[str, Any] | None) -> Asked:
    """A command by its name with fields, as an object of a declared class, or as bytes. InvalidRequest if neither."""
    if isinstance(command, bytes):
        return Asked("/v1/propose", {}, command, OCTETS, None)
    if isinstance(command, str):
        return Asked("/v1/propose", {}, _json({"command": command, "fields": dict(fields or {})}), JSON, Any)
    declared = declaration_of(type(command))
    if declared is None:
        raise InvalidRequest(f"{type(command).__qualname__} has no name: declare it with @raftwright.command(…)")
    return Asked("/v1/propose", {}, _json({"command": declared.name, "fields": command}), JSON, declared.result)


def query_of(request: Any, query: dict[str, str]) -> Asked:
    """A question, with the parameters that say how fresh its answer must be."""
    if isinstance(request, bytes):
        return Asked("/v1/query", query, request, OCTETS, None)
    return Asked("/v1/query", query, _json({"request": request}), JSON, Any)


def _json(document: Any) -> bytes:
    try:
        return msgspec.json.encode(document)
    except (TypeError, ValueError) as error:
        raise InvalidRequest(f"this cannot be written as JSON: {error}") from error


class Sender:
    """Sends one request, to one node after the other."""

    def __init__(self, asked: Asked, key: str | None) -> None:
        self._asked = asked
        self._headers = {"Content-Type": asked.media} | ({"Idempotency-Key": key} if key else {})
        self.may_have_happened = False
        """An attempt was sent, and nothing is known of it."""
        self.index = 0
        """Of the log, as of the answer."""

    async def __call__(self, http: aiohttp.ClientSession, endpoint: str, timeout_s: float) -> Any:
        """The result. Refused or Unavailable where another try may help, else the problem's error."""
        asked = self._asked
        try:
            async with http.post(
                f"http://{endpoint}{asked.path}",
                params=asked.query,
                data=asked.body,
                headers=self._headers,
                timeout=aiohttp.ClientTimeout(total=timeout_s),
            ) as answer:
                data = await answer.read()
                self.index = int(answer.headers.get("X-Raft-Index", "0"))
        except aiohttp.ClientConnectorError as error:
            raise Unavailable(f"{endpoint} cannot be reached: {reason_of(error)}") from None
        except (aiohttp.ClientError, OSError, TimeoutError) as error:
            self.may_have_happened = True
            raise Unavailable(f"{endpoint} did not answer: {reason_of(error)}") from None
        if answer.status != 200:
            failure = failure_of(endpoint, answer.status, data)
            self.may_have_happened |= getattr(getattr(failure, "error", None), "outcome", "none") == "unknown"
            raise failure
        return self._result(endpoint, data)

    def _result(self, endpoint: str, data: bytes) -> Any:
        if self._asked.result is None:
            return data
        try:
            answer = msgspec.json.decode(data, type=MachineAnswer)
            return msgspec.convert(answer.result, self._asked.result)
        except ValueError as error:
            raise Unavailable(
                f"{endpoint} answers what the command does not return: {error}", outcome="unknown"
            ) from None
