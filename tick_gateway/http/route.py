"""A route: where a handler is mounted, and its description."""

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
        name: the id of its operation in /openapi.json.
        reads: its kind of reading (``query.Parameter.on``), whose parameters have a meaning, while all others are
            parsed and ignored; empty: it reads no parameters.
        media_type: of its answers, comma-separated.
        schema: of its JSON answer, in ``SCHEMAS``; empty: not described.
        statuses: of its answers that are not errors.
        refuses: its errors beside those that every route has.
        takes: request headers that it reads; ``headers``: headers of its answers.
        body: the forms of a request's body, by media type.
        publishes: it is only for publishers, and not open to web pages of other origins.
        stream: its answer does not end.
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
        """Whether web pages of any origin may read it."""
        return not self.publishes
