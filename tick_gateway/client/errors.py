"""The errors that end reading or publishing, or one connection, and one-line descriptions of network errors.

Failure          it is over: the gateway refuses, or there is none
    BadUsage     no gateway could do what was asked for
Lost             this connection is over; another try may succeed
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
    """Reading or publishing has ended for good; the message is one line.

    ``status`` is the HTTP status, if there was one.
    """

    def __init__(self, message: str, status: int | None = None) -> None:
        self.status = status
        super().__init__(message)


class BadUsage(Failure):
    """No gateway could do what was asked for, or it is refused as malformed."""


class Lost(Exception):
    """A connection that failed or was lost; another may succeed.

    Attributes:
        after: the seconds that the gateway asked to wait, if it did.
    """

    def __init__(self, message: str, after: float | None = None) -> None:
        self.after = after
        super().__init__(message)


def explain(error: BaseException) -> str:
    """A network error as one short clause."""
    if isinstance(error, aiohttp.ClientConnectorError):
        return _explain_os(error.os_error)
    if isinstance(error, TimeoutError):  # also an OSError
        return "no sign of life in time"
    if isinstance(error, aiohttp.TooManyRedirects):
        return "it redirects without end"
    if isinstance(error, aiohttp.ClientResponseError):  # aiohttp's error for a head that it cannot parse
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
    number = error.errno or 0  # negative: an error of the resolver, which os.strerror does not know
    return os.strerror(number) if number > 0 else error.strerror or str(error) or type(error).__name__


def retry_after(headers: Mapping[str, str]) -> float | None:
    """The seconds of a ``Retry-After`` header, at most 300; None where there is none or it is a date."""
    with contextlib.suppress(ValueError):
        return min(max(float(headers.get("Retry-After", "")), 0.0), 300.0)
    return None


def message_of(body: bytes) -> str:
    """The message in the body of an error: the gateway's ``message``, a proxy's title, or else the first line."""
    with contextlib.suppress(ValueError, KeyError, TypeError):
        return str(json.loads(body)["message"])
    text = body.decode("utf-8", "replace").strip()
    if text.startswith("<"):
        title = _TITLE.search(text)
        return " ".join(html.unescape(title[2]).split())[:200] if title else ""
    return text.partition("\n")[0].strip()[:200]
