"""Writing history: ticks into the open block, flush by flush; closing blocks, rotating segments, letting old ones go.

    write(batches) ── compress, flush ──► segment, then journal      now they outlive this process
                        block full ─────► frame's end and foot       now the block can be served as it lies
                        segment full ───► sealed, index saved        now it never changes again

Whatever fails raises OSError; what was written before stands, and ``resume`` mends the rest when the disk works again.
Used by one thread. The caller passes receive times; only the ages of blocks and segments are taken from a clock.
"""

from __future__ import annotations

import contextlib
import errno
import os
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple
from zlib import crc32

import zstandard

from ..ring import Batch, Run
from .catalog import INDEX, StoredRun, foot_of, journal_path, save_index
from .recovery import recover_tail
from .segment import Flush, Foot, JournalHead
from .shelf import Entry
from .volume import Segment, segment_name


@dataclass(frozen=True, slots=True)
class Limits:
    """What history is kept by; ages in seconds, 0: no bound.

    Attributes:
        block_bytes, block_ticks, block_age: when a block is closed.
        segment_bytes, segment_age: when a segment is sealed.
        retain_bytes, retain_age: what sealed segments may take, and how old their newest tick may be.
        level: of the compression, 1 to 19.
        fsync: ``never``, ``interval`` or ``block``.
        fsync_interval: seconds.
    """

    block_bytes: int = 1 << 20
    block_ticks: int = 8192
    block_age: float = 60.0
    segment_bytes: int = 64 << 20
    segment_age: float = 86400.0
    retain_bytes: int = 0
    retain_age: float = 0.0
    level: int = 3
    fsync: str = "interval"
    fsync_interval: float = 1.0


class Closed(NamedTuple):
    """A block was closed (or recovered): from here on it is read from disk."""

    run: str
    entry: Entry


class Removed(NamedTuple):
    """A segment was deleted."""

    run: str
    segment: Segment


Event = Closed | Removed


@dataclass(slots=True)
class _Block:
    """The open block."""

    offset: int
    ordinal: int
    began: float  # monotonic seconds
    compressor: zstandard.ZstdCompressionObj
    written: int = 0  # bytes of its frame in the file
    crc: int = 0  # of those
    size: int = 0  # of its lines
    ts: list[int] = field(default_factory=list)
    ats: list[int] = field(default_factory=list)
    flushed: int = 0  # how many of its ticks the journal has


