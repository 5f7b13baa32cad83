"""What the gateway says of itself: /meta, /runs, /healthz, /readyz, /metrics, /openapi.json."""

from __future__ import annotations

import time
from typing import Any

from aiohttp import web
from prometheus_client import CONTENT_TYPE_LATEST

from ..bus.ring import Run
from ..http.responses import json_reply
from ..runtime import Hub
from ..transports.base import query_of
from ..version import __version__
from .metrics import render
from .openapi import description

_NO_STORE = {"Cache-Control": "no-store"}
MAX_DAMAGE = 20  # sentences about what was found to be damaged
_RATE_SECONDS = 10.0  # the rate in /meta is taken over so long


async def meta(request: web.Request, hub: Hub) -> web.StreamResponse:
    query_of(request)
    hub.refresh()
    run = hub.bus.ring.newest  # as readers have it: what is still on its way to the disk may be taken back by a crash
    stored = hub.feed.archive.stored
    return json_reply(
        {
            "run": run.id if run else None,
            "first": hub.feed.first(run) if run else None,
            "tip": run.shown if run else None,
            "stored": stored.t if stored is not None and run is not None and stored.run == run.id else None,
            "rate": rate(hub),
            "transports": {t.name: t.path for t in request.app[TRANSPORTS_KEY]},
            "connections": len(hub.fanout.crowd.sessions),
            "version": __version__,
        },
        headers=_NO_STORE,
    )


def rate(hub: Hub) -> float:
    """Ticks per second over the last ten seconds, as far back as memory reaches."""
    now_ms = int(time.time() * 1000)
    since = now_ms - int(_RATE_SECONDS * 1000)
    count = 0
    for batch in reversed(hub.bus.ring):
        if batch.ticks[-1].at < since:
            break
        count += len(batch.ticks) if batch.ticks[0].at >= since else sum(tick.at >= since for tick in batch.ticks)
    began = hub.started * 1000
    if count:  # memory may hold ticks of before the start, from history
        began = min(began, hub.bus.ring[0].ticks[0].at)
    lived = min(_RATE_SECONDS, max(now_ms - began, 1) / 1000)
    return round(count / lived, 3)


async def runs(request: web.Request, hub: Hub) -> web.StreamResponse:
    query_of(request)
    hub.refresh()
    known = list(hub.bus.runs.values())  # at once: a publisher may begin another meanwhile
    readable = [(run, first) for run in known if (first := hub.feed.first(run)) is not None]
    return json_reply({"runs": [_run(run, first) for run, first in readable]}, headers=_NO_STORE)


def _run(run: Run, first: int) -> dict[str, object]:
    return {
        "run": run.id, "first": first, "last": run.shown, "count": run.count, "ended": run.over, "started": run.started,
    }  # fmt: skip


async def healthz(request: web.Request, hub: Hub) -> web.StreamResponse:
    """Whether the gateway works. It does while it streams: trouble with history is told, but is no failure of it."""
    body: dict[str, object] = {"status": "ok", "history": "off: ticks are kept in memory alone"}
    if hub.in_place:
        damaged = hub.feed.archive.damaged
        body |= {"history": "read in place, from files of another program", "damaged": damaged}
        body["status"] = "degraded" if damaged else "ok"
    if hub.store is not None:
        keeper, damaged = hub.store.keeper, hub.feed.archive.damaged
        damage = hub.store.damage + hub.feed.archive.damage
        body["history"] = "ok" if keeper.state == "ok" else f"{keeper.state}: {keeper.reason}"
        if keeper.state != "ok" or damage:
            body["status"] = "degraded"
        body |= {"unstored": keeper.unstored, "damaged": damaged, "damage": damage[:MAX_DAMAGE]}
    if hub.tailing:
        body["unread"] = hub.unread._asdict()
        body["status"] = "degraded" if hub.unread.files else body["status"]
    return json_reply(body | {"dropped": hub.bus.dropped, "passed_over": hub.passed_over}, headers=_NO_STORE)


async def readyz(request: web.Request, hub: Hub) -> web.StreamResponse:
    ready = not hub.draining
    body = {"ready": ready} | ({} if ready else {"reason": "shutting down"})
    return json_reply(body, status=200 if ready else 503, headers=_NO_STORE)


async def metrics(request: web.Request, hub: Hub) -> web.StreamResponse:
    return web.Response(body=render(hub), headers=_NO_STORE | {"Content-Type": CONTENT_TYPE_LATEST})


async def openapi(request: web.Request, hub: Hub) -> web.StreamResponse:
    base = request.headers.get(request.app.get(BASE_KEY, ""), request.path.removesuffix("/openapi.json"))
    told = description(request.app[ROUTES_KEY], base, token=bool(hub.settings.publish_token))
    return json_reply(told, headers=_NO_STORE)


TRANSPORTS_KEY: web.AppKey[Any] = web.AppKey("tick_gateway.transports", object)
BASE_KEY: web.AppKey[str] = web.AppKey("tick_gateway.base", str)
"""The header in which whoever hands requests on says the address that they were made at; absent: nobody does."""
ROUTES_KEY: web.AppKey[Any] = web.AppKey("tick_gateway.routes", object)
