"""The engine for a directory of another program, which is read in place.

        at the start    DirectoryScan: every file once, before anyone reads
        later on        take: ticks published from the tailed file; shown at once, added to the run once they fill a
        chunk

``DirectoryScan`` waits for the disk; ``announce`` and ``retract`` are called by the publishing thread, everything else
on the loop.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Final, NamedTuple, Self

from ...bus.ring import Batch, Run
from ...bus.tick_bus import TickBus
from ...settings import Settings
from ..archive import Archive
from ..engine import EngineStatus, HistoryEngine, Progress
from ..format.segment import pack_columns
from ..restore_bus import LARGE_BYTES, restore
from ..stored_run import StoredRun
from ..threads import ReadingThreads
from .chunk_records import FileChunk, Spool
from .chunks import FileVolume, OpenFiles, ScannedTicks, chunk_of
from .directory import FileGone, SourceDirectory
from .run_splitter import TickSequence
from .source_file import SourceFile

CHUNK_BYTES: Final = 512 * 1024
CHUNK_TICKS: Final = 8192


class _ChunkBuilder:
    """A chunk that is being filled: its place in its file so far, and its ticks."""

    def __init__(self, file: SourceFile, run: str, begin: int, ordinal: int) -> None:
        self.file = file
        self.run = run
        self.begin = self.end = begin
        self.ordinal = ordinal
        self.ts: list[int] = []
        self.lines: list[bytes] = []
        self.ats: list[int] = []  # of the ticks; of scanned ones, only some

    @property
    def full(self) -> bool:
        """Whether it has the size of a chunk."""
        return self.end - self.begin >= CHUNK_BYTES or len(self.ts) >= CHUNK_TICKS

    def chunk(self, volume: FileVolume, columns: bytes = b"") -> FileChunk:
        """The filled chunk, for its run's history; ``columns`` as in ``FileChunk``."""
        ats = self.ats[0], self.ats[-1]
        return chunk_of(volume, self.begin, self.end, self.ordinal, self.ts, self.lines, ats, columns)


class Volumes:
    """The volumes of a directory's files."""

    def __init__(self, max_tick: int) -> None:
        self._open_files = OpenFiles()
        self._max_tick = max_tick
        self._spool = Spool()
        self._volumes: dict[SourceFile, FileVolume] = {}

    def of(self, file: SourceFile) -> FileVolume:
        """A file's volume, created if there is none."""
        volume = self._volumes.get(file)
        if volume is None:
            volume = self._volumes[file] = FileVolume(file, self._open_files, self._max_tick, self._spool)
        return volume

    def close(self) -> None:
        """Let go of what is known of them, once nobody reads."""
        self._spool.close()

    def pop(self, file: SourceFile) -> FileVolume | None:
        """Remove a file's volume; returns it, or None."""
        return self._volumes.pop(file, None)


