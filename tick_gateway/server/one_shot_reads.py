"""One-shot reads that are not transports: ``/range``, ``/latest``, ``/ticks/{t}``."""

from __future__ import annotations

import hashlib
import time

from aiohttp import web

from ..bus.ring import Batch, Run
from ..errors import NotFound, ParameterError
from ..http.negotiation import choose, matches_etag
from ..http.responses import header_list
from ..model.query import Query, whole
from ..model.tick import Position, PublishedTick
from ..reading.cursor import Cursor, Span
from ..reading.waiting import load_batches, until_done
from ..runtime import Runtime
from ..transports import pull
from ..transports.base import first_frame_only, pull_coding, query_of
from ..transports.pull import PULL_HEADERS, gap_header, wants_ndjson
from ..wire.codings import CODINGS
from ..wire.compression import Coding, ZstdCoding
from .body_index import BodyIndex, BodyIndexCache, measure
from .byte_ranges import IMMUTABLE, ByteRange, answer, answer_part
from .range_body import BodyWriter, send, send_part
from .ranges import MEDIA_TYPES, Range, Vanished, find_columns, lower_bound
from .tables import TABLE_FORMATS, empty_table, require_library

_OF_A_304 = {"ETag", "Cache-Control", "Vary", "Tick-Run", "Tick-Next"}  # RFC 9110, section 15.4.5, and our own
BODY_INDEXES_KEY = web.AppKey("tick_gateway.body_indexes", BodyIndexCache)


async def range_(request: web.Request, runtime: Runtime) -> web.StreamResponse:
    """``GET /range``: streamed in portions, so that a slow reader keeps no ticks alive that memory has evicted."""
    while True:
        try:
            return await _range(request, runtime)
        except Vanished:  # before the first byte: damage that was found is now reported as a gap
            continue


async def _range(request: web.Request, runtime: Runtime) -> web.StreamResponse:
    """Raises Vanished if ticks are gone that existed when the range was planned, and nothing was sent yet."""
    query = query_of(request, tables=True)
    runtime.refresh()
    format = query.format or ("ndjson" if wants_ndjson(request, query, default=True) else "json")
    require_library(format)
    headers = PULL_HEADERS | {"Content-Type": MEDIA_TYPES[format]}
    if _run_name(query) is None and runtime.bus.ring.newest is None:
        nothing = empty_table(format, query.view) if format in TABLE_FORMATS else b"[]" if format == "json" else b""
        return web.Response(body=nothing, headers=headers)
    run = runtime.bus.run(_run_name(query))
    # Stored blocks are already compressed, whatever the setting.
    wants_zstd = choose(header_list(request, "Accept-Encoding"), CODINGS.for_pulls()) == ZstdCoding.name
    # They are many frames. A client that names a format gets one.
    private = first_frame_only(request)
    wants_zstd = wants_zstd and query.format is None and not private
    low = await lower_bound(runtime.feed, run, query)
    wanted = Range(runtime, run, query, low, zstd=wants_zstd, format=format)
    headers["Tick-Run"] = run.id
    coding = None if wanted.zstd else pull_coding(request, runtime)
    if name := ZstdCoding.name if wanted.zstd else _coding_name(coding):
        headers["Content-Encoding"] = name
    if wanted.gaps:
        headers["Tick-Gap"] = gap_header(wanted.gaps)
    elif query.run is not None and query.t1 is not None and _stored(runtime, run, query.t1):
        what = f"{low} {wanted.high} {query.t1} {query.view} {query.limit} {format} {name} {wanted.zstd}"
        if (fresh := _immutable(request, run, what, headers, weak=bool(name), private=private)) is not None:
            return fresh
        by_parts = request.method == "HEAD" or "Range" in request.headers
        if coding is None and (by_parts or not wanted.long or headers["ETag"] in request.app[BODY_INDEXES_KEY]):
            indexes = request.app[BODY_INDEXES_KEY]
            index = await (indexes.get(headers["ETag"], wanted, runtime.workers) if wanted.settled else measure(wanted))
            return await _answer_of_known_length(request, runtime, wanted, index, headers)
    await find_columns(wanted)
    response = web.StreamResponse(headers=headers)
    return await answer(request, response, lambda: send(BodyWriter(response, runtime.workers, coding), wanted))


async def _answer_of_known_length(
    request: web.Request, runtime: Runtime, wanted: Range, index: BodyIndex, headers: dict[str, str]
) -> web.StreamResponse:
    """A range that never changes: it has a ``Content-Length``, and supports range requests unless it is compressed for
    this answer, since compressed bytes may differ the next time."""
    if wanted.zstd:
        response = web.StreamResponse(headers=headers)
        response.content_length = index.size
        return await answer(request, response, lambda: send(BodyWriter(response, runtime.workers), wanted, index.size))

    async def write(response: web.StreamResponse, part: ByteRange) -> None:
        await send_part(BodyWriter(response, runtime.workers), wanted, index, part)

    return await answer_part(request, index.size, headers, write)


