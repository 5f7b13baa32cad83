"""Sending the body of a range: as it comes, or with its length and from any byte on, where it never changes.

The length of a body is found by going through it once without sending it; of lines as they were published, that needs
no reading. What has to be made for it is kept, compressed, and sent from there, so that it is made once. On the way,
places are noted from which the body can be made again where there is no room for that, so that a part of it far behind
costs no more than one at its beginning. All of it is kept for whoever asks next.
"""

from __future__ import annotations

import asyncio
import re
from bisect import bisect_right
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Final, NamedTuple
from weakref import WeakValueDictionary

import zstandard
from aiohttp import web

from ..history.threads import ReadingThreads
from ..wire.compression import Coding
from ..wire.zstd_frame import MAGIC
from .ranges import Range, SeekPoint, Vanished, begin, learn, parts
from .tables import Columns

IMMUTABLE: Final = "public, max-age=31536000, immutable"
_LARGE: Final = 16 << 10  # bytes: above, compressing takes longer than the loop should stand still
_PORTION: Final = 128 << 10  # bytes that go to the transport at once
_KEPT: Final = 64  # indexes
_COPIES: Final = 64 << 20  # bytes of compressed bodies
_CHUNK: Final = 256 << 10  # bytes of a body that are compressed together
_SEEK_POINTS: Final = 1024  # of one body, at most
_BETWEEN: Final = 1 << 20  # bytes between two of them, where so many suffice
_RANGE: Final = re.compile(r"bytes=(\d{0,18})-(\d{0,18})", re.ASCII | re.IGNORECASE)


class CompressedCopy:
    """A body as it was made, compressed in chunks, to be read from any byte on."""

    def __init__(self) -> None:
        self.bytes = 0
        self._begins: list[int] = []
        self._chunks: list[bytes] = []

    def add(self, at: int, chunk: bytes) -> None:
        """Add what begins at an offset of the body, compressed."""
        self._begins.append(at)
        self._chunks.append(chunk)
        self.bytes += len(chunk)

    def read(self, at: int) -> memoryview:
        """What there is from an offset on, to the end of its chunk."""
        number = bisect_right(self._begins, at) - 1
        return memoryview(zstandard.ZstdDecompressor().decompress(self._chunks[number]))[at - self._begins[number] :]


@dataclass(slots=True)
class BodyIndex:
    """How long a body is, and from where on it can be made; of a table also its columns.

    Attributes:
        copy: all of it, as long as there is room for that.
    """

    size: int
    seek_points: list[SeekPoint]
    columns: Columns | None = None
    copy: CompressedCopy | None = None

    def before(self, offset: int) -> SeekPoint:
        """The nearest place from which on it can be made."""
        return [seek_point for seek_point in self.seek_points if seek_point.offset <= offset][-1]


class BodyIndexCache:
    """The indexes of bodies that never change, by their entity tags; those that were asked for last.

    Of those that are made for it (views, arrays, tables) a copy is kept, so that they are made once, within
    ``_COPIES`` bytes for all of them.
    """

    def __init__(self) -> None:
        self._kept: OrderedDict[str, BodyIndex] = OrderedDict()
        self._turns: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()
        self.bytes = 0  # of copies, those that are being made included

    def __contains__(self, name: str) -> bool:
        return name in self._kept

    async def get(self, name: str, wanted: Range, workers: ReadingThreads) -> BodyIndex:
        """The index of a body, measured for all who ask for it at the same time by the first of them.

        Raises:
            Vanished: ticks are gone that are to be measured.
            ParameterError: see ``learn``.
        """
        turn = self._turns.setdefault(name, asyncio.Lock())
        async with turn:
            found = self._kept.get(name)
            if found is None:
                copying = None if wanted.plain else _CopyWriter(self, workers)
                try:
                    found = await measure(wanted, copying)
                    found.copy = await copying.end() if copying is not None else None
                finally:
                    if copying is not None and (found is None or found.copy is None):
                        copying.drop()
                self._kept[name] = found
                if len(self._kept) > _KEPT:
                    self._forget(self._kept.popitem(last=False)[1])
            else:
                self._kept.move_to_end(name)
        wanted.columns = found.columns
        return found

    def room_for(self, size: int) -> bool:
        """Take so many bytes for a copy, from older ones where it has to be; whether there is room."""
        for index in self._kept.values():
            if self.bytes + size <= _COPIES:
                break
            self._forget(index)
        if self.bytes + size > _COPIES:
            return False
        self.bytes += size
        return True

    def _forget(self, index: BodyIndex) -> None:
        if index.copy is not None:
            self.bytes -= index.copy.bytes
            index.copy = None


