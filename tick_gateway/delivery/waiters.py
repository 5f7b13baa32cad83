"""Pulls that wait for more, and when they are let go: at a flush, or together where flushes come close together; and
soon where their client is gone, so that those who ask and leave at once do not pile up until their time is over.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable

from .flush import FlushPolicy


class Waiters:
    """Pulls that wait. On the loop's thread alone.

    Args:
        policy: for how long some gather, and how many are let go between two turns of the loop.
    """

    def __init__(self, policy: Callable[[], FlushPolicy]) -> None:
        self._policy = policy
        self._waiters: set[asyncio.Future[None]] = set()
        self._gatherers: set[asyncio.Future[None]] = set()
        self._left: dict[asyncio.Future[None], Callable[[], bool]] = {}  # whether a waiter's client is gone
        self._timer: asyncio.TimerHandle | None = None

    def __len__(self) -> int:
        return len(self._waiters) + len(self._gatherers)

    async def wait(self, seconds: float, *, gather: bool = False, left: Callable[[], bool] | None = None) -> None:
        """Return when more was offered, or after so many seconds.

        Args:
            gather: where flushes follow each other closely, wait for some milliseconds' worth of them, together with
                all others who gather.
            left: whether the client is gone: nobody waits any longer then. It is asked once a second.
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
        """More was offered. ``busy``: the last time was just before."""
        waiters, self._waiters = self._waiters, set()
        self._release_some(waiters)
        if not self._gatherers or self._timer is not None:
            return
        if busy:
            self._timer = asyncio.get_running_loop().call_later(self._policy().gather_seconds, self._release_gatherers)
        else:
            self._release_gatherers()

    def sweep(self) -> None:
        """Let those go whose client is gone."""
        self._release_some({waiter for waiter, left in self._left.items() if left()})

    def release(self) -> None:
        """Let all of them go: the gateway shuts down."""
        self.flushed(busy=False)
        self._release_gatherers()

    def _release_gatherers(self) -> None:
        self._timer = None
        gatherers, self._gatherers = self._gatherers, set()
        self._release_some(gatherers)

    def _release_some(self, waiters: set[asyncio.Future[None]]) -> None:
        """Release some a turn of the loop: each makes its answer at once, and all together would hold up the rest."""
        _release(waiters.pop() for _ in range(min(self._policy().waiters, len(waiters))))
        if waiters:
            asyncio.get_running_loop().call_soon(self._release_some, waiters)


def _release(waiters: Iterable[asyncio.Future[None]]) -> None:
    for waiter in waiters:
        if not waiter.done():
            waiter.set_result(None)
