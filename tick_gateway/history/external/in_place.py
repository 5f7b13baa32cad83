"""A directory of another program as history, read where it lies.

    at the start    Scan: every file once, before anyone reads
    later on        take: what is published of the tailed file, shown at once, shelved when it fills a portion

``Scan`` waits for the disk; ``announce`` and ``retract`` are called by the thread that publishes, the rest on the loop.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Final, NamedTuple, Self

from ...bus.ring import Batch, Run
from ...bus.tick_bus import TickBus
from ...settings import Settings
from ..archive import Archive
from ..engine import EngineStatus, HistoryEngine, Progress
from ..format.segment import pack_columns
from ..restoring import restore
from ..stored_run import StoredRun
from ..threads import ReadingThreads
from .directory import Directory, Gone
from .lines import File
from .portions import FileVolume, OpenFiles, Portion
from .run_splitter import Stretch

PORTION_BYTES: Final = 512 * 1024
PORTION_TICKS: Final = 8192


class _Filling:
    """A portion that is being filled: where in its file it lies so far, and its ticks."""

    def __init__(self, file: File, run: str, begin: int, ordinal: int) -> None:
        self.file = file
        self.run = run
        self.begin = self.end = begin
        self.ordinal = ordinal
        self.ts: list[int] = []
        self.lines: list[bytes] = []
        self.ats: list[int] = []  # of the ticks; of scanned ones, only some

    @property
    def full(self) -> bool:
        """Whether it is as large as a portion is to be."""
        return self.end - self.begin >= PORTION_BYTES or len(self.ts) >= PORTION_TICKS

    def portion(self, volume: FileVolume, columns: bytes = b"") -> Portion:
        """What was filled, to be added to its run's history; ``columns`` as in ``Portion``."""
        ats = self.ats[0], self.ats[-1]
        return Portion(volume, self.begin, self.end, self.ordinal, self.ts, self.lines, ats, columns)


class Volumes:
    """The files of a directory as volumes, one each."""

    def __init__(self, max_tick: int) -> None:
        self._open_files = OpenFiles()
        self._max_tick = max_tick
        self._volumes: dict[File, FileVolume] = {}

    def of(self, file: File) -> FileVolume:
        """A file's volume, made if there is none."""
        volume = self._volumes.get(file)
        if volume is None:
            volume = self._volumes[file] = FileVolume(file, self._open_files, self._max_tick)
        return volume

    def pop(self, file: File) -> FileVolume | None:
        """Forget a file's volume; returns it, or None."""
        return self._volumes.pop(file, None)