class _CopyWriter:
    """Keeps what is made of a body while it is measured, as far as there is room."""

    def __init__(self, indexes: BodyIndexCache, workers: ReadingThreads) -> None:
        self._indexes = indexes
        self._workers = workers
        self._copy: CompressedCopy | None = CompressedCopy()
        self._pending: list[bytes | bytearray] = []
        self._size = self._at = 0

    async def add(self, data: bytes | bytearray) -> None:
        """Keep what comes next."""
        if self._copy is None:
            return
        self._pending.append(data)
        self._size += len(data)
        if self._size >= _CHUNK:
            await self._flush()

    async def _flush(self) -> None:
        data, at = b"".join(self._pending), self._at
        self._pending, self._size, self._at = [], 0, at + self._size
        chunk = await self._workers.run(zstandard.ZstdCompressor(level=1).compress, data)
        if self._copy is None or self._copy.bytes + len(chunk) > _COPIES // 2 or not self._indexes.room_for(len(chunk)):
            self.drop()
        else:
            self._copy.add(at, chunk)

    async def end(self) -> CompressedCopy | None:
        """All of it; None: there was no room."""
        if self._pending:
            await self._flush()
        return self._copy

    def drop(self) -> None:
        """Keep nothing of it."""
        copy, self._copy = self._copy, None
        if copy is not None:
            self._indexes.bytes -= copy.bytes
        self._pending = []


async def measure(wanted: Range, copying: _CopyWriter | None = None) -> BodyIndex:
    """Go through a body.

    Raises:
        Vanished: ticks are gone that are to be measured.
        ParameterError: see ``learn``.
    """
    await learn(wanted)
    size, seek_points, between = 0, [begin(wanted)], _BETWEEN
    async for part in parts(wanted, seek_points[0], sizes=True):
        size += part.size
        if copying is not None and part.data is not None:
            await copying.add(part.data)
        if part.seek_point is not None and size - seek_points[-1].offset >= between:
            seek_points.append(part.seek_point._replace(offset=size))
            if len(seek_points) > _SEEK_POINTS:
                seek_points, between = seek_points[::2], 2 * between
        await asyncio.sleep(0)  # others have their turn
    return BodyIndex(size, seek_points, wanted.columns)


class ByteRange(NamedTuple):
    """The bytes ``begin`` to ``end`` (not included) of a body."""

    begin: int
    end: int


def begun(request: web.Request, size: int, headers: Mapping[str, str]) -> tuple[web.StreamResponse, ByteRange]:
    """An answer with a body of known length that may be asked for in parts, and the part of it that is asked for (RFC
    9110, section 14): 200 with all of it, 206 with some, or 416 with nothing.

    Args:
        headers: the answer's, an ``ETag`` among them.
    """
    part = _asked(request, size, headers["ETag"])
    if part is not None and part.begin >= size:
        unmet = {"Content-Range": f"bytes */{size}", "Cache-Control": "no-store"}
        return web.Response(status=416, headers=unmet), ByteRange(0, 0)
    response = web.StreamResponse(status=200 if part is None else 206, headers=headers)
    response.headers["Accept-Ranges"] = "bytes"
    if part is not None:
        response.headers["Content-Range"] = f"bytes {part.begin}-{part.end - 1}/{size}"
    part = part or ByteRange(0, size)
    response.content_length = part.end - part.begin
    return response, part


async def answer_part(
    request: web.Request,
    size: int,
    headers: Mapping[str, str],
    write: Callable[[web.StreamResponse, ByteRange], Awaitable[None]],
) -> web.StreamResponse:
    """Answer with a body of known length, or with the part of it that is asked for (see ``begun``).

    Args:
        write: writes that part; where it raises Vanished, the connection is broken.
    """
    response, part = begun(request, size, headers)
    if response.status == 416:
        return response
    return await answer(request, response, lambda: write(response, part))


