"""The OpenAPI 3.1 description of the HTTP API, made from the route table and the models at the start of a node.

`http.py` serves it at `/v1/openapi.json`. Rule: nothing is described here that does not come from the
table or the models.
"""

from collections.abc import Iterable
from typing import Any

import msgspec
import orjson

from raftwright.client.models import Problem
from raftwright.server.api import Answer, Parameter, Route
from raftwright.server.problems import KINDS, PROBLEM_JSON, PROBLEM_TYPE
from raftwright.version import __version__

_REFERENCE = "#/components/schemas/{name}"
_ALWAYS = (400, 421, 500)
"""What any request may meet."""
_BINARY: dict[str, Any] = {}
"""Any bytes, as OpenAPI 3.1 says it: no schema."""
_RAFT_HEADERS = {
    "X-Raft-Term": {"description": "The answering node's term.", "schema": {"type": "integer"}},
    "X-Raft-Index": {"description": "The answering node's applied index.", "schema": {"type": "integer"}},
}


def document(routes: Iterable[Route]) -> bytes:
    """The description as JSON."""
    routes = list(routes)
    models = {model for route in routes for model in _models_of(route)} | {Problem}
    ordered = sorted(models, key=lambda model: model.__name__)
    _, schemas = msgspec.json.schema_components(ordered, ref_template=_REFERENCE)
    paths: dict[str, dict[str, Any]] = {}
    for route in routes:
        paths.setdefault(route.path, {})[route.method.lower()] = _operation(route)
    return orjson.dumps(
        {
            "openapi": "3.1.0",
            "info": {
                "title": "Raftwright",
                "version": __version__,
                "description": "A replicated, durable key-value store. docs/api.md says what all of it means.",
                "license": {"name": "MIT", "identifier": "MIT"},
            },
            "paths": paths,
            "components": {"schemas": schemas, "responses": _problem_responses()},
        }
    )


def _models_of(route: Route) -> set[type]:
    models = {model for answer in route.answers for model in (answer.model, answer.or_model)} | {route.body}
    return {model for model in models if model is not None and issubclass(model, msgspec.Struct)}


def _operation(route: Route) -> dict[str, Any]:
    operation: dict[str, Any] = {
        "operationId": route.name,
        "summary": route.summary,
        "x-permission": route.permission.value,
        "responses": {str(answer.status): _answer(answer) for answer in route.answers},
    }
    for status in sorted({*_ALWAYS, *route.problems}):
        operation["responses"][str(status)] = {"$ref": f"#/components/responses/problem-{status}"}
    parameters = [_parameter(parameter) for parameter in route.parameters]
    if "{key}" in route.path:
        parameters.insert(0, _KEY)
    if "{member}" in route.path:
        parameters.insert(0, _MEMBER)
    if parameters:
        operation["parameters"] = parameters
    if route.body is not None:
        media = {"application/octet-stream": _BINARY} if route.body is bytes else _json(route.body)
        operation["requestBody"] = {"required": True, "content": media}
    return operation


_KEY: dict[str, Any] = {
    "name": "key",
    "in": "path",
    "required": True,
    "description": "Any text that is not empty, percent-encoded as UTF-8; a slash may stand as it is.",
    "schema": {"type": "string", "minLength": 1},
}


_MEMBER: dict[str, Any] = {
    "name": "member",
    "in": "path",
    "required": True,
    "description": "A member's id or name.",
    "schema": {"type": "string", "minLength": 1},
}


def _parameter(parameter: Parameter) -> dict[str, Any]:
    return {
        "name": parameter.name,
        "in": parameter.place,
        "description": parameter.text,
        "schema": parameter.schema,
    }


def _answer(answer: Answer) -> dict[str, Any]:
    headers = dict(_RAFT_HEADERS)
    if answer.model is bytes:
        headers["ETag"] = {"description": 'The revision: `"17"`.', "schema": {"type": "string"}}
    described: dict[str, Any] = {"description": answer.text, "headers": headers}
    if answer.model is bytes:
        described["content"] = {answer.media_type: _BINARY}
    elif answer.model is str:
        described["content"] = {answer.media_type: {"schema": {"type": "string"}}}
    elif answer.or_model is not None and answer.model is not None:
        either = [{"$ref": _REFERENCE.format(name=model.__name__)} for model in (answer.model, answer.or_model)]
        described["content"] = {"application/json": {"schema": {"oneOf": either}}}
    elif answer.model is not None:
        described["content"] = _json(answer.model)
    elif answer.status == 200:
        described["content"] = {answer.media_type: {"schema": {"type": "object"}}}
    return described


def _json(model: type) -> dict[str, Any]:
    return {"application/json": {"schema": {"$ref": _REFERENCE.format(name=model.__name__)}}}


def _problem_responses() -> dict[str, Any]:
    by_status: dict[int, list[str]] = {}
    for kind, error in KINDS.items():
        by_status.setdefault(error.status, []).append(f"`{PROBLEM_TYPE}{kind}`: {error.title}")
    return {
        f"problem-{status}": {
            "description": "; ".join(kinds),
            "headers": _RAFT_HEADERS,
            "content": {PROBLEM_JSON: {"schema": {"$ref": _REFERENCE.format(name="Problem")}}},
        }
        for status, kinds in sorted(by_status.items())
    }
