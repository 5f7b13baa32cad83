"""Connection hand-over: a session takes a connection over from aiohttp, which has parsed and routed the request and
sent the response's head. Everything else that needs aiohttp's internals is here too.

After ``take_over`` the session is the transport's protocol; aiohttp releases its request, headers, task and parser, so
that an idle reader costs 1.5 KB instead of 10 to 14, and the transport's flow control becomes transitions of the
session. aiohttp has no public API for this; ``tests/unit/http/test_connection_handover.py`` tests it against each
release:

1. the session becomes the transport's protocol, so that it gets everything that arrives from now on;
2. the transport is taken from aiohttp's handler, which is told that the connection was lost: it cleans up, and has
   nothing to close;
3. bytes that arrived after the handshake, and the client's end of file, are passed to the session;
4. the handler's task ends as cancelled, which aiohttp does not log.

From here on, counting, limits, metrics and shutdown depend on the session, not on aiohttp's handler.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
from typing import NoReturn

from aiohttp import HttpVersion11, web

from ..errors import NotAWebSocket
from ..wire.websocket import accept_key
from .connection import Connection


async def take_over(request: web.Request, response: web.StreamResponse, session: asyncio.Protocol) -> NoReturn:
    """Send ``response``'s head and give the connection to ``session``. Never returns: the handler ends here.

    A client that goes away during the handshake is not an error: the handler ends in the same way, and the session
    never gets a connection.

    Raises:
        asyncio.CancelledError: always.
    """
    try:
        await response.prepare(request)
    except ConnectionError:
        raise asyncio.CancelledError from None
    handler, transport = request.protocol, request.transport
    if transport is None or transport.is_closing():
        raise asyncio.CancelledError
    tail = handler._message_tail
    transport.set_protocol(session)
    handler.transport = None
    handler.connection_lost(None)
    _disable_user_timeout(transport)
    transport.resume_reading()  # aiohttp pauses it if much arrived after the handshake
    session.connection_made(transport)
    if tail:
        session.data_received(tail)
    if isinstance(handler, Connection) and handler.half_closed and not session.eof_received():
        transport.close()
    raise asyncio.CancelledError


def _disable_user_timeout(transport: asyncio.Transport) -> None:
    """Let the session drop a peer that reads nothing, not the kernel (see ``listen``)."""
    timeout, sock = getattr(socket, "TCP_USER_TIMEOUT", None), transport.get_extra_info("socket")
    if timeout is not None and sock is not None:
        with contextlib.suppress(OSError):  # not TCP
            sock.setsockopt(socket.IPPROTO_TCP, timeout, 0)


def check_handshake(request: web.Request) -> str:
    """Check a WebSocket's opening handshake and return its ``Sec-WebSocket-Accept``.

    Raises:
        NotAWebSocket: it is not valid. One with a body is refused too, since the body would be read as frames.
    """
    if request.version < HttpVersion11:
        raise NotAWebSocket(
            "a WebSocket's opening handshake is a request of HTTP/1.1; a proxy in between may make it one of 1.0, "
            "as nginx does without proxy_http_version: docs/how-to/proxy.md"
        )
    if request.body_exists:
        raise NotAWebSocket("a WebSocket's opening handshake has no body")
    return accept_key(lambda name: request.headers.getall(name, ()))


def disable_compression(ws: web.WebSocketResponse) -> None:
    """Send uncompressed, even if compression was negotiated: small answers gain nothing from it, and aiohttp's
    compressor takes 256 KiB. Call it after the handshake."""
    if ws._writer is not None:
        ws._writer.compress = 0


def body_is_decoded(request: web.Request) -> bool:
    """Whether aiohttp itself decompresses this request's body, for which it has no public attribute.

    On the gateway's own server, routes decompress bodies. In another application, whose runner was made without
    ``auto_decompress=False``, aiohttp has begun before any handler is called.
    """
    server = request.protocol._manager
    return request._message.compression is not None and (server is None or server._kwargs.get("auto_decompress", True))


def body_is_broken(request: web.Request) -> bool:
    """Whether aiohttp's parser gave up on the body of the current request (seen with 3.14, parser in C).

    It does not tell the body's reader, which would wait forever, but queues an error to be answered after this request.
    Nothing else can be queued before the end of the body.
    """
    return bool(request.protocol._messages) and not request.content.is_eof()


def body_is_cut(request: web.Request) -> bool:
    """Whether a body that has ended is incomplete, because its client closed its side."""
    return isinstance(request.protocol, Connection) and request.protocol.broken_off is request.content


def is_idle(transport: asyncio.BaseTransport, protocol: asyncio.BaseProtocol) -> bool:
    """Whether this connection of aiohttp's has no request that is being answered or waits to be."""
    if not isinstance(protocol, web.RequestHandler) or protocol.transport is not transport:
        return False  # taken over, or closed
    return protocol._current_request is None and not protocol._messages


async def hang_up(request: web.Request, last: bytes, seconds: float) -> None:
    """Send ``last``, and discard what arrives until the peer hangs up, or for this many seconds; then close.

    Closing a connection with unread data resets it, which may lose the last bytes sent; aiohttp closes its WebSockets
    like that if a client breaks the protocol.
    """
    handler, transport = request.protocol, request.transport
    if transport is None or transport.is_closing():
        return
    peer = _DiscardingProtocol(handler)
    transport.set_protocol(peer)
    try:
        transport.write(last)
        if transport.can_write_eof():
            transport.write_eof()
        transport.resume_reading()
        async with asyncio.timeout(seconds):
            await peer.gone.wait()
    except TimeoutError:
        pass
    finally:
        if not peer.lost:
            transport.set_protocol(handler)
            transport.close()


class _DiscardingProtocol(asyncio.Protocol):
    """Discards what arrives; passes all other events to aiohttp's handler.

    Attributes:
        gone: set when the peer has hung up.
        lost: set when the connection is closed.
    """

    def __init__(self, handler: asyncio.Protocol) -> None:
        self._handler = handler
        self.gone = asyncio.Event()
        self.lost = False

    def eof_received(self) -> None:
        self.gone.set()

    def pause_writing(self) -> None:
        self._handler.pause_writing()

    def resume_writing(self) -> None:
        self._handler.resume_writing()

    def connection_lost(self, exc: Exception | None) -> None:
        self.lost = True
        self.gone.set()
        self._handler.connection_lost(exc)
