"""NDJSON: one line per tick, in an answer that does not end; works with anything that can read HTTP."""

from __future__ import annotations

from aiohttp import web

from ..runtime import Runtime
from ..wire.ndjson import NDJSONFraming
from .base import Transport, check_run, live_coding, query_of, stream

MEDIA_TYPE = "application/x-ndjson"


async def handle(request: web.Request, runtime: Runtime) -> web.StreamResponse:
    query = query_of(request)
    check_run(runtime, query)
    framing = NDJSONFraming(request.version >= (1, 1), live_coding(request, runtime))
    return await stream(request, runtime, query, framing, MEDIA_TYPE)


TRANSPORT = Transport("ndjson", "/ndjson", handle, "stream", MEDIA_TYPE, "chunked HTTP: a line a tick")
