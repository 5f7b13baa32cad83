"""How to ask each transport for ticks. Pure: it makes bytes and reads none.

What is known of a transport here is its route, its kind and its media type, so that one that joins the registry is
measured without a change: a stream whose ticks end in a line break each, or a pull that says in ``Tick-Next`` where to
go on. What needs more stands in ``HANDSHAKES``.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final
from urllib.parse import urlencode

HANDSHAKES: Final = {
    "/ws/": (
        "Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"
        "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
    )
}
"""Routes, by how they begin, that answer a handshake and then speak WebSocket."""

EXTENSION: Final = "permessage-deflate"
_OFFERS: Final = {
    "identity": "",
    "deflate": f"Sec-WebSocket-Extensions: {EXTENSION}; client_no_context_takeover\r\n",
}


@dataclass(frozen=True, slots=True)
class Speech:
    """How one case asks.

    Attributes:
        host: for the header of that name, with the port.
        path: of the transport, with what the gateway is mounted under.
        pull: an answer a request, instead of one that does not end.
        encoding: what is asked for.
        media_type: the answer's.
        query: every parameter but the position.
    """

    host: str
    path: str
    pull: bool
    encoding: str
    media_type: str
    query: tuple[tuple[str, str], ...] = ()

    @property
    def handshake(self) -> str:
        """Headers of the opening handshake; empty: none, it is plain HTTP."""
        return next((headers for part, headers in HANDSHAKES.items() if part in self.path), "")

    @property
    def spoken(self) -> bool:
        """Whether this transport has a way to ask for the encoding at all."""
        return not self.handshake or self.encoding in _OFFERS

    def request(self, position: str) -> bytes:
        """The request for what comes after a position, ``RUN:T``."""
        query = urlencode([("from_t", position), *self.query], safe=":,")
        own = self.handshake + _OFFERS[self.encoding] if self.handshake else f"Accept-Encoding: {self.encoding}\r\n"
        accept = f"Accept: {self.media_type}\r\n" if not self.handshake else ""
        return f"GET {self.path}?{query} HTTP/1.1\r\nHost: {self.host}\r\n{accept}{own}\r\n".encode()
