"""Sends the body of a range, or a part of it, from a copy or freshly produced."""

from __future__ import annotations

import asyncio
from typing import Final

from aiohttp import web

from ..history.threads import ReadingThreads
from ..wire.compression import Coding
from ..wire.zstd_frame import MAGIC
from .body_index import BodyIndex
from .byte_ranges import ByteRange
from .ranges import Range, Vanished, parts, start_of

_LARGE: Final = 16 << 10  # bytes; compressing more would block the loop for too long
_PORTION: Final = 128 << 10  # bytes passed to the transport at once


class BodyWriter:
    """The body of an answer, compressed for this client (by ``workers``) if it asked for that."""

    def __init__(self, response: web.StreamResponse, workers: ReadingThreads, coding: Coding | None = None) -> None:
        self._response = response
        self._workers = workers
        self._stream = coding.stream() if coding is not None else None

    async def write(self, data: bytes | bytearray | memoryview) -> None:
        """Send content; returns when there is room for more."""
        if self._stream is not None:
            compress = self._stream.compress
            if len(data) > _LARGE:
                data = await self._workers.run(compress, data)
            else:
                data = compress(data)
        for at in range(0, len(data), _PORTION):
            await self._response.write(memoryview(data)[at : at + _PORTION])

    async def end(self) -> None:
        """Send what is left in the compressor."""
        if self._stream is not None:
            await self._response.write(self._stream.flush())


async def send(body: BodyWriter, wanted: Range, size: int | None = None) -> None:
    """Write all of a range's body.

    For zstd frames, each write ends with the first bytes of the next frame: some decoders fail on a read that ends
    exactly at the end of a frame.

    Args:
        size: the length that was announced; None: none was.

    Raises:
        Vanished: see ``Range.next``, or the length differs.
    """
    held: bytearray | bytes | memoryview = b""
    at = 0
    async for part in parts(wanted, start_of(wanted)):
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
        await asyncio.sleep(0)  # let others run, however fast this client reads
    if size is not None and at < size:
        raise Vanished
    if held:
        await body.write(held)
    await body.end()


async def send_part(body: BodyWriter, wanted: Range, index: BodyIndex, part: ByteRange) -> None:
    """Send some bytes of a range's body: from its copy if there is one, else freshly produced.

    Raises:
        Vanished: see ``Range.next``, or the length differs.
    """
    at = part.begin
    while at < part.end and (copy := index.copy()) is not None:
        if not (data := copy.read(at)[: part.end - at]):
            raise Vanished
        at += len(data)
        await body.write(data)
        await asyncio.sleep(0)  # let others run, however fast this client reads
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
