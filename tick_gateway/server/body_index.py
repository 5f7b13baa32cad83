"""Indexes of range bodies that never change: their length, and offsets from which they can be produced.

The length is found by producing the body once without sending it; for lines as they were published, nothing has to be
read. Seek points are noted on the way, so that a part far into the body costs no more than one at the beginning. A body
that has to be rendered (views, arrays, tables) is kept, compressed, and sent from that copy, so that it is rendered
only once. All of this is cached, within bounds.
"""

from __future__ import annotations

import asyncio
from bisect import bisect_right
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Final
from weakref import WeakValueDictionary

import zstandard

from ..history.threads import ReadingThreads
from ..model.cache import ByteBoundedCache
from .ranges import Range, SeekPoint, find_columns, parts, start_of
from .tables import Columns

_INDEX_BYTES: Final = 16 << 20  # for all indexes
_COPY_BYTES: Final = 64 << 20  # for all copies, compressed
_CHUNK_BYTES: Final = 256 << 10  # of a body, compressed together
_SEEK_POINTS: Final = 1024  # maximum for one body
_BETWEEN: Final = 1 << 20  # bytes between two of them, if that many suffice
_SEEK_POINT_BYTES: Final = 160  # approximate bytes of memory


class CompressedCopy:
    """A rendered body, compressed in chunks, which can be read from any offset."""

    def __init__(self) -> None:
        self.bytes = 0
        self._begins: list[int] = []
        self._chunks: list[bytes] = []

    def add(self, at: int, chunk: bytes) -> None:
        """Add the compressed chunk that begins at an offset of the body."""
        self._begins.append(at)
        self._chunks.append(chunk)
        self.bytes += len(chunk)

    def read(self, at: int) -> memoryview:
        """The content from an offset to the end of its chunk."""
        number = bisect_right(self._begins, at) - 1
        return memoryview(zstandard.ZstdDecompressor().decompress(self._chunks[number]))[at - self._begins[number] :]


def _no_copy() -> None:
    return None


@dataclass(slots=True)
class BodyIndex:
    """A body's length and seek points; of a table also its columns.

    Attributes:
        copy: returns the copy of the body; None: there is none (any more). It is called for each chunk, so that a
            client that reads slowly does not keep a copy alive that was evicted.
    """

    size: int
    seek_points: list[SeekPoint]
    columns: Columns | None = None
    copy: Callable[[], CompressedCopy | None] = _no_copy

    def before(self, offset: int) -> SeekPoint:
        """The nearest seek point at or before an offset."""
        return [seek_point for seek_point in self.seek_points if seek_point.offset <= offset][-1]

    @property
    def cost(self) -> int:
        """Approximate bytes of memory, without the copy."""
        return _SEEK_POINT_BYTES * (1 + len(self.seek_points) + len(self.columns or ())) + sum(
            map(len, self.columns or ())
        )


class BodyIndexCache:
    """The indexes of bodies, by entity tag, and the copies of rendered bodies (views, arrays, tables). The least
    recently used of both are evicted first. On the loop only.

    Args:
        copy_bytes: for all copies; one may take half of them.
        chunk_bytes: of a body, compressed together.

    Attributes:
        copies: by entity tag, including those in progress.
    """

    def __init__(self, copy_bytes: int = _COPY_BYTES, chunk_bytes: int = _CHUNK_BYTES) -> None:
        self.copies: ByteBoundedCache[str, CompressedCopy] = ByteBoundedCache(copy_bytes, lambda tag, copy: copy.bytes)
        self._indexes: ByteBoundedCache[str, BodyIndex] = ByteBoundedCache(_INDEX_BYTES, lambda tag, index: index.cost)
        self._locks: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()
        self._largest_copy = copy_bytes // 2
        self._chunk_bytes = chunk_bytes

    def __contains__(self, tag: str) -> bool:
        return tag in self._indexes

    async def get(self, tag: str, wanted: Range, workers: ReadingThreads) -> BodyIndex:
        """The index of a body; concurrent requests for it wait for one measurement.

        Raises:
            Vanished: ticks of the body are gone.
            ParameterError: see ``find_columns``.
        """
        async with self._locks.setdefault(tag, asyncio.Lock()):
            found = self._indexes.get(tag)
            if found is None:
                found = await self._measure(tag, wanted, workers)
                self._indexes.put(tag, found)
        wanted.columns = found.columns
        return found

    async def _measure(self, tag: str, wanted: Range, workers: ReadingThreads) -> BodyIndex:
        if wanted.plain:
            return await measure(wanted)
        copying = _CopyWriter(self.copies, tag, workers, self._largest_copy, self._chunk_bytes)
        try:
            found = await measure(wanted, copying)
            await copying.end()
        except BaseException:
            copying.drop()
            raise
        found.copy = partial(self.copies.get, tag)
        return found


class _CopyWriter:
    """Keeps the content of a body while it is measured, if there is room."""

    def __init__(
        self,
        copies: ByteBoundedCache[str, CompressedCopy],
        tag: str,
        workers: ReadingThreads,
        largest: int,
        chunk_bytes: int,
    ) -> None:
        self._copies = copies
        self._tag = tag
        self._workers = workers
        self._largest = largest
        self._chunk_bytes = chunk_bytes
        self._copy: CompressedCopy | None = CompressedCopy()
        self._pending: list[bytes | bytearray] = []
        self._size = self._at = 0
        copies.put(tag, self._copy)

    async def add(self, data: bytes | bytearray) -> None:
        """Keep the next piece."""
        if self._copy is None:
            return
        self._pending.append(data)
        self._size += len(data)
        if self._size >= self._chunk_bytes:
            await self._flush()

    async def end(self) -> None:
        """The body is complete."""
        if self._pending:
            await self._flush()

    def drop(self) -> None:
        """Discard the copy."""
        if self._kept:
            self._copies.pop(self._tag)
        self._copy, self._pending = None, []

    @property
    def _kept(self) -> bool:
        """Whether the copy is still in the cache: others may have displaced it."""
        return self._copy is not None and self._copies.get(self._tag) is self._copy

    async def _flush(self) -> None:
        data, at = b"".join(self._pending), self._at
        self._pending, self._size, self._at = [], 0, at + self._size
        chunk = await self._workers.run(zstandard.ZstdCompressor(level=1).compress, data)
        copy = self._copy
        if copy is None or not self._kept or copy.bytes + len(chunk) > self._largest:
            self.drop()
            return
        copy.add(at, chunk)
        self._copies.put(self._tag, copy)


async def measure(wanted: Range, copying: _CopyWriter | None = None) -> BodyIndex:
    """Measure a body.

    Raises:
        Vanished: ticks of the body are gone.
        ParameterError: see ``find_columns``.
    """
    await find_columns(wanted)
    size, seek_points, between = 0, [start_of(wanted)], _BETWEEN
    async for part in parts(wanted, seek_points[0], sizes=True):
        size += part.size
        if copying is not None and part.data is not None:
            await copying.add(part.data)
        if part.seek_point is not None and size - seek_points[-1].offset >= between:
            seek_points.append(part.seek_point._replace(offset=size))
            if len(seek_points) > _SEEK_POINTS:
                seek_points, between = seek_points[::2], 2 * between
        await asyncio.sleep(0)  # let others run
    return BodyIndex(size, seek_points, wanted.columns)
