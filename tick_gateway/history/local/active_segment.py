"""The active segment, which is written to, and its open block.

        add    compresses ticks into the block, and writes the output to the segment
        flush  writes the rest of it, and the journal's record: the ticks now outlive this process
        close  writes the frame's end and the footer: the block can now be served as it is

All bytes are written at explicit offsets, so what a failed write left behind is overwritten. After an OSError only
``drop`` may be called; ``tail_recovery`` then finds what is valid.

Used by one thread. The ``recorder`` decides when to do what.
"""

from __future__ import annotations

import contextlib
import errno
import os
from dataclasses import dataclass, field
from zlib import crc32

import zstandard

from ...bus.ring import Batch
from ..format.block import compressor, finish, flush
from ..format.journal import JOURNAL, Flush, JournalHead
from ..format.segment import Footer
from ..stored_block import Entry
from .disk import write_at
from .run import LocalRun
from .segment_file import Segment


@dataclass(slots=True)
class OpenBlock:
    """The open block.

    Attributes:
        ordinal: how many ticks its run published before it.
        began: when it began, monotonic seconds.
        seed: initial value for the CRCs of the journal's records.
        written: bytes of its frame in the file.
        crc: of those; ``flush_crc``: of those since the last flush.
        size: bytes of its lines.
        ts, ats: of its ticks; the journal has the first ``flushed`` of them.
    """

    ordinal: int
    began: float
    compressor: zstandard.ZstdCompressionObj
    seed: int
    written: int = 0
    crc: int = 0
    flush_crc: int = 0
    size: int = 0
    ts: list[int] = field(default_factory=list)
    ats: list[int] = field(default_factory=list)
    flushed: int = 0

    @property
    def next(self) -> int:
        """The ordinal of the next tick."""
        return self.ordinal + len(self.ts)

    @property
    def vouched(self) -> int:
        """The ordinal of the tick after those in the journal."""
        return self.ordinal + self.flushed


class ActiveSegment:
    """A segment opened for writing (see ``open``).

    Args:
        fd, journal: files of the segment and of its run's journal.

    Attributes:
        run, segment: its run and segment; the file has nothing after ``segment.size``.
        block: the open one, or None.
        dirty: something was written since the last ``sync``.
    """

    def __init__(self, run: LocalRun, segment: Segment, level: int, fd: int, journal: int) -> None:
        self.run = run
        self.segment = segment
        self.block: OpenBlock | None = None
        self.dirty = False
        self._level = level
        self._journal_end = 0
        self._fd, self._journal = fd, journal

    @classmethod
    def open(cls, run: LocalRun, segment: Segment, level: int) -> ActiveSegment:
        """Open a segment and its journal, created if they do not exist; ``level``: of the compression.

        Raises:
            OSError: they cannot be opened.
        """
        fd = os.open(segment.path, os.O_RDWR | os.O_CREAT, 0o644)
        try:
            journal = os.open(segment.path.with_name(JOURNAL), os.O_RDWR | os.O_CREAT, 0o644)
        except OSError:
            os.close(fd)
            raise
        return cls(run, segment, level, fd, journal)

    @property
    def size(self) -> int:
        """Bytes of the file."""
        return self.segment.size + (self.block.written if self.block is not None else 0)

    def begin(self, ordinal: int, now: float) -> None:
        """Begin a block: first its journal, so that the block never has bytes without one."""
        run, segment = self.run, self.segment
        head, seed = JournalHead(run.seq, run.started, run.origin, ordinal, segment.first, segment.size).pack()
        os.ftruncate(self._journal, 0)
        write_at(self._journal, head, 0)
        self._journal_end = len(head)
        self.block = OpenBlock(ordinal, now, compressor(self._level), seed)

    def add(self, batch: Batch) -> None:
        """Add ticks to the open block."""
        block = self.block
        assert block is not None
        lines = b"\n".join([*[tick.data for tick in batch.ticks], b""])
        block.ts += [tick.t for tick in batch.ticks]
        block.ats += [tick.at for tick in batch.ticks]
        block.size += len(lines)
        self._put(block.compressor.compress(lines))

    def flush(self) -> None:
        """Write everything in the open block so far, and the journal's record for it."""
        block = self.block
        if block is None or block.flushed == len(block.ts):
            return
        self._put(flush(block.compressor))
        record = Flush(block.written, block.flush_crc, block.ts[block.flushed :], block.ats[block.flushed :])
        data = record.pack(block.seed)
        write_at(self._journal, data, self._journal_end)
        self._journal_end += len(data)
        self.check()
        block.flushed, block.flush_crc = len(block.ts), 0

    def close_block(self) -> Entry:
        """End the open block, which can be read from now on."""
        block = self.block
        assert block is not None
        self.flush()  # if writing the footer fails, the journal has the receive times
        self.check()
        self._put(finish(block.compressor))
        footer = self.run.footer(
            block.ordinal, block.ts, block.ats, size=block.size, frame=block.written, crc=block.crc
        )  # fmt: skip
        packed = footer.pack()
        write_at(self._fd, packed, self.size)
        entry = Entry.of(self.segment, self.segment.size, footer, len(packed))
        self.segment.size = self.size + len(packed)
        self.block = None
        return entry

    def seal(self, footer: Footer) -> None:
        """Write a seal after the last block: no other will follow."""
        assert self.block is None
        packed = footer.pack()
        write_at(self._fd, packed, self.segment.size)
        self.segment.size += len(packed)
        self.segment.sealed = True
        self.dirty = True

    def sync(self) -> None:
        """Force what was written to the disk."""
        if self.dirty:
            os.fsync(self._fd)
            if self.block is not None:
                os.fsync(self._journal)
        self.dirty = False

    def check(self) -> None:
        """Check that the file is still the one in its directory, with the length that was written: writes to a deleted
        file do not fail.

        Raises:
            OSError: it is not.
        """
        here, there = os.fstat(self._fd), os.stat(self.segment.path)
        if (here.st_ino, here.st_dev) != (there.st_ino, there.st_dev):
            raise OSError(errno.ENOENT, "a segment was replaced while it was written", str(self.segment.path))
        if here.st_size < self.size:
            raise OSError(errno.EIO, "a segment was cut while it was written", str(self.segment.path))

    def drop(self) -> None:
        """Close the files."""
        for fd in (self._fd, self._journal):
            with contextlib.suppress(OSError):  # reported when it was written to
                os.close(fd)

    def _put(self, data: bytes) -> None:
        """Append to the open block's frame."""
        block = self.block
        if not data or block is None:
            return
        write_at(self._fd, data, self.size)
        self.dirty = True
        block.written += len(data)
        block.crc = crc32(data, block.crc)
        block.flush_crc = crc32(data, block.flush_crc)
