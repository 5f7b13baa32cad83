"""A gateway on another ASGI server: an application that forwards each request to the gateway's own listener.

    uvicorn, hypercorn ──request──▶ AsgiApp ──the same request──▶ loopback ──▶ the gateway's thread

So the transports are implemented once. HTTP bodies are forwarded byte for byte, WebSockets message by message, since
the ASGI server makes their frames. Each reader costs a loopback connection and a task on the server's loop.

The inner listener answers this application alone: each request carries a random secret in a header. All its peers are
on loopback, so the address of a remote client is forwarded in ``X-Forwarded-For``; requests with that header may not
publish without a token (see ``access.publishers``).
"""

from __future__ import annotations

import asyncio
import hmac
import json
import logging
import secrets
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping, MutableMapping
from typing import Any, Final, Protocol, TypeVar
from urllib.parse import quote

import aiohttp
from aiohttp import web
from multidict import CIMultiDict
from yarl import URL

from ..access.publishers import is_loopback
from ..errors import ClientError, GatewayError, NotAllowed, NotServing
from ..model.notices import EndReason
from .status import BASE_KEY

log = logging.getLogger("tick_gateway.http")

Answer = TypeVar("Answer")
Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]

_SECRET_HEADER: Final = "Tick-Gateway-Word"
_BASE_HEADER: Final = "Tick-Gateway-Base"
_INTERNAL_HEADERS: Final = frozenset({_SECRET_HEADER.lower(), _BASE_HEADER.lower()})
_HOP_BY_HOP: Final = frozenset(
    {"connection", "keep-alive", "proxy-connection", "te", "trailer", "transfer-encoding", "upgrade", "expect"}
)
_SERVER_HEADERS: Final = _HOP_BY_HOP | {"date", "server"}  # in answers: added by the outer server itself
_HANDSHAKE: Final = frozenset(
    {"sec-websocket-key", "sec-websocket-version", "sec-websocket-extensions", "sec-websocket-protocol",
     "sec-websocket-accept"}
)  # fmt: skip
_PATH_CHARACTERS: Final = "/:@!$&'()*+,;=~"  # in paths; RFC 3986, section 3.3
_BUFFER_BYTES: Final = 1 << 16  # buffered here for a slow reader
_MAX_HEAD_BYTES: Final = 1 << 20  # Tick-Gap may be long
_MAX_REFUSAL_BYTES: Final = 1 << 16
_AWAY, _FAILED = 1001, 1011  # close codes


class InnerGateway(Protocol):
    """What the application needs from its gateway."""

    def start(self) -> object:
        """Listen, unless it already does."""

    def close(self, reason: EndReason = "finished") -> None:
        """End, and tell readers the reason."""

    @property
    def inner_port(self) -> int:
        """The port on 127.0.0.1."""


