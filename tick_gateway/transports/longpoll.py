"""Long-poll: an answer as soon as there is a tick after the position. It works with any HTTP client and proxy."""

from __future__ import annotations

import json
import time

from aiohttp import web

from ..errors import NotFound, Overloaded, ParameterError
from ..model.query import Query
from ..model.tick import Position
from ..model.view import arrays
from ..reading.cursor import Cursor
from ..runtime import Runtime
from .base import Transport, check_run, descriptors_exhausted, query_of
from .pull import Pull, answer, left


async def handle(request: web.Request, runtime: Runtime) -> web.StreamResponse:
    query = query_of(request)
    check_run(runtime, query)
    runtime.refresh()
    begun = time.monotonic()
    stop = begun + query.timeout
    limit = query.limit or 1
    # A loop on `if (data.t)` would never get past a tick 0, so a bare last_t is never answered with it.
    first = 1 if limit == 1 and isinstance(query.start, int) and query.start >= 0 else 0
    cursor, pulled = Cursor.of(query, oldest=True), Pull(runtime, query.view, limit, first)
    cursor = await pulled.read(cursor, begun)
    if _waits(cursor, pulled) and query.timeout and runtime.descriptors.scarce(request.transport):
        raise descriptors_exhausted(runtime)  # it would hold a connection while it waits, like a stream
    while _waits(cursor, pulled) and not runtime.draining and not left(request, runtime, begun):
        until = stop if cursor.deadline is None else min(stop, begun + runtime.fanout.patience.beyond_tip_seconds)
        if (now := time.monotonic()) >= until:
            break
        seconds = min(until, cursor.deadline or until) - now
        await runtime.fanout.waiters.wait(seconds, gather=limit > 1, left=lambda: left(request, runtime, begun))
        runtime.refresh()
        cursor = await pulled.read(cursor, time.monotonic())
    headers = pulled.headers(request) | {"Content-Type": "application/json"}
    if not pulled.payloads:
        return web.Response(body=_empty(query, pulled, "end" if cursor.over else "timeout"), headers=headers)
    key = ("longpoll", pulled.holds, query.view, limit == 1, pulled.position, tuple(pulled.gaps), pulled.reset)
    return await answer(request, runtime, key, lambda: _body(query, limit, pulled), pulled.size, headers)


def _waits(cursor: Cursor, pulled: Pull) -> bool:
    """Whether the answer has to wait for a tick."""
    return not (pulled.payloads or pulled.full or cursor.over)


def _notices(pulled: Pull) -> dict[str, object]:
    notices: dict[str, object] = {}
    if pulled.gaps:
        notices["gap"] = [{"after": gap.after, "next": gap.next} for gap in pulled.gaps]
    if pulled.reset is not None:
        notices["reset"] = pulled.reset.run
    return notices


def _empty(query: Query, pulled: Pull, status: str) -> bytes:
    """The answer without a tick."""
    start = query.start.t if isinstance(query.start, Position) else query.start
    position = str(pulled.position) if pulled.position else None
    return _compact({"status": status, "next_t": start, "position": position} | _notices(pulled)) + b"\n"


def _body(query: Query, limit: int, pulled: Pull) -> bytes:
    """The answer's body. The ticks come first, so that the first ``"t"`` in it is a tick's."""
    notices = _notices(pulled)
    last = pulled.payloads[-1].t
    rest = b'"t":%d,"next_t":%d,"position":"%s"' % (last, last + 1, str(pulled.position).encode())
    if notices:
        rest += b"," + _compact(notices)[1:-1]
    if limit == 1:
        return b'{"data":%s,%s}\n' % (pulled.payloads[0].data, rest)
    ticks = b",".join([message.data for message in arrays(pulled.payloads, query.view.batch)])
    return b'{"ticks":[%s],%s}\n' % (ticks, rest)


def _compact(value: dict[str, object]) -> bytes:
    return json.dumps(value, separators=(",", ":")).encode()


TRANSPORT = Transport(
    "longpoll",
    "/poll",
    handle,
    "pull",
    "application/json",
    "an answer as soon as there is a tick",
    reads="poll",
    refuses=(ParameterError, NotFound, Overloaded),
)
