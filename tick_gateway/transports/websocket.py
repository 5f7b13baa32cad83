"""WebSocket: one text message per tick, and commands from the client (``commands``)."""

from __future__ import annotations

from typing import Final

from aiohttp import web

from ..delivery.encoder import Variant
from ..errors import ClientError, NotAWebSocket, NotFound, ParameterError
from ..http.connection_handover import check_handshake, take_over
from ..runtime import Runtime
from ..wire.websocket import WebSocketFraming, negotiate
from .base import Transport, check_run, find_start, query_of, refusal, stream_headers
from .commands import CommandSession

_OWN: Final = {"Upgrade": "websocket", "Connection": "Upgrade"}


async def handle(request: web.Request, runtime: Runtime) -> web.StreamResponse:
    query = query_of(request)
    check_run(runtime, query)
    if request.method == "HEAD":
        raise ClientError("this path speaks WebSocket: use GET with an opening handshake")
    accept = check_handshake(request)
    level = runtime.settings.compression
    offers = ", ".join(request.headers.getall("Sec-WebSocket-Extensions", ())) if level else ""
    deflated, agreed = negotiate(offers, level)
    variant = Variant(WebSocketFraming(query.given == 0, deflated), query.view, query.run)
    cursor = await find_start(runtime, query)
    session = CommandSession(runtime.fanout, variant, query, cursor)
    session.deflated = deflated is not None
    headers = stream_headers(runtime, cursor) | _OWN | {"Sec-WebSocket-Accept": accept}
    if agreed:
        headers["Sec-WebSocket-Extensions"] = agreed
    response = web.StreamResponse(status=101, headers=headers)
    session.refused = refusal(
        request, runtime, variant
    )  # reported after the handshake: a browser cannot read a refused one
    await take_over(request, response, session)


TRANSPORT = Transport(
    "websocket",
    "/ws/stream",
    handle,
    "stream",
    "application/json",
    "a text message a tick, and commands",
    statuses=(101,),
    refuses=(ParameterError, NotFound, NotAWebSocket),  # lack of room is reported by a close code
)
