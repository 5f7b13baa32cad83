"""The common part of pulls: reads after a position into one answer, with what was skipped in its headers.

A pull never crosses a run: an answer has ticks and gaps of one run, and reports at most one change of run, before them
or after them. Where an older run ends, the answer ends, and the next one begins with the following run.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Hashable, Iterable
from typing import Final
from urllib.parse import urlencode

from aiohttp import web

from ..delivery.unsent import Sending, Unsent
from ..http.connection import Connection
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
_PORTION: Final = 128 << 10  # bytes of a body passed to the transport at once
PULL_BYTES: Final = 8 << 20  # maximum bytes of an answer, whatever its limit


class Pull:
    """One answer: its content so far, and reading more into it.

    Args:
        limit: maximum number of ticks.
        first: ticks below this number are skipped.

    Attributes:
        run, started: the run of the payloads and gaps, and when it began: run ids may be reused.
        position: what the client has to send next; None before the first tick ever.
        gaps, reset: what was skipped; and a change of run: to ``run``, before everything else, or to another one after
            it.
        full: nothing more may be added, though there may be no payloads.
    """

    def __init__(self, runtime: Runtime, view: View, limit: int, first: int = 0) -> None:
        self._runtime = runtime
        self._view = view
        self._limit = limit
        self._first = first
        self._read_bytes = 0  # since the last call of ``read``
        self.run: str | None = None
        self.started: int | None = None
        self.payloads: list[Payload] = []
        self.position: Position | None = None
        self.gaps: list[Gap] = []
        self.reset: Reset | None = None
        self.full = False

    def headers(self, request: web.Request) -> dict[str, str]:
        """The headers that describe the body."""
        headers = dict(PULL_HEADERS)
        if self.run is not None:
            headers["Tick-Run"] = self.run
        if self.position is not None:
            headers["Tick-Next"] = str(self.position)
            rest = [(key, value) for key, value in request.query.items() if key not in START_PARAMETERS]
            more = f"&{urlencode(rest)}" if rest else ""
            # Relative to the request, so that it is correct behind a proxy that removes a prefix from the path.
            headers["Link"] = f'<?from_t={self.position}{more}>; rel="next"'
        if self.gaps:
            headers["Tick-Gap"] = gap_header(self.gaps)
        if self.reset is not None:
            headers["Tick-Reset"] = self.reset.run
        return headers

    @property
    def holds(self) -> Hashable:
        """Identifies the payloads; for equal views, equal ones have equal bytes."""
        if not self.payloads:
            return None
        return self.run, self.started, len(self.payloads), self.payloads[0].t, self.payloads[-1].t

    @property
    def size(self) -> int:
        """Bytes of the payloads."""
        return sum(len(payload.data) for payload in self.payloads)

    async def read(self, cursor: Cursor, now: float) -> Cursor:
        """Read more, up to the limit, some megabytes, or the end of a run; returns the cursor after it."""
        feed, load = self._runtime.feed, None
        self._read_bytes, most = 0, PULL_BYTES // 8 if self._view.fields else PULL_BYTES  # projections take longer
        while len(self.payloads) < self._limit and self._read_bytes < most and not cursor.over:
            cursor = await feed.starts.find(cursor, now)
            portion = feed.read(cursor, now, 1, load=load, pull=True)
            cursor, load = portion.cursor, portion.load
            if portion.items:
                if self._take_all(portion.items):
                    self.position = cursor.position  # may be beyond that of the last notice
                elif self.full:
                    return cursor
            elif load is not None and portion.waits:
                await until_done(load)
            elif cursor.query is None or feed.empty:  # else the tip did not come: it begins anew
                break
        if cursor.query is not None:  # nothing was published yet: the position waits
            self.position = cursor.query.start if isinstance(cursor.query.start, Position) else None
        elif self.position is None and cursor.position is not None and cursor.not_before is None:
            self.position = cursor.position
            self.run = cursor.position.run
        self._cross(cursor)
        return cursor

    def _take_all(self, items: Iterable[Item]) -> bool:
        """Add items, up to the limit or a second change of run; returns whether all were added."""
        rest = deque(items)
        while rest:
            item = rest.popleft()
            if isinstance(item, Reset) and (self.payloads or self.gaps or self.reset is not None):
                self._end_before(item)
                return False
            try:
                self._take(item)
            except Exception:
                parts = self._servable(item)
                if parts == [item]:
                    raise
                rest.extendleft(reversed(parts))
                continue
            self.position = item.position
            if len(self.payloads) >= self._limit:
                self.position = Position(item.position.run, self.payloads[-1].t)
                return False
        return True

    def _take(self, item: Item) -> None:
        self.run = item.position.run
        if isinstance(item, Gap):
            self.gaps.append(item)
        elif isinstance(item, Reset):
            self.reset = item
        elif isinstance(item, Span):
            begin = max(item.begin, item.batch.index_after(self._first - 1))
            span = Span(item.batch, begin, item.end)
            self.started = item.batch.run.started
            left = self._limit - len(self.payloads)
            some = self._runtime.fanout.encoder.payloads(self._view, span, left) if begin < item.end else []
            self.payloads += some
            # By what was read, not by what remains of it: that is what a view costs.
            whole = self._view.every > 1
            self._read_bytes += item.batch.size if whole else sum(len(tick.data) for tick in span.ticks[: len(some)])

    def _servable(self, item: Item) -> list[Item]:
        """The item with gaps in place of ticks that cannot be encoded, so that no client asks for these forever."""
        encoder = self._runtime.fanout.encoder
        parts = encoder.servable(self._view, [item], lambda span: encoder.payloads(self._view, span))
        return [part for part in parts if not isinstance(part, End)]

    def _end_before(self, reset: Reset) -> None:
        """End the answer at a change of run; if it already reports one, the next answer reports this one."""
        self.full = True
        if self.reset is None:
            self.reset, self.position = reset, reset.position
        elif self.gaps and self.gaps[-1].next is None:
            # the next answer reports the lost end, too, which is just before the change
            self.position = self.gaps.pop().position

    def _cross(self, cursor: Cursor) -> None:
        """At the end of an older run, move the client's position on to the next run."""
        position = self.position
        run = self._runtime.bus.runs.get(position.run) if position else None
        stays = cursor.until_run is not None or cursor.deadline is not None or self.reset is not None
        if run is None or position is None or stays or not self.payloads:
            return
        if run.following is not None and position.t >= run.shown:
            if run.lost_tail:
                self.gaps.append(Gap(run.id, run.shown, None))
            self.reset = Reset(run.following.id, run.id, cursor.complete)
            self.position = self.reset.position


