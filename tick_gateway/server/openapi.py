"""/openapi.json: the OpenAPI 3.1 description, made from the tables of routes, parameters and errors.

A route's row (``routes``) has its parameters and answers, a parameter's row (``query``) its meaning, and an error class
(``errors``) its statuses and their description. Only the forms of JSON bodies are defined here.

OpenAPI has no term for an answer that does not end: such an operation has ``x-stream``, and a WebSocket's handshake
``x-websocket``.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from http import HTTPStatus
from typing import Any, Final

from ..errors import (
    ClientError,
    Expectation,
    GatewayError,
    HTTPVersion,
    NotAcceptable,
    TransferCoding,
)
from ..http.route import Route
from ..model.query import TABLE
from ..model.tick import MAX_T, RUN_ID
from ..version import __version__
from ..wire.codings import CODINGS

Schema = dict[str, Any]


EVERYWHERE: Final = (ClientError, NotAcceptable, Expectation, GatewayError, TransferCoding, HTTPVersion)
"""What any request may be answered, whatever its route."""

_STR: Final[Schema] = {"type": "string"}
_INT: Final[Schema] = {"type": "integer"}
_BOOL: Final[Schema] = {"type": "boolean"}
_T: Final[Schema] = {"type": "integer", "minimum": 0, "maximum": MAX_T}
_RUN: Final[Schema] = {"type": "string", "pattern": f"^{RUN_ID.pattern}$"}


def _or_null(schema: Schema) -> Schema:
    return schema | {"type": [schema["type"], "null"]}


def _object(required: Schema, optional: Schema | None = None) -> Schema:
    return {"type": "object", "required": list(required), "properties": required | (optional or {})}


def _ref(name: str) -> Schema:
    return {"$ref": f"#/components/schemas/{name}"}


def _array(of: Schema) -> Schema:
    return {"type": "array", "items": of}


_GAPS: Final = _array(_object({"after": _INT, "next": _or_null(_INT)}))
_COUNTS: Final[Schema] = {
    "run": _or_null(_RUN), "accepted": _INT, "duplicates": _INT, "tip": _or_null(_INT), "stored": _BOOL,
}  # fmt: skip

SCHEMAS: Final[dict[str, Schema]] = {
    "Tick": _object({"t": _T}) | {"description": "a tick as it was published, or as the view shows it"},
    "Stamped": _object({"t": _T, "run": _RUN, "at": _INT, "data": _ref("Tick")}),
    "Ticks": _array({"anyOf": [_ref("Tick"), _ref("Stamped"), _array(_ref("Tick"))]}),
    "Position": {"type": "string", "pattern": rf"^{RUN_ID.pattern}:(-1|[0-9]+)$"},
    "Error": _object({"error": _STR, "message": _STR}, {"parameter": _STR}),
    "Poll": {
        "anyOf": [
            _object({"t": _T, "next_t": _INT, "position": _ref("Position")},
                    {"data": _ref("Tick"), "ticks": _ref("Ticks"), "gap": _GAPS, "reset": _RUN}),
            _object({"status": {"type": "string", "enum": ["timeout", "end"]}},
                    {"next_t": _or_null(_INT), "position": {"anyOf": [_ref("Position"), {"type": "null"}]},
                     "gap": _GAPS, "reset": _RUN}),
        ]
    },
    "Meta": _object(
        {"run": _or_null(_RUN), "first": _or_null(_INT), "tip": _or_null(_INT), "stored": _or_null(_INT),
         "rate": {"type": "number"}, "transports": {"type": "object", "additionalProperties": _STR},
         "connections": _INT, "version": _STR},
    ),
    "Runs": _object({"runs": _array(_object(
        {"run": _RUN, "first": _T, "last": _T, "count": _INT, "ended": _BOOL, "started": _INT}
    ))}),
    "Segments": _object({"segments": _array(_object(
        {"run": _RUN, "name": _STR, "path": _STR, "first": _T, "last": _T, "count": _INT, "bytes": _or_null(_INT),
         "sealed": _BOOL}
    ))}),
    "Health": _object({"status": {"type": "string", "enum": ["ok", "degraded"]}, "history": _STR, "dropped": _INT}),
    "Ready": _object({"ready": _BOOL}, {"reason": _STR}),
    "Service": _object(
        {"service": _STR, "version": _STR, "transports": {"type": "object"}, "links": {"type": "object"}}
    ),
    "Published": _object(_COUNTS),
    "Refused": _object(
        {"error": _STR, "message": _STR},
        _COUNTS
        | {"refused": _INT, "parameter": _STR}
        | {"errors": _array(_object({"line": _INT, "error": _STR, "reason": _STR}))},
    ),
    "Ended": _object({"run": _RUN, "ended": _BOOL, "tip": _INT}),
    "OpenAPI": _object({"openapi": _STR, "info": {"type": "object"}, "paths": {"type": "object"}}),
}  # fmt: skip
"""The forms of JSON bodies. Objects may have further members."""

_DESCRIPTION: Final = (
    "Every tick of a running simulation.\n\n"
    "Web pages of every origin may read: all answers but those of publishing operations, refusals too, carry "
    "Access-Control-Allow-Origin: *, and let scripts see the headers that are described here. Publishing operations "
    "are closed to web pages: they answer no preflight, and without a token refuse a request with Origin.\n\n"
    "A refusal is JSON (schemas Error and Refused): error is a word for programs, message a sentence that names what "
    "is wrong, and what is accepted."
)

HEADERS: Final[dict[str, str]] = {
    "Tick-Run": "the run of the ticks and gaps in this answer",
    "Tick-Next": "the position to send next, as from_t",
    "Tick-Gap": "what is gone: after=5;next=9; several are separated by commas",
    "Tick-Reset": "the run that follows, or where it is Tick-Run, the one that the answer begins with",
    "Link": "the next request, as rel=next",
    "ETag": "names an answer that never changes",
    "Retry-After": "seconds after which to come back",
}

_REQUEST_HEADERS: Final[dict[str, str]] = {
    "Last-Event-ID": "the position the client has; outranks from_t, tail and since",
    "If-None-Match": "entity tags that the client has: 304 where one of them is the answer's",
    "Range": "bytes: a part of them, where the answer never changes",
    "Tick-Run": "the run that the ticks belong to; a new name begins a new run",
    "Content-Encoding": " or ".join(CODINGS),
}


def description(table: Iterable[Route], base: str, *, token: bool) -> Schema:
    """The OpenAPI description of these routes.

    Args:
        base: the address or path that they are mounted at.
        token: publishing needs one.
    """
    paths: dict[str, Any] = {}
    for route in table:
        paths.setdefault(route.path, {})[route.method.lower()] = _operation(route, token=token)
    return {
        "openapi": "3.1.0",
        "info": {"title": "tick-gateway", "version": __version__, "description": _DESCRIPTION},
        "servers": [{"url": base or "/"}],
        "paths": paths,
        "components": {
            "schemas": SCHEMAS,
            "headers": {name: {"description": text, "schema": _STR} for name, text in HEADERS.items()},
            "parameters": {row.name: _parameter(row.name, "query", row.help, row.schema) for row in TABLE},
            "securitySchemes": {
                "token": {"type": "http", "scheme": "bearer", "description": "setting publish_token; where it is not "
                          "set, programs on the gateway's machine alone may publish"},
            },
        },
    }  # fmt: skip


def _operation(route: Route, *, token: bool) -> Schema:
    in_path = re.findall(r"{(\w+)}", route.path)
    parameters = [_parameter(name, "path", "", _T if name == "t" else _STR) for name in in_path]
    parameters += [{"$ref": f"#/components/parameters/{row.name}"} for row in TABLE if route.reads in row.on]
    parameters += [_parameter(name, "header", _REQUEST_HEADERS[name], _STR) for name in route.takes]
    if route.publishes and "run" not in in_path:
        parameters.append(_parameter("run", "query", "the same as the header Tick-Run", _RUN))
    operation: Schema = {
        "operationId": route.name,
        "summary": route.summary,
        "tags": ["publish" if route.publishes else "read" if route.reads else "operations"],
        "parameters": parameters,
        "responses": _responses(route),
        "security": [{"token": []}] if route.publishes and token else [],
    }
    if route.body:
        content = {name: {"schema": schema} for name, schema in route.body.items()}
        operation["requestBody"] = {"required": True, "content": content}
    if route.websocket:
        operation["x-websocket"] = True
    if route.stream:
        operation["x-stream"] = True
    return operation


def _parameter(name: str, where: str, text: str, schema: Schema) -> Schema:
    found: Schema = {"name": name, "in": where, "required": where == "path", "schema": schema}
    return found | ({"description": text} if text else {})


def _responses(route: Route) -> Schema:
    found: Schema = {}
    for status in route.statuses:
        found[str(status)] = {"description": HTTPStatus(status).phrase}
        if route.headers and status != 101:
            found[str(status)]["headers"] = {name: {"$ref": f"#/components/headers/{name}"} for name in route.headers}
        if status in (200, 206):
            found[str(status)]["content"] = {
                name: {"schema": _ref(route.schema)} if name == "application/json" and route.schema else {}
                for name in route.media_type.split(", ")
            }
    form = "Refused" if route.body else "Error"
    for status, text in _refusals([*route.refuses, *EVERYWHERE]).items():
        content = {"application/json": {"schema": _ref(form)}}
        found[str(status)] = {"description": text, "content": content}
    return dict(sorted(found.items()))


def _refusals(errors: Sequence[type[GatewayError]]) -> dict[int, str]:
    """The description of each status that these errors have."""
    found: dict[int, list[str]] = {}
    for error in errors:
        meaning = (error.__doc__ or "").partition("\n\n")[0].partition(".")[0].partition(";")[0]
        text = f"{error.code}: {' '.join(meaning.split())}"
        for status in error.statuses or (error.status,):
            if text not in found.setdefault(status, []):
                found[status].append(text)
    return {status: "; ".join(texts) for status, texts in found.items()}
