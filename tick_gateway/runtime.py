"""The runtime: what every transport and source is handed. It holds the pieces and knows none of their routes."""

from __future__ import annotations

import os
import time
from collections.abc import Awaitable, Callable
from dataclasses import InitVar, dataclass, field
from pathlib import Path
from typing import Final

from .access.descriptors import Descriptors
from .bus.tick_bus import TickBus
from .delivery.fanout import FanOut
from .delivery.flush import FlushPolicy
from .delivery.patience import Patience
from .delivery.response_cache import ResponseCache
from .errors import NotServing
from .history.archive import Archive
from .history.external.lines import Unread
from .history.local.directory import Progress
from .history.local.limits import Limits
from .history.local.store import Store
from .history.threads import ReadingThreads
from .model.notices import EndReason
from .reading.feed import Feed
from .settings import Settings

_WORKERS: Final = min(8, (os.cpu_count() or 1) + 2)


def _workers() -> ReadingThreads:
    return ReadingThreads(_WORKERS, "tick-gateway-work")


@dataclass(slots=True)
class Runtime:
    """One gateway's bus, history, feed and fan-out, wired from its settings.

    Attributes:
        progress: is told how far reading the history has come, while the runtime is made.
        store: the history; None: ticks are kept in memory alone.

    Raises:
        HistoryError: the history cannot be opened.
    """

    settings: Settings
    progress: InitVar[Progress | None] = None
    bus: TickBus = field(init=False)
    store: Store | None = field(init=False, default=None)
    in_place: bool = field(init=False, default=False)  # without a store, files of another program are the history
    tailing: bool = field(init=False, default=False)  # a directory is followed: nobody else may publish
    reading: ReadingThreads = field(init=False, default_factory=ReadingThreads)  # for history without a store
    workers: ReadingThreads = field(init=False, default_factory=_workers)  # for answers: compressing, files as they lie
    response_cache: ResponseCache = field(init=False)  # bodies of pulls
    descriptors: Descriptors = field(init=False, default_factory=Descriptors)
    feed: Feed = field(init=False)
    fanout: FanOut = field(init=False)
    started: float = field(default_factory=time.time)  # seconds since the epoch
    own_source: str = ""  # what runs here and publishes, for OwnSource: meanwhile nobody else may
    passed_over: int = 0  # lines of the files that are followed that were no ticks
    unread: Unread = field(default_factory=Unread)  # what of those files cannot be read
    publishers: set[Callable[[], Awaitable[None]]] = field(default_factory=set)  # how to end each for shutdown
    closed: bool = False  # its life is over
    end_reason: EndReason = "shutdown"  # what readers are told when it drains
    draining: bool = False  # shutting down: long requests end, new ones are refused

    def __post_init__(self, progress: Progress | None) -> None:
        s = self.settings
        self.response_cache = ResponseCache(self.workers)
        self.bus = TickBus(
            ring=s.ring,
            ring_bytes=s.ring_bytes,
            inbox=s.inbox,
            inbox_bytes=s.inbox_bytes,
            max_tick=s.max_tick,
            nan=s.nan_policy,
            publish_timeout=s.publish_timeout,
        )
        if s.data:
            self.store = Store(
                Path(s.data), self.bus, Limits.of(s), cache_bytes=s.history_cache, queue_bytes=s.history_queue,
                progress=progress,
            )  # fmt: skip
        archive = self.store.archive if self.store is not None else Archive(self.reading, s.history_cache)
        self.bus.keeps = archive.histories.__contains__
        self.feed = Feed(self.bus, archive)
        self.fanout = FanOut(
            self.bus, self.feed, FlushPolicy.of(s), Patience(), encoded_bytes=s.encoded_bytes,
            max_views=s.max_views,
        )  # fmt: skip

    def start(self) -> None:
        """Take this thread's running loop, and ticks from now on.

        Raises:
            NotServing: it is over already.
        """
        if self.closed:
            raise NotServing("the gateway is closed; a gateway has one life: make another")
        self.bus.open()
        self.fanout.start()
        self.workers.start()
        if self.store is not None:
            self.store.start(self.fanout.news)
        else:
            self.reading.start()

    def refuse(self, why: NotServing) -> None:
        """Take no more ticks: whoever publishes is told why."""
        self.bus.close(lambda: type(why)(str(why)))  # each its own, with its own traceback

    def refresh(self) -> None:
        """Let pulls see what was published, without waiting for a flush; what history has to store first they see
        when it is stored, some milliseconds later."""
        if self.bus.sink is None:
            self.bus.collect()

    def mark(self) -> int:
        """Where the ticks begin that are published from now on; for ``settled``."""
        return self.store.pipeline.mark() if self.store is not None else 0

    async def settled(self, since: int = 0) -> bool:
        """Wait until what was published so far can be read; returns whether what was published behind the mark
        ``since`` outlives this process."""
        if self.store is None:
            self.bus.collect()
            return False
        return await self.store.pipeline.settled(since)

    async def drain(self) -> None:
        """Take no more ticks, store what was published, show it, and end every reader, for shutdown."""
        self.refuse(NotServing("the gateway is closed: nobody could read this tick"))
        self.fanout.stop()
        if self.store is not None:
            await self.store.pipeline.close(self.settings.drain_timeout)
        await self.fanout.drain(self.settings.drain_timeout, self.end_reason)

    def close(self) -> None:
        """Let history go, once nothing is answered any more."""
        self.closed = True
        self.workers.close()
        if self.store is not None:
            self.store.close()
        else:
            self.reading.close()
