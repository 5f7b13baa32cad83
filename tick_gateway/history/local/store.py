"""A history that is open: a directory that was locked and recovered, an archive to read it, a pipeline to write it."""

from __future__ import annotations

import errno
import logging
import os
from collections.abc import Callable
from pathlib import Path
from typing import IO, ClassVar, Self

from ...bus.tick_bus import TickBus
from ...errors import HistoryError, Locked
from ...settings import DEFAULTS, Settings
from ..archive import MAX_DAMAGE, Archive
from ..engine import EngineStatus, HistoryEngine, Progress
from ..restoring import restore
from ..threads import ReadingThreads
from .commit import CommitPipeline
from .directory import LOCK, lock, read_directory
from .events import StorageEvent
from .limits import Limits
from .opening import Debt, recover
from .recorder import Recorder
from .run import LocalRun

log = logging.getLogger("tick_gateway.history")


class Store(HistoryEngine):
    """The history of one bus.

    Args:
        directory: where it lies; made if it is not there.
        cache_bytes, queue_bytes: as for ``Archive`` and ``CommitPipeline``.
        progress: is told how far reading the directory has come.

    Attributes:
        archive, pipeline: the two sides.
        damage: what was found to be wrong when it was opened, as sentences.

    Raises:
        Locked: another process keeps history there.
        HistoryError: the directory cannot be read.
    """

    writes: ClassVar[bool] = True

    def __init__(
        self,
        directory: Path,
        bus: TickBus,
        limits: Limits,
        *,
        cache_bytes: int = DEFAULTS.history_cache,
        queue_bytes: int = DEFAULTS.history_queue,
        progress: Progress | None = None,
    ) -> None:
        self.directory = directory
        self.damage: list[str] = []
        self._lock: IO[str] | None = None
        self._reading = ReadingThreads()
        super().__init__(bus, Archive(self._reading, cache_bytes))
        self._debt = Debt()
        runs = self._open(progress)
        recorder = Recorder(directory, limits, runs, self._prepare if self._debt.trouble else None, self._relock)
        restore(bus, self.archive, runs, self._debt.torn)
        for segment in (one for run in runs for one in run.segments):
            segment.known = segment.sealed
        self.pipeline = CommitPipeline(bus, self.archive, recorder, queue_bytes)
        if self._debt.trouble:
            self.pipeline.fail_from_the_start(self._debt.trouble)

    @classmethod
    def fits(cls, settings: Settings, followed: Path | None) -> bool:
        """See ``HistoryEngine.fits``."""
        return bool(settings.data)

    @classmethod
    def open(cls, settings: Settings, followed: Path | None, bus: TickBus, progress: Progress | None) -> Self:
        """See ``HistoryEngine.open``."""
        return cls(
            Path(settings.data), bus, Limits.of(settings), cache_bytes=settings.history_cache,
            queue_bytes=settings.history_queue, progress=progress,
        )  # fmt: skip

    def start(self, shown: Callable[[], None]) -> None:
        """See ``HistoryEngine.start``."""
        self._reading.start()
        self.pipeline.start(shown)

    def mark(self) -> int:
        """See ``HistoryEngine.mark``."""
        return self.pipeline.mark()

    async def settled(self, since: int = 0) -> bool:
        """See ``HistoryEngine.settled``; a disk that takes nothing, or is slow for long, is not waited for."""
        return await self.pipeline.settled(since)

    @property
    def idle(self) -> bool:
        """See ``HistoryEngine.idle``."""
        return self.pipeline.idle

    def status(self) -> EngineStatus:
        """See ``HistoryEngine.status``."""
        pipeline, archive = self.pipeline, self.archive
        ok, damage = pipeline.state == "ok", self.damage + archive.damage
        return EngineStatus(
            "ok" if ok else f"{pipeline.state}: {pipeline.reason}",
            degraded=not ok or bool(damage),
            details={
                "unstored": pipeline.unstored, "damaged": archive.damaged, "damage": damage[:MAX_DAMAGE],
            },
            writing=ok,
            bytes=pipeline.bytes,
            unstored=pipeline.unstored,
        )  # fmt: skip

    def describe(self) -> str:
        """See ``HistoryEngine.describe``."""
        place = os.path.join(self.directory, "")
        if self.pipeline.state != "ok":
            return (
                f"history in {place} cannot be written: {self.pipeline.reason}; ticks are kept in memory until it can"
            )
        runs = len(self.bus.runs)
        found = f" ({runs} {'run' if runs == 1 else 'runs'} there already)" if runs else ""
        return f"every tick is kept in {place}{found}"

    async def drain(self, seconds: float) -> None:
        """See ``HistoryEngine.drain``."""
        await self.pipeline.close(seconds)

    def close(self) -> None:
        """See ``HistoryEngine.close``; the directory is let go, too."""
        self._reading.close()
        self.release()

    def holds(self, directory: str) -> bool:
        """Whether this is who holds a directory's lock."""
        return self._lock is not None and os.path.realpath(directory) == os.path.realpath(self.directory)

    def release(self) -> None:
        """Let go of the lock, without more: for a store that was never started."""
        if self._lock is not None:
            self._lock.close()
            self._lock = None

    # ---- opening ----

    def _open(self, progress: Progress | None) -> list[LocalRun]:
        try:
            self._lock = lock(self.directory)
        except OSError as error:
            self._debt.trouble = f"the directory cannot be written to: {error.strerror}"
        try:
            runs, self.damage = read_directory(self.directory, progress)
            for run in runs:
                recover(run, self._debt, writable=self._lock is not None)
            self.damage += self._debt.damage
        except OSError as error:
            self.release()
            raise HistoryError(f"the history in {self.directory} cannot be read: {error.strerror}") from None
        except HistoryError:
            self.release()
            raise
        if self._debt.trouble:
            log.error("history in %s: %s; live goes on without it", self.directory, self._debt.trouble)
        for sentence in self.damage:
            log.error("history: %s", sentence)
        # A run of which no tick came to disk never was.
        return [run for run in runs if run.segments and (run.tip >= 0 or run.id in self._debt.torn)]

    def _relock(self) -> bool:
        """Hold the lock that lies in the directory now: one that was removed with it keeps nobody out. Returns whether
        it was. Called on the pipeline's thread.

        Raises:
            OSError: it cannot be had.
        """
        if self._lock is None:
            return False  # see ``_prepare``
        try:
            ours, there = os.fstat(self._lock.fileno()), os.stat(self.directory / LOCK)
            if (ours.st_dev, ours.st_ino) == (there.st_dev, there.st_ino):
                return False
        except FileNotFoundError:
            pass
        before, self._lock = self._lock, self._take_lock()
        before.close()
        return True

    def _take_lock(self) -> IO[str]:
        try:
            return lock(self.directory)
        except Locked as error:
            raise OSError(errno.EBUSY, str(error)) from None

    def _prepare(self, events: list[StorageEvent]) -> None:
        """What could not be done when the directory was opened; called on the pipeline's thread.

        Raises:
            OSError: it still cannot be done.
        """
        if self._lock is None:
            self._lock = self._take_lock()
        self._debt.pay(events)
