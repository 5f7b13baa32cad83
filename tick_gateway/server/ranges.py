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
from ..params import Query
from ..ring import Batch, Run
from ..view import Payload, arrays
from ..waiting import batches_of, until_done
from ..wire.ndjson import lines

_MAGIC_BYTES: Final = 4  # of a zstd frame


class Vanished(Exception):
    """Ticks that a reader had still to get are gone."""


class Range:
    """What a request for a range gets.

    Attributes:
        zstd: the body is a row of zstd frames.
        gaps: what of the range is gone, known before the first byte.
    """

    def __init__(self, feed: Feed, run: Run, query: Query, *, zstd: bool, ndjson: bool) -> None:
        self.feed = feed
        self.run = run
        self.query = query
        self.ndjson = ndjson
        self.plain = query.view.plain and ndjson and query.limit is None
        self.zstd = zstd and self.plain and run.id in feed.archive.shelves
        first = feed.first(run)
        self.low = query.t0 - 1 if query.t0 is not None else first - 1 if first is not None else run.shown
        self.high = run.shown if query.t1 is None else min(query.t1, run.shown)
        self.gaps = feed.gaps(run, self.low, self.high)

    async def pieces(self) -> AsyncIterator[Span | Look]:
        """What it holds, piece by piece, looked up when its turn comes.

        Raises:
            Vanished: ticks are missing that were there when it was planned.
        """
        planned = {gap.after for gap in self.gaps}
        t = self.low
        while t < self.high:
            piece = self.feed.next(self.run, t, high=self.high, stored=self.zstd)
            if t not in planned and self._lost(t, piece):
                raise Vanished
            if piece is None:
                return
            last = piece.entry.last if isinstance(piece, Look) else piece.position.t
            yield piece
            t = last

    def _lost(self, t: int, piece: Span | Look | None) -> bool:
        """Whether ticks are missing between ``t`` and what comes next in the range."""
        return bool(self.feed.gaps(self.run, t, self.high)) if piece is None else self.feed.missing(self.run, t, piece)


async def send(response: web.StreamResponse, wanted: Range) -> None:
    """Write a range's body.

    Raises:
        Vanished: see ``Range.pieces``.
    """
    if wanted.zstd:
        await _send_frames(response, wanted)
    elif wanted.plain:
        async for piece in wanted.pieces():
            await response.write(await _lines(wanted, piece))
    else:
        await _send_rendered(response, wanted)


async def _send_frames(response: web.StreamResponse, wanted: Range) -> None:
    """Whole blocks as they lie on disk, the two at the edges made anew.

    Each write ends with the first bytes of the next frame: some decoders fail on a read that ends where a frame does.
    """
    held = b""  # what is left of the frame before
    async for piece in wanted.pieces():
        frame = await _frame(wanted, piece)
        if held:
            await response.write(held + frame[:_MAGIC_BYTES])
            held = frame[_MAGIC_BYTES:]
        else:
            held = frame
    if held:
        await response.write(held)
    else:
        await response.write(zstandard.ZstdCompressor().compress(b""))


async def _frame(wanted: Range, piece: Span | Look) -> bytes:
    if (
        isinstance(piece, Look)
        and piece.entry.raw
        and wanted.low < piece.entry.first
        and piece.entry.last <= wanted.high
    ):
        load = wanted.feed.archive.frame(piece.run, piece.entry)
        await until_done(load)
        if load.data is None:
            raise Vanished
        return load.data
    return zstandard.ZstdCompressor(level=3).compress(await _lines(wanted, piece))


async def _lines(wanted: Range, piece: Span | Look) -> bytes:
    """A piece's lines as far as they are in the range; whole blocks are not taken apart."""
    if isinstance(piece, Span):
        await asyncio.sleep(0)  # others have their turn, however fast this one reads
        return b"\n".join([tick.data for tick in piece.ticks] + [b""])
    whole = wanted.low < piece.entry.first and piece.entry.last <= wanted.high
    if whole:
        load = wanted.feed.archive.lines(piece.run, piece.entry)
        await until_done(load)
        if load.data is None:
            raise Vanished
        return load.data
    ticks = [tick for span in await _spans(wanted, piece) for tick in span.ticks]
    return b"\n".join([tick.data for tick in ticks] + [b""])


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


async def _send_rendered(response: web.StreamResponse, wanted: Range) -> None:
    """Ticks through a view, as lines or as one JSON array."""
    query, ndjson = wanted.query, wanted.ndjson
    left, batch = query.limit, query.view.batch
    pending: list[Payload] = []
    separator = b"" if ndjson else b"["

    async def write(messages: Sequence[Payload]) -> None:
        nonlocal separator
        if messages:
            await response.write(lines(messages) if ndjson else separator + b",".join([m.data for m in messages]))
            separator = b","
        await asyncio.sleep(0)  # others have their turn, however fast this one reads

    async for piece in wanted.pieces():
        for span in await _spans(wanted, piece):
            some = query.view.render(wanted.run.id, span.ticks, left)
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
