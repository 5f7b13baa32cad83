"""Sending the body of a range: as it comes, or with its length and from any byte on, where it never changes.

The length of a body is found by going through it once without sending it; of lines as they were published, that needs
no reading. On the way, places are noted from which the body can be made again, so that a part of it far behind costs no
more than one at its beginning. Both are kept for whoever asks next.
"""

from __future__ import annotations

import asyncio
import re
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Mapping
from typing import Final, NamedTuple

from aiohttp import web

from ..history.reading import ReadingThreads
from ..wire.compression import ZSTD_MAGIC, Coding
from .ranges import Mark, Range, Vanished, begin, learn, parts
from .tables import Columns

IMMUTABLE: Final = "public, max-age=31536000, immutable"
_LARGE: Final = 16 << 10  # bytes: above, compressing takes longer than the loop should stand still
_PORTION: Final = 128 << 10  # bytes that go to the transport at once
_KEPT: Final = 64  # layouts
_MARKS: Final = 1024  # places that one layout notes
_BETWEEN: Final = 1 << 20  # bytes between two of them, where so many suffice
_RANGE: Final = re.compile(r"bytes=(\d{0,18})-(\d{0,18})", re.ASCII | re.IGNORECASE)


class Layout(NamedTuple):
    """How long a body is, and from where on it can be made; of a table also its columns."""

    size: int
    marks: list[Mark]
    columns: Columns | None = None

    def before(self, offset: int) -> Mark:
        """The nearest place from which on it can be made."""
        return [mark for mark in self.marks if mark.offset <= offset][-1]


class Layouts:
    """The layouts of bodies that never change, by what names them; those that were asked for last."""

    def __init__(self) -> None:
        self._kept: OrderedDict[str, Layout] = OrderedDict()

    def __contains__(self, name: str) -> bool:
        return name in self._kept

    async def get(self, name: str, wanted: Range) -> Layout:
        """Raises Vanished where ticks are gone that are to be measured."""
        found = self._kept.get(name)
        if found is None:
            found = self._kept[name] = await measure(wanted)
            if len(self._kept) > _KEPT:
                self._kept.popitem(last=False)
        else:
            self._kept.move_to_end(name)
        wanted.columns = found.columns
        return found


async def measure(wanted: Range) -> Layout:
    """Go through a body."""
    await learn(wanted)
    size, marks, between = 0, [begin(wanted)], _BETWEEN
    async for part in parts(wanted, marks[0], sizes=True):
        size += part.size
        if part.mark is not None and size - marks[-1].offset >= between:
            marks.append(part.mark._replace(offset=size))
            if len(marks) > _MARKS:
                marks, between = marks[::2], 2 * between
        await asyncio.sleep(0)  # others have their turn
    return Layout(size, marks, wanted.columns)


class Bytes(NamedTuple):
    """The bytes ``begin`` to ``end`` (not included) of a body."""

    begin: int
    end: int


def begun(request: web.Request, size: int, headers: Mapping[str, str]) -> tuple[web.StreamResponse, Bytes]:
    """An answer with a body of known length that may be asked for in parts, and the part of it that is asked for (RFC
    9110, section 14): 200 with all of it, 206 with some, or 416 with nothing.

    Args:
        headers: the answer's, an ``ETag`` among them.
    """
    part = _asked(request, size, headers["ETag"])
    if part is not None and part.begin >= size:
        unmet = {"Content-Range": f"bytes */{size}", "Cache-Control": "no-store"}
        return web.Response(status=416, headers=unmet), Bytes(0, 0)
    response = web.StreamResponse(status=200 if part is None else 206, headers=headers)
    response.headers["Accept-Ranges"] = "bytes"
    if part is not None:
        response.headers["Content-Range"] = f"bytes {part.begin}-{part.end - 1}/{size}"
    part = part or Bytes(0, size)
    response.content_length = part.end - part.begin
    return response, part


async def answer_part(
    request: web.Request,
    size: int,
    headers: Mapping[str, str],
    write: Callable[[web.StreamResponse, Bytes], Awaitable[None]],
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


def _asked(request: web.Request, size: int, tag: str) -> Bytes | None:
    """The part of a body that a request asks for; None: all of it. One that begins behind the end has nothing in it."""
    condition = request.headers.get("If-Range")
    found = _RANGE.fullmatch(request.headers.get("Range", "").replace(" ", ""))
    if request.method != "GET" or found is None or not (found[1] or found[2]) or condition not in (None, tag):
        return None
    if not found[1]:
        return Bytes(max(size - int(found[2]), 0), size)
    first, last = int(found[1]), int(found[2]) if found[2] else size - 1
    if last < first <= int(found[2] or first):
        return Bytes(first, first)
    return None if last < first else Bytes(first, min(last + 1, size))


class Body:
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


async def send(body: Body, wanted: Range) -> None:
    """Write all of a range's body.

    Of zstd frames, each write ends with the first bytes of the next frame: some decoders fail on a read that ends where
    a frame does.

    Raises:
        Vanished: see ``Range.next``.
    """
    held: bytearray | bytes | memoryview = b""
    async for part in parts(wanted, begin(wanted)):
        assert part.data is not None
        if wanted.zstd:
            if held:
                await body.write(b"".join((held, ZSTD_MAGIC)))
                held = memoryview(part.data)[len(ZSTD_MAGIC) :]
            else:
                held = part.data
        elif part.data:
            await body.write(part.data)
        await asyncio.sleep(0)  # others have their turn, however fast this one reads
    if held:
        await body.write(held)
    await body.end()


async def send_part(body: Body, wanted: Range, layout: Layout, part: Bytes) -> None:
    """Write some bytes of a range's body.

    Raises:
        Vanished: see ``Range.next``, or the body is not as long as it was.
    """
    mark = layout.before(part.begin)
    at = mark.offset
    async for one in parts(wanted, mark):
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
