"""The body of ``/range``: stored blocks as they lie on disk to those who take zstd, else ticks as they are asked for.

A range is planned first, by what shelves and memory hold: which ticks in it are gone is known before the first byte.
What is lost after that cannot be told any more, and ends the answer with a broken connection.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from typing import Final

import zstandard
from aiohttp import web

from ..cursor import Look, Span
from ..feed import Feed
from ..history.archive import Load
from ..history.blocks import Entry
from ..params import Query
from ..ring import Batch, Run
from ..tick import Position
from ..variant import Encoder
from ..view import Payload, arrays, full_arrays
from ..waiting import batches_of, position_of, until_done
from ..wire.compression import ZSTD_MAGIC, Coding
from ..wire.ndjson import lines

_READ_BYTES: Final = 1 << 20  # of stored blocks at once
_LARGE: Final = 16 << 10  # bytes: above, compressing takes longer than the loop should stand still


class Vanished(Exception):
    """Ticks that a reader had still to get are gone."""


class Range:
    """What a request for a range gets.

    Args:
        low: the ``t`` that the range begins behind.

    Attributes:
        zstd: the body is a row of zstd frames.
        gaps: what of the range is gone, known before the first byte.
    """

    def __init__(
        self, feed: Feed, encoder: Encoder, run: Run, query: Query, low: int, *, zstd: bool, ndjson: bool
    ) -> None:
        self.feed = feed
        self.encoder = encoder
        self.run = run
        self.query = query
        self.ndjson = ndjson
        self.plain = query.view.plain and ndjson and query.limit is None
        self.zstd = zstd and self.plain and run.id in feed.archive.shelves
        self.low, self.high = low, _high(run, query)
        self.gaps = feed.gaps(run, self.low, self.high)
        self._planned = {gap.after for gap in self.gaps}

    def next(self, t: int) -> Span | Look | None:
        """What comes next after ``t``, looked up when its turn comes; None: that was all.

        Raises:
            Vanished: ticks are missing that were there when it was planned.
        """
        piece = self.feed.next(self.run, t, high=self.high, stored=self.zstd)
        if t < self.high and t not in self._planned:
            if self._lost(t, piece):
                raise Vanished
        return piece

    def row(self, piece: Look, most: int) -> list[Entry]:
        """Whole blocks from a piece on, about so many bytes of frames; none where it is cut by the range's edges."""
        if piece.entry.first <= self.low or piece.entry.last > self.high:
            return []
        return self.feed.archive.shelf(self.run).row(piece.entry, self.high, most)

    def _lost(self, t: int, piece: Span | Look | None) -> bool:
        """Whether ticks are missing between ``t`` and what comes next in the range."""
        return bool(self.feed.gaps(self.run, t, self.high)) if piece is None else self.feed.missing(self.run, t, piece)


def _high(run: Run, query: Query) -> int:
    return run.shown if query.t1 is None else min(query.t1, run.shown)


async def lower_bound(feed: Feed, run: Run, query: Query) -> int:
    """The ``t`` that a range begins behind: by ``t0`` and whichever of ``from_t``, ``tail`` and ``since`` is given; of
    two, the higher one. Without any, it begins with the first tick that can be read."""
    first = feed.first(run)
    bounds: list[int] = []
    if query.t0 is not None:
        bounds.append(query.t0 - 1)
    if query.start is not None:
        bounds.append(query.start.t if isinstance(query.start, Position) else query.start)
    if (steps := feed.before(query, run, _high(run, query))) is not None:
        bounds.append((await position_of(feed, steps)).t)
    return max(bounds, default=first - 1 if first is not None else run.shown)


class Body:
    """The body of an answer, compressed on its way where that was asked for, for this client alone."""

    def __init__(self, response: web.StreamResponse, coding: Coding | None) -> None:
        self._response = response
        self._stream = coding.stream() if coding is not None else None

    async def write(self, data: bytes | bytearray | memoryview) -> None:
        """Send content on; returns when there is room for more."""
        if self._stream is not None:
            compress = self._stream.compress
            if len(data) > _LARGE:
                data = await asyncio.get_running_loop().run_in_executor(None, compress, data)
            else:
                data = compress(data)
        if data:
            await self._response.write(data)

    async def end(self) -> None:
        """Send what the compressor holds back."""
        if self._stream is not None:
            await self._response.write(self._stream.flush())


