"""The body of ``/range``: stored blocks unchanged, for clients that accept zstd; else ticks in the format and view of
the request.

A range is planned first, from what history and memory hold, so missing ticks are known before the first byte is sent. A
tick that is lost after that can no longer be reported, so the connection is cut.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from typing import Final, NamedTuple

import zstandard

from ..bus.ring import Batch, Run
from ..history.archive import Load
from ..history.stored_block import Entry
from ..model.query import Query
from ..model.tick import Position
from ..model.view import Payload, View, arrays, full_arrays
from ..reading.cursor import BlockRef, Span
from ..reading.feed import Feed
from ..reading.waiting import load_batches, until_done
from ..runtime import Runtime
from ..wire.ndjson import lines
from .tables import TABLE_FORMATS, Columns, Rows, widen_columns

_READ_BYTES: Final = 1 << 20  # of stored blocks at once
_MADE_BYTES: Final = 4 << 20  # of rendered pieces, made to be measured and kept to be sent
LONG_BYTES: Final = 64 << 20  # approximate, of lines: measuring more before the first byte would keep a client waiting


class Vanished(Exception):
    """Ticks that have yet to be sent are gone."""


class RenderedPiece(NamedTuple):
    """A piece of a body that was rendered to be measured, up to the tick ``last``."""

    data: bytes
    last: int


class Range:
    """The content of a range.

    Args:
        low: the range begins after this ``t``.
        format: of the body.

    Attributes:
        plain: the body is the ticks' lines as they were published.
        zstd: the body is a sequence of zstd frames.
        gaps: the missing parts of the range, known before the first byte.
        columns: of a table, once they are known; see ``find_columns``.
    """

    def __init__(self, runtime: Runtime, run: Run, query: Query, low: int, *, zstd: bool, format: str) -> None:
        self.feed = feed = runtime.feed
        self.encoder = runtime.fanout.encoder
        self.run = run
        self.query = query
        self.format = format
        self.columns: Columns | None = None
        self.plain = query.view.plain and format == "ndjson" and query.limit is None
        self.zstd = zstd and self.plain and run.id in feed.archive.histories
        self.low, self.high = low, _high(run, query)
        self.gaps = feed.gaps(run, self.low, self.high)
        self._planned = {gap.after for gap in self.gaps}
        self._made: dict[int, RenderedPiece] = {}  # by the ``t`` that they begin after
        self._room = _MADE_BYTES

    def next(self, t: int) -> Span | BlockRef | None:
        """The extent after ``t``, looked up only now; None: there is no more.

        Raises:
            Vanished: ticks are missing that existed when it was planned.
        """
        extent = self.feed.next(self.run, t, high=self.high, stored=self.zstd)
        if t < self.high and t not in self._planned:
            if self._lost(t, extent):
                raise Vanished
        return extent

    def whole_blocks(self, extent: RenderedPiece | Span | BlockRef, t: int, most: int = _READ_BYTES) -> list[Entry]:
        """Whole blocks from an extent on, the one after ``t``, of about this many bytes of frames; none if its first
        block is cut by ``t``, or by the end of the range."""
        if not isinstance(extent, BlockRef) or extent.entry.first <= t or extent.entry.last > self.high:
            return []
        return self.feed.archive.history(self.run).row(extent.entry, self.high, most)

    @property
    def long(self) -> bool:
        """Whether measuring takes so long that it is done before the first byte only if necessary."""
        history = self.feed.archive.histories.get(self.run.id)
        blocks, one = history.between(self.low, self.high) if history is not None else (0, None)
        if one is None:
            return False
        read = not self.plain or (self.zstd and not one.raw)  # else the blocks' records have their sizes
        return read and blocks * one.size > LONG_BYTES

    @property
    def settled(self) -> bool:
        """Whether every request for it gets the same bytes: the frames of an open block may change."""
        if not self.zstd:
            return True
        return self.high <= self.feed.archive.history(self.run).closed

    def next_or_kept(self, t: int) -> RenderedPiece | Span | BlockRef | None:
        """As ``next``, but prefers a piece that was rendered after ``t`` and kept: the ticks may have moved since, in
        other portions."""
        return self._made.pop(t, None) or self.next(t)

    @property
    def kept(self) -> int:
        """Maximum bytes of rendered pieces that are kept."""
        return _MADE_BYTES - self._room

    def keep(self, t: int, made: RenderedPiece) -> None:
        """Keep a piece rendered after ``t`` until it is requested, if there is room."""
        if len(made.data) <= self._room:
            self._room -= len(made.data)
            self._made[t] = made

    def _lost(self, t: int, extent: Span | BlockRef | None) -> bool:
        """Whether ticks are missing between ``t`` and the extent that follows in the range."""
        if extent is None:
            return bool(self.feed.gaps(self.run, t, self.high))
        return self.feed.missing(self.run, t, extent)


def _high(run: Run, query: Query) -> int:
    return run.shown if query.t1 is None else min(query.t1, run.shown)


async def lower_bound(feed: Feed, run: Run, query: Query) -> int:
    """The ``t`` after which a range begins: by ``t0`` and one of ``from_t``, ``tail`` and ``since``; of two, the higher
    one. Without any, it begins with the first readable tick."""
    first = feed.first(run)
    bounds: list[int] = []
    if query.t0 is not None:
        bounds.append(query.t0 - 1)
    if query.start is not None:
        bounds.append(query.start.t if isinstance(query.start, Position) else query.start)
    if (position := await feed.starts.before(query, run, _high(run, query))) is not None:
        bounds.append(position.t)
    return max(bounds, default=first - 1 if first is not None else run.shown)


class SeekPoint(NamedTuple):
    """A place from which a body can be produced: after ``offset`` bytes, the tick ``t``, and ``ticks`` ticks."""

    offset: int
    t: int
    ticks: int


class BodyPart(NamedTuple):
    """A piece of a body, of ``size`` bytes (``data`` None: only the size was requested).

    ``seek_point``: the place after it, without its offset; None: the body cannot be produced from there.
    """

    data: bytes | bytearray | None
    size: int
    seek_point: SeekPoint | None = None


def start_of(wanted: Range) -> SeekPoint:
    """The beginning of a body."""
    return SeekPoint(0, wanted.low, 0)


def parts(wanted: Range, seek_point: SeekPoint, *, sizes: bool = False) -> AsyncIterator[BodyPart]:
    """A range's body from a seek point on.

    Args:
        sizes: only sizes are requested, so data is read only if necessary.

    Raises:
        Vanished: see ``Range.next``.
    """
    if wanted.zstd:
        return _frames(wanted, seek_point, sizes=sizes)
    if wanted.plain:
        return _lines_as_they_are(wanted, seek_point, sizes=sizes)
    return _tabulated(wanted, seek_point) if wanted.format in TABLE_FORMATS else _rendered(wanted, seek_point)


async def _frames(wanted: Range, seek_point: SeekPoint, *, sizes: bool) -> AsyncIterator[BodyPart]:
    """Whole blocks unchanged; the first and the last one are compressed anew if the range cuts them."""
    t, nothing = seek_point.t, True
    while (extent := wanted.next_or_kept(t)) is not None:
        blocks = wanted.whole_blocks(extent, t)
        if not blocks or not blocks[0].raw:
            made = await _made(wanted, extent, t, _compressed)
            last = made.last
            if sizes:
                wanted.keep(t, made)
            yield BodyPart(made.data, len(made.data))
        elif sizes:
            last = blocks[-1].last
            yield BodyPart(None, sum(entry.frame for entry in blocks), SeekPoint(0, last, 0))
        else:
            last = blocks[-1].last
            frames = await _stored_frames(wanted, blocks)
            yield BodyPart(frames, len(frames), SeekPoint(0, last, 0))
        t, nothing = last, False
    if nothing:
        data = _compressed(b"")
        yield BodyPart(data, len(data))


async def _made(
    wanted: Range, extent: RenderedPiece | Span | BlockRef, t: int, encode: Callable[[bytes], bytes]
) -> RenderedPiece:
    """An extent's lines after ``t``, compressed, unless that was already done."""
    if isinstance(extent, RenderedPiece):
        return extent
    return RenderedPiece(encode(_lines(await _spans(wanted, extent, t))), _last(extent))


