"""Bodies of pulls, made and compressed once for all clients that get the same answer.

A tick never changes, so the run and the numbers of its ticks identify an answer. Bounded by bytes; the least recently
used are evicted first. On the loop's thread only; large bodies are compressed in others.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Hashable
from typing import Final

from ..history.threads import ReadingThreads
from ..model.cache import ByteBoundedCache
from ..model.view import weight
from ..wire.compression import Coding
from .unsent import Unsent

MAX_BYTES: Final = 16 << 20
_LEAST: Final = 256  # bytes; smaller bodies are not compressed
_KEEPING: Final = 300  # bytes of Python objects for a cached body
_LARGE: Final = 32 << 10  # bytes; compressing larger bodies would block the loop for too long
_AT_ONCE: Final = 4  # large bodies being compressed or waiting for a thread; others are not even made yet


class ResponseCache:
    """Cached bodies, by their content.

    Args:
        workers: threads that compress large bodies.

    Attributes:
        made, compressed: number of bodies since the start.
        unsent: large bodies that clients have yet to take.
    """

    def __init__(self, workers: ReadingThreads, max_bytes: int = MAX_BYTES) -> None:
        self._workers = workers
        self.unsent = Unsent()
        self.made = 0
        self.compressed = 0
        self._max_bytes = max_bytes
        self._kept: ByteBoundedCache[Hashable, bytes] = ByteBoundedCache(max_bytes, _cost)
        self._under_way: dict[Hashable, asyncio.Future[bytes]] = {}
        self._turns = asyncio.Semaphore(_AT_ONCE)

    async def get(
        self, key: Hashable, make: Callable[[], bytes], coding: Coding | None, size: int
    ) -> tuple[bytes, str]:
        """A body and its content coding (empty: none).

        Args:
            key: identifies the content; equal keys have equal bodies.
            size: approximate bytes. Only a few large bodies are made at the same time if they have to be compressed.
        """
        if coding is None:
            return self._body(key, make), ""
        whole = key, coding
        found = self._look(whole)
        if found is None and (under_way := self._under_way.get(whole)) is not None:
            found = await asyncio.shield(under_way)
        if found is None and size < _LARGE:
            body = self._body(key, make)
            if len(body) < _LEAST:
                return body, ""
            self.compressed += 1
            found = coding.whole(body)
            self._keep(whole, found)
        if found is None:
            job = asyncio.ensure_future(self._compress_large(key, make, coding))
            self._under_way[whole] = job
            job.add_done_callback(lambda _: self._under_way.pop(whole))
            found = await asyncio.shield(job)  # others may wait for it even if this client goes away
        return found, coding.name

    def _body(self, key: Hashable, make: Callable[[], bytes]) -> bytes:
        body = self._look(key)
        if body is None:
            body = make()
            self.made += 1
            self._keep(key, body)
        return body

    async def _compress_large(self, key: Hashable, make: Callable[[], bytes], coding: Coding) -> bytes:
        async with self._turns:
            self.compressed += 1
            found = await self._workers.run(coding.whole, self._body(key, make))
        self._keep((key, coding), found)
        return found

    def _look(self, key: Hashable) -> bytes | None:
        body = self._kept.get(key)
        return body if body is not None else self.unsent.find(key)

    def _keep(self, key: Hashable, body: bytes) -> None:
        if len(body) <= self._max_bytes // 4 and key not in self._kept:
            self._kept.put(key, body)


def _cost(key: Hashable, body: bytes) -> int:
    """The bytes that caching a body takes; for small bodies of long views, nearly all of it is the key."""
    return len(body) + weight(key) + _KEEPING
