"""Server-Sent Events: an event a tick. EventSource reconnects by itself, with the position in ``Last-Event-ID``."""

from __future__ import annotations

from aiohttp import web

from ..hub import Hub
from ..wire.sse import SSEFraming, overloaded
from .base import STREAM_HEADERS, Transport, check_run, full, query_of, stream

MEDIA_TYPE = "text/event-stream"


async def handle(request: web.Request, hub: Hub) -> web.StreamResponse:
    query = query_of(request)
    check_run(hub, query)
    if full(hub):
        # EventSource cannot read an error status and gives up on it.
        return web.Response(body=overloaded(), headers=STREAM_HEADERS | {"Content-Type": MEDIA_TYPE})
    return await stream(request, hub, query, SSEFraming(query.event, request.version >= (1, 1)), MEDIA_TYPE)


TRANSPORT = Transport("sse", "/sse", handle, "stream", MEDIA_TYPE, "Server-Sent Events: an event a tick")