async def answer(
    request: web.Request, response: web.StreamResponse, write: Callable[[], Awaitable[None]]
) -> web.StreamResponse:
    """Send an answer's head, and the body that ``write`` writes where there is one.

    Where that raises Vanished, the connection is broken: a clean end would make what was sent look whole.
    """
    await response.prepare(request)
    if request.method == "HEAD":
        return response
    try:
        await write()
    except Vanished:
        if request.transport is not None:
            request.transport.abort()
        raise ConnectionResetError from None
    await response.write_eof()
    return response


def _asked(request: web.Request, size: int, tag: str) -> ByteRange | None:
    """The part of a body that a request asks for; None: all of it. One that begins behind the end has nothing in it."""
    condition = request.headers.get("If-Range")
    found = _RANGE.fullmatch(request.headers.get("Range", "").replace(" ", ""))
    if request.method != "GET" or found is None or not (found[1] or found[2]) or condition not in (None, tag):
        return None
    if not found[1]:
        return ByteRange(max(size - int(found[2]), 0), size)
    first, last = int(found[1]), int(found[2]) if found[2] else size - 1
    if last < first <= int(found[2] or first):
        return ByteRange(first, first)
    return None if last < first else ByteRange(first, min(last + 1, size))


class BodyWriter:
    """The body of an answer, compressed on its way (by ``workers``) where that was asked for, for this client alone."""

    def __init__(self, response: web.StreamResponse, workers: ReadingThreads, coding: Coding | None = None) -> None:
        self._response = response
        self._workers = workers
        self._stream = coding.stream() if coding is not None else None

    async def write(self, data: bytes | bytearray | memoryview) -> None:
        """Send content on; returns when there is room for more."""
        if self._stream is not None:
            compress = self._stream.compress
            if len(data) > _LARGE:
                data = await self._workers.run(compress, data)
            else:
                data = compress(data)
        for at in range(0, len(data), _PORTION):
            await self._response.write(memoryview(data)[at : at + _PORTION])

    async def end(self) -> None:
        """Send what the compressor holds back."""
        if self._stream is not None:
            await self._response.write(self._stream.flush())


async def send(body: BodyWriter, wanted: Range, size: int | None = None) -> None:
    """Write all of a range's body.

    Of zstd frames, each write ends with the first bytes of the next frame: some decoders fail on a read that ends where
    a frame does.

    Args:
        size: that was told of it; None: none was.

    Raises:
        Vanished: see ``Range.next``, or the body is not as long as it was.
    """
    held: bytearray | bytes | memoryview = b""
    at = 0
    async for part in parts(wanted, begin(wanted)):
        assert part.data is not None
        at += part.size
        if size is not None and at > size:
            raise Vanished
        if wanted.zstd:
            if held:
                await body.write(b"".join((held, MAGIC)))
                held = memoryview(part.data)[len(MAGIC) :]
            else:
                held = part.data
        elif part.data:
            await body.write(part.data)
        await asyncio.sleep(0)  # others have their turn, however fast this one reads
    if size is not None and at < size:
        raise Vanished
    if held:
        await body.write(held)
    await body.end()


async def send_part(body: BodyWriter, wanted: Range, index: BodyIndex, part: ByteRange) -> None:
    """Write some bytes of a range's body: those of its copy, as long as there is one, else made anew.

    Raises:
        Vanished: see ``Range.next``, or the body is not as long as it was.
    """
    at = part.begin
    while at < part.end and index.copy is not None:
        if not (data := index.copy.read(at)[: part.end - at]):
            raise Vanished
        at += len(data)
        await body.write(data)
        await asyncio.sleep(0)  # others have their turn, however fast this one reads
    if at < part.end:
        await _make_part(body, wanted, index, ByteRange(at, part.end))


async def _make_part(body: BodyWriter, wanted: Range, index: BodyIndex, part: ByteRange) -> None:
    seek_point = index.before(part.begin)
    at = seek_point.offset
    async for one in parts(wanted, seek_point):
        assert one.data is not None
        data = memoryview(one.data)[max(part.begin - at, 0) : max(part.end - at, 0)]
        if data:
            await body.write(data)
        at += one.size
        if at >= part.end:
            return
        await asyncio.sleep(0)
    if at < part.end:
        raise Vanished
