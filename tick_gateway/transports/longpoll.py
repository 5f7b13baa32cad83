"""Long-poll: an answer as soon as there is a tick after the position. Every HTTP client and every proxy can do it."""

from __future__ import annotations

import asyncio
import json
import time
from dataclasses import replace
from typing import Final

from aiohttp import web

from ..cursor import Cursor
from ..hub import Hub
from ..params import Query
from ..tick import Position
from ..view import Payload, arrays
from .base import Transport, check_run, query_of
from .pull import Pulled, pull

GATHER_SECONDS: Final = 0.05  # a poll for many ticks waits so long for more of them, where they come fast
_FAST: Final = 0.5  # seconds: a tick within the last so many means that ticks come fast


async def handle(request: web.Request, hub: Hub) -> web.StreamResponse:
    query = query_of(request)
    check_run(hub, query)
    hub.bus.collect()
    now = time.monotonic()
    stop = now + query.timeout
    limit = query.limit or 1
    # A loop on `if (data.t)` would never get past a tick 0, so a bare last_t is never answered with it.
    first = 1 if limit == 1 and isinstance(query.start, int) and query.start >= 0 else 0
    cursor, pulled = Cursor(replace(query, first=True)), Pulled()
    pull(hub, cursor, query.view, limit, now, pulled, first)
    if cursor.deadline is not None:
        cursor.deadline = min(cursor.deadline, stop)
    while not pulled.payloads and not cursor.over and not hub.draining and (now := time.monotonic()) < stop:
        await hub.fanout.wait(min(stop, cursor.deadline or stop) - now)
        hub.bus.collect()
        if limit > 1 and hub.fanout.busy:
            await asyncio.sleep(min(GATHER_SECONDS, max(stop - time.monotonic(), 0)))
            hub.bus.collect()
        pull(hub, cursor, query.view, limit, time.monotonic(), pulled, first)
    return web.Response(
        body=_body(query, limit, pulled, "end" if cursor.over else "timeout"),
        headers=pulled.headers(hub, request, query) | {"Content-Type": "application/json"},
    )


def _body(query: Query, limit: int, pulled: Pulled, status: str) -> bytes:
    """The answer; ticks stand first in it, so that the first ``"t"`` in it is a tick's."""
    tail: dict[str, object] = {"position": str(pulled.position) if pulled.position else None}
    if pulled.gaps:
        tail["gap"] = [{"after": gap.after, "next": gap.next} for gap in pulled.gaps]
    if pulled.reset is not None:
        tail["reset"] = pulled.reset.run
    if not pulled.payloads:
        start = query.start.t if isinstance(query.start, Position) else query.start
        tail = {"status": status, "next_t": start} | tail
        return json.dumps(tail, separators=(",", ":")).encode()
    last = pulled.payloads[-1].t
    tail = {"t": last, "next_t": last + 1} | tail
    rest = json.dumps(tail, separators=(",", ":")).encode()[1:]
    return _head(pulled.payloads, query.view.batch, limit) + b"," + rest


def _head(payloads: list[Payload], batch: int, limit: int) -> bytes:
    if limit == 1:
        return b'{"data":' + payloads[0].data
    return b'{"ticks":[' + b",".join(message.data for message in arrays(payloads, batch)) + b"]"


TRANSPORT = Transport("longpoll", "/poll", handle, "pull", "application/json", "an answer as soon as there is a tick")
