"""Server-Sent Events: one event per tick. EventSource reconnects by itself, with the position in ``Last-Event-ID``."""

from __future__ import annotations

from aiohttp import web

from ..errors import NotFound, Overloaded, ParameterError
from ..runtime import Runtime
from ..wire.sse import SSEFraming, refusal
from .base import STREAM_HEADERS, Transport, check_run, live_coding, query_of, stream

MEDIA_TYPE = "text/event-stream; charset=utf-8"  # some clients (requests) decode text without it as Latin-1


async def handle(request: web.Request, runtime: Runtime) -> web.StreamResponse:
    query = query_of(request)
    check_run(runtime, query)
    framing = SSEFraming(request.version >= (1, 1), live_coding(request, runtime), query.event)
    try:
        return await stream(request, runtime, query, framing, MEDIA_TYPE)
    except Overloaded as error:  # EventSource cannot read an error status, and gives up after one
        return web.Response(body=refusal(error), headers=STREAM_HEADERS | {"Content-Type": MEDIA_TYPE})


TRANSPORT = Transport(
    "sse",
    "/sse",
    handle,
    "stream",
    MEDIA_TYPE,
    "Server-Sent Events: an event a tick",
    reads="sse",
    refuses=(ParameterError, NotFound),  # lack of room is reported by an event
)
