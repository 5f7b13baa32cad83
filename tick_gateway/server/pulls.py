"""One-shot reads that are no transports: ``/range``, ``/latest``, ``/ticks/{t}``."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Iterator, Sequence

from aiohttp import web

from ..cursor import Span
from ..errors import NotFound, ParameterError
from ..hub import Hub
from ..params import Query, whole
from ..tick import Position
from ..transports.base import query_of
from ..transports.pull import PULL_HEADERS, wants_ndjson
from ..view import Payload, arrays
from ..wire.ndjson import lines


async def range_(request: web.Request, hub: Hub) -> web.StreamResponse:
    """``GET /range``: streamed portion by portion, so that a slow reader keeps nothing alive that memory lets go."""
    query = query_of(request)
    hub.bus.collect()
    run = hub.bus.run(query.run) if query.run or hub.bus.current else None
    spans, gap = hub.feed.range(run.id, query.t0, query.t1) if run else ([], None)
    ndjson = wants_ndjson(request, query, default=True)
    headers = PULL_HEADERS | {"Content-Type": "application/x-ndjson" if ndjson else "application/json"}
    if gap is not None:
        headers["Tick-Gap"] = f"after={gap.after};next={gap.next if gap.next is not None else ''}"
    if spans:
        headers["Tick-Run"] = spans[0].batch.run.id
    response = web.StreamResponse(headers=headers)
    await response.prepare(request)
    if request.method == "HEAD":
        return response
    t1 = query.t1 if query.t1 is not None or run is None else run.shown
    try:
        await _send(response, query, _portions(hub, spans, t1), ndjson)
    except _Evicted:
        if request.transport is not None:
            request.transport.abort()  # half sent: a clean end would make the answer look whole
        raise ConnectionResetError from None
    await response.write_eof()
    return response


class _Evicted(Exception):
    """Memory let go of ticks that a reader of /range had still to get."""


def _portions(hub: Hub, spans: list[Span], t1: int | None) -> Iterator[list[Span]]:
    """The spans that were found, and those after them, looked up when their turn comes."""
    while spans:
        run, last = spans[-1].position
        yield spans
        spans, gap = hub.feed.range(run, last + 1, t1)
        if gap is not None:
            raise _Evicted


async def _send(response: web.StreamResponse, query: Query, portions: Iterable[list[Span]], ndjson: bool) -> None:
    left, batch = query.limit, query.view.batch
    pending: list[Payload] = []
    separator = b"" if ndjson else b"["

    async def write(messages: Sequence[Payload]) -> None:
        nonlocal separator
        if messages:
            await response.write(lines(messages) if ndjson else separator + b",".join([m.data for m in messages]))
            separator = b","
        await asyncio.sleep(0)  # others have their turn, however fast this one reads

    for spans in portions:
        for span in spans:
            some = query.view.render(span.batch.run.id, span.ticks, left)
            pending += some
            left = None if left is None else left - len(some)
        ready = len(pending) - len(pending) % batch if batch else len(pending)
        await write(arrays(pending[:ready], batch))
        pending = pending[ready:]
        if left == 0:
            break
    await write(arrays(pending, batch))
    if not ndjson:
        await response.write(b"[]" if separator == b"[" else b"]")


async def latest(request: web.Request, hub: Hub) -> web.StreamResponse:
    """``GET /latest``: the newest tick that the view lets through."""
    query = query_of(request)
    hub.bus.collect()
    span = hub.feed.newest(query.run, query.view)
    if span is None:
        raise NotFound("no tick of this run passes the view")
    return _one(span, query)


async def tick(request: web.Request, hub: Hub) -> web.StreamResponse:
    """``GET /ticks/{t}``: one tick of the current run, or of ``run``."""
    query = query_of(request)
    hub.bus.collect()
    try:
        t = whole(0)(request.match_info["t"])
    except ValueError as error:
        raise ParameterError("t", str(error)) from None
    spans, _ = hub.feed.range(query.run, t, t)
    if not spans:
        run = hub.bus.run(query.run)
        first = hub.bus.ring.first_of(run)
        raise NotFound(f"tick {t} of run {run.id} cannot be read; first {first}, tip {run.shown}")
    return _one(spans[0], query)


def _one(span: Span, query: Query) -> web.Response:
    run = span.batch.run.id
    view = query.view._replace(every=1, batch=0)
    payload = view.render(run, span.ticks)[0]
    headers = PULL_HEADERS | {
        "Content-Type": "application/json",
        "Tick-Run": run,
        "Tick-Next": str(Position(run, payload.t)),
    }
    return web.Response(body=payload.data, headers=headers)
