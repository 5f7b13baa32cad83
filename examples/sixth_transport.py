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
from tick_gateway.model.notices import Notice
from tick_gateway.model.view import Payload
from tick_gateway.runtime import Runtime
from tick_gateway.server.app import make_app
from tick_gateway.transports import TRANSPORTS
from tick_gateway.transports.base import Transport, check_run, live_coding, query_of, stream
from tick_gateway.wire.body import BodyFraming
from tick_gateway.wire.framing import notice_json

MEDIA_TYPE = "application/json-seq"
RS = b"\x1e"


@dataclass(frozen=True)
class JSONSeqFraming(BodyFraming):
    """How ticks and notices lie in the body. A value: readers with equal framings share the bytes that it makes.

    Chunks, compression, heartbeats and the body's end are ``BodyFraming``'s.
    """

    sign_of_life = RS  # readers pass over an RS that nothing follows (RFC 7464, section 2.1)

    def content(self, run: str, payloads: Sequence[Payload]) -> bytes:
        return b"".join([RS + payload.data + b"\n" for payload in payloads])

    def content_of(self, notice: Notice) -> bytes:
        return RS + notice_json(notice) + b"\n"


async def handle(request: web.Request, runtime: Runtime) -> web.StreamResponse:
    query = query_of(request)
    check_run(runtime, query)
    framing = JSONSeqFraming(request.version >= (1, 1), live_coding(request, runtime))
    return await stream(request, runtime, query, framing, MEDIA_TYPE)


TRANSPORT = Transport("json-seq", "/json-seq", handle, "stream", MEDIA_TYPE, "JSON text sequences: a record a tick")


if __name__ == "__main__":
    web.run_app(make_app(Runtime(Settings()), transports=(*TRANSPORTS, TRANSPORT)), port=8000)
