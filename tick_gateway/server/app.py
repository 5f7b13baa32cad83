"""The gateway as an aiohttp application: routes, errors and cross-origin rules around the hub."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Final

from aiohttp import web

from ..errors import GatewayError, NotFound, Overloaded
from ..hub import Hub
from ..reply import json_reply
from ..transports import TRANSPORTS
from ..transports.base import Transport
from .about import ROUTES_KEY, TRANSPORTS_KEY
from .bodies import Layouts
from .growing import STATES_KEY, States
from .pulls import LAYOUTS_KEY
from .routes import Route, routes

log = logging.getLogger("tick_gateway")

ALLOWED_HEADERS: Final = "Last-Event-ID, Authorization, If-None-Match"
EXPOSED_HEADERS: Final = "Tick-Run, Tick-Next, Tick-Gap, Tick-Reset, Link, ETag, Retry-After"
RETRY_AFTER_SECONDS: Final = 5
PUBLISHER_SECONDS: Final = 2.5  # how long a shutdown waits for publishers to take their last answers

_Next = Callable[[web.Request], Awaitable[web.StreamResponse]]


def make_app(hub: Hub, transports: tuple[Transport, ...] = TRANSPORTS) -> web.Application:
    """An application that serves ``hub``. It starts and drains the hub's fan-out with its own life.

    Mount it on another one with ``add_subapp``, or serve it as it is.
    """
    app = web.Application(middlewares=[_errors], client_max_size=hub.settings.max_body)
    table = routes(transports)
    app[ROUTES_KEY] = table
    app[TRANSPORTS_KEY] = transports
    app[LAYOUTS_KEY] = Layouts()
    app[STATES_KEY] = States()
    for route in table:
        app.router.add_route(route.method, route.path, _bind(route, hub))
        if route.method == "GET":
            app.router.add_route("HEAD", route.path, _bind(route, hub))
        if route.reads:
            app.router.add_route("OPTIONS", route.path, _preflight)
    app.on_response_prepare.append(_cross_origin)

    async def let_go(request: web.Request, response: web.StreamResponse) -> None:
        """Where descriptors are scarce, a connection is closed behind its answer."""
        if hub.descriptors.scarce(request.transport):
            response.force_close()
            response.headers["Connection"] = "close"  # aiohttp has made up its headers already

    app.on_response_prepare.append(let_go)

    async def life(_: web.Application) -> AsyncIterator[None]:
        hub.start()
        yield
        await drain(hub)
        hub.close()

    async def shut(_: web.Application) -> None:
        await drain(hub)

    app.on_shutdown.append(shut)
    app.cleanup_ctx.append(life)
    return app


def redirect_to_slash(path: str) -> web.PlainResource:
    """The address that an application is mounted at, without the slash: a reader goes on to the one with it."""

    async def redirect(request: web.Request) -> web.Response:
        # Relative, so that it holds behind a proxy with a path of its own, too.
        to = f"{path.rpartition('/')[2]}/" + (f"?{request.rel_url.raw_query_string}" if request.query_string else "")
        headers = {"Location": to, "Cache-Control": "no-store"}
        return web.Response(status=307, headers=headers, text=f"the gateway is at {to}\n")

    resource = web.PlainResource(path)
    for method in ("GET", "HEAD"):
        resource.add_route(method, redirect)
    return resource


async def drain(hub: Hub) -> None:
    """End every reader and publisher for shutdown; done once, however often it is called."""
    if hub.draining:
        return
    hub.draining = True
    with contextlib.suppress(TimeoutError):  # publishers first: what they were told was published goes out too
        async with asyncio.timeout(PUBLISHER_SECONDS):
            await asyncio.gather(*(leave() for leave in list(hub.publishers)), return_exceptions=True)
    await hub.drain()


def _bind(route: Route, hub: Hub) -> _Next:
    async def handle(request: web.Request) -> web.StreamResponse:
        return await route.handler(request, hub)

    handle.reads = route.reads  # type: ignore[attr-defined]  # read by _cross_origin
    return handle


@web.middleware
async def _errors(request: web.Request, handler: _Next) -> web.StreamResponse:
    """Every error as one JSON object; nothing of the inside leaves."""
    try:
        if request.version.major != 1:  # aiohttp's parser lets requests pass that call themselves HTTP/0.9 and HTTP/2.0
            raise _Version
        return await handler(request)
    except GatewayError as error:
        if request.writer.output_size:  # half sent: no second head may follow
            raise
        return _answer(request, error)
    except ConnectionError:  # the client went away while it was answered: nobody is left to tell
        raise asyncio.CancelledError from None
    except web.HTTPNotFound:
        return _answer(request, NotFound("no such path; see /openapi.json"))
    except web.HTTPMethodNotAllowed as error:
        response = _answer(request, _Method(error.method, error.allowed_methods))
        response.headers["Allow"] = ", ".join(sorted(error.allowed_methods))
        return response
    except web.HTTPException:
        raise
    except Exception:
        if request.writer.output_size:  # half sent: aiohttp logs it and cuts the connection
            raise
        log.exception("%s %s failed", request.method, request.path)
        return _answer(request, GatewayError("the gateway failed on this request; its log says why"))


class _Version(GatewayError):
    status = 505
    code = "http_version"

    def __init__(self) -> None:
        super().__init__("HTTP/1.1 is spoken here")


class _Method(GatewayError):
    status = 405
    code = "method_not_allowed"

    def __init__(self, method: str, allowed: set[str]) -> None:
        super().__init__(f"{method} is not allowed here; accepted: {', '.join(sorted(allowed))}")


def _answer(request: web.Request, error: GatewayError) -> web.Response:
    headers = {"Cache-Control": "no-store"}
    if isinstance(error, Overloaded):
        headers["Retry-After"] = str(RETRY_AFTER_SECONDS)
    if error.status == 401:
        headers["WWW-Authenticate"] = "Bearer"
    if error.status == 426:
        headers |= {"Upgrade": "websocket", "Connection": "Upgrade"}
    return json_reply(error.as_dict(), status=error.status, headers=headers)


async def _preflight(request: web.Request) -> web.StreamResponse:
    headers = {
        "Access-Control-Allow-Methods": "GET, HEAD, OPTIONS",
        "Access-Control-Allow-Headers": ALLOWED_HEADERS,
        "Access-Control-Max-Age": "86400",
        "Allow": "GET, HEAD, OPTIONS",
    }
    return web.Response(status=204, headers=headers)


_preflight.reads = True  # type: ignore[attr-defined]


async def _cross_origin(request: web.Request, response: web.StreamResponse) -> None:
    """Reading is open to every origin, publishing is not."""
    if getattr(request.match_info.handler, "reads", False):
        response.headers["Access-Control-Allow-Origin"] = "*"
        response.headers["Access-Control-Expose-Headers"] = EXPOSED_HEADERS
    if response.status == 416:  # a range of bytes that a file has not; aiohttp leaves the file's own headers
        response.headers["Cache-Control"] = "no-store"
