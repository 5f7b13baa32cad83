"""Bodies of pulls, made and compressed once for all who get the same answer.

A tick never changes, so what an answer holds is known by the run and the numbers in it. Bounded by bytes; what was not
asked for the longest goes first. On the loop's thread alone; large bodies are compressed on another.
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
_LEAST: Final = 256  # bytes: below, compression gains nothing
_KEEPING: Final = 300  # bytes of Python objects around a body that is kept
_LARGE: Final = 32 << 10  # bytes: above, compressing takes longer than the loop should stand still
_AT_ONCE: Final = 4  # large bodies that are compressed, or wait for a thread; others are not even made yet


class ResponseCache:
    """Bodies by what they hold.

    Args:
        workers: large ones are compressed there.

    Attributes:
        made, compressed: bodies that were, since the start.
        unsent: large ones that clients have yet to take.
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
            key: what it holds; equal ones have equal bodies.
            size: its bytes, about. Few large ones are made at once where they are to be compressed, which takes long.
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
            found = await asyncio.shield(job)  # others may wait for it when this one's client goes away
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
    """Bytes that keeping a body takes: of small ones of long views, the key has nearly all."""
    return len(body) + weight(key) + _KEEPING
