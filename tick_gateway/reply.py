"""Answers that are one JSON value: compact, as ticks are, and ended by a newline, for those who read in a shell."""

from __future__ import annotations

import json
from collections.abc import Mapping

from aiohttp import web


def json_reply(value: object, *, status: int = 200, headers: Mapping[str, str] | None = None) -> web.Response:
    """A JSON answer."""
    text = json.dumps(value, separators=(",", ":")) + "\n"
    return web.Response(text=text, status=status, headers=headers, content_type="application/json")