def _run_name(query: Query) -> str | None:
    """The run of a one-shot read; None: the current one."""
    return query.start.run if isinstance(query.start, Position) else query.run


def _coding_name(coding: Coding | None) -> str:
    return coding.name if coding is not None else ""


def _stored(runtime: Runtime, run: Run, t: int) -> bool:
    """Whether nothing up to ``t`` can change: it is stored, and no tick can be added below it."""
    history = runtime.feed.archive.histories.get(run.id)
    return (
        history is not None
        and history.last is not None
        and (t <= history.last or (run.over and history.last >= run.shown))
    )


def _immutable(
    request: web.Request,
    run: Run,
    name: str,
    headers: dict[str, str],
    *,
    weak: bool = False,
    private: bool = False,
) -> web.Response | None:
    """Mark an answer that never changes; returns a 304 if the client already has it. ``private``: it is made for this
    kind of client only, so shared caches must not keep it."""
    digest = hashlib.sha256(f"{run.id} {run.started} {name}".encode()).hexdigest()[:24]
    headers |= {"ETag": f'{"W/" if weak else ""}"{digest}"', "Cache-Control": IMMUTABLE}
    if private:
        headers["Cache-Control"] = IMMUTABLE.replace("public", "private")
    if matches_etag(header_list(request, "If-None-Match"), digest):
        return web.Response(status=304, headers={key: value for key, value in headers.items() if key in _OF_A_304})
    return None


async def latest(request: web.Request, runtime: Runtime) -> web.StreamResponse:
    """``GET /latest``: the newest tick that passes the view, if it is after the client's position (``from_t``) and was
    received at or after ``since``."""
    query = query_of(request)
    runtime.refresh()
    run = runtime.bus.run(_run_name(query))
    now, load = time.monotonic(), None
    cursor = await runtime.feed.starts.find(Cursor.of(Query(tail=1, view=query.view, run=run.id)), now)
    while True:
        portion = runtime.feed.read(cursor, now, 1, load=load, pull=True)
        cursor, load = portion.cursor, portion.load
        for item in portion.items:
            for one in item.ticks if isinstance(item, Span) else ():
                if query.view.passes(one.t) and _is_new(query, one):
                    return await _answer_tick(request, runtime, run, one, query, _headers_of(run, one))
        if load is not None and portion.waits:
            await until_done(load)
        elif not portion.items:
            raise NotFound(f"no tick of run {run.id} passes the view and lies behind what the request names")


def _is_new(query: Query, one: PublishedTick) -> bool:
    """Whether a tick is new to the client."""
    after = query.start.t if isinstance(query.start, Position) else query.start
    return (after is None or one.t > after) and (query.since is None or one.at >= query.since) and query.tail != 0


async def tick(request: web.Request, runtime: Runtime) -> web.StreamResponse:
    """``GET /ticks/{t}``: one tick of the current run, or of ``run``."""
    query = query_of(request)
    runtime.refresh()
    try:
        t = whole(0)(request.match_info["t"])
    except ValueError as error:
        raise ParameterError("t", str(error)) from None
    run = runtime.bus.run(query.run)
    found = await _find(runtime, run, t)
    if found is None:
        raise NotFound(f"tick {t} of run {run.id} cannot be read; first {runtime.feed.first(run)}, tip {run.shown}")
    headers = _headers_of(run, found)
    if query.run is not None and _stored(runtime, run, t):
        name = _coding_name(pull_coding(request, runtime))
        fresh = _immutable(request, run, f"{t} {query.view} {name}", headers, weak=bool(name))
        if fresh is not None:
            return fresh
    return await _answer_tick(request, runtime, run, found, query, headers)


async def _find(runtime: Runtime, run: Run, t: int) -> PublishedTick | None:
    while (extent := runtime.feed.next(run, t - 1, high=t)) is not None:
        batches = await load_batches(runtime.feed.archive, extent)
        if batches is not None:
            return next((one for batch in batches if (one := _find_in(batch, t)) is not None), None)
    return None


def _find_in(batch: Batch, t: int) -> PublishedTick | None:
    index = batch.index_after(t - 1)
    return batch.ticks[index] if index < len(batch.ticks) and batch.ticks[index].t == t else None


def _headers_of(run: Run, one: PublishedTick) -> dict[str, str]:
    own = {"Content-Type": "application/json", "Tick-Run": run.id, "Tick-Next": str(Position(run.id, one.t))}
    return PULL_HEADERS | own


async def _answer_tick(
    request: web.Request, runtime: Runtime, run: Run, one: PublishedTick, query: Query, headers: dict[str, str]
) -> web.StreamResponse:
    view = query.view._replace(every=1, batch=0)
    return await pull.answer(
        request,
        runtime,
        ("tick", run.id, run.started, one.t, view),
        lambda: view.render(run.id, [one])[0].data,
        len(one.data),
        headers,
    )