async def _stored_frames(wanted: Range, blocks: Sequence[Entry]) -> bytearray:
    got = wanted.feed.archive.frames(wanted.run, blocks)
    if not isinstance(got, Load):
        return got
    await until_done(got)
    if got.frames is None:
        raise Vanished
    return bytearray(got.frames)  # others may share the original


async def _lines_as_they_are(wanted: Range, seek_point: SeekPoint, *, sizes: bool) -> AsyncIterator[BodyPart]:
    """Lines as they were published; whole blocks are not split into ticks."""
    t = seek_point.t
    while (extent := wanted.next_or_kept(t)) is not None:
        blocks = wanted.whole_blocks(extent, t)
        last = blocks[-1].last if blocks else -1
        if blocks and sizes:
            for entry in blocks:
                yield BodyPart(None, entry.size, SeekPoint(0, entry.last, 0))
        elif blocks:
            load = wanted.feed.archive.lines(wanted.run, blocks)
            await until_done(load)
            if load.lines is None:
                raise Vanished
            for entry, data in zip(blocks, load.lines, strict=True):
                yield BodyPart(data, len(data), SeekPoint(0, entry.last, 0))
        else:
            made = await _made(wanted, extent, t, bytes)
            last = made.last
            if sizes:
                wanted.keep(t, made)
            yield BodyPart(made.data, len(made.data), SeekPoint(0, last, 0))
        t = last


