"""The store: an open history, with a locked and recovered directory, an archive to read it, a pipeline to write it."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable
from pathlib import Path
from typing import ClassVar, Self

from ...bus.tick_bus import TickBus
from ...errors import HistoryError
from ...settings import DEFAULTS, Settings
from ..archive import MAX_DAMAGE, Archive
from ..engine import EngineStatus, HistoryEngine, Progress
from ..restore_bus import restore
from ..threads import ReadingThreads
from .commit_pipeline import CommitPipeline
from .limits import Limits
from .lock import DirectoryLock
from .opening import OpenedDirectory, open_directory
from .recorder import Recorder

log = logging.getLogger("tick_gateway.history")


class Store(HistoryEngine):
    """The history of one bus; see ``open_at``.

    Attributes:
        directory: its path.
        archive, pipeline: for reading, and for writing.
        damage: descriptions of what was wrong when it was opened.
    """

    writes: ClassVar[bool] = True

    def __init__(
        self,
        lock: DirectoryLock,
        archive: Archive,
        reading: ReadingThreads,
        pipeline: CommitPipeline,
        damage: list[str],
    ) -> None:
        super().__init__(pipeline.bus, archive)
        self.directory = lock.directory
        self.damage = damage
        self.pipeline = pipeline
        self._lock = lock
        self._reading = reading

    @classmethod
    def fits(cls, settings: Settings, followed: Path | None) -> bool:
        """See ``HistoryEngine.fits``."""
        return bool(settings.data)

    @classmethod
    def open(cls, settings: Settings, followed: Path | None, bus: TickBus, progress: Progress | None) -> Self:
        """See ``HistoryEngine.open``."""
        return cls.open_at(
            Path(settings.data), bus, Limits.of(settings), cache_bytes=settings.history_cache,
            queue_bytes=settings.history_queue, progress=progress,
        )  # fmt: skip

    @classmethod
    def open_at(
        cls,
        directory: Path,
        bus: TickBus,
        limits: Limits,
        *,
        cache_bytes: int = DEFAULTS.history_cache,
        queue_bytes: int = DEFAULTS.history_queue,
        progress: Progress | None = None,
    ) -> Self:
        """Lock and recover a directory, and start a bus, to which nothing was published yet, with its runs.

        If the directory cannot be written to, it is served all the same.

        Args:
            directory: created if it does not exist.
            cache_bytes, queue_bytes: as for ``Archive`` and ``CommitPipeline``.
            progress: called with the progress of reading the directory.

        Raises:
            Locked: another process keeps history there.
            HistoryError: the directory cannot be read.
        """
        lock = DirectoryLock(directory)
        opened = _open(lock, progress)
        # A run without any stored tick does not exist.
        runs = [run for run in opened.runs if run.segments and (run.tip >= 0 or run.id in opened.unclosed)]
        reading = ReadingThreads()
        archive = Archive(reading, cache_bytes)
        recorder = Recorder(directory, limits, runs, opened.left, lock)
        restore(bus, archive, runs, opened.unclosed)
        for segment in (one for run in runs for one in run.segments):
            segment.known = segment.sealed
        pipeline = CommitPipeline(bus, archive, recorder, queue_bytes)
        if opened.trouble:
            pipeline.fail_from_the_start(opened.trouble)
        return cls(lock, archive, reading, pipeline, opened.damage)

    def start(self, shown: Callable[[], None]) -> None:
        """See ``HistoryEngine.start``."""
        self._reading.start()
        self.pipeline.start(shown)

    def mark(self) -> int:
        """See ``HistoryEngine.mark``."""
        return self.pipeline.mark()

    async def settled(self, since: int = 0) -> bool:
        """See ``HistoryEngine.settled``; does not wait for a failing disk, nor for long for a slow one."""
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
        """See ``HistoryEngine.close``; also releases the directory."""
        self._reading.close()
        self.release()

    def holds(self, directory: str) -> bool:
        """See ``HistoryEngine.holds``."""
        return self._lock.held and os.path.realpath(directory) == os.path.realpath(self.directory)

    def release(self) -> None:
        """See ``HistoryEngine.release``."""
        self._lock.release()


def _open(lock: DirectoryLock, progress: Progress | None) -> OpenedDirectory:
    """Open a directory, for writing if that is possible."""
    directory, trouble = lock.directory, ""
    try:
        lock.acquire()
    except OSError as error:
        trouble = f"the directory cannot be written to: {error.strerror}"
    try:
        opened = open_directory(directory, writable=lock.held, progress=progress)
    except OSError as error:
        lock.release()
        file = error.filename or directory
        raise HistoryError(f"the history in {directory} cannot be read: {file}: {error.strerror}") from None
    except HistoryError:
        lock.release()
        raise
    opened.trouble = opened.trouble or trouble
    if opened.trouble:
        log.error("history in %s: %s; live goes on without it", directory, opened.trouble)
    for sentence in opened.damage:
        log.error("history: %s", sentence)
    return opened
