"""How reader and publisher connect to a gateway: its address, and one connection after another until the work is done.

``Reconnect`` is the one place that decides whether an error ends the work or only the connection, and how long to wait.
"""

from __future__ import annotations

import asyncio
import random
import ssl
from collections.abc import Callable
from typing import Final

import aiohttp
from yarl import URL

from .errors import BadUsage, Failure, Lost, explain

Status = Callable[[str], None]
"""Takes one line for people about what the connection does."""

MAX_LINE: Final = 1 << 26  # bytes; no gateway accepts a tick with a longer line
CONNECT_SECONDS: Final = 10.0
HEAD_SECONDS: Final = 30.0
"""How long an answer may take to begin. A gateway sends its head at once; a port that never says anything is none."""

_ROUTES: Final = ("/ws/stream", "/sse", "/ndjson", "/ws/publish", "/publish")
"""Those that may stand behind a gateway's address; no others: it may be mounted below a path of such a name."""

_ACCEPTED: Final = "accepted: HOST:PORT, or an http:// or https:// address"

NETWORK_ERRORS: Final = (Lost, aiohttp.ClientError, OSError, TimeoutError)
"""What ends a connection; ``Reconnect.after`` says whether it ends more than that."""


def endpoint(url: str, path: str) -> URL:
    """The address of a route: ``path`` below the gateway's address, which may already include a route, as in a command
    for curl. Parameters stay.

    Raises:
        BadUsage: it is not a valid address.
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
    """The path below which no gateway was found, for an error; empty for the root."""
    stem = url.path.removesuffix(path)
    return f" (the gateway was looked for below {stem}; {_ACCEPTED})" if stem else ""


def where(url: URL) -> str:
    """The address, for an error; without user name, password and parameters."""
    return str(url.origin())


def connector(trusted: ssl.SSLContext | None) -> aiohttp.TCPConnector:
    """The connector of a session; ``trusted``: the TLS context for https, and None: the system's certificates."""
    return aiohttp.TCPConnector(ssl=True if trusted is None else trusted)


class Backoff:
    """Seconds to wait before each try: a random fraction of a bound that doubles up to ``cap``.

    The randomness spreads out thousands of clients that one restart disconnects at the same moment.
    """

    def __init__(self, first: float = 0.2, cap: float = 10.0) -> None:
        self._first, self._cap = first, cap
        self._bound = first

    def next(self) -> float:
        bound, self._bound = self._bound, min(self._bound * 2, self._cap)
        return random.uniform(bound / 2, bound)

    def reset(self) -> None:
        """The connection works: the next wait is short again."""
        self._bound = self._first


class Reconnect:
    """One connection after another to the same gateway.

    Args:
        retry: try again even if the first connection fails.
        status: called with one line about each lost connection.

    Attributes:
        connected: there was a connection; set by the caller.
    """

    def __init__(self, address: URL, retry: bool, status: Status) -> None:
        self.connected = False
        self._address, self._retry, self._status = address, retry, status
        self._backoff = Backoff()

    def works(self) -> None:
        """The connection works: the next wait is short again."""
        self._backoff.reset()

    async def after(self, error: Exception) -> None:
        """Report what happened to a connection, and wait before the next try.

        Raises:
            Failure: there is no next try, because the first connection failed (without ``retry``, or because of its
                certificate).
        """
        lost = error if isinstance(error, Lost) else lost_to(self._address, error, self.connected)
        if not (self._retry or self.connected):
            raise Failure(f"cannot reach {lost}")
        seconds = max(self._backoff.next(), lost.after or 0.0)
        self._status(f"{lost}; trying again in {seconds:.1f} s")
        await asyncio.sleep(seconds)


def lost_to(url: URL, error: Exception, connected: bool) -> Lost:
    """The error for a connection that was lost, or could not be made.

    Raises:
        Failure: a certificate is not accepted, and there was no connection before: retrying will not help.
    """
    # Without a port, "localhost" is port 80, which the user may not have meant.
    forgotten = not connected and url.scheme in ("http", "ws") and url.explicit_port is None
    hint = f" (port {url.port}, as none is named; a gateway's own is 8000)" if forgotten else ""
    lost = Lost(f"{where(url)}: {explain(error)}{hint}")
    if isinstance(error, ssl.SSLCertVerificationError) and not connected:
        raise Failure(f"cannot reach {lost}")
    return lost