class AsgiApp:
    """An ASGI 3 application: HTTP, WebSocket, and the lifespan where it is the server's own application.

    The gateway starts with the first of: the lifespan, a request, a tick.
    """

    def __init__(self, gateway: InnerGateway) -> None:
        self._gateway = gateway
        self._secret = secrets.token_hex(16)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self._lifespan(receive, send)
        elif scope["type"] == "http":
            await self._http(scope, receive, send)
        elif scope["type"] == "websocket":
            await self._websocket(scope, receive, send)
        else:
            raise NotImplementedError(f"ASGI scopes of type {scope['type']!r} are not known here")

    @web.middleware
    async def _guard(
        self, request: web.Request, handler: Callable[[web.Request], Awaitable[web.StreamResponse]]
    ) -> web.StreamResponse:
        """Middleware of the inner listener: refuses requests without the secret."""
        secret = request.headers.get(_SECRET_HEADER, "").encode("utf-8", "surrogateescape")
        if not hmac.compare_digest(secret, self._secret.encode()):
            raise NotAllowed("this port is for the application that the gateway is mounted on; ask there")
        return await handler(request)

    def attach(self, app: web.Application) -> None:
        """Install the middleware on the inner listener's application."""
        app.middlewares.append(self._guard)
        app[BASE_KEY] = _BASE_HEADER

    # ---- lifespan ----

    async def _lifespan(self, receive: Receive, send: Send) -> None:
        while True:
            message = await receive()
            if message["type"] == "lifespan.startup":
                try:
                    await asyncio.to_thread(self._gateway.start)
                except GatewayError as error:
                    await send({"type": "lifespan.startup.failed", "message": str(error)})
                    return
                await send({"type": "lifespan.startup.complete"})
            elif message["type"] == "lifespan.shutdown":
                await asyncio.to_thread(self._gateway.close, "shutdown")
                await send({"type": "lifespan.shutdown.complete"})
                return

    # ---- requests to the gateway ----

    async def _address(self, scope: Scope) -> URL:
        """The inner listener's URL for a request.

        Raises:
            ClientError: the path is invalid. Nothing from a request line may become part of the host.
            GatewayError: the gateway is not available.
        """
        if not self._gateway.inner_port:
            await asyncio.to_thread(self._gateway.start)
        path, root = scope["path"], scope.get("root_path", "").rstrip("/")
        if root and (path == root or path.startswith(root + "/")):  # some frameworks remove it, some do not
            path = path[len(root) :]
        path, query = path or "/", scope.get("query_string", b"").decode("latin-1")
        if not path.startswith("/"):
            raise ClientError(f"this is no HTTP request: the path {path!r:.80} does not begin with a slash")
        try:
            path = quote(path, safe=_PATH_CHARACTERS)
        except UnicodeEncodeError:
            raise ClientError("this is no HTTP request: the path is not UTF-8") from None
        return URL.build(
            scheme="http", host="127.0.0.1", port=self._gateway.inner_port, path=path, query_string=query, encoded=True
        )

    def _headers(self, scope: Scope, leave_out: Iterable[str]) -> CIMultiDict[str]:
        """The headers to forward: a request's, the secret, the base address, and who the client is."""
        given = [(name.decode("latin-1"), _header_text(value)) for name, value in scope["headers"]]
        dropped = {*leave_out, *_HOP_BY_HOP, *_INTERNAL_HEADERS}
        headers = CIMultiDict((name, value) for name, value in given if name.lower() not in dropped)
        client = scope.get("client")
        if not client or not is_loopback(client[0]):
            headers.add("X-Forwarded-For", client[0] if client else "unknown")
        scheme = {"ws": "http", "wss": "https"}.get(scope.get("scheme", "http"), scope.get("scheme", "http"))
        headers[_SECRET_HEADER] = self._secret
        headers[_BASE_HEADER] = f"{scheme}://{headers.get('Host', 'localhost')}{scope.get('root_path', '').rstrip('/')}"
        return headers

    # ---- HTTP ----

    async def _http(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            address = await self._address(scope)
        except GatewayError as error:
            await _refuse(send, error)
            return
        body = _RequestBody(receive)
        answering = asyncio.create_task(self._answer(scope, address, body, send))
        listening = asyncio.create_task(body.listen())
        try:
            await asyncio.wait((answering, listening), return_when=asyncio.FIRST_COMPLETED)
            if answering.done():
                answering.result()
        finally:  # finished, or the client or the server has ended it
            await _cancel(answering, listening)

    async def _answer(self, scope: Scope, address: URL, body: _RequestBody, send: Send) -> None:
        headers = self._headers(scope, ())
        names = {name.lower() for name, _ in scope["headers"]}
        has_body = not names.isdisjoint({b"content-length", b"transfer-encoding"}) or scope["method"] == "POST"
        started = False
        try:
            data = body.chunks() if has_body else None
            async with (
                _client_session() as session,
                await _forward(
                    session.request(scope["method"], address, headers=headers, data=data, allow_redirects=False)
                ) as answer,
            ):
                await send(
                    {
                        "type": "http.response.start",
                        "status": answer.status,
                        "headers": _response_headers(answer.headers),
                    }
                )
                started = True
                async for chunk in answer.content.iter_any():
                    await send({"type": "http.response.body", "body": chunk, "more_body": True})
                await send({"type": "http.response.body", "body": b"", "more_body": False})
        except ClientError as error:
            await _refuse(send, error)
        except (aiohttp.ClientError, OSError) as error:
            if not started:
                await _refuse(send, NotServing("the gateway behind this address is closed, or does not answer"))
                return
            # An incomplete answer must not look like a complete one: without a last message, the server cuts the
            # connection.
            log.debug("an answer broke off: %s", error)

    # ---- WebSocket ----

    async def _websocket(self, scope: Scope, receive: Receive, send: Send) -> None:
        if (await receive())["type"] != "websocket.connect":
            return  # its client went away before
        try:
            address = await self._address(scope)
        except GatewayError as error:
            await _refuse_websocket(scope, send, error.status, [], json.dumps(error.as_dict()).encode())
            return
        headers = self._headers(scope, _HANDSHAKE)
        async with _client_session() as session:
            try:
                ws = await _forward(
                    session.ws_connect(address, headers=headers, max_msg_size=0, timeout=_CLOSE_AT_ONCE)
                )
            except ClientError as error:
                await _refuse_websocket(scope, send, error.status, [], json.dumps(error.as_dict()).encode())
                return
            except aiohttp.WSServerHandshakeError as error:
                # aiohttp drops the body of a refused handshake: ask again, for the body.
                async with session.get(address, headers=[*headers.items(), *_UPGRADE.items()]) as answer:
                    refusal = await answer.content.read(_MAX_REFUSAL_BYTES) if answer.status == error.status else b""
                    await _refuse_websocket(scope, send, error.status, _response_headers(answer.headers), refusal)
                return
            except (aiohttp.ClientError, OSError):
                gone = NotServing("the gateway behind this address is closed, or does not answer")
                await _refuse_websocket(scope, send, gone.status, [], json.dumps(gone.as_dict()).encode())
                return
            pumps: list[asyncio.Task[None]] = []
            try:
                await send({"type": "websocket.accept", "headers": _response_headers(ws._response.headers, _HANDSHAKE)})
                pumps += asyncio.create_task(_pump_in(ws, receive)), asyncio.create_task(_pump_out(ws, send))
                await asyncio.wait(pumps, return_when=asyncio.FIRST_COMPLETED)
                for task in pumps:
                    if task.done():
                        task.result()
            finally:
                await _cancel(*pumps)
                await ws.close(code=_AWAY)


_UPGRADE: Final = {
    "Connection": "Upgrade", "Upgrade": "websocket", "Sec-WebSocket-Version": "13",
    "Sec-WebSocket-Key": "dGljay1nYXRld2F5LWlubg==",
}  # fmt: skip
_CLOSE_AT_ONCE: Final = aiohttp.ClientWSTimeout(ws_close=1.0)


async def _pump_in(ws: aiohttp.ClientWebSocketResponse[Any], receive: Receive) -> None:
    """Forward what the client sends to the gateway, until the client disconnects."""
    while True:
        message = await receive()
        if message["type"] == "websocket.disconnect":
            await ws.close(code=message.get("code") or _AWAY)
            return
        try:
            if (text := message.get("text")) is not None:
                await ws.send_str(text)
            elif (data := message.get("bytes")) is not None:
                await ws.send_bytes(data)
        except ConnectionError:  # the other direction reports how it ended
            continue


async def _pump_out(ws: aiohttp.ClientWebSocketResponse[Any], send: Send) -> None:
    """Forward what the gateway sends to the client, until the gateway closes."""
    while True:
        message = await ws.receive()
        if message.type is aiohttp.WSMsgType.TEXT:
            await send({"type": "websocket.send", "text": message.data})
        elif message.type is aiohttp.WSMsgType.BINARY:
            await send({"type": "websocket.send", "bytes": message.data})
        elif message.type is aiohttp.WSMsgType.CLOSE:
            await send({"type": "websocket.close", "code": message.data or 1000, "reason": message.extra or ""})
            return
        else:  # the connection broke
            await send({"type": "websocket.close", "code": _FAILED, "reason": "the gateway behind this is gone"})
            return


class _RequestBody:
    """Forwards a request's body, one message at a time, and notices when the client disconnects."""

    def __init__(self, receive: Receive) -> None:
        self._receive = receive
        self._pieces: asyncio.Queue[bytes | None] = asyncio.Queue(1)

    async def listen(self) -> None:
        """Receive messages until the client disconnects."""
        while True:
            message = await self._receive()
            if message["type"] != "http.request":
                return
            if piece := message.get("body", b""):
                await self._pieces.put(piece)
            if not message.get("more_body", False):
                await self._pieces.put(None)

    async def chunks(self) -> AsyncIterator[bytes]:
        while (piece := await self._pieces.get()) is not None:
            yield piece


def _header_text(value: bytes) -> str:
    """A header's value as aiohttp will send it: byte for byte, if it is UTF-8."""
    try:
        return value.decode()
    except UnicodeDecodeError:
        return value.decode("latin-1")


async def _forward(request: Awaitable[Answer]) -> Answer:
    """The answer to a forwarded request.

    Raises:
        ClientError: aiohttp refuses to send it, because its method, length or a header is invalid. ASGI servers differ
            in what they accept.
    """
    try:
        return await request
    except ValueError as error:
        raise ClientError(f"this is no HTTP request: {str(error).partition(chr(10))[0]:.200}") from None


def _client_session() -> aiohttp.ClientSession:
    """A client session for one request. None is kept, since the server may use another event loop for the next one."""
    return aiohttp.ClientSession(
        auto_decompress=False,
        connector=aiohttp.TCPConnector(limit=0, force_close=True),
        cookie_jar=aiohttp.DummyCookieJar(),
        skip_auto_headers=("Accept", "Accept-Encoding", "User-Agent", "Content-Type"),
        timeout=aiohttp.ClientTimeout(total=None, sock_connect=10.0),
        read_bufsize=_BUFFER_BYTES,
        max_line_size=_MAX_HEAD_BYTES,
        max_field_size=_MAX_HEAD_BYTES,
    )


def _response_headers(headers: Mapping[str, str], leave_out: Iterable[str] = ()) -> list[tuple[bytes, bytes]]:
    """An answer's headers in ASGI's form, without hop-by-hop headers."""
    dropped = {*_SERVER_HEADERS, *leave_out}
    return [
        (name.lower().encode("latin-1"), value.encode("latin-1"))
        for name, value in headers.items()
        if name.lower() not in dropped
    ]


async def _refuse(send: Send, error: GatewayError) -> None:
    """Answer with an error of this application, in the gateway's form."""
    body = json.dumps(error.as_dict(), separators=(",", ":")).encode() + b"\n"
    headers = [(b"content-type", b"application/json"), (b"cache-control", b"no-store")]
    headers.append((b"content-length", str(len(body)).encode()))
    await send({"type": "http.response.start", "status": error.status, "headers": headers})
    await send({"type": "http.response.body", "body": body})


async def _refuse_websocket(
    scope: Scope, send: Send, status: int, headers: list[tuple[bytes, bytes]], body: bytes
) -> None:
    """Refuse a handshake, with a body where the server supports that."""
    if "websocket.http.response" in (scope.get("extensions") or {}):
        await send({"type": "websocket.http.response.start", "status": status, "headers": headers})
        await send({"type": "websocket.http.response.body", "body": body})
    else:
        await send({"type": "websocket.close", "code": 1008})


async def _cancel(*tasks: asyncio.Task[None]) -> None:
    """Cancel tasks and wait until they have ended."""
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
