"""``/`` and ``/stream``: one address for browsers, JSON clients and stream readers, by the request's Accept header."""

from __future__ import annotations

from functools import cache
from importlib.resources import files

from aiohttp import web

from ..http.responses import header_list, json_reply
from ..runtime import Runtime
from ..transports import ndjson, sse
from ..version import __version__
from .status import BASE_KEY, ROUTES_KEY, TRANSPORTS_KEY


async def root(request: web.Request, runtime: Runtime) -> web.StreamResponse:
    """A browser gets the page, whatever its parameters; a JSON client the description; any other the stream."""
    accept = header_list(request, "Accept")
    if "text/html" in accept:
        return web.Response(
            text=_page(), content_type="text/html", headers={"Cache-Control": "no-cache", "Vary": "Accept"}
        )
    if "application/json" in accept:
        return json_reply(_describe(request), headers={"Cache-Control": "no-store", "Vary": "Accept"})
    return await stream(request, runtime)


async def stream(request: web.Request, runtime: Runtime) -> web.StreamResponse:
    """SSE if Accept names it, else NDJSON."""
    if "text/event-stream" in header_list(request, "Accept"):
        return await sse.handle(request, runtime)
    return await ndjson.handle(request, runtime)


def _describe(request: web.Request) -> dict[str, object]:
    try:
        base = str(request.url.with_path(request.path).with_query(None)).rstrip("/")
    except ValueError:  # an invalid Host: links relative to this address
        base = request.path.rstrip("/")
    base = request.headers.get(request.app.get(BASE_KEY, ""), base)
    transports = {t.name: {"path": t.path, "kind": t.kind, "summary": t.summary} for t in request.app[TRANSPORTS_KEY]}
    links = {route.path[1:]: base + route.path for route in request.app[ROUTES_KEY] if route.linked}
    return {"service": "tick-gateway", "version": __version__, "transports": transports, "links": links}


@cache
def _page() -> str:
    return files(__package__).joinpath("page.html").read_text("utf-8")
