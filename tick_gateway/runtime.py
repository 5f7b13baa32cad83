"""The runtime: the parts of one gateway, passed to every transport and source. It knows none of their routes.

It is the one place that wires: here each part is given the others that it needs, and nobody else assigns to a runtime
or to its parts.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import time
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Final, Protocol

from .access.file_descriptors import Descriptors
from .bus.tick_bus import TickBus
from .delivery.fanout import FanOut
from .delivery.flush import FlushPolicy
from .delivery.patience import Patience
from .delivery.response_cache import ResponseCache
from .errors import NotServing, OwnSource
from .history import open_history
from .history.engine import HistoryEngine, Progress
from .history.external.source_file import Unread
from .history.resent_ticks import ResentTicks
from .history.threads import ReadingThreads
from .model.notices import EndReason
from .reading.feed import Feed
from .settings import Settings

PUBLISHER_SECONDS: Final = 2.5  # how long a shutdown waits for publishers to read their last answers
_WORKERS: Final = min(8, (os.cpu_count() or 1) + 2)


class AttachedSource(Protocol):
    """What a runtime needs from a source that publishes in its own process; see ``sources.base.SourceTask``."""

    @property
    def followed(self) -> Path | None:
        """The directory of another program that it follows; None: none."""
        ...

    @property
    def unread(self) -> Unread | None:
        """The part of its input that cannot be read; None: none."""
        ...

    @property
    def skipped(self) -> int:
        """Lines of its input that were not ticks."""
        ...

    def prepare(self, progress: Progress | None) -> None:
        """Called before history is opened."""
        ...

    def attach(self, runtime: Runtime) -> None:
        """Called when everything is wired and nothing has started."""
        ...

    def refusal(self) -> OwnSource | None:
        """The error for all other publishers; None: they may publish."""
        ...


class Runtime:
    """One gateway's bus, history, feed and fan-out, wired from its settings.

    Args:
        progress: called with the progress of reading the history.
        source: publishes in this process; None: the embedding program does, or nobody.

    Attributes:
        history: keeps the ticks, possibly in memory only.
        workers: threads for making answers: compression, reading files.
        response_cache: bodies of pulls.
        started: seconds since the epoch.
        draining: shutting down: long requests end, new ones are refused.
        closed: after ``close``, for good.

    Raises:
        HistoryError: the history cannot be opened.
        SettingError: the source cannot start as requested.
    """

    def __init__(
        self, settings: Settings, progress: Progress | None = None, source: AttachedSource | None = None
    ) -> None:
        s = self.settings = settings
        self.source = source
        self.workers = ReadingThreads(_WORKERS, "tick-gateway-work")
        self.response_cache = ResponseCache(self.workers)
        self.descriptors = Descriptors()
        self.started = time.time()
        self._publishers: set[Callable[[], Awaitable[None]]] = set()  # closes each publisher's connection
        self.draining = self.closed = False
        self._end_reason: EndReason = "shutdown"
        self.bus = TickBus(s)
        if source is not None:
            source.prepare(progress)
        followed = source.followed if source is not None else None
        self.history: HistoryEngine = open_history(s, self.bus, followed=followed, progress=progress)
        archive = self.history.archive
        self.resent = ResentTicks(self.bus, archive)
        compare = self.resent.compare if self.history.writes else None
        self.bus.use_history(archive.histories.__contains__, compare)
        self.feed = Feed(self.bus, archive)
        self.fanout = FanOut(
            self.bus, self.feed, FlushPolicy.of(s), Patience(), encoded_bytes=s.encoded_bytes,
            max_views=s.max_views,
        )  # fmt: skip
        if source is not None:
            source.attach(self)

    # ---- life ----

    def start(self) -> None:
        """Use this thread's running loop, and accept ticks from now on.

        Raises:
            NotServing: it was closed.
        """
        if self.closed:
            raise NotServing("the gateway is closed; a gateway has one life: make another")
        self.bus.open()
        self.fanout.start()
        self.workers.start()
        self.history.start(self.fanout.news)
        self.resent.start()

    def refuse(self, why: NotServing) -> None:
        """Accept no more ticks: publishers get this error."""
        self.bus.close(lambda: type(why)(str(why)))  # a new exception each time, with its own traceback

    def set_end_reason(self, reason: EndReason) -> None:
        """Set the reason that readers are given when it drains."""
        self._end_reason = reason

    async def drain(self) -> None:
        """End every publisher and reader for shutdown, after storing and showing what was published. Only the first
        call has an effect."""
        if self.draining:
            return
        self.draining = True
        with contextlib.suppress(TimeoutError):  # publishers first: ticks that they are told were published go out too
            async with asyncio.timeout(PUBLISHER_SECONDS):
                await asyncio.gather(*(leave() for leave in list(self._publishers)), return_exceptions=True)
        self.refuse(NotServing("the gateway is closed: nobody could read this tick"))
        self.fanout.stop()
        await self.history.drain(self.settings.drain_timeout)
        await self.fanout.drain(self.settings.drain_timeout, self._end_reason)

    def close(self) -> None:
        """Close the history, after the last answer."""
        self.closed = True
        self.resent.close()
        self.workers.close()
        self.history.close()

    @contextlib.contextmanager
    def publishing(self, leave: Callable[[], Awaitable[None]]) -> Iterator[None]:
        """Count a publisher's connection; ``leave`` ends it at shutdown, with its last answer."""
        self._publishers.add(leave)
        try:
            yield
        finally:
            self._publishers.discard(leave)

    def refresh(self) -> None:
        """Show pulls what was published, without waiting for a flush; with history, they see it once it is stored, some
        milliseconds later."""
        if self.bus.sink is None:
            self.bus.collect()