class DirectoryScan:
    """The content of a directory, as chunks.

    Args:
        keep_bytes: so much of the newest ticks stays in memory for those who read them first (until ``forget_ticks``):
            a file whose frame is still open would have to be decompressed again, in addition to being followed.

    Attributes:
        runs: those found, oldest first.
    """

    def __init__(
        self,
        directory: SourceDirectory,
        volumes: Volumes,
        progress: Progress | None = None,
        *,
        keep_bytes: int = 0,
    ) -> None:
        self.runs: dict[str, StoredRun] = {}
        self._volumes = volumes
        self._builder: _ChunkBuilder | None = None
        self._kept: deque[tuple[FileVolume, int, int]] = deque()  # of chunks whose ticks are kept: offset, bytes
        self._kept_bytes, self._keep_bytes = 0, keep_bytes
        while events := directory.read():
            for event in events:
                if isinstance(event, FileGone):
                    self._forget(event.file)
                else:
                    self._add(event)
            if progress is not None:
                progress(*directory.progress())
        self._close()

    def _add(self, sequence: TickSequence) -> None:
        builder = self._builder
        if builder is not None and (sequence.apart or (builder.file, builder.run) != (sequence.file, sequence.run.id)):
            self._close()
        count = len(sequence.ts)
        first, elapsed, steps = sequence.ats[0], sequence.ats[1] - sequence.ats[0], max(count - 1, 1)
        begin = 0
        while begin < count:
            builder = self._builder
            if builder is None:
                at = sequence.ends[begin - 1] if begin else sequence.begin
                builder = self._builder = _ChunkBuilder(sequence.file, sequence.run.id, at, 0)
            stop = bisect_left(sequence.ends, builder.begin + CHUNK_BYTES, begin) + 1
            stop = min(stop, begin + CHUNK_TICKS - len(builder.ts), count)
            builder.ts += sequence.ts[begin:stop]
            builder.lines += sequence.lines[begin:stop]
            builder.ats += [first + elapsed * begin // steps, first + elapsed * (stop - 1) // steps]
            builder.end = sequence.ends[stop - 1]
            if builder.full:
                self._close()
            begin = stop

    def _close(self) -> None:
        builder, self._builder = self._builder, None
        if builder is None:
            return
        run = self.runs.get(builder.run)
        if run is None:
            run = StoredRun(builder.run, len(self.runs), builder.ats[0], builder.ts[0])
            self.runs[builder.run] = run
        builder.ordinal = run.total
        volume = self._volumes.of(builder.file)
        run.entries.append(builder.chunk(volume))
        run.total += len(builder.ts)
        run.tip = builder.ts[-1]
        self._keep(volume, builder.begin, ScannedTicks(builder.ts, builder.lines))

    def _keep(self, volume: FileVolume, offset: int, ticks: ScannedTicks) -> None:
        if not self._keep_bytes:
            return
        size = ticks.size
        volume.scanned[offset] = ticks
        self._kept.append((volume, offset, size))
        self._kept_bytes += size
        while self._has_enough():
            oldest, offset, size = self._kept.popleft()
            oldest.scanned.pop(offset, None)
            self._kept_bytes -= size

    def _has_enough(self) -> bool:
        """Whether the oldest chunk that is kept is not needed: the others are enough, or it is a large one that does
        not fit into memory (see ``restore``)."""
        oldest = self._kept[0][2]
        without = self._kept_bytes - oldest
        return without >= self._keep_bytes or (
            oldest >= LARGE_BYTES and 0 < without < self._keep_bytes < self._kept_bytes
        )

    def forget_ticks(self) -> None:
        """Drop the ticks that were kept."""
        for volume, offset, _ in self._kept:
            volume.scanned.pop(offset, None)
        self._kept.clear()
        self._kept_bytes = 0

    def _forget(self, file: SourceFile) -> None:
        self._close()
        if (volume := self._volumes.pop(file)) is not None:
            for run in self.runs.values():
                run.entries.drop(volume)


class _Location(NamedTuple):
    """The place of a tick's line, and whether it is ``apart`` from what came before it (see ``TickSequence``)."""

    file: SourceFile
    begin: int
    end: int
    apart: bool


class InPlace(HistoryEngine):
    """The history of one bus, if it is a directory of another program.

    Args:
        directory: with nothing read of it yet.
        max_tick: the largest tick, bytes.
        cache_bytes: as for ``Archive``.
        progress: called with the progress of reading the directory.

    Attributes:
        directory: for whoever publishes new ticks to read on.
    """

    def __init__(
        self,
        bus: TickBus,
        directory: SourceDirectory,
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
        self._builder: _ChunkBuilder | None = None
        self._run: Run | None = None  # of the chunk that is being filled
        self._locations: dict[tuple[str, int], _Location] = {}  # of ticks that were announced
        scan = DirectoryScan(directory, self._volumes, progress, keep_bytes=bus.ring.max_size)
        restore(bus, self.archive, [run for run in scan.runs.values() if run.entries], {})
        scan.forget_ticks()

    @classmethod
    def fits(cls, settings: Settings, followed: Path | None) -> bool:
        """See ``HistoryEngine.fits``."""
        return followed is not None and not settings.data

    @classmethod
    def open(cls, settings: Settings, followed: Path | None, bus: TickBus, progress: Progress | None) -> Self:
        """See ``HistoryEngine.open``."""
        assert followed is not None
        directory = SourceDirectory(followed, settings.max_tick)
        return cls(bus, directory, settings.max_tick, cache_bytes=settings.history_cache, progress=progress)

    def start(self, shown: Callable[[], None]) -> None:
        """See ``HistoryEngine.start``."""
        self._shown = shown
        self._reading.start()
        self.bus.divert(self.take)

    def close(self) -> None:
        """See ``HistoryEngine.close``."""
        self._reading.close()
        self._volumes.close()

    def status(self) -> EngineStatus:
        """See ``HistoryEngine.status``."""
        damaged = self.archive.damaged
        told = "read in place, from files of another program"
        return EngineStatus(told, degraded=damaged > 0, details={"damaged": damaged})

    def describe(self) -> str:
        """See ``HistoryEngine.describe``."""
        return "history is read from the files that are followed"

    # ---- called by the publishing thread ----

    def announce(self, sequence: TickSequence, index: int) -> None:
        """Announce the location of a tick, before it is published."""
        begin = sequence.ends[index - 1] if index else sequence.begin
        apart = sequence.apart and not index
        self._locations[sequence.run.id, sequence.ts[index]] = _Location(
            sequence.file, begin, sequence.ends[index], apart
        )

    def retract(self, sequence: TickSequence, index: int) -> None:
        """The announced tick was not accepted."""
        self._locations.pop((sequence.run.id, sequence.ts[index]), None)

    # ---- called on the loop ----

    def take(self, batches: Sequence[Batch], ended: Sequence[Run]) -> None:
        """Take what was published since the last call, and the runs that ended; see ``TickBus.divert``."""
        found = [part for batch in batches for part in self._split(batch)]
        for batch, locations in found:
            if not locations or not self._is_next(batch, locations[0]):
                self._finish_chunk()
            if locations:
                self._fill(batch, locations)
        if self._run in ended:
            self._finish_chunk()
        self.bus.show([batch for batch, _ in found])
        self._shown()

    def gone(self, file: SourceFile) -> None:
        """What was read of a file is no longer there."""
        if self._builder is not None and self._builder.file is file:
            self._finish_chunk()
        volume = self._volumes.pop(file)
        if volume is not None:
            for run in list(self.archive.histories):
                self.archive.removed(run, volume)

    def _split(self, batch: Batch) -> Iterator[tuple[Batch, list[_Location]]]:
        """Split a batch into parts that are each contiguous in a file; no locations: their place is unknown."""
        places = [self._locations.pop((batch.run.id, tick.t), None) for tick in batch.ticks]
        begin = 0
        for index in range(1, len(places)):
            if not _goes_on(places[begin], places[index]):
                yield _part(batch, begin, index), [place for place in places[begin:index] if place is not None]
                begin = index
        yield _part(batch, begin, len(places)), [place for place in places[begin:] if place is not None]

    def _is_next(self, batch: Batch, location: _Location) -> bool:
        """Whether a batch continues the chunk."""
        builder = self._builder
        if builder is None or self._run is not batch.run or builder.file is not location.file or location.apart:
            return False
        return builder.end <= location.begin and batch.ordinal == builder.ordinal + len(builder.ts)

    def _fill(self, batch: Batch, locations: list[_Location]) -> None:
        builder = self._builder
        if builder is None:
            builder = self._builder = _ChunkBuilder(locations[0].file, batch.run.id, locations[0].begin, batch.ordinal)
            self._run = batch.run
        builder.end = locations[-1].end
        builder.ts += [tick.t for tick in batch.ticks]
        builder.lines += [tick.data for tick in batch.ticks]
        builder.ats += [tick.at for tick in batch.ticks]
        self.archive.wrote([batch])
        if builder.full:
            self._finish_chunk()

    def _finish_chunk(self) -> None:
        """Add the filled chunk to its run's history, after which memory may evict its ticks."""
        builder, run = self._builder, self._run
        self._builder = self._run = None
        if builder is not None and run is not None:
            columns = pack_columns(builder.ts, builder.ats)
            self.archive.closed(run, builder.chunk(self._volumes.of(builder.file), columns))


def _goes_on(first: _Location | None, next_: _Location | None) -> bool:
    """Whether a tick is in the same contiguous part of a file as those from ``first`` on; or both have no location."""
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
