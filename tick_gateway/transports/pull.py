"""What the pulls share: read after a position into one answer, and say beside it what was skipped.

A pull never crosses a run: an answer holds ticks and gaps of one run, and tells of one change of run at most, before
them or behind them. Where an older run ends, the answer ends, and the next one begins with the run after it.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Hashable, Iterable
from dataclasses import dataclass, field
from typing import Final
from urllib.parse import urlencode

from aiohttp import web

from ..delivery.unsent import Sending, Unsent
from ..http.responses import header_list
from ..model.notices import End, Gap, Reset
from ..model.query import START_PARAMETERS, Query
from ..model.tick import Position
from ..model.view import Payload, View, arrays
from ..reading.cursor import Cursor, Item, Span
from ..reading.waiting import until_done
from ..runtime import Runtime
from ..wire.ndjson import lines
from .base import pull_coding

PULL_HEADERS: Final = {"Cache-Control": "no-store", "Vary": "Accept, Accept-Encoding"}
_PORTION: Final = 128 << 10  # bytes of a body that go to the transport at once
PULL_BYTES: Final = 8 << 20  # an answer ends here, whatever its limit


@dataclass(slots=True)
class Pulled:
    """What one pull found.

    Attributes:
        run, started: the run that the payloads and gaps belong to, and when it began: a name may come again.
        position: what the client sends next; None before the first tick ever.
        gaps, reset: what was skipped; and a change of run: to ``run``, before all else, or to another one behind it.
        full: nothing more belongs into this answer, though it may have no payloads.
    """

    run: str | None = None
    started: int | None = None
    payloads: list[Payload] = field(default_factory=list)
    position: Position | None = None
    gaps: list[Gap] = field(default_factory=list)
    reset: Reset | None = None
    full: bool = False

    def headers(self, runtime: Runtime, request: web.Request, query: Query) -> dict[str, str]:
        headers = dict(PULL_HEADERS)
        if self.run is not None:
            headers["Tick-Run"] = self.run
        if self.position is not None:
            headers["Tick-Next"] = str(self.position)
            rest = [(key, value) for key, value in request.query.items() if key not in START_PARAMETERS]
            more = f"&{urlencode(rest)}" if rest else ""
            # Relative to the request, so that it holds behind a proxy that takes a prefix off the path.
            headers["Link"] = f'<?from_t={self.position}{more}>; rel="next"'
        if self.gaps:
            headers["Tick-Gap"] = gap_header(self.gaps)
        if self.reset is not None:
            headers["Tick-Reset"] = self.reset.run
        return headers

    @property
    def holds(self) -> Hashable:
        """What the payloads are; equal ones of equal views have equal bytes."""
        if not self.payloads:
            return None
        return self.run, self.started, len(self.payloads), self.payloads[0].t, self.payloads[-1].t

    @property
    def size(self) -> int:
        """Bytes of the payloads."""
        return sum(len(payload.data) for payload in self.payloads)


async def answer(
    request: web.Request, runtime: Runtime, key: Hashable, make: Callable[[], bytes], size: int, headers: dict[str, str]
) -> web.StreamResponse:
    """An answer whose body is made, and compressed as it was asked for, once for all who get the same one.

    Args:
        key: what the body holds and how; equal ones have equal bodies.
        size: bytes of the body, about.

    Raises:
        NotAcceptable: see ``negotiation.choose``.
    """
    wanted = pull_coding(request, runtime)
    body, coding = await runtime.response_cache.get(key, make, wanted, size)
    if coding:
        headers = headers | {"Content-Encoding": coding}
    if len(body) <= _PORTION or request.method == "HEAD":
        return web.Response(body=body, headers=headers)
    return await _send(request, runtime.response_cache.unsent, (key, wanted) if coding else key, body, headers)


async def _send(
    request: web.Request, unsent: Unsent, key: Hashable, body: bytes, headers: dict[str, str]
) -> web.StreamResponse:
    """Send a large body in portions, so that a client that does not read holds no copy of its own.

    A client that is gone is no error here, and this frame lets go of the body: aiohttp keeps the error and the frames
    in it until the collector comes.
    """
    response = web.StreamResponse(headers=headers)
    response.content_length = len(body)
    sending = Sending(lambda: cut(request), time.monotonic())
    unsent.add(key, body, sending)
    try:
        await response.prepare(request)
        for begin in range(0, len(body), _PORTION):
            await response.write(body[begin : begin + _PORTION])
            sending.taken = begin
    except ConnectionError:
        cut(request)
    finally:
        unsent.remove(key, sending)
        body = b""
    return response


def cut(request: web.Request) -> None:
    """End a request's connection at once, and what was not sent with it."""
    if request.transport is not None:
        request.transport.abort()


def left(request: web.Request, runtime: Runtime, begun: float) -> bool:
    """Whether the client is gone, or may be: one that has ended its side of the connection cannot be told from it,
    and waits no longer than ``Patience.half_closed_seconds``."""
    if request.transport is None:
        return True
    half_closed = getattr(request.protocol, "half_closed", False)  # a server of somebody else's closes it at once
    return half_closed and time.monotonic() - begun >= runtime.fanout.patience.half_closed_seconds


