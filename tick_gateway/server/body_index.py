"""The index of a range's body that never changes: its length, and the places from which it can be made again.

The length is found by going through the body once without sending it; of lines as they were published, that needs no
reading. On the way, seek points are noted, so that bytes far behind cost no more than those at the beginning. What has
to be made for this (views, arrays, tables) is kept, compressed, and sent from there, so that it is made once. All of it
is kept for whoever asks next, within bounds.
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

_INDEX_BYTES: Final = 16 << 20  # that all indexes may take
_COPY_BYTES: Final = 64 << 20  # that all copies may take, compressed
_CHUNK_BYTES: Final = 256 << 10  # of a body, that are compressed together
_SEEK_POINTS: Final = 1024  # of one body, at most
_BETWEEN: Final = 1 << 20  # bytes between two of them, where so many suffice
_SEEK_POINT_BYTES: Final = 160  # of memory, about


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


def _no_copy() -> None:
    return None


@dataclass(slots=True)
class BodyIndex:
    """How long a body is, and from where on it can be made; of a table also its columns.

    Attributes:
        copy: finds the copy of the body; None: there is none, or none any more. It is asked for each chunk, so that
            none outlives the bounds for a client that reads slowly.
    """

    size: int
    seek_points: list[SeekPoint]
    columns: Columns | None = None
    copy: Callable[[], CompressedCopy | None] = _no_copy

    def before(self, offset: int) -> SeekPoint:
        """The nearest place from which on it can be made."""
        return [seek_point for seek_point in self.seek_points if seek_point.offset <= offset][-1]

    @property
    def cost(self) -> int:
        """Bytes of memory, about, without the copy."""
        return _SEEK_POINT_BYTES * (1 + len(self.seek_points) + len(self.columns or ())) + sum(
            map(len, self.columns or ())
        )


class BodyIndexCache:
    """The indexes of bodies, by their entity tags, and the copies of those that are made for it (views, arrays,
    tables). Both keep what was asked for last. On the loop alone.

    Args:
        copy_bytes: that all copies may take; one may take half of them.
        chunk_bytes: of a body, that are compressed together.

    Attributes:
        copies: by entity tag, those that are being made included.
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
        """The index of a body, measured for all who ask for it at the same time by the first of them.

        Raises:
            Vanished: ticks are gone that are to be measured.
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
    """Keeps what is made of a body while it is measured, as far as there is room."""

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
        """Keep what comes next."""
        if self._copy is None:
            return
        self._pending.append(data)
        self._size += len(data)
        if self._size >= self._chunk_bytes:
            await self._flush()

    async def end(self) -> None:
        """That was all."""
        if self._pending:
            await self._flush()

    def drop(self) -> None:
        """Keep nothing of it."""
        if self._kept:
            self._copies.pop(self._tag)
        self._copy, self._pending = None, []

    @property
    def _kept(self) -> bool:
        """Whether the copy is in the cache still: others that are being made may have taken its room."""
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
    """Go through a body.

    Raises:
        Vanished: ticks are gone that are to be measured.
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
        await asyncio.sleep(0)  # others have their turn
    return BodyIndex(size, seek_points, wanted.columns)
