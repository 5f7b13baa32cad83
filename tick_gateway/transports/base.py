"""The contract of a transport, and the common part of streaming ones: from a request to a session.

A transport is a module that ends in a ``Transport``, and a line in the registry (``transports/__init__.py``). The
registry drives routing, /meta, /openapi.json, the conformance tests and the docs check.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from aiohttp import web

from ..delivery.encoder import Variant
from ..delivery.session import Session
from ..errors import GatewayError, NotAcceptable, Overloaded, ParameterError, TooManyViews
from ..http.connection_handover import take_over
from ..http.negotiation import choose, reads_first_frame_only, refuses_identity
from ..http.responses import header_list
from ..http.route import Handler
from ..model.query import Query, parse_query
from ..reading.cursor import Cursor
from ..runtime import Runtime
from ..wire.body import BodyFraming
from ..wire.codings import CODINGS
from ..wire.compression import Coding

STREAM_HEADERS: Final = {
    "Cache-Control": "no-store, no-transform",
    "X-Accel-Buffering": "no",
    "Connection": "close",
    "Vary": "Accept, Accept-Encoding",
}


@dataclass(frozen=True, slots=True)
class Transport:
    """One way to read ticks.

    Attributes:
        name: its name in /meta and the docs.
        path: its route.
        handler: serves a request.
        kind: ``stream`` (a connection that stays open) or ``pull`` (one answer per request).
        media_type: of its answers.
        summary: one line for people.
        reads: the kind of reading whose parameters it uses (``query.Parameter.on``); empty: as its own kind.
        statuses, refuses: its answers in /openapi.json: statuses that are not errors, and errors; empty: those of its
            kind.
    """

    name: str
    path: str
    handler: Handler
    kind: str
    media_type: str
    summary: str
    reads: str = ""
    statuses: tuple[int, ...] = ()
    refuses: tuple[type[GatewayError], ...] = ()


def query_of(request: web.Request, *, tables: bool = False) -> Query:
    """Parse the request's parameters.

    Args:
        tables: the route also answers with tables. All others refuse these formats: a client that asks for a table and
            gets something else, or waits for the end of a stream, would not find out.

    Raises:
        ParameterError: see ``query.parse_query``; or the format is not available on this route.
    """
    query = parse_query(request.query.items(), request.headers.get("Last-Event-ID"))
    if query.format in ("csv", "arrow") and not tables:
        raise ParameterError("format", f"{query.format} is for /range alone; here json and ndjson are accepted")
    return query


def check_run(runtime: Runtime, query: Query) -> None:
    """Refuse an unknown run.

    Raises:
        NotFound: the run is not known.
    """
    if query.run is not None:
        runtime.bus.run(query.run)


def refusal(request: web.Request, runtime: Runtime, variant: Variant) -> Overloaded | None:
    """Why no further streaming connection is accepted; None: one is."""
    if runtime.draining:
        return Overloaded()
    registry = runtime.fanout.registry
    if len(registry.sessions) >= runtime.settings.max_connections:
        registry.refuse(f"there are {runtime.settings.max_connections} (setting max_connections)")
        return Overloaded()
    if runtime.descriptors.scarce(request.transport):
        return descriptors_exhausted(runtime)
    try:
        registry.check_views(variant)
    except TooManyViews as error:
        registry.refuse(f"they have {runtime.settings.max_views} different views (setting max_views)")
        return error
    return None


def descriptors_exhausted(runtime: Runtime) -> Overloaded:
    """Count a reader that is refused because descriptors are scarce; returns its error."""
    runtime.fanout.registry.refuse(runtime.descriptors.shortage)
    return Overloaded("no file descriptor is left for another reader; come back later (ulimit -n of the gateway)")


def live_coding(request: web.Request, runtime: Runtime) -> Coding | None:
    """The content coding of a stream; None: none. Clients that read only one frame of a body get no coding with many.

    Raises:
        NotAcceptable: see ``negotiation.choose``.
    """
    return _coding(request, runtime, CODINGS.for_streams(one_frame=first_frame_only(request)))


def first_frame_only(request: web.Request) -> bool:
    """Whether the client is known to read only the first zstd frame of an answer."""
    return reads_first_frame_only(request.headers.get("User-Agent", ""))


def pull_coding(request: web.Request, runtime: Runtime) -> Coding | None:
    """The content coding of an answer that ends; None: none.

    Raises:
        NotAcceptable: see ``negotiation.choose``.
    """
    return _coding(request, runtime, CODINGS.for_pulls())


def _coding(request: web.Request, runtime: Runtime, names: Sequence[str]) -> Coding | None:
    level = runtime.settings.compression
    name = choose(header_list(request, "Accept-Encoding"), names if level else ())
    return CODINGS.make(name, level) if name else None


def acceptable(request: web.Request, runtime: Runtime, response: web.StreamResponse) -> web.StreamResponse:
    """Compress an uncoded answer, for a client that does not accept one.

    Raises:
        NotAcceptable: see ``negotiation.choose``.
    """
    plain = response.status == 200 and not response.prepared and "Content-Encoding" not in response.headers
    if not plain or not refuses_identity(header_list(request, "Accept-Encoding")):
        return response
    assert isinstance(response, web.Response) and isinstance(response.body, bytes), "all else was prepared"
    coding = pull_coding(request, runtime)
    assert coding is not None, "the bytes as they are were refused"
    response.body = coding.whole(response.body)
    response.headers["Content-Encoding"] = coding.name
    return response


def check_identity(request: web.Request) -> None:
    """Check that the client accepts an uncoded answer, for answers that are never compressed.

    Raises:
        NotAcceptable: the client refuses uncoded answers.
    """
    if refuses_identity(header := header_list(request, "Accept-Encoding")):
        raise NotAcceptable(header, ())


async def find_start(runtime: Runtime, query: Query) -> Cursor:
    """The cursor of a request with its start position, possibly found on disk."""
    return await runtime.feed.starts.find(Cursor.of(query), time.monotonic())


def stream_headers(runtime: Runtime, cursor: Cursor) -> dict[str, str]:
    """The headers of a stream that begins at a cursor: ``Tick-Run`` is the run of its first tick, even if another run
    begins before that is written."""
    run = runtime.feed.run_of(cursor)
    return STREAM_HEADERS | ({"Tick-Run": run.id} if run else {})


async def stream(
    request: web.Request,
    runtime: Runtime,
    query: Query,
    framing: BodyFraming,
    media_type: str,
) -> web.StreamResponse:
    """Answer a streaming HTTP request: send the head, then hand the connection over to a session.

    Raises:
        Overloaded: no further streaming connection is accepted.
    """
    variant = Variant(framing, query.view, query.run)
    if (error := refusal(request, runtime, variant)) is not None:
        raise error
    if query.finished:
        return web.Response(status=204, headers=STREAM_HEADERS)
    cursor = await find_start(runtime, query)
    headers = stream_headers(runtime, cursor) | {"Content-Type": media_type}
    if framing.coding is not None:
        headers["Content-Encoding"] = framing.coding.name
    if request.method == "HEAD":
        return web.Response(headers=headers)
    if (error := refusal(request, runtime, variant)) is not None:  # finding the start may have taken a while
        raise error
    response = web.StreamResponse(headers=headers)
    if request.version >= (1, 1):
        response.enable_chunked_encoding()
    await take_over(request, response, Session(runtime.fanout, variant, query, cursor))
