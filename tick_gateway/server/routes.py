"""The table of routes: what is mounted where, and what /openapi.json and the docs say of it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from aiohttp import web

from ..hub import Hub
from ..sources import http, websocket
from ..transports import TRANSPORTS
from ..transports.base import Transport
from . import about, page, pulls, segments

Handler = Callable[[web.Request, Hub], Awaitable[web.StreamResponse]]


@dataclass(frozen=True, slots=True)
class Route:
    """One route.

    ``reads``: it takes the readers' parameters; ``publishes``: it is for publishers alone; ``media_type``: those of its
    answers.
    """

    method: str
    path: str
    handler: Handler
    summary: str
    reads: bool = True
    media_type: str = "application/json"
    publishes: bool = False

    @property
    def open(self) -> bool:
        """Whether web pages of every origin may read it."""
        return not self.publishes


def routes(transports: tuple[Transport, ...] = TRANSPORTS) -> tuple[Route, ...]:
    """Every route of a gateway with these transports."""
    return (
        *(Route("GET", t.path, t.handler, t.summary, True, t.media_type) for t in transports),
        Route(
            "GET",
            "/",
            page.root,
            "a page for browsers, this service's description for JSON, else the NDJSON stream",
            True,
            "text/html, application/json, application/x-ndjson, text/event-stream; charset=utf-8",
        ),
        Route(
            "GET",
            "/stream",
            page.stream,
            "SSE where Accept names text/event-stream, else NDJSON",
            True,
            "application/x-ndjson, text/event-stream; charset=utf-8",
        ),
        Route(
            "GET",
            "/range",
            pulls.range_,
            "the ticks t0 <= t <= t1 of a run",
            True,
            "application/x-ndjson, application/json",
        ),
        Route("GET", "/latest", pulls.latest, "the newest tick"),
        Route("GET", "/ticks/{t}", pulls.tick, "one tick"),
        Route("GET", "/meta", about.meta, "run, first, tip, stored, rate, and the mounted transports"),
        Route("GET", "/runs", about.runs, "every run that can be read"),
        Route("GET", "/segments", segments.segments, "the sealed files of history"),
        Route("GET", "/segments/{run}/{name}", segments.segment, "one of them as it lies", True, "application/zstd"),
        Route("GET", "/healthz", about.healthz, "whether the gateway works", False),
        Route("GET", "/readyz", about.readyz, "whether it takes new connections", False),
        Route("GET", "/metrics", about.metrics, "Prometheus metrics", False, "text/plain"),
        Route("GET", "/openapi.json", about.openapi, "this description", False),
        Route(
            "POST",
            "/publish",
            http.publish,
            "publish ticks: NDJSON, a JSON object or an array",
            False,
            publishes=True,
        ),
        Route(
            "GET",
            "/ws/publish",
            websocket.publish_ws,
            "publish a tick a WebSocket message, acknowledged",
            False,
            publishes=True,
        ),
        Route("POST", "/runs/{run}/end", http.end_run, "end a run", False, publishes=True),
    )