class Scan:
    """Everything that is in a directory, as portions.

    Attributes:
        runs: what was found, oldest first.
    """

    def __init__(self, directory: Directory, volumes: Volumes, progress: Progress | None = None) -> None:
        self.runs: dict[str, StoredRun] = {}
        self._volumes = volumes
        self._filling: _Filling | None = None
        while events := directory.read():
            for event in events:
                if isinstance(event, Gone):
                    self._forget(event.file)
                else:
                    self._add(event)
            if progress is not None:
                progress(*directory.progress())
        self._close()

    def _add(self, stretch: Stretch) -> None:
        filling = self._filling
        if filling is not None and (stretch.apart or (filling.file, filling.run) != (stretch.file, stretch.life.id)):
            self._close()
        count = len(stretch.ts)
        first, passed, steps = stretch.ats[0], stretch.ats[1] - stretch.ats[0], max(count - 1, 1)
        begin = 0
        while begin < count:
            filling = self._filling
            if filling is None:
                at = stretch.ends[begin - 1] if begin else stretch.begin
                filling = self._filling = _Filling(stretch.file, stretch.life.id, at, 0)
            stop = bisect_left(stretch.ends, filling.begin + PORTION_BYTES, begin) + 1
            stop = min(stop, begin + PORTION_TICKS - len(filling.ts), count)
            filling.ts += stretch.ts[begin:stop]
            filling.lines += stretch.lines[begin:stop]
            filling.ats += [first + passed * begin // steps, first + passed * (stop - 1) // steps]
            filling.end = stretch.ends[stop - 1]
            if filling.full:
                self._close()
            begin = stop

    def _close(self) -> None:
        filling, self._filling = self._filling, None
        if filling is None:
            return
        run = self.runs.get(filling.run)
        if run is None:
            run = StoredRun(filling.run, len(self.runs), filling.ats[0], filling.ts[0])
            self.runs[filling.run] = run
        filling.ordinal = run.total
        run.entries.append(filling.portion(self._volumes.of(filling.file)))
        run.total += len(filling.ts)
        run.tip = filling.ts[-1]

    def _forget(self, file: File) -> None:
        self._close()
        if (volume := self._volumes.pop(file)) is not None:
            for run in self.runs.values():
                run.entries.drop(volume)


class _Location(NamedTuple):
    """Where a tick's line lies, and whether it is ``apart`` from what came before it (see ``Stretch``)."""

    file: File
    begin: int
    end: int
    apart: bool


class InPlace(HistoryEngine):
    """The history of one bus that is a directory of another program.

    Args:
        directory: of which nothing was read yet.
        max_tick: the largest tick, bytes.
        cache_bytes: as for ``Archive``.
        progress: is told how far reading the directory has come.

    Attributes:
        directory: to be read on from here, by the one who publishes what comes.
    """

    def __init__(
        self,
        bus: TickBus,
        directory: Directory,
        max_tick: int,
        *,
        cache_bytes: int = 64 << 20,
        progress: Progress | None = None,
    ) -> None:
        self._reading = ReadingThreads()
        super().__init__(bus, Archive(self._reading, cache_bytes))
        self.directory = directory
        self._volumes = Volumes(max_tick)
        self._shown: Callable[[], None] = lambda: None
        self._filling: _Filling | None = None
        self._run: Run | None = None  # of what is being filled
        self._locations: dict[tuple[str, int], _Location] = {}  # of ticks that are on their way through the bus
        found = Scan(directory, self._volumes, progress).runs
        restore(bus, self.archive, [run for run in found.values() if run.entries], {})

    @classmethod
    def fits(cls, settings: Settings, followed: Path | None) -> bool:
        """See ``HistoryEngine.fits``."""
        return followed is not None and not settings.data

    @classmethod
    def open(cls, settings: Settings, followed: Path | None, bus: TickBus, progress: Progress | None) -> Self:
        """See ``HistoryEngine.open``."""
        assert followed is not None
        directory = Directory(followed, settings.max_tick)
        return cls(bus, directory, settings.max_tick, cache_bytes=settings.history_cache, progress=progress)

    def start(self, shown: Callable[[], None]) -> None:
        """See ``HistoryEngine.start``."""
        self._shown = shown
        self._reading.start()
        self.bus.divert(self.take)

    def close(self) -> None:
        """See ``HistoryEngine.close``."""
        self._reading.close()

    def status(self) -> EngineStatus:
        """See ``HistoryEngine.status``."""
        damaged = self.archive.damaged
        told = "read in place, from files of another program"
        return EngineStatus(told, degraded=damaged > 0, details={"damaged": damaged})

    def describe(self) -> str:
        """See ``HistoryEngine.describe``."""
        return "history is read from the files that are followed"

    # ---- the thread that publishes ----

    def announce(self, stretch: Stretch, index: int) -> None:
        """Say where a tick lies, before it is published."""
        begin = stretch.ends[index - 1] if index else stretch.begin
        apart = stretch.apart and not index
        self._locations[stretch.life.id, stretch.ts[index]] = _Location(stretch.file, begin, stretch.ends[index], apart)

    def retract(self, stretch: Stretch, index: int) -> None:
        """It was not taken in."""
        self._locations.pop((stretch.life.id, stretch.ts[index]), None)

    # ---- the loop ----

    def take(self, batches: Sequence[Batch], ended: Sequence[Run]) -> None:
        """Take what was published since the last time, and the runs that were ended; see ``TickBus.divert``."""
        found = [part for batch in batches for part in self._split(batch)]
        for batch, locations in found:
            if not locations or not self._is_next(batch, locations[0]):
                self._shelve()
            if locations:
                self._fill(batch, locations)
        if self._run in ended:
            self._shelve()
        self.bus.show([batch for batch, _ in found])
        self._shown()

    def gone(self, file: File) -> None:
        """What was read of a file is not there any more."""
        if self._filling is not None and self._filling.file is file:
            self._shelve()
        volume = self._volumes.pop(file)
        if volume is not None:
            for run in list(self.archive.histories):
                self.archive.removed(run, volume)

    def _split(self, batch: Batch) -> Iterator[tuple[Batch, list[_Location]]]:
        """A batch in parts that lie in one piece of a file each; no locations: it is not known where it lies."""
        places = [self._locations.pop((batch.run.id, tick.t), None) for tick in batch.ticks]
        begin = 0
        for index in range(1, len(places)):
            if not _goes_on(places[begin], places[index]):
                yield _part(batch, begin, index), [place for place in places[begin:index] if place is not None]
                begin = index
        yield _part(batch, begin, len(places)), [place for place in places[begin:] if place is not None]

    def _is_next(self, batch: Batch, location: _Location) -> bool:
        """Whether a batch goes on where the portion ends."""
        filling = self._filling
        if filling is None or self._run is not batch.run or filling.file is not location.file or location.apart:
            return False
        return filling.end <= location.begin and batch.ordinal == filling.ordinal + len(filling.ts)

    def _fill(self, batch: Batch, locations: list[_Location]) -> None:
        filling = self._filling
        if filling is None:
            filling = self._filling = _Filling(locations[0].file, batch.run.id, locations[0].begin, batch.ordinal)
            self._run = batch.run
        filling.end = locations[-1].end
        filling.ts += [tick.t for tick in batch.ticks]
        filling.lines += [tick.data for tick in batch.ticks]
        filling.ats += [tick.at for tick in batch.ticks]
        self.archive.wrote([batch])
        if filling.full:
            self._shelve()

    def _shelve(self) -> None:
        """Add what was filled to its run's history, where memory may let go of it."""
        filling, run = self._filling, self._run
        self._filling = self._run = None
        if filling is not None and run is not None:
            columns = pack_columns(filling.ts, filling.ats)
            self.archive.closed(run, filling.portion(self._volumes.of(filling.file), columns))


def _goes_on(first: _Location | None, next_: _Location | None) -> bool:
    """Whether a tick lies in the same piece of a file as those from ``first`` on; or none of them lies anywhere."""
    if first is None or next_ is None:
        return first is next_
    return first.file is next_.file and not next_.apart


def _part(batch: Batch, begin: int, end: int) -> Batch:
    """Some of a batch's ticks."""
    if end - begin == len(batch.ticks):
        return batch
    ticks = batch.ticks[begin:end]
    size = sum(len(tick.data) for tick in ticks)
    return Batch(batch.run, ticks, size, batch.lost_before and begin == 0, batch.ordinal + begin)