async def answer(
    request: web.Request, runtime: Runtime, key: Hashable, make: Callable[[], bytes], size: int, headers: dict[str, str]
) -> web.StreamResponse:
    """An answer whose body is made, and compressed as requested, once for all clients that get the same.

    Args:
        key: identifies the content and form of the body; equal keys have equal bodies.
        size: approximate bytes of the body.

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

    A client that goes away is not an error here, and this frame drops its reference to the body: aiohttp keeps the
    exception, and with it the frames, until the garbage collector runs.
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
    """Cut a request's connection immediately, with everything not sent yet."""
    if request.transport is not None:
        request.transport.abort()


def left(request: web.Request, runtime: Runtime, begun: float) -> bool:
    """Whether the client is gone, or may be: one that closed its side of the connection cannot be told from one that is
    gone, and waits at most ``Patience.half_closed_seconds``."""
    if request.transport is None:
        return True
    # Another server, with other connection classes, closes such a connection at once.
    half_closed = isinstance(request.protocol, Connection) and request.protocol.half_closed
    return half_closed and time.monotonic() - begun >= runtime.fanout.patience.half_closed_seconds


def gap_header(gaps: Iterable[Gap]) -> str:
    """The value of the header ``Tick-Gap``."""
    return ", ".join(f"after={gap.after};next={gap.next if gap.next is not None else ''}" for gap in gaps)


def wants_ndjson(request: web.Request, query: Query, default: bool) -> bool:
    """Whether the body is NDJSON (else a JSON array): by ``format``, else by the first of the two in Accept, else the
    default.
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
    """Payloads as lines or as one JSON array; with ``batch``, of arrays."""
    messages = arrays(payloads, view.batch)
    return lines(messages) if ndjson else b"[" + b",".join(m.data for m in messages) + b"]"
