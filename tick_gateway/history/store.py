"""A history that is open: a directory that was locked and recovered, an archive to read it and a keeper to write it."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Callable
from pathlib import Path
from typing import IO, Final

from ..bus import TickBus
from ..errors import HistoryError, Locked
from ..ring import Batch, Run
from .archive import Archive
from .catalog import Progress, StoredRun, lock, read_directory, save_index
from .keeper import Keeper, ReadingThreads
from .recorder import Limits, Recorder
from .recovery import recover_tail
from .shelf import Shelf

log = logging.getLogger("tick_gateway.history")

_TICK_BYTES: Final = 200  # what the ring counts for Python's own of each tick


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
        self._restore(bus, runs)
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
                self._recover(run)
        for sentence in self.damage:
            log.error("history: %s", sentence)
        return [run for run in runs if run.segments]

    def _recover(self, run: StoredRun) -> None:
        folder = self.directory / run.id
        changed = False
        for segment in run.segments:
            try:
                recovered = recover_tail(folder, run, segment)
            except OSError as error:
                self.damage.append(f"{run.id}/{segment.name}: its end cannot be recovered: {error.strerror}")
                continue
            if recovered.cut:
                log.warning("history: %s/%s: %d torn bytes were cut off", run.id, segment.name, recovered.cut)
            changed = changed or recovered.entry is not None or bool(recovered.cut)
        run.entries.sort(key=lambda entry: entry.first)
        if changed:
            with contextlib.suppress(OSError):  # a cache: it is made anew at the next start
                save_index(folder, run)

    def _restore(self, bus: TickBus, stored: list[StoredRun]) -> None:
        runs: list[Run] = []
        for one in stored:
            run = Run(one.id, one.seq, one.origin, one.started)
            run.tip = run.shown = run.evicted = one.tip
            run.evicted_at = one.entries[-1].last_at if one.entries else 0
            run.count = sum(entry.count for entry in one.entries)
            run.lost = one.total - run.count
            run.ended, run.lost_tail, run.restored = one.ended or one is not stored[-1], one.lost_tail, True
            runs.append(run)
            if one.entries:
                self.archive.shelves[run.id] = Shelf(run, one.entries)
        bus.restore(runs, self._newest(bus, runs[-1]) if runs else [])

    def _newest(self, bus: TickBus, run: Run) -> list[Batch]:
        """The last ticks of a run, as many as memory takes."""
        shelf = self.archive.shelves.get(run.id)
        found: list[Batch] = []
        ticks = size = 0
        while shelf is not None and shelf.entries and ticks < bus.ring.max_ticks and size < bus.ring.max_size:
            at = len(shelf.entries) - 1
            while at >= 0 and found and shelf.entries[at].first >= found[0].first:
                at -= 1
            if at < 0 or (found and self._hole(shelf, at, found[0])):
                break
            entry = shelf.entries[at]
            try:
                batches = entry.batches(run, entry.volume.read(entry))
            except (HistoryError, OSError) as error:
                self.archive.fail(run, entry, error)
                if found:
                    break
                continue
            found = batches + found
            ticks += entry.count
            size += entry.size + _TICK_BYTES * entry.count
        if found:
            run.evicted, run.evicted_at = found[0].first - 1, found[0].ticks[0].at
        return found

    @staticmethod
    def _hole(shelf: Shelf, at: int, behind: Batch) -> bool:
        """Whether ticks are missing between a block and what was found behind it: memory holds no holes."""
        entry = shelf.entries[at]
        return entry.ordinal + entry.count != behind.ordinal
