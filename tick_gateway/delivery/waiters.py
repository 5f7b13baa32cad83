"""Pulls that wait for a tick, and when they are released: at a flush, or together if flushes are frequent; and soon
after their client is gone, so that requests of clients that leave at once do not pile up.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable

from .flush import FlushPolicy


class Waiters:
    """Waiting pulls. On the loop's thread only.

    Args:
        policy: how long pulls gather, and how many are released between two turns of the loop.
    """

    def __init__(self, policy: Callable[[], FlushPolicy]) -> None:
        self._policy = policy
        self._waiters: set[asyncio.Future[None]] = set()
        self._gatherers: set[asyncio.Future[None]] = set()
        self._left: dict[asyncio.Future[None], Callable[[], bool]] = {}  # returns whether a waiter's client is gone
        self._timer: asyncio.TimerHandle | None = None

    def __len__(self) -> int:
        return len(self._waiters) + len(self._gatherers)

    async def wait(self, seconds: float, *, gather: bool = False, left: Callable[[], bool] | None = None) -> None:
        """Return when more was offered, or after this many seconds.

        Args:
            gather: if flushes are frequent, wait for some milliseconds of them, together with all others that gather.
            left: returns whether the client is gone, which ends the wait; called once a second.
        """
        loop = asyncio.get_running_loop()
        waiter = loop.create_future()
        (self._gatherers if gather else self._waiters).add(waiter)
        if left is not None:
            self._left[waiter] = left
        timer = loop.call_later(seconds, _release, [waiter])
        try:
            await waiter
        finally:
            timer.cancel()
            self._left.pop(waiter, None)
            self._gatherers.discard(waiter)
            self._waiters.discard(waiter)

    def flushed(self, *, busy: bool) -> None:
        """More was offered. ``busy``: flushes are frequent."""
        waiters, self._waiters = self._waiters, set()
        self._release_some(waiters)
        if not self._gatherers or self._timer is not None:
            return
        if busy:
            self._timer = asyncio.get_running_loop().call_later(self._policy().gather_seconds, self._release_gatherers)
        else:
            self._release_gatherers()

    def sweep(self) -> None:
        """Release waiters whose client is gone."""
        self._release_some({waiter for waiter, left in self._left.items() if left()})

    def release(self) -> None:
        """Release all waiters, for shutdown."""
        self.flushed(busy=False)
        self._release_gatherers()

    def _release_gatherers(self) -> None:
        self._timer = None
        gatherers, self._gatherers = self._gatherers, set()
        self._release_some(gatherers)

    def _release_some(self, waiters: set[asyncio.Future[None]]) -> None:
        """Release some per turn of the loop: each makes its answer at once, and all together would block the loop."""
        _release(waiters.pop() for _ in range(min(self._policy().waiters, len(waiters))))
        if waiters:
            asyncio.get_running_loop().call_soon(self._release_some, waiters)


def _release(waiters: Iterable[asyncio.Future[None]]) -> None:
    for waiter in waiters:
        if not waiter.done():
            waiter.set_result(None)
