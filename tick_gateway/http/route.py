"""A route: where a handler is mounted, and what is told of it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

from aiohttp import web

from ..errors import GatewayError
from ..runtime import Runtime

Handler = Callable[[web.Request, Runtime], Awaitable[web.StreamResponse]]


@dataclass(frozen=True, slots=True)
class Route:
    """One route.

    Attributes:
        name: of its operation in /openapi.json.
        reads: the kind of reading that it is (``query.Parameter.on``): those of its parameters have a meaning, all
            others are parsed and ignored; empty: it looks at none.
        media_type: those of its answers, comma-separated.
        schema: of its JSON answer, among ``SCHEMAS``; empty: not told.
        statuses: those that it gives beside errors.
        refuses: the errors that it gives beside those that every route does.
        takes: headers that it reads; ``headers``: those that it answers with.
        body: the forms of a request's body, by media type.
        publishes: it is for publishers alone, and not open to web pages of other origins.
        stream: its answer goes on.
        websocket: it is an opening handshake.
        linked: the service's description links to it.
    """

    method: str
    path: str
    handler: Handler
    name: str
    summary: str
    reads: str = ""
    media_type: str = "application/json"
    schema: str = ""
    statuses: tuple[int, ...] = (200,)
    refuses: tuple[type[GatewayError], ...] = ()
    takes: tuple[str, ...] = ()
    headers: tuple[str, ...] = ()
    body: dict[str, Any] | None = None
    publishes: bool = False
    stream: bool = False
    websocket: bool = False
    linked: bool = False

    @property
    def open(self) -> bool:
        """Whether web pages of every origin may read it."""
        return not self.publishes
