"""A history that is open: a directory that was locked and recovered, an archive to read it and a keeper to write it."""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path
from typing import IO

from ..bus import TickBus
from ..errors import HistoryError, Locked
from .archive import Archive
from .catalog import Progress, StoredRun, lock, read_directory
from .keeper import Keeper, ReadingThreads
from .recorder import Limits, Recorder
from .restoring import recover, restore

log = logging.getLogger("tick_gateway.history")


class Store:
    """The history of one bus.

    Args:
        directory: where it lies; made if it is not there.
        cache_bytes, queue_bytes: as for ``Archive`` and ``Keeper``.
        progress: is told how far reading the directory has come.

    Attributes:
        archive, keeper: the two sides.
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
        runs = self._open(progress)
        recorder = Recorder(directory, limits, runs)
        restore(bus, self.archive, runs)
        self.keeper = Keeper(bus, self.archive, recorder, queue_bytes)
        if self._lock is None:
            self.keeper.fail_from_the_start(f"{directory} cannot be written to")

    def start(self, shown: Callable[[], None]) -> None:
        """Take this thread's running loop; see ``Keeper.start``."""
        self._reading.start()
        self.keeper.start(shown)

    def close(self) -> None:
        """Let the directory go, once the keeper is closed and nobody reads any more."""
        self._reading.close()
        self.release()

    def release(self) -> None:
        """Let go of the lock, without more: for a store that was never started."""
        if self._lock is not None:
            self._lock.close()
            self._lock = None

    # ---- opening ----

    def _open(self, progress: Progress | None) -> list[StoredRun]:
        try:
            self._lock = lock(self.directory)
        except Locked:
            raise
        except OSError as error:
            log.error("history: %s cannot be written to (%s); live goes on without it", self.directory, error.strerror)
        try:
            runs, self.damage = read_directory(self.directory, progress)
        except OSError as error:
            self.release()
            raise HistoryError(f"the history in {self.directory} cannot be read: {error.strerror}") from None
        if self._lock is not None:
            for run in runs:
                recover(self.directory, run, self.damage)
        for sentence in self.damage:
            log.error("history: %s", sentence)
        return [run for run in runs if run.segments]
