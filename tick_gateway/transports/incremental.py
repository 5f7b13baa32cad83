"""Incremental: the ticks after a position in one answer, immediately. The client decides when to come back."""

from __future__ import annotations

import time

from aiohttp import web

from ..reading.cursor import Cursor
from ..runtime import Runtime
from .base import Transport, check_run, query_of
from .pull import Pull, answer, body, left, wants_ndjson

DEFAULT_LIMIT = 1000


async def handle(request: web.Request, runtime: Runtime) -> web.StreamResponse:
    query = query_of(request)
    check_run(runtime, query)
    ndjson = wants_ndjson(request, query, default=False)
    runtime.refresh()
    cursor = Cursor.of(query, oldest=True)
    pulled = Pull(runtime, query.view, query.limit or DEFAULT_LIMIT)
    begun = time.monotonic()
    stop = begun + runtime.fanout.patience.beyond_tip_seconds
    cursor = await pulled.read(cursor, begun)
    while cursor.deadline is not None and not runtime.draining and not left(request, runtime, begun):
        if (now := time.monotonic()) >= stop:  # the tip may still come
            break
        await runtime.fanout.waiters.wait(min(cursor.deadline, stop) - now, left=lambda: left(request, runtime, begun))
        cursor = await pulled.read(cursor, time.monotonic())
    headers = pulled.headers(request)
    headers["Content-Type"] = "application/x-ndjson" if ndjson else "application/json"
    key = ("incremental", pulled.holds, query.view, ndjson)
    return await answer(request, runtime, key, lambda: body(pulled.payloads, query.view, ndjson), pulled.size, headers)


TRANSPORT = Transport(
    "incremental", "/incremental", handle, "pull", "application/json", "the ticks after a position, as a JSON array"
)