def gap_header(gaps: Iterable[Gap]) -> str:
    """The value of the header ``Tick-Gap``."""
    return ", ".join(f"after={gap.after};next={gap.next if gap.next is not None else ''}" for gap in gaps)


async def pull(
    runtime: Runtime, cursor: Cursor, view: View, limit: int, now: float, pulled: Pulled, first: int = 0
) -> Cursor:
    """Read on from a cursor, into ``pulled``: up to ``limit`` ticks with t >= ``first``, to the end of a run at most;
    returns the cursor behind what was read."""
    size, load, most = 0, None, PULL_BYTES // 8 if view.fields else PULL_BYTES  # a projection parses what it reads
    while len(pulled.payloads) < limit and size < most and not cursor.over:
        cursor = await runtime.feed.starts.find(cursor, now)
        portion = runtime.feed.read(cursor, now, 1, load=load, pull=True)
        cursor, load = portion.cursor, portion.load
        if not portion.items and load is not None and portion.waits:
            await until_done(load)
            continue
        if not portion.items:
            if cursor.query is not None and not runtime.feed.empty:
                continue  # the tip did not come: it begins anew
            break
        rest = deque(portion.items)
        while rest:
            item = rest.popleft()
            if isinstance(item, Reset) and (pulled.payloads or pulled.gaps or pulled.reset is not None):
                _end_before(item, pulled)
                return cursor
            try:
                size += _take(runtime, item, view, limit, first, pulled)
            except Exception:
                parts = _servable(runtime, item, view)
                if parts == [item]:
                    raise
                rest.extendleft(reversed(parts))
                continue
            pulled.position = item.position
            if len(pulled.payloads) >= limit:
                pulled.position = Position(item.position.run, pulled.payloads[-1].t)
                break
        else:
            pulled.position = cursor.position  # which may be farther on than the last notice says
    if cursor.query is not None:  # nothing was published yet: the position waits
        pulled.position = cursor.query.start if isinstance(cursor.query.start, Position) else None
    elif pulled.position is None and cursor.position is not None and cursor.not_before is None:
        pulled.position = cursor.position
        pulled.run = cursor.position.run
    _cross(runtime, cursor, pulled)
    return cursor


def _end_before(reset: Reset, pulled: Pulled) -> None:
    """End an answer at a change of run; where it tells of one already, the next answer tells of this."""
    pulled.full = True
    if pulled.reset is None:
        pulled.reset, pulled.position = reset, reset.position
    elif pulled.gaps and pulled.gaps[-1].next is None:
        pulled.position = pulled.gaps.pop().position  # the next one tells of the lost end, too: it comes just before


def _servable(runtime: Runtime, item: Item, view: View) -> list[Item]:
    """What of it can be shown, and gaps for the rest: no client is to ask for the same again for ever."""
    encoder = runtime.fanout.encoder
    parts = encoder.servable(view, [item], lambda span: encoder.payloads(view, span))
    return [part for part in parts if not isinstance(part, End)]


def _take(runtime: Runtime, item: Item, view: View, limit: int, first: int, pulled: Pulled) -> int:
    pulled.run = item.position.run
    if isinstance(item, Gap):
        pulled.gaps.append(item)
    elif isinstance(item, Reset):
        pulled.reset = item
    elif isinstance(item, Span):
        begin = max(item.begin, item.batch.index_after(first - 1))
        span = Span(item.batch, begin, item.end)
        pulled.started = item.batch.run.started
        some = runtime.fanout.encoder.payloads(view, span, limit - len(pulled.payloads)) if begin < item.end else []
        pulled.payloads += some
        # By what was read, not by what is left of it: a view costs as much as it reads.
        return sum(len(tick.data) for tick in span.ticks[: len(some)]) if view.every == 1 else item.batch.size
    return 0


def _cross(runtime: Runtime, cursor: Cursor, pulled: Pulled) -> None:
    """At the end of an older run, send the client on to the next one."""
    position = pulled.position
    run = runtime.bus.runs.get(position.run) if position else None
    if (
        run is None
        or position is None
        or cursor.until_run is not None
        or cursor.deadline is not None
        or not pulled.payloads
        or pulled.reset is not None
    ):
        return
    if run.following is not None and position.t >= run.shown:
        if run.lost_tail:
            pulled.gaps.append(Gap(run.id, run.shown, None))
        pulled.reset = Reset(run.following.id, run.id, cursor.complete)
        pulled.position = pulled.reset.position


def wants_ndjson(request: web.Request, query: Query, default: bool) -> bool:
    """Whether the body is NDJSON (else a JSON array): ``format``, else the first of the two that Accept names, else
    the default.
    """
    if query.format is not None:
        return query.format == "ndjson"
    accept = header_list(request, "Accept").lower()
    found = [
        (accept.find(name), ndjson)
        for name, ndjson in (("ndjson", True), ("application/json", False))
        if name in accept
    ]
    return min(found)[1] if found else default


def body(payloads: list[Payload], view: View, ndjson: bool) -> bytes:
    """Payloads as lines or as one JSON array; ``batch`` makes arrays of them in either."""
    messages = arrays(payloads, view.batch)
    return lines(messages) if ndjson else b"[" + b",".join(m.data for m in messages) + b"]"
