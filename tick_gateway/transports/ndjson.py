"""NDJSON: a line a tick, in one answer that does not end; whatever can read HTTP can read it."""

from __future__ import annotations

from aiohttp import web

from ..accept import takes
from ..errors import Overloaded
from ..hub import Hub
from ..wire.ndjson import NDJSONFraming
from .base import Transport, check_run, full, query_of, stream

MEDIA_TYPE = "application/x-ndjson"


async def handle(request: web.Request, hub: Hub) -> web.StreamResponse:
    query = query_of(request)
    check_run(hub, query)
    if full(hub):
        raise Overloaded
    # Live, gzip comes first where both are taken alike; until there is one, only who asks for zstd above it gets zstd.
    asked = request.headers.get("Accept-Encoding", "")
    coded = takes(asked, "zstd") and not takes(asked, "gzip", "zstd")
    framing = NDJSONFraming(request.version >= (1, 1), "zstd" if coded else "")
    return await stream(
        request, hub, query, framing, MEDIA_TYPE, {"Content-Encoding": framing.coding} if framing.coding else None
    )


TRANSPORT = Transport("ndjson", "/ndjson", handle, "stream", MEDIA_TYPE, "chunked HTTP: a line a tick")