class Recorder:
    """Writes one directory, whose lock the caller holds.

    Attributes:
        runs: what is stored, oldest first; this thread's own.
        events: what happened, for the caller to take away.
        size: bytes of all segments.

    Args:
        runs: what is stored already.
        prepare: what could not be done when the directory was opened; it comes before all writing, raises OSError
            where it still cannot be done, and is called again then.
    """

    def __init__(
        self,
        directory: Path,
        limits: Limits,
        runs: Sequence[StoredRun] = (),
        prepare: Callable[[list[Event]], None] | None = None,
    ) -> None:
        self.runs = {run.id: run for run in runs}
        self.events: list[Event] = []
        self._directory = directory
        self._limits = limits
        self._run: StoredRun | None = None
        self._segment: Segment | None = None
        self._block: _Block | None = None
        self._fd = self._journal = -1
        self._segment_began = 0.0
        self._prepare = prepare
        self._broken = prepare is not None  # something failed half way: resume() comes before the next write
        self._dirty = False  # written since the last fsync
        self._synced = time.monotonic()

    @property
    def size(self) -> int:
        return sum(segment.size for run in self.runs.values() for segment in run.segments)

    # ---- writing ----

    def write(self, batches: Sequence[Batch]) -> None:
        """Add batches, in order, and flush: when this returns, they outlive the process.

        Raises:
            OSError: not all of them were written; ``resume`` comes next.
        """
        try:
            for batch in batches:
                self._add(batch)
            self._flush()
            if self._limits.fsync == "interval":
                self._sync_by_time()
        except OSError:
            self._broken = True
            raise

    def resume(self) -> None:
        """After a failure: cut what is torn back to what was acknowledged, and close it.

        Raises:
            OSError: the disk does not work yet.
        """
        run, segment = self._run, self._segment
        self._close_files()
        if self._prepare is not None:
            self._prepare(self.events)
            self._prepare = None
        if run is not None and segment is not None and segment.path.exists():
            folder = self._directory / run.id
            before = segment.size
            recovered = recover_tail(folder, run, segment)
            if recovered.entry is not None:
                self.events.append(Closed(run.id, recovered.entry))
            if not segment.size:  # no block came into it, and an empty file is no zstd file
                segment.path.unlink()
                run.segments.remove(segment)
            if segment.size != before:
                self._save_index(run)
        if run is not None:  # it had counted what did not come to disk
            last = run.entries[-1] if run.entries else None
            run.total, run.tip = (last.ordinal + last.count, last.last) if last else (0, -1)
        self._run = self._segment = None
        self._broken = False

    @property
    def broken(self) -> bool:
        return self._broken

    def end(self, run: Run) -> None:
        """A run is over: close its block, say so on disk, and seal its segment.

        Raises:
            OSError: as ``write``.
        """
        stored = self.runs.get(run.id)
        if stored is None or stored.ended or stored.tip < 0:  # nothing of it came to disk
            return
        lost_tail = run.lost_tail or stored.tip < run.tip
        try:
            self._switch(stored)
            self._close_block()
            self._open_segment(stored.tip, full=True)
            assert self._segment is not None
            foot = Foot(
                stored.id, stored.seq, stored.started, stored.origin, stored.total, stored.tip, stored.tip,
                0, 0, 0, 0, 0, 0, 0, b"", True, lost_tail,
            )  # fmt: skip
            packed = foot.pack()
            self._put(packed)
            self._segment.size += len(packed)
            stored.ended, stored.lost_tail = True, lost_tail
            self._seal()
        except OSError:
            self._broken = True
            raise

    def maintain(self) -> None:
        """What time alone asks for: close an old block, seal an old segment, let go of what is too old or too much.

        Raises:
            OSError: as ``write``.
        """
        now = time.monotonic()
        try:
            if self._block is not None and now - self._block.began >= self._limits.block_age:
                self._close_block()
            self._seal_if_due(now)
            if self._block is not None:
                self._check_there()
            if self._limits.fsync == "interval":
                self._sync_by_time()
            self._retire()
        except OSError:
            self._broken = True
            raise

    def close(self) -> None:
        """Close the open block and save the index, for a clean end.

        Raises:
            OSError: it could not be done; the next start recovers it.
        """
        try:
            if not self._broken:
                self._close_block()
                if self._run is not None:
                    self._sync()
                    self._save_index(self._run)
        finally:
            self._drop_files()

    def _add(self, batch: Batch) -> None:
        run = self._stored(batch.run)
        if run is not self._run:
            self._switch(run)
        if self._block is not None and batch.ordinal != run.total:
            self._close_block()  # a hole lies between: the next block's ordinal tells of it
        self._open_segment(batch.first)
        block = self._block = self._block or self._begin_block(batch.ordinal)
        lines = b"\n".join([tick.data for tick in batch.ticks] + [b""])
        block.ts += [tick.t for tick in batch.ticks]
        block.ats += [tick.at for tick in batch.ticks]
        block.size += len(lines)
        run.total, run.tip = batch.ordinal + len(batch.ticks), batch.last
        self._put(block.compressor.compress(lines))
        if block.size >= self._limits.block_bytes or len(block.ts) >= self._limits.block_ticks:
            self._close_block()
            self._seal_if_due(time.monotonic())

    def _stored(self, run: Run) -> StoredRun:
        stored = self.runs.get(run.id)
        if stored is None:
            stored = self.runs[run.id] = StoredRun(run.id, run.seq, run.started, run.first)
        return stored

    def _switch(self, run: StoredRun) -> None:
        """Go over to another run; the one before it has no more ticks to come."""
        if self._run is run:
            return
        self._close_block()
        if self._run is not None:
            self._seal()
        self._run = run

    def _begin_block(self, ordinal: int) -> _Block:
        """Begin a block behind what the segment has; the journal says so before any of it is written."""
        run, segment = self._run, self._segment
        assert run is not None and segment is not None
        head = JournalHead(run.seq, run.started, run.origin, ordinal, segment.first, segment.size)
        os.ftruncate(self._journal, 0)
        self._journal_end = _write(self._journal, head.pack(), 0)
        compressor = zstandard.ZstdCompressor(level=self._limits.level, write_content_size=False).compressobj()
        return _Block(segment.size, ordinal, time.monotonic(), compressor)

    def _flush(self) -> None:
        """Bring the open block to disk as far as it came, and vouch for it."""
        block = self._block
        if block is None or block.flushed == len(block.ts):
            return
        self._put(block.compressor.flush(zstandard.COMPRESSOBJ_FLUSH_BLOCK))
        flush = Flush(block.written, block.crc, block.ts[block.flushed :], block.ats[block.flushed :])
        self._journal_end += _write(self._journal, flush.pack(), self._journal_end)
        block.flushed, block.crc = len(block.ts), 0

    _journal_end = 0  # where the next record goes

    def _put(self, data: bytes) -> None:
        """Write to the segment, behind all that was written."""
        if not data:
            return
        assert self._segment is not None
        block = self._block
        at = self._segment.size + (block.written if block else 0)
        _write(self._fd, data, at)
        self._dirty = True
        if block is not None:
            block.written += len(data)
            block.crc = crc32(data, block.crc)

    def _close_block(self) -> None:
        block = self._block
        if block is None:
            return
        assert self._run is not None and self._segment is not None
        self._put(block.compressor.flush(zstandard.COMPRESSOBJ_FLUSH_FINISH))
        frame = os.pread(self._fd, block.written, block.offset)
        if len(frame) != block.written:
            raise OSError(errno.EIO, "a segment shrank while it was written")
        foot = foot_of(self._run, block.ordinal, frame, block.size, block.ts, block.ats)
        packed = foot.pack()
        self._put(packed)
        entry = Entry.of(self._segment, block.offset, foot, len(packed))
        entry.verified = True
        self._segment.size += block.written
        self._block = None
        self._run.entries.append(entry)
        self.events.append(Closed(self._run.id, entry))
        if self._limits.fsync == "block":
            self._sync()
        self._check_there()

    # ---- segments ----

    def _open_segment(self, first: int, *, full: bool = False) -> None:
        """Have a segment of the current run open: its last one if there is room in it (or even if it is ``full``), else
        a new one that begins with tick ``first``."""
        if self._fd >= 0:
            return
        assert self._run is not None
        run, folder = self._run, self._directory / self._run.id
        folder.mkdir(parents=True, exist_ok=True)
        segment = run.segments[-1] if run.segments else None
        if segment is None or not segment.path.exists() or (segment.size >= self._limits.segment_bytes and not full):
            segment = Segment(folder / segment_name(first))
            if segment.path.exists():  # left behind by an attempt that wrote no block
                segment = Segment(folder / segment_name(first), segment.path.stat().st_size)
        self._fd = os.open(segment.path, os.O_RDWR | os.O_CREAT, 0o644)
        self._journal = os.open(journal_path(folder), os.O_RDWR | os.O_CREAT, 0o644)
        if segment not in run.segments:
            run.segments.append(segment)
        self._segment, self._segment_began = segment, time.monotonic()
        if self._limits.fsync != "never":
            _sync_directory(folder)

    def _seal_if_due(self, now: float) -> None:
        limits, segment = self._limits, self._segment
        if segment is None or self._block is not None or not segment.size:
            return
        old = limits.segment_age and now - self._segment_began >= limits.segment_age
        if segment.size >= limits.segment_bytes or old:
            self._seal()

    def _seal(self) -> None:
        """No block will be added to this segment."""
        run = self._run
        if self._fd < 0 or run is None:
            return
        self._sync()
        self._drop_files()
        self._save_index(run)
        self._retire()

    def _save_index(self, run: StoredRun) -> None:
        with contextlib.suppress(OSError):  # a cache: it is made anew at the next start
            save_index(self._directory / run.id, run)

    def _check_there(self) -> None:
        """Whether the file that is written to is still the one in its folder: a deleted one takes bytes, too."""
        assert self._segment is not None
        here = os.fstat(self._fd)
        there = os.stat(self._segment.path)
        if (here.st_ino, here.st_dev) != (there.st_ino, there.st_dev):
            raise OSError(errno.ENOENT, "a segment was replaced while it was written", str(self._segment.path))

    def _drop_files(self) -> None:
        self._close_files()
        self._segment = None

    def _close_files(self) -> None:
        """Close what is open; the segment is kept, in case that it has to be recovered."""
        for fd in (self._fd, self._journal):
            if fd >= 0:
                with contextlib.suppress(OSError):  # it was reported where it was written
                    os.close(fd)
        self._fd = self._journal = -1
        self._block = None

    # ---- durability, retention ----

    def _sync(self) -> None:
        if self._dirty and self._fd >= 0 and self._limits.fsync != "never":
            os.fsync(self._fd)
            os.fsync(self._journal)
        self._dirty = False
        self._synced = time.monotonic()

    def _sync_by_time(self) -> None:
        if self._dirty and time.monotonic() - self._synced >= self._limits.fsync_interval:
            self._sync()

    def _retire(self) -> None:
        """Delete the oldest sealed segments beyond what is to be kept."""
        limits = self._limits
        if not limits.retain_bytes and not limits.retain_age:
            return
        total, oldest = self.size, time.time() * 1000 - limits.retain_age * 1000
        for run in list(self.runs.values()):
            for segment in list(run.segments):
                if segment is self._segment or (run is self._run and segment is run.segments[-1]):
                    continue
                newest = max((entry.last_at for entry in run.entries if entry.volume is segment), default=0)
                too_old = limits.retain_age and newest < oldest
                if not too_old and not (limits.retain_bytes and total > limits.retain_bytes):
                    return
                total -= segment.size
                self._delete(run, segment)

    def _delete(self, run: StoredRun, segment: Segment) -> None:
        folder = self._directory / run.id
        segment.path.unlink(missing_ok=True)
        run.segments.remove(segment)
        run.entries = [entry for entry in run.entries if entry.volume is not segment]
        self.events.append(Removed(run.id, segment))
        if run.segments:
            self._save_index(run)
            return
        del self.runs[run.id]
        for path in (folder / INDEX, journal_path(folder)):
            path.unlink(missing_ok=True)
        with contextlib.suppress(OSError):  # somebody else's files are in it
            folder.rmdir()


def _write(fd: int, data: bytes, at: int) -> int:
    """Write all of it at an offset.

    Raises:
        OSError: not all of it could be written.
    """
    size = len(data)
    view = memoryview(data)
    while view:
        done = os.pwrite(fd, view, at)
        view, at = view[done:], at + done
    return size


def _sync_directory(folder: Path) -> None:
    fd = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
