"""Taking a connection over from aiohttp, once it has routed, parsed and sent the response head; and whatever else needs
aiohttp's inside.

After ``take_over`` the session is the transport's protocol; aiohttp lets its request, headers, task and parser go,
which makes an idle reader cost 1.5 KB instead of 10 to 14, and turns the transport's flow control into the session's
own transitions. aiohttp has no public way for this, so the trick stands here alone, and
``tests/unit/http/test_handover.py`` holds it against each release:

1. the session becomes the transport's protocol, so that whatever arrives next is its own;
2. aiohttp's handler loses its transport first and is then told that the connection was lost, so that it cleans up
   after itself but finds nothing to close;
3. what arrived behind the handshake is handed to the session, the end of the client's side too;
4. the handler's task ends as a cancelled one, which aiohttp passes over without a word.

What hung on aiohttp's handler must hang on the session from here on: counting, limits, metrics, shutdown.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
from typing import NoReturn

from aiohttp import HttpVersion11, web

from ..errors import NotAWebSocket
from ..wire.websocket import accept_key


async def take_over(request: web.Request, response: web.StreamResponse, session: asyncio.Protocol) -> NoReturn:
    """Send ``response``'s head and give the connection to ``session``. Never returns: the handler ends here.

    A client that goes away during the handshake is no error: the handler ends in the same way, and the session never
    has a connection.

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
    transport.resume_reading()  # aiohttp pauses it where much has come behind the handshake
    session.connection_made(transport)
    if tail:
        session.data_received(tail)
    if getattr(handler, "half_closed", False) and not session.eof_received():
        transport.close()
    raise asyncio.CancelledError


def _disable_user_timeout(transport: asyncio.Transport) -> None:
    """A stream's session knows itself when a peer that takes nothing is gone: the system need not (see ``listen``)."""
    timeout, sock = getattr(socket, "TCP_USER_TIMEOUT", None), transport.get_extra_info("socket")
    if timeout is not None and sock is not None:
        with contextlib.suppress(OSError):  # no TCP
            sock.setsockopt(socket.IPPROTO_TCP, timeout, 0)


def check_handshake(request: web.Request) -> str:
    """Check a WebSocket's opening handshake and return its ``Sec-WebSocket-Accept``.

    Raises:
        NotAWebSocket: it is none. One with a body is refused too: its body would be read as frames.
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
    """Have aiohttp compress nothing of what it sends, where compression was negotiated for what it receives: for small
    answers that is no gain, and its compressor takes 256 KiB. To be called once the handshake is done."""
    if ws._writer is not None:
        ws._writer.compress = 0


def body_is_decoded(request: web.Request) -> bool:
    """Whether aiohttp decompresses this request's body itself, which no public attribute tells.

    The gateway's own server leaves that to the routes. On an application of somebody else's, whose runner was not told
    ``auto_decompress=False``, aiohttp has begun with it before any handler can say no.
    """
    server = request.protocol._manager
    return request._message.compression is not None and (server is None or server._kwargs.get("auto_decompress", True))


def body_is_broken(request: web.Request) -> bool:
    """Whether aiohttp's parser gave up on the body of a request that is being handled (seen with 3.14, parser in C).

    It does not tell the body's reader, who would wait for ever, but queues an error to be answered after this request.
    Nothing else can be queued before the body's end.
    """
    return bool(request.protocol._messages) and not request.content.is_eof()


def body_is_cut(request: web.Request) -> bool:
    """Whether a body that came to its end is not whole: its client has ended its side in the middle of it."""
    return getattr(request.protocol, "broken_off", None) is request.content


def is_idle(transport: asyncio.BaseTransport, protocol: asyncio.BaseProtocol) -> bool:
    """Whether nothing was asked for on a connection of aiohttp's that it did not answer yet."""
    if not isinstance(protocol, web.RequestHandler) or protocol.transport is not transport:
        return False  # it was taken over, or is closed
    return protocol._current_request is None and not protocol._messages


async def hang_up(request: web.Request, last: bytes, seconds: float) -> None:
    """Send ``last``, say nothing more, and drop what comes until the peer hangs up, or for so many seconds; then close.

    A connection that is closed with something unread is reset, and what was sent last may be lost with it; aiohttp
    closes its WebSockets so where a client broke the protocol.
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
    """Takes what comes for nobody, on behalf of aiohttp's handler, which is told of all else.

    Attributes:
        gone: set when the peer has hung up.
        lost: the connection is no more.
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