async def _rendered(wanted: Range, seek_point: SeekPoint) -> AsyncIterator[BodyPart]:
    """Ticks through a view, in the requested format."""
    view, ticks = wanted.query.view, seek_point.ticks
    writer = FORMATS[wanted.format](view)
    writer.begun = bool(ticks)
    head = writer.begin() if not seek_point.offset else b""
    if head:
        yield BodyPart(head, len(head))
    async for span, most in spans(wanted, seek_point):
        payloads = wanted.encoder.payloads(view, span, most)
        ticks += len(payloads)
        data = writer.more(payloads)
        yield BodyPart(data, len(data), SeekPoint(0, span.position.t, ticks) if writer.whole else None)
    data = writer.end()
    yield BodyPart(data, len(data))


async def _tabulated(wanted: Range, seek_point: SeekPoint) -> AsyncIterator[BodyPart]:
    """Ticks as the rows of a table."""
    assert wanted.columns is not None, "``find_columns`` comes first"
    rows, table, ticks = Rows(wanted.query.view), TABLE_FORMATS[wanted.format](wanted.columns), seek_point.ticks
    if not seek_point.offset:
        head = table.begin()
        yield BodyPart(head, len(head))
    async for span, most in spans(wanted, seek_point):
        for some in rows.of(span, most, len(wanted.columns)):
            ticks += len(some.rows)
            data = table.more(some.rows)
            yield BodyPart(data, len(data), SeekPoint(0, some.t, ticks) if table.whole else None)
    data = table.end()
    yield BodyPart(data, len(data))


async def find_columns(wanted: Range) -> None:
    """Find the columns of a range for a table, by reading all of it.

    Raises:
        ParameterError: there are too many.
        Vanished: see ``Range.next``.
    """
    if wanted.format in TABLE_FORMATS and wanted.columns is None:
        rows = Rows(wanted.query.view)
        columns = rows.columns()
        async for span, most in spans(wanted, start_of(wanted)):
            for some in rows.of(span, most, 1):
                widen_columns(columns, some.rows)
                await asyncio.sleep(0)  # let others run
        wanted.columns = columns


async def spans(wanted: Range, seek_point: SeekPoint) -> AsyncIterator[tuple[Span, int | None]]:
    """A range's ticks from a seek point on, each span with how many of its ticks that pass the view the limit
    allows."""
    view, limit, t, ticks = wanted.query.view, wanted.query.limit, seek_point.t, seek_point.ticks
    while (limit is None or ticks < limit) and (extent := wanted.next(t)) is not None:
        found, t = await _spans(wanted, extent, t), _last(extent)
        for span in found:
            left = None if limit is None else limit - ticks
            yield span, left
            if limit is not None:
                ticks += min(sum(view.passes(tick.t) for tick in span.ticks), limit - ticks)


class NDJSONFormat:
    """NDJSON: one line per message."""

    def __init__(self, view: View) -> None:
        self.begun = False
        self._batch = view.batch
        self._pending: Sequence[Payload] = ()

    def begin(self) -> bytes:
        """The content before the first tick."""
        return b""

    def more(self, payloads: Sequence[Payload]) -> bytes:
        """Add ticks; returns the messages that are full now."""
        messages, self._pending = full_arrays([*self._pending, *payloads], self._batch)
        return self._join(messages)

    def end(self) -> bytes:
        """The rest."""
        return self._join(arrays(self._pending, self._batch))

    @property
    def whole(self) -> bool:
        """Whether nothing is buffered, so that a body can be produced from here."""
        return not self._pending

    def _join(self, messages: Sequence[Payload]) -> bytes:
        return lines(messages) if messages else b""


class JSONArrayFormat(NDJSONFormat):
    """One JSON array of messages."""

    def begin(self) -> bytes:
        return b"["

    def end(self) -> bytes:
        return super().end() + b"]"

    def _join(self, messages: Sequence[Payload]) -> bytes:
        if not messages:
            return b""
        begun, self.begun = self.begun, True
        return (b"," if begun else b"") + b",".join([message.data for message in messages])


FORMATS: Final[dict[str, type[NDJSONFormat]]] = {"ndjson": NDJSONFormat, "json": JSONArrayFormat}
MEDIA_TYPES: Final = {
    "ndjson": "application/x-ndjson",
    "json": "application/json",
    **{name: table.media_type for name, table in TABLE_FORMATS.items()},
}


def _compressed(data: bytes) -> bytes:
    return zstandard.ZstdCompressor(level=3).compress(data)


def _lines(found: Sequence[Span]) -> bytes:
    return b"\n".join([tick.data for span in found for tick in span.ticks] + [b""])


def _last(extent: Span | BlockRef) -> int:
    return extent.entry.last if isinstance(extent, BlockRef) else extent.position.t


async def _spans(wanted: Range, extent: Span | BlockRef, t: int) -> list[Span]:
    """An extent's ticks after ``t``, within the range."""
    if isinstance(extent, Span):
        return [extent]
    batches = await load_batches(wanted.feed.archive, extent)
    if batches is None:
        raise Vanished
    found = [_cut(batch, t, wanted.high) for batch in batches]
    return [span for span in found if span.begin < span.end]


def _cut(batch: Batch, low: int, high: int) -> Span:
    return Span(batch, batch.index_after(low), batch.index_after(high))
