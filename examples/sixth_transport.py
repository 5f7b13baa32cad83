"""A sixth transport: JSON text sequences (RFC 7464), a tick a record, each begun by the character RS (0x1E).

Run it, publish to it, and read it with a tool that knows the format:

    python examples/sixth_transport.py
    curl -N http://localhost:8000/json-seq | jq --seq .
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from aiohttp import web

from tick_gateway import Settings
from tick_gateway.errors import Overloaded
from tick_gateway.hub import Hub
from tick_gateway.notices import End, Notice
from tick_gateway.server.app import make_app
from tick_gateway.transports import TRANSPORTS
from tick_gateway.transports.base import Transport, check_run, full, query_of, stream
from tick_gateway.view import Payload
from tick_gateway.wire import LAST_CHUNK, chunk, notice_json

MEDIA_TYPE = "application/json-seq"
RS = b"\x1e"


@dataclass(frozen=True, slots=True)
class JSONSeqFraming:
    """How ticks and notices lie on the wire. A value: readers with equal framings share the bytes that it makes."""

    chunked: bool = True

    @property
    def opening(self) -> bytes:
        return b""

    @property
    def heartbeat(self) -> bytes:
        return self._wrap(RS)  # readers pass over an RS that nothing follows (RFC 7464, section 2.1)

    def messages(self, run: str, payloads: Sequence[Payload]) -> bytes:
        return self._wrap(b"".join([RS + payload.data + b"\n" for payload in payloads]))

    def notice(self, notice: Notice) -> bytes:
        return self._wrap(RS + notice_json(notice) + b"\n")

    def closing(self, notice: Notice) -> bytes | None:
        return (LAST_CHUNK if self.chunked else b"") if isinstance(notice, End) else None

    def _wrap(self, data: bytes) -> bytes:
        return chunk(data) if self.chunked else data


async def handle(request: web.Request, hub: Hub) -> web.StreamResponse:
    query = query_of(request)
    check_run(hub, query)
    if full(hub):
        raise Overloaded
    return await stream(request, hub, query, JSONSeqFraming(request.version >= (1, 1)), MEDIA_TYPE)


TRANSPORT = Transport("json-seq", "/json-seq", handle, "stream", MEDIA_TYPE, "JSON text sequences: a record a tick")


if __name__ == "__main__":
    web.run_app(make_app(Hub(Settings()), transports=(*TRANSPORTS, TRANSPORT)), port=8000)
