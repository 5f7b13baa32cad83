"""Files of another program as history, read where they lie.

What stands on the shelves are portions of files: where in a file's content they begin and end, and what ticks they
hold. To read one, the file is decompressed from the nearest place on at which a frame begins, which may be its start;
so some files are kept open where they were read last, and reading on costs no more than it has to.

    at the start    scan: every file once, before anyone reads
    later on        take: what is published of the tailed file, shown at once, shelved as soon as it fills a portion
"""

from __future__ import annotations

import threading
from bisect import bisect_left
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Final
from zlib import crc32

import zstandard

from ..bus import TickBus
from ..errors import Damaged, TickError
from ..ring import Batch, Run
from ..tick import parse
from .archive import Archive
from .catalog import Progress, StoredRun
from .content import Content, File, Replaced
from .foreign import Directory, Gone
from .runs import Stretch
from .segment import pack_columns, step_of, unpack_columns
from .shelf import Block, Entry

PORTION_BYTES: Final = 512 * 1024
_PORTION_TICKS: Final = 8192
_MOST_REELS: Final = 4


class Portion(Entry):
    """A portion of a file; ``offset`` and ``frame`` are where it begins in the content and how long it is there.

    Attributes:
        columns: numbers and receive times of its ticks, packed; empty: they were received at even intervals.
    """

    __slots__ = ("columns",)
    columns: bytes


class Reel:
    """A file that is open for reading, and the content that lies next."""

    def __init__(self, file: File, offset: int) -> None:
        self.file = file
        self.content = Content(file.path, file.boundary_before(offset))
        self.at = self.content.given  # where what is kept begins
        self._kept = b""

    def read(self, offset: int, size: int) -> bytes:
        """Content from an offset that is not before ``at``."""
        parts = [self._kept[offset - self.at :]]
        have = len(parts[0])
        while have < size:
            data = self.content.more()
            if not data:
                raise Damaged(f"{self.file.name} ends before byte {offset + size} of its content")
            begin = max(offset - (self.content.given - len(data)), 0)
            parts.append(data[begin:])
            have += len(parts[-1])
        found = b"".join(parts)
        self.at, self._kept = offset + size, found[size:]
        return found[:size]


