"""What ends reading or publishing, or a connection of theirs, and how a network error is said in one line.

Failure          it is over: the gateway refuses, or there is none
    BadUsage     what was asked for cannot be had from any gateway
Lost             this connection is over; another try may do
"""

from __future__ import annotations

import contextlib
import html
import json
import os
import re
import ssl
from collections.abc import Mapping
from typing import Final

import aiohttp

from . import tls

_TITLE: Final = re.compile(r"<(title|h1)\b[^>]*>(.*?)</\1", re.DOTALL | re.IGNORECASE)


class Failure(Exception):
    """What ends reading or publishing for good, said in one line.

    ``status`` is the HTTP status, where there was one.
    """

    def __init__(self, message: str, status: int | None = None) -> None:
        self.status = status
        super().__init__(message)


class BadUsage(Failure):
    """What was asked for cannot be had from any gateway, or is refused as malformed."""


class Lost(Exception):
    """A connection that could not be had or did not hold; another try may.

    Attributes:
        after: the seconds that the gateway asked to wait, where it did.
    """

    def __init__(self, message: str, after: float | None = None) -> None:
        self.after = after
        super().__init__(message)


def explain(error: BaseException) -> str:
    """A network error as one short clause."""
    if isinstance(error, aiohttp.ClientConnectorError):
        return _explain_os(error.os_error)
    if isinstance(error, TimeoutError):  # an OSError, too
        return "no sign of life in time"
    if isinstance(error, aiohttp.TooManyRedirects):
        return "it redirects without end"
    if isinstance(error, aiohttp.ClientResponseError):  # how aiohttp tells a head that it cannot parse
        return "what answers there is no HTTP"
    if isinstance(error, aiohttp.ClientPayloadError):
        return "the answer broke off"
    if isinstance(error, aiohttp.ServerDisconnectedError):
        return "the connection was closed"
    if isinstance(error, OSError):
        return _explain_os(error)
    return " ".join(str(error).split()) or type(error).__name__


def _explain_os(error: OSError) -> str:
    if isinstance(error, ssl.SSLError):
        return tls.explain(error)
    if isinstance(error, ConnectionError) and not error.errno:
        return "the connection was closed"
    number = error.errno or 0  # negative: the resolver's own, which os.strerror does not know
    return os.strerror(number) if number > 0 else error.strerror or str(error) or type(error).__name__


def retry_after(headers: Mapping[str, str]) -> float | None:
    """The seconds of a ``Retry-After`` header, at most 300; None where there is none or it is a date."""
    with contextlib.suppress(ValueError):
        return min(max(float(headers.get("Retry-After", "")), 0.0), 300.0)
    return None


def message_of(body: bytes) -> str:
    """What the body of an error says: the gateway's ``message``, a proxy's title, or else the first line."""
    with contextlib.suppress(ValueError, KeyError, TypeError):
        return str(json.loads(body)["message"])
    text = body.decode("utf-8", "replace").strip()
    if text.startswith("<"):
        title = _TITLE.search(text)
        return " ".join(html.unescape(title[2]).split())[:200] if title else ""
    return text.partition("\n")[0].strip()[:200]