async def send(response: Body, wanted: Range) -> None:
    """Write a range's body.

    Raises:
        Vanished: see ``Range.next``.
    """
    if wanted.zstd:
        await _send_frames(response, wanted)
    elif wanted.plain:
        await _send_lines(response, wanted)
    else:
        await _send_rendered(response, wanted)
    await response.end()


async def _send_frames(response: Body, wanted: Range) -> None:
    """Whole blocks as they lie on disk, the two at the edges made anew.

    Each write ends with the first bytes of the next frame: some decoders fail on a read that ends where a frame does.
    """
    piece, begin = wanted.next(wanted.low), 0
    if piece is None:
        await response.write(_compressed(b""))
    while piece is not None:
        frames, t = await _frames(wanted, piece)
        piece = wanted.next(t)
        if piece is not None:
            frames += ZSTD_MAGIC
        await response.write(memoryview(frames)[begin:])
        begin = len(ZSTD_MAGIC)
        await asyncio.sleep(0)  # others have their turn, however fast this one reads


async def _frames(wanted: Range, piece: Span | Look) -> tuple[bytearray, int]:
    """What comes next as zstd frames, and the last ``t`` in it."""
    row = wanted.row(piece, _READ_BYTES) if isinstance(piece, Look) and piece.entry.raw else []
    if row:
        got = wanted.feed.archive.frames(wanted.run, row)
        if isinstance(got, Load):
            await until_done(got)
            if got.frames is None:
                raise Vanished
            got = bytearray(got.frames)  # others may have asked for the same
        return got, row[-1].last
    spans = await _spans(wanted, piece)
    return bytearray(_compressed(_lines(spans))), _last(piece)


async def _send_lines(response: Body, wanted: Range) -> None:
    """Lines as they were published; whole blocks are not taken apart."""
    t = wanted.low
    while (piece := wanted.next(t)) is not None:
        row = wanted.row(piece, _READ_BYTES) if isinstance(piece, Look) else []
        if row:
            load = wanted.feed.archive.lines(wanted.run, row)
            await until_done(load)
            if load.lines is None:
                raise Vanished
            for lines_of_block in load.lines:
                await response.write(lines_of_block)
            t = row[-1].last
        else:
            await response.write(_lines(await _spans(wanted, piece)))
            t = _last(piece)
        await asyncio.sleep(0)


def _compressed(data: bytes) -> bytes:
    return zstandard.ZstdCompressor(level=3).compress(data)


def _lines(spans: Sequence[Span]) -> bytes:
    return b"\n".join([tick.data for span in spans for tick in span.ticks] + [b""])


def _last(piece: Span | Look) -> int:
    return piece.entry.last if isinstance(piece, Look) else piece.position.t


async def _spans(wanted: Range, piece: Span | Look) -> list[Span]:
    """A piece's ticks as far as they are in the range."""
    if isinstance(piece, Span):
        return [piece]
    batches = await batches_of(wanted.feed, piece)
    if batches is None:
        raise Vanished
    spans = [_cut(batch, wanted.low, wanted.high) for batch in batches]
    return [span for span in spans if span.begin < span.end]


def _cut(batch: Batch, low: int, high: int) -> Span:
    return Span(batch, batch.index_after(low), batch.index_after(high))


async def _send_rendered(response: Body, wanted: Range) -> None:
    """Ticks through a view, as lines or as one JSON array."""
    ndjson, batch = wanted.ndjson, wanted.query.view.batch
    pending: Sequence[Payload] = ()
    separator = b"" if ndjson else b"["

    async def write(messages: Sequence[Payload]) -> None:
        nonlocal separator
        if messages:
            await response.write(lines(messages) if ndjson else separator + b",".join([m.data for m in messages]))
            separator = b","
        await asyncio.sleep(0)  # others have their turn, however fast this one reads

    async for some in _payloads(wanted):
        messages, pending = full_arrays([*pending, *some], batch)
        await write(messages)
    await write(arrays(pending, batch))
    if not ndjson:
        await response.write(b"[]" if separator == b"[" else b"]")


async def _payloads(wanted: Range) -> AsyncIterator[list[Payload]]:
    """The range's ticks as its view shows them, in portions, up to the limit."""
    view, left = wanted.query.view, wanted.query.limit
    t = wanted.low
    while left != 0 and (piece := wanted.next(t)) is not None:
        t = _last(piece)
        for span in await _spans(wanted, piece):
            some = wanted.encoder.payloads(view, span, left)
            yield some
            left = None if left is None else left - len(some)
