"""The table of routes: what is mounted where, and what /openapi.json and the docs say of it."""

from __future__ import annotations

from typing import Final

from ..errors import Damaged, NotFound, Overloaded, ParameterError, TooManyViews
from ..http.route import Handler, Route
from ..sources import SOURCES
from ..transports import TRANSPORTS, sse
from ..transports.base import Transport
from . import one_shot_reads as reads
from . import root, segments, status
from .ranges import MEDIA_TYPES

_READ: Final = (ParameterError, NotFound)
_FULL: Final = (*_READ, Overloaded, TooManyViews)
_PULLED: Final = ("Tick-Run", "Tick-Next", "Tick-Gap", "Tick-Reset", "Link")
_SSE_TYPE: Final = sse.MEDIA_TYPE


def routes(transports: tuple[Transport, ...] = TRANSPORTS) -> tuple[Route, ...]:
    """Every route of a gateway with these transports."""
    of_sources = [route for source in SOURCES for route in source.routes]
    return (*map(_of_transport, transports), *_FIXED, *of_sources)


def _of_transport(t: Transport) -> Route:
    streams = t.kind == "stream"
    return Route(
        "GET",
        t.path,
        t.handler,
        f"read_{t.name}".replace("-", "_"),
        t.summary,
        reads=t.reads or ("stream" if streams else "incremental"),
        media_type=t.media_type,
        schema="" if streams else "Poll" if t.reads == "poll" else "Ticks",
        statuses=t.statuses or ((200, 204) if streams else (200,)),
        refuses=t.refuses or (_FULL if streams else _READ),
        takes=("Last-Event-ID",),
        headers=("Tick-Run",) if streams else _PULLED,
        stream=streams,
        websocket=t.statuses == (101,),
    )


def _of_a_stream(path: str, handler: Handler, name: str, summary: str, media_type: str, schema: str = "") -> Route:
    """One that chooses between transports by what a request accepts."""
    return Route(
        "GET", path, handler, name, summary, reads="sse", media_type=media_type, schema=schema, statuses=(200, 204),
        refuses=_FULL, takes=("Last-Event-ID",), headers=("Tick-Run",), stream=True,
    )  # fmt: skip


_FIXED: Final = (
    _of_a_stream(
        "/",
        root.root,
        "root",
        "a page for browsers, this service's description for JSON, else the NDJSON stream",
        f"text/html, application/json, application/x-ndjson, {_SSE_TYPE}",
        "Service",
    ),
    _of_a_stream(
        "/stream",
        root.stream,
        "stream",
        "SSE where Accept names text/event-stream, else NDJSON",
        f"application/x-ndjson, {_SSE_TYPE}",
    ),
    Route(
        "GET",
        "/range",
        reads.range_,
        "range",
        "the ticks t0 <= t <= t1 of a run",
        reads="range",
        media_type=", ".join(MEDIA_TYPES.values()),
        schema="Ticks",
        statuses=(200, 206, 304, 416),
        refuses=_READ,
        takes=("If-None-Match", "Range"),
        headers=("Tick-Run", "Tick-Gap", "ETag"),
        linked=True,
    ),
    Route(
        "GET",
        "/latest",
        reads.latest,
        "latest",
        "the newest tick",
        reads="latest",
        schema="Tick",
        refuses=_READ,
        headers=("Tick-Run", "Tick-Next"),
        linked=True,
    ),
    Route(
        "GET",
        "/ticks/{t}",
        reads.tick,
        "tick",
        "one tick",
        reads="tick",
        schema="Tick",
        statuses=(200, 304),
        refuses=_READ,
        takes=("If-None-Match",),
        headers=("Tick-Run", "Tick-Next", "ETag"),
    ),
    Route(
        "GET",
        "/meta",
        status.meta,
        "meta",
        "run, first, tip, stored, rate, and the mounted transports",
        reads="meta",
        schema="Meta",
        refuses=(ParameterError,),
        linked=True,
    ),
    Route(
        "GET",
        "/runs",
        status.runs,
        "runs",
        "every run that can be read",
        reads="meta",
        schema="Runs",
        refuses=(ParameterError,),
        linked=True,
    ),
    Route(
        "GET",
        "/segments",
        segments.segments,
        "segments",
        "the files of history",
        reads="segments",
        schema="Segments",
        refuses=_READ,
    ),
    Route(
        "GET",
        "/segments/{run}/{name}",
        segments.segment,
        "segment",
        "one of them as it lies",
        reads="meta",
        media_type="application/zstd",
        statuses=(200, 206, 304, 416),
        refuses=(*_READ, Damaged),
        takes=("If-None-Match", "Range"),
        headers=("Tick-Gap", "ETag"),
    ),
    Route("GET", "/healthz", status.healthz, "healthz", "whether the gateway works", schema="Health"),
    Route(
        "GET",
        "/readyz",
        status.readyz,
        "readyz",
        "whether it takes new connections",
        schema="Ready",
        statuses=(200, 503),
    ),
    Route("GET", "/metrics", status.metrics, "metrics", "Prometheus metrics", media_type="text/plain"),
    Route("GET", "/openapi.json", status.openapi, "openapi", "this description", schema="OpenAPI", linked=True),
)
