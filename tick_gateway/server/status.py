"""The gateway's own state: /meta, /runs, /healthz, /readyz, /metrics, /openapi.json."""

from __future__ import annotations

import time
from typing import Any

from aiohttp import web
from prometheus_client import CONTENT_TYPE_LATEST

from ..bus.ring import Run
from ..http.responses import json_reply
from ..runtime import Runtime
from ..transports.base import query_of
from ..version import __version__
from .metrics import render
from .openapi import description

_NO_STORE = {"Cache-Control": "no-store"}
_RATE_SECONDS = 10.0  # the period of the rate in /meta


async def meta(request: web.Request, runtime: Runtime) -> web.StreamResponse:
    query_of(request)
    runtime.refresh()
    run = runtime.bus.ring.newest  # as readers have it: ticks not stored yet may be lost in a crash
    stored = runtime.feed.archive.stored
    return json_reply(
        {
            "run": run.id if run else None,
            "first": runtime.feed.first(run) if run else None,
            "tip": run.shown if run else None,
            "stored": stored.t if stored is not None and run is not None and stored.run == run.id else None,
            "rate": rate(runtime),
            "transports": {t.name: t.path for t in request.app[TRANSPORTS_KEY]},
            "connections": len(runtime.fanout.registry.sessions),
            "version": __version__,
        },
        headers=_NO_STORE,
    )


def rate(runtime: Runtime) -> float:
    """Ticks per second over the last ten seconds, as far as memory reaches back."""
    now_ms = int(time.time() * 1000)
    since = now_ms - int(_RATE_SECONDS * 1000)
    count = 0
    for batch in reversed(runtime.bus.ring):
        if batch.ticks[-1].at < since:
            break
        count += len(batch.ticks) if batch.ticks[0].at >= since else sum(tick.at >= since for tick in batch.ticks)
    began = runtime.started * 1000
    if count:  # memory may hold older ticks, from history
        began = min(began, runtime.bus.ring[0].ticks[0].at)
    lived = min(_RATE_SECONDS, max(now_ms - began, 1) / 1000)
    return round(count / lived, 3)


async def runs(request: web.Request, runtime: Runtime) -> web.StreamResponse:
    query_of(request)
    runtime.refresh()
    known = list(runtime.bus.runs.values())  # a copy, since publishers may add runs meanwhile
    readable = [(run, first) for run in known if (first := runtime.feed.first(run)) is not None]
    return json_reply({"runs": [_run(run, first) for run, first in readable]}, headers=_NO_STORE)


def _run(run: Run, first: int) -> dict[str, object]:
    return {
        "run": run.id, "first": first, "last": run.shown, "count": run.count, "ended": run.over, "started": run.started,
    }  # fmt: skip


async def healthz(request: web.Request, runtime: Runtime) -> web.StreamResponse:
    """Whether the gateway works, that is, streams; trouble with history is reported, but does not count as failure."""
    told, source = runtime.history.status(), runtime.source
    unread = source.unread if source is not None else None
    degraded = told.degraded or (unread is not None and unread.files > 0)
    body = {"status": "degraded" if degraded else "ok", "history": told.history, **told.details}
    if unread is not None:
        body["unread"] = unread._asdict()
    body |= {"dropped": runtime.bus.dropped, "passed_over": source.skipped if source is not None else 0}
    return json_reply(body, headers=_NO_STORE)


async def readyz(request: web.Request, runtime: Runtime) -> web.StreamResponse:
    ready = not runtime.draining
    body = {"ready": ready} | ({} if ready else {"reason": "shutting down"})
    return json_reply(body, status=200 if ready else 503, headers=_NO_STORE)


async def metrics(request: web.Request, runtime: Runtime) -> web.StreamResponse:
    return web.Response(body=render(runtime), headers=_NO_STORE | {"Content-Type": CONTENT_TYPE_LATEST})


async def openapi(request: web.Request, runtime: Runtime) -> web.StreamResponse:
    base = request.headers.get(request.app.get(BASE_KEY, ""), request.path.removesuffix("/openapi.json"))
    told = description(request.app[ROUTES_KEY], base, token=bool(runtime.settings.publish_token))
    return json_reply(told, headers=_NO_STORE)


TRANSPORTS_KEY: web.AppKey[Any] = web.AppKey("tick_gateway.transports", object)
BASE_KEY: web.AppKey[str] = web.AppKey("tick_gateway.base", str)
"""The header in which whoever hands requests on says the address that they were made at; absent: nobody does."""
ROUTES_KEY: web.AppKey[Any] = web.AppKey("tick_gateway.routes", object)
