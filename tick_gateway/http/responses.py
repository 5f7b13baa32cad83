"""Helpers for handlers: answers that are one JSON value, including errors, and list headers.

JSON is compact, like ticks, and ends in a newline, for terminals.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Final

from aiohttp import web

from ..errors import GatewayError, Overloaded

SERVER: Final = "tick-gateway"  # the value of the header Server, without versions
RETRY_AFTER_SECONDS: Final = 5


def header_list(request: web.BaseRequest, name: str) -> str:
    """A list header, joined from all its lines (RFC 9110, section 5.3); empty if there is none."""
    return ", ".join(request.headers.getall(name, ()))


def json_reply(value: object, *, status: int = 200, headers: Mapping[str, str] | None = None) -> web.Response:
    """A JSON answer."""
    text = json.dumps(value, separators=(",", ":")) + "\n"
    return web.Response(text=text, status=status, headers=headers, content_type="application/json")


def error_reply(error: GatewayError) -> web.Response:
    """An error as an answer, with the headers that belong to its status."""
    headers = {"Cache-Control": "no-store"}
    if isinstance(error, Overloaded):
        headers["Retry-After"] = str(RETRY_AFTER_SECONDS)
    if error.status == 401:
        headers["WWW-Authenticate"] = "Bearer"
    if error.status == 426:
        headers |= {"Upgrade": "websocket", "Connection": "Upgrade"}
    return json_reply(error.as_dict(), status=error.status, headers=headers)