class Reels:
    """Files that are kept open for reading, a few; for any thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._reels: list[Reel] = []  # the one that was used last comes last

    def read(self, file: File, offset: int, size: int) -> bytes:
        """A part of a file's content.

        Raises:
            Damaged: it is not there any more.
            OSError: the file cannot be read.
        """
        reel = self._take(file, offset) or Reel(file, offset)
        try:
            found = reel.read(offset, size)
        except Replaced:
            reel.content.close()
            raise Damaged(f"{file.name} was replaced") from None
        except BaseException:
            reel.content.close()
            raise
        with self._lock:
            self._reels.append(reel)
            old = self._reels.pop(0) if len(self._reels) > _MOST_REELS else None
        if old is not None:
            old.content.close()
        return found

    def _take(self, file: File, offset: int) -> Reel | None:
        """The reel that is nearest before an offset; None: beginning anew is no farther."""
        with self._lock:
            mine = [reel for reel in self._reels if reel.file is file and reel.at <= offset]
            reel = max(mine, key=lambda reel: reel.at, default=None)
            if reel is None or reel.content.path != file.path or reel.at < file.boundary_before(offset)[1]:
                return None
            self._reels.remove(reel)
            return reel

    def close(self) -> None:
        with self._lock:
            reels, self._reels = self._reels, []
        for reel in reels:
            reel.content.close()


class FileVolume:
    """One file's portions (see ``shelf.Volume``)."""

    def __init__(self, file: File, reels: Reels, max_tick: int) -> None:
        self.file = file
        self._reels = reels
        self._max_tick = max_tick

    def read(self, entry: Entry) -> Block:
        """See ``Volume.read``."""
        assert isinstance(entry, Portion)
        ts: list[int] = []
        lines: list[bytes] = []
        tip = -1
        for line in self._reels.read(self.file, entry.offset, entry.frame).split(b"\n"):
            try:
                t, data = parse(line, self._max_tick)
            except TickError:
                continue
            if t > tip:
                ts.append(t)
                lines.append(data)
                tip = t
        content = b"\n".join([*lines, b""])
        if len(ts) != entry.count or crc32(content) != entry.crc:
            raise Damaged(f"{self.file.name} does not hold what it did at byte {entry.offset} of its content")
        if entry.columns:
            return Block(content, *unpack_columns(entry.columns, entry.count))
        steps, passed = max(entry.count - 1, 1), entry.last_at - entry.first_at
        return Block(content, ts, [entry.first_at + passed * index // steps for index in range(entry.count)])

    def frame(self, entry: Entry) -> bytes:
        """See ``Volume.frame``; made anew, since no frame of the file is this portion."""
        return zstandard.ZstdCompressor().compress(self.read(entry).lines)


@dataclass(slots=True)
class _Open:
    """A portion that is being filled."""

    file: File
    run: str
    begin: int  # in the content, as ``end``
    end: int
    ordinal: int
    first_at: int
    last_at: int
    ts: list[int] = field(default_factory=list)
    lines: list[bytes] = field(default_factory=list)
    ats: list[int] = field(default_factory=list)  # where they are known one by one

    @property
    def full(self) -> bool:
        return self.end - self.begin >= PORTION_BYTES or len(self.ts) >= _PORTION_TICKS


@dataclass(frozen=True, slots=True)
class _Mark:
    """Where a tick's line lies."""

    file: File
    begin: int
    end: int


class InPlace:
    """A directory of another program as the history of one bus.

    Args:
        archive: whose shelves are filled.
        shown: called on the loop when readers can have more.
    """

    def __init__(self, bus: TickBus, archive: Archive, max_tick: int, shown: Callable[[], None]) -> None:
        self._bus = bus
        self._archive = archive
        self._shown = shown
        self._max_tick = max_tick
        self._reels = Reels()
        self._volumes: dict[File, FileVolume] = {}
        self._open: _Open | None = None
        self._marks: dict[tuple[str, int], _Mark] = {}  # of ticks that are on their way through the bus

    def close(self) -> None:
        self._reels.close()

    # ---- at the start ----

    def scan(self, directory: Directory, progress: Progress | None = None) -> list[StoredRun]:
        """Read everything that is there, and say what runs it makes."""
        runs: dict[str, StoredRun] = {}
        filling: _Open | None = None
        while events := directory.read():
            for event in events:
                if isinstance(event, Gone):
                    filling = self._scanned(runs, filling)
                    self._forget(runs, event.file)
                    continue
                for piece in _pieces(event, filling):
                    if filling is not None and not _goes_on(filling, piece):
                        filling = self._scanned(runs, filling)
                    filling = _filled(filling, piece)
                    if filling.full:
                        filling = self._scanned(runs, filling)
            if progress is not None:
                progress(*directory.progress())
        self._scanned(runs, filling)
        return list(runs.values())

    def _scanned(self, runs: dict[str, StoredRun], filling: _Open | None) -> None:
        if filling is None:
            return
        run = runs.get(filling.run)
        if run is None:
            run = StoredRun(filling.run, len(runs), filling.first_at, filling.ts[0])
            runs[filling.run] = run
        filling.ordinal = run.total
        run.entries.append(self._portion(filling))
        run.total += len(filling.ts)
        run.tip = filling.ts[-1]

    def _forget(self, runs: dict[str, StoredRun], file: File) -> None:
        volume = self._volumes.pop(file, None)
        for run in runs.values():
            run.entries = [entry for entry in run.entries if entry.volume is not volume]

    # ---- later on: the thread that publishes ----

    def mark(self, stretch: Stretch, index: int) -> None:
        """Say where a tick lies, before it is published."""
        begin = stretch.ends[index - 1] if index else stretch.begin
        self._marks[stretch.life.id, stretch.ts[index]] = _Mark(stretch.file, begin, stretch.ends[index])

    def unmark(self, stretch: Stretch, index: int) -> None:
        """It was not taken in."""
        self._marks.pop((stretch.life.id, stretch.ts[index]), None)

    # ---- later on: the loop ----

    def take(self, batches: Sequence[Batch], ended: Sequence[Run]) -> None:
        """Take what was published since the last time, and the runs that were ended; the bus's ``sink``."""
        found = [part for batch in batches for part in self._split(batch)]
        for batch, marks in found:
            if self._open is not None and (not marks or not _is_next(self._open, batch, marks[0])):
                self._shelve()
            if marks:
                self._fill(batch, marks)
        if self._open is not None and any(run.id == self._open.run for run in ended):
            self._shelve()
        self._bus.show([batch for batch, _ in found])
        self._shown()

    def gone(self, file: File) -> None:
        """What was read of a file is not there any more."""
        volume = self._volumes.pop(file, None)
        if self._open is not None and self._open.file is file:
            self._archive.shelves[self._open.run].open.clear()
            self._open = None
        if volume is not None:
            for run in list(self._archive.shelves):
                self._archive.removed(run, volume)

    def _split(self, batch: Batch) -> Iterator[tuple[Batch, list[_Mark]]]:
        """A batch in parts that lie in one file each; no marks: it is not known where it lies."""
        marks = [self._marks.pop((batch.run.id, tick.t), None) for tick in batch.ticks]
        begin = 0
        for index in range(1, len(marks) + 1):
            if index < len(marks) and _file(marks[index]) is _file(marks[begin]):
                continue
            part = batch
            if index - begin < len(marks):
                ticks = batch.ticks[begin:index]
                size = sum(len(tick.data) for tick in ticks)
                part = Batch(batch.run, ticks, size, batch.lost_before and begin == 0, batch.ordinal + begin)
            yield part, [mark for mark in marks[begin:index] if mark is not None]
            begin = index

    def _fill(self, batch: Batch, marks: list[_Mark]) -> None:
        filling = self._open
        if filling is None:
            at = batch.ticks[0].at
            filling = self._open = _Open(
                marks[0].file, batch.run.id, marks[0].begin, marks[0].begin, batch.ordinal, at, at
            )
        filling.end, filling.last_at = marks[-1].end, batch.ticks[-1].at
        filling.ts += [tick.t for tick in batch.ticks]
        filling.lines += [tick.data for tick in batch.ticks]
        filling.ats += [tick.at for tick in batch.ticks]
        self._archive.wrote([batch])
        if filling.full:
            self._shelve()

    def _shelve(self) -> None:
        filling, self._open = self._open, None
        assert filling is not None
        self._archive.closed(filling.run, self._portion(filling))

    def _portion(self, filling: _Open) -> Portion:
        file, ts = filling.file, filling.ts
        volume = self._volumes.get(file)
        if volume is None:
            volume = self._volumes[file] = FileVolume(file, self._reels, self._max_tick)
        content = b"\n".join([*filling.lines, b""])
        portion = Portion(
            volume, filling.begin, 0, ordinal=filling.ordinal, first=ts[0], last=ts[-1], first_at=filling.first_at,
            last_at=filling.last_at, count=len(ts), step=step_of(ts), size=len(content),
            frame=filling.end - filling.begin, crc=crc32(content), raw=False,
        )  # fmt: skip
        portion.columns = pack_columns(ts, filling.ats) if filling.ats else b""
        return portion


def _file(mark: _Mark | None) -> File | None:
    return mark.file if mark is not None else None


def _is_next(filling: _Open, batch: Batch, mark: _Mark) -> bool:
    """Whether a batch goes on where a portion ends."""
    there = filling.run == batch.run.id and filling.file is mark.file and filling.end <= mark.begin
    return there and batch.ordinal == filling.ordinal + len(filling.ts)


# ---- portions of what is scanned ----


class _Piece(Stretch):
    """A part of a stretch that fits into one portion."""


def _pieces(stretch: Stretch, filling: _Open | None) -> Iterator[_Piece]:
    """A stretch in parts, of which the first goes on where ``filling`` ends."""
    count = len(stretch.ts)
    steps, passed = max(count - 1, 1), stretch.ats[1] - stretch.ats[0]
    begin = 0
    while begin < count:
        start = stretch.ends[begin - 1] if begin else stretch.begin
        if begin == 0 and filling is not None and (filling.file, filling.run) == (stretch.file, stretch.life.id):
            start = filling.begin
        stop = min(bisect_left(stretch.ends, start + PORTION_BYTES) + 1, begin + _PORTION_TICKS, count)
        piece = _Piece(stretch.file, stretch.life, stretch.ends[begin - 1] if begin else stretch.begin)
        piece.ts, piece.lines = stretch.ts[begin:stop], stretch.lines[begin:stop]
        piece.ends = stretch.ends[begin:stop]
        piece.ats = stretch.ats[0] + passed * begin // steps, stretch.ats[0] + passed * (stop - 1) // steps
        yield piece
        begin = stop


def _goes_on(filling: _Open, piece: _Piece) -> bool:
    return (filling.file, filling.run) == (piece.file, piece.life.id)


def _filled(filling: _Open | None, piece: _Piece) -> _Open:
    if filling is None:
        filling = _Open(piece.file, piece.life.id, piece.begin, piece.begin, 0, *piece.ats)
    filling.ts += piece.ts
    filling.lines += piece.lines
    filling.end, filling.last_at = piece.ends[-1], piece.ats[1]
    return filling
