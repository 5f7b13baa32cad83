"""What reader and publisher share: addresses, how long to wait before the next try, and errors said in one line."""

from __future__ import annotations

import asyncio
import contextlib
import html
import json
import os
import random
import re
import ssl
from collections.abc import Callable, Mapping
from typing import Final

import aiohttp
from yarl import URL

from . import tls

Status = Callable[[str], None]
"""Takes one line for people about what the connection does."""

MAX_LINE: Final = 1 << 26  # bytes; a line beyond it is no tick that any gateway accepts
HEAD_SECONDS: Final = 30.0
"""How long an answer may take to begin. A gateway sends its head at once; a port that never says anything is none."""

_ROUTES: Final = ("/ws/stream", "/sse", "/ndjson", "/ws/publish", "/publish")
"""Those that may stand behind a gateway's address; no others: it may be mounted below a path of such a name."""

_TITLE: Final = re.compile(r"<(title|h1)\b[^>]*>(.*?)</\1", re.DOTALL | re.IGNORECASE)
_ACCEPTED: Final = "accepted: HOST:PORT, or an http:// or https:// address"


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


class Backoff:
    """Seconds to wait before each try: a random share of a bound that doubles up to ``cap``.

    The random share spreads out the thousands of clients that one restart disconnects in the same moment.
    """

    def __init__(self, first: float = 0.2, cap: float = 10.0) -> None:
        self._first, self._cap = first, cap
        self._bound = first

    def next(self) -> float:
        bound, self._bound = self._bound, min(self._bound * 2, self._cap)
        return random.uniform(bound / 2, bound)

    def reset(self) -> None:
        """The connection did its work: the next wait is short again."""
        self._bound = self._first

    async def wait(self, lost: Lost, status: Status) -> None:
        """Say what happened, and wait before the next try."""
        seconds = max(self.next(), lost.after or 0.0)
        status(f"{lost}; trying again in {seconds:.1f} s")
        await asyncio.sleep(seconds)


def endpoint(url: str, path: str) -> URL:
    """The address of a route: ``path`` below the gateway's address, be that given as it is or with a route behind it,
    as in a command for curl. Parameters stay.

    Raises:
        BadUsage: it is no address.
    """
    text = url if "://" in url else f"http://{url}"
    try:
        base = URL(text)
        port = base.port
    except ValueError as error:
        raise BadUsage(f"{url!r:.200} is no address of a gateway ({error}); {_ACCEPTED}") from None
    if base.scheme in ("ws", "wss"):
        base = base.with_scheme({"ws": "http", "wss": "https"}[base.scheme])
    if base.scheme not in ("http", "https") or not base.host or not port:
        raise BadUsage(f"{url!r:.200} is no address of a gateway; {_ACCEPTED}")
    stem = base.path.rstrip("/")
    known = next((route for route in (path, *_ROUTES) if stem.endswith(route)), "")
    return base.with_path(stem.removesuffix(known) + path).with_query(base.query)


def below(url: URL, path: str) -> str:
    """Where a gateway was looked for and was not, for a sentence; empty where that was the root."""
    stem = url.path.removesuffix(path)
    return f" (the gateway was looked for below {stem}; {_ACCEPTED})" if stem else ""


def where(url: URL) -> str:
    """Whom one talks to, for a sentence; without any user name, password or parameter."""
    return str(url.origin())


def connector(trusted: ssl.SSLContext | None) -> aiohttp.TCPConnector:
    """How a session connects; ``trusted``: whom it trusts, for https, and None: the system's certificates."""
    return aiohttp.TCPConnector(ssl=True if trusted is None else trusted)


def lost_to(url: URL, error: Exception, connected: bool) -> Lost:
    """A connection that a network error took, or kept from being.

    Raises:
        Failure: a certificate is not accepted, and none was before: that is no gateway that is not there yet.
    """
    # "localhost" alone is port 80, which who forgot the port does not see.
    forgotten = not connected and url.scheme in ("http", "ws") and url.explicit_port is None
    hint = f" (port {url.port}, as none is named; a gateway's own is 8000)" if forgotten else ""
    lost = Lost(f"{where(url)}: {explain(error)}{hint}")
    if isinstance(error, ssl.SSLCertVerificationError) and not connected:
        raise Failure(f"cannot reach {lost}")
    return lost


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
