"""A history that is open: a directory that was locked and recovered, an archive to read it, a pipeline to write it."""

from __future__ import annotations

import errno
import logging
import os
from collections.abc import Callable
from pathlib import Path
from typing import IO

from ...bus.tick_bus import TickBus
from ...errors import HistoryError, Locked
from ..archive import Archive
from ..restoring import restore
from ..threads import ReadingThreads
from .commit import CommitPipeline
from .directory import LOCK, Progress, lock, read_directory
from .events import StorageEvent
from .limits import Limits
from .opening import Debt, recover
from .recorder import Recorder
from .run import LocalRun

log = logging.getLogger("tick_gateway.history")


class Store:
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

    def __init__(
        self,
        directory: Path,
        bus: TickBus,
        limits: Limits,
        *,
        cache_bytes: int = 64 << 20,
        queue_bytes: int = 64 << 20,
        progress: Progress | None = None,
    ) -> None:
        self.directory = directory
        self.damage: list[str] = []
        self._lock: IO[str] | None = None
        self._reading = ReadingThreads()
        self.archive = Archive(self._reading, cache_bytes)
        self._debt = Debt()
        runs = self._open(progress)
        recorder = Recorder(directory, limits, runs, self._prepare if self._debt.trouble else None, self._relock)
        restore(bus, self.archive, runs, self._debt.torn)
        for segment in (one for run in runs for one in run.segments):
            segment.known = segment.sealed
        self.pipeline = CommitPipeline(bus, self.archive, recorder, queue_bytes)
        if self._debt.trouble:
            self.pipeline.fail_from_the_start(self._debt.trouble)

    def start(self, shown: Callable[[], None]) -> None:
        """Take this thread's running loop; see ``CommitPipeline.start``."""
        self._reading.start()
        self.pipeline.start(shown)

    def close(self) -> None:
        """Let the directory go, once the pipeline is closed and nobody reads any more."""
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
