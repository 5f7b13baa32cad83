"""The contract of a transport, and what the streaming ones share: from a request to a session.

A transport is one module that ends in a ``Transport``, and one line in the registry (``transports/__init__.py``). The
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
        kind: ``stream`` (a connection that stays) or ``pull`` (an answer a request).
        media_type: of the answer's body.
        summary: one line for people.
        reads: the kind of reading that its parameters are for (``query.Parameter.on``); empty: by its own kind.
        statuses, refuses: what it answers in /openapi.json: statuses that are no errors, and errors; empty: by its
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
    """The request's parameters.

    Args:
        tables: the route gives ticks as tables, too. All others refuse these formats: who asks for a table and is given
            something else, or waits for a stream's end, learns nothing.

    Raises:
        ParameterError: see ``query.parse_query``; or the format is not for this route.
    """
    query = parse_query(request.query.items(), request.headers.get("Last-Event-ID"))
    if query.format in ("csv", "arrow") and not tables:
        raise ParameterError("format", f"{query.format} is for /range alone; here json and ndjson are accepted")
    return query


def check_run(runtime: Runtime, query: Query) -> None:
    """Refuse a run that is not known.

    Raises:
        NotFound: there is no such run.
    """
    if query.run is not None:
        runtime.bus.run(query.run)


def refusal(request: web.Request, runtime: Runtime, variant: Variant) -> Overloaded | None:
    """Why no streaming connection more is taken; None: one is."""
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
    """Count a reader that is refused since descriptors are scarce; returns its error."""
    runtime.fanout.registry.refuse(runtime.descriptors.shortage)
    return Overloaded("no file descriptor is left for another reader; come back later (ulimit -n of the gateway)")


def live_coding(request: web.Request, runtime: Runtime) -> Coding | None:
    """The content coding of a stream; None: none. Clients that read a single frame of a body get none that has many.

    Raises:
        NotAcceptable: see ``negotiation.choose``.
    """
    return _coding(request, runtime, CODINGS.for_streams(one_frame=first_frame_only(request)))


def first_frame_only(request: web.Request) -> bool:
    """Whether the client is known to read the first zstd frame of an answer alone."""
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
    """Compress an answer that its route left uncoded, for a client that accepts no uncoded one.

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
    """For answers that are never compressed.

    Raises:
        NotAcceptable: the client refuses uncoded answers.
    """
    if refuses_identity(header := header_list(request, "Accept-Encoding")):
        raise NotAcceptable(header, ())


async def find_start(runtime: Runtime, query: Query) -> Cursor:
    """Where a request begins; the disk may have to be asked."""
    return await runtime.feed.starts.find(Cursor.of(query), time.monotonic())


def stream_headers(runtime: Runtime, cursor: Cursor) -> dict[str, str]:
    """The headers of a streamed answer that begins at a cursor: ``Tick-Run`` is the run of its first tick, whatever
    happens until that is written."""
    run = runtime.feed.run_of(cursor)
    return STREAM_HEADERS | ({"Tick-Run": run.id} if run else {})


async def stream(
    request: web.Request,
    runtime: Runtime,
    query: Query,
    framing: BodyFraming,
    media_type: str,
) -> web.StreamResponse:
    """Answer a streaming HTTP request: the head, then a session takes the connection over.

    Raises:
        Overloaded: no streaming connection more is taken.
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
    if (error := refusal(request, runtime, variant)) is not None:  # finding where to begin may have taken a while
        raise error
    response = web.StreamResponse(headers=headers)
    if request.version >= (1, 1):
        response.enable_chunked_encoding()
    await take_over(request, response, Session(runtime.fanout, variant, query, cursor))
