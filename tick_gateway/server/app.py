"""The gateway as an aiohttp application: routes, errors and cross-origin rules around the runtime."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any, Final

from aiohttp import HttpVersion11, web
from aiohttp.http import SERVER_SOFTWARE

from ..errors import ClientError, GatewayError, HTTPVersion, NotFound, TransferCoding
from ..http.connection import expect
from ..http.responses import SERVER, error_reply, header_list
from ..http.route import Route
from ..logs import ThrottledLog
from ..model.suggestion import did_you_mean
from ..runtime import Runtime
from ..transports import TRANSPORTS
from ..transports.base import Transport, acceptable
from .body_index import BodyIndexCache
from .one_shot_reads import BODY_INDEXES_KEY
from .openapi import HEADERS
from .routes import routes
from .segment_snapshot import SNAPSHOTS_KEY, SegmentSnapshots
from .status import ROUTES_KEY, TRANSPORTS_KEY

log = logging.getLogger("tick_gateway")

ALLOWED_HEADERS: Final = "Last-Event-ID, Authorization, If-None-Match, Cache-Control, Content-Type, X-Requested-With"
EXPOSED_HEADERS: Final = ", ".join([*HEADERS, "Accept-Ranges", "Content-Range"])

_SENDING: Final = ("POST", "PUT")
_PUBLISH: Final = "; ticks are published by POST /publish"

_Next = Callable[[web.Request], Awaitable[web.StreamResponse]]
_FAULTS_KEY: web.AppKey[ThrottledLog] = web.AppKey("tick_gateway.faults", ThrottledLog)
_OPEN_KEY: web.AppKey[set[Any]] = web.AppKey("tick_gateway.open", set)
"""The handlers of routes that web pages of every origin may read."""


def make_app(runtime: Runtime, transports: tuple[Transport, ...] = TRANSPORTS) -> web.Application:
    """An application that serves ``runtime``, and starts and drains it with its own life.

    Mount it on another one with ``add_subapp``, or serve it directly.
    """
    app = web.Application(middlewares=[_errors], client_max_size=runtime.settings.max_body)
    table = routes(transports)
    app[ROUTES_KEY] = table
    app[TRANSPORTS_KEY] = transports
    app[BODY_INDEXES_KEY] = BodyIndexCache()
    app[SNAPSHOTS_KEY] = SegmentSnapshots()
    app[_FAULTS_KEY] = ThrottledLog(log)
    app[_OPEN_KEY] = {_preflight}
    for route in table:
        handler = _bind(route, runtime)
        app.router.add_route(route.method, route.path, handler, expect_handler=expect)
        if route.method == "GET":
            app.router.add_route("HEAD", route.path, handler, expect_handler=expect)
        if route.open:
            app[_OPEN_KEY].add(handler)
            app.router.add_route("OPTIONS", route.path, _preflight, expect_handler=expect)
    app.on_response_prepare.append(_finish_head)

    async def close_where_scarce(request: web.Request, response: web.StreamResponse) -> None:
        """Close a connection after its answer if descriptors are scarce."""
        if runtime.descriptors.scarce(request.transport):
            response.force_close()
            response.headers["Connection"] = "close"  # aiohttp has already composed its headers

    app.on_response_prepare.append(close_where_scarce)

    async def lifespan(_: web.Application) -> AsyncIterator[None]:
        runtime.start()
        yield
        await runtime.drain()
        runtime.close()

    async def on_shutdown(_: web.Application) -> None:
        await runtime.drain()

    app.on_shutdown.append(on_shutdown)
    app.cleanup_ctx.append(lifespan)
    return app


def redirect_to_slash(path: str) -> web.PlainResource:
    """A redirect from the mount path without its trailing slash to the one with it."""

    async def redirect(request: web.Request) -> web.Response:
        # Relative, so that it is correct behind a proxy that adds a path of its own.
        to = f"{path.rpartition('/')[2]}/" + (f"?{request.rel_url.raw_query_string}" if request.query_string else "")
        headers = {"Location": to, "Cache-Control": "no-store"}
        return web.Response(status=307, headers=headers, text=f"the gateway is at {to}\n")

    resource = web.PlainResource(path)
    for method in ("GET", "HEAD"):
        resource.add_route(method, redirect)
    return resource


def _bind(route: Route, runtime: Runtime) -> _Next:
    async def handle(request: web.Request) -> web.StreamResponse:
        if not route.websocket and _opens_websocket(request):
            raise ClientError(f"{route.path} does not speak WebSocket; accepted: {_websockets(request)}")
        return acceptable(request, runtime, await route.handler(request, runtime))

    return handle


def _opens_websocket(request: web.Request) -> bool:
    """Whether a request is an opening handshake. Its client cannot use any other answer: Python clients wait for the
    end of the body, which a stream does not have."""
    return "Sec-WebSocket-Key" in request.headers and header_list(request, "Upgrade").strip().lower() == "websocket"


def _websockets(request: web.Request) -> str:
    return ", ".join(route.path for route in request.config_dict[ROUTES_KEY] if route.websocket)


@web.middleware
async def _errors(request: web.Request, handler: _Next) -> web.StreamResponse:
    """Answer every error as one JSON object, without internals."""
    try:
        if request.version.major != 1:  # aiohttp's parser accepts requests of HTTP/0.9 and HTTP/2.0
            raise HTTPVersion
        _check_host(request)
        _check_transfer_coding(request)
        return await handler(request)
    except GatewayError as error:
        if request.writer.output_size:  # partly sent: no second head may follow
            raise
        response = error_reply(error)
        if isinstance(error, TransferCoding):
            response.force_close()  # the end of the request's body is unknown
        return response
    except ConnectionError:  # the client went away during the answer: nobody is left to tell
        raise asyncio.CancelledError from None
    except web.HTTPNotFound:
        return error_reply(_PathNotFound(request))
    except web.HTTPMethodNotAllowed as error:
        response = error_reply(_MethodNotAllowed(request, error.allowed_methods))
        response.headers["Allow"] = ", ".join(sorted(error.allowed_methods))
        return response
    except web.HTTPException as error:
        if error.status < 400:
            raise
        return error_reply(_RefusedByAiohttp(error))
    except Exception as error:
        if request.writer.output_size:  # partly sent: aiohttp logs the error and cuts the connection
            raise
        request.app[_FAULTS_KEY].tell(logging.ERROR, f"{request.method} {_route_of(request)} failed", error)
        return error_reply(GatewayError("the gateway failed on this request; its log says why"))


def _check_host(request: web.Request) -> None:
    """Check that the request names its host.

    Raises:
        ClientError: HTTP/1.1 without ``Host``, or with several (RFC 9112, section 3.2).
    """
    hosts = len(request.headers.getall("Host", ()))
    if hosts > 1 or (hosts == 0 and request.version >= HttpVersion11):
        raise ClientError("a request of HTTP/1.1 has the header Host, once (RFC 9112, section 3.2)")


def _route_of(request: web.Request) -> str:
    """The route of a request as in the table, for the log, which must not contain anything that clients choose."""
    resource = request.match_info.route.resource
    return resource.canonical if resource is not None else "a path"


def _check_transfer_coding(request: web.Request) -> None:
    """Check for codings that aiohttp's parser does not decode: it handles ``chunked``, and takes the rest for the body.

    Raises:
        TransferCoding: there is another one.
    """
    codings = header_list(request, "Transfer-Encoding")
    if codings and codings.strip().lower() != "chunked":
        raise TransferCoding(codings)


class _RefusedByAiohttp(ClientError):
    """An error raised by aiohttp."""

    def __init__(self, error: web.HTTPException) -> None:
        self.status = error.status
        super().__init__(error.reason)


class _MethodNotAllowed(GatewayError):
    status = 405
    code = "method_not_allowed"

    def __init__(self, request: web.Request, allowed: set[str]) -> None:
        cure = _PUBLISH if "POST" not in allowed and request.method in _SENDING else ""
        if "POST" in allowed and request.method == "PUT":
            cure = " (curl -T sends PUT, unless -X POST stands beside it)"
        super().__init__(f"{request.method:.40} is not allowed here; accepted: {', '.join(sorted(allowed))}{cure}")


class _PathNotFound(NotFound):
    """A path that does not exist, with a suggestion."""

    def __init__(self, request: web.Request) -> None:
        if request.method in _SENDING:
            cure = _PUBLISH
        elif _opens_websocket(request):
            cure = f"; WebSockets: {_websockets(request)}"
        else:
            cure = _meant_path(request.path, [route.path for route in request.config_dict[ROUTES_KEY]])
        super().__init__(f"no such path; see /openapi.json{cure}")


def _meant_path(path: str, paths: list[str]) -> str:
    """As ``did_you_mean``; the beginning of a path suggests that path, before one with a similar spelling."""
    asked = path.rstrip("/")
    below = [longer for longer in paths if asked and longer.startswith(f"{asked}/")]
    return f"; did you mean {below[0]}?" if below and asked not in paths else did_you_mean(path, paths)


async def _preflight(request: web.Request) -> web.StreamResponse:
    headers = {
        "Access-Control-Allow-Methods": "GET, HEAD, OPTIONS",
        "Access-Control-Allow-Headers": ALLOWED_HEADERS,
        "Access-Control-Max-Age": "86400",
        "Allow": "GET, HEAD, OPTIONS",
    }
    return web.Response(status=204, headers=headers)


def _is_open(request: web.Request) -> bool:
    """Whether web pages of any origin may have the answer: reading is open to them, publishing is not."""
    failed = request.match_info.http_exception
    if failed is None:
        return request.match_info.handler in request.app[_OPEN_KEY]
    return not isinstance(failed, web.HTTPMethodNotAllowed) or "OPTIONS" in failed.allowed_methods


async def _finish_head(request: web.Request, response: web.StreamResponse) -> None:
    """Set the headers that all answers have."""
    if response.headers.get("Server") == SERVER_SOFTWARE:  # aiohttp's, which names versions
        response.headers["Server"] = SERVER
    if _is_open(request):
        response.headers["Access-Control-Allow-Origin"] = "*"
        response.headers["Access-Control-Expose-Headers"] = EXPOSED_HEADERS
