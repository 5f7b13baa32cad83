"""Chunks of another program's files, and reading them in place.

A run's history knows the offsets of each chunk in a file's content, and its ticks. To read a chunk, the file is
decompressed from the nearest frame before it, possibly from its start; so a few files stay open where they were last
read, and reading on is cheap. A zstd frame keeps its window in memory while it is read, up to 128 MiB: only one file
with a large window is open at a time.

Everything here waits for the disk; none of it is called on the event loop.
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections import deque
from collections.abc import Sequence
from typing import Final, NamedTuple
from zlib import crc32

import zstandard

from ...errors import Damaged, TickError
from ...model.tick import parse
from ..format.block_record import BlockRecord
from ..format.segment import step_of, unpack_columns
from ..stored_block import Block, Entry, HeldSource
from .chunk_records import ChunkRecords, FileChunk, Spool
from .file_content import Content, Replaced
from .source_file import SourceFile

_MOST_FILES: Final = 4
# bytes of content kept in all of them for reading on, not counting the most recently used one
_MOST_HELD: Final = 16 << 20
_BEHIND_BYTES: Final = 8 << 20  # kept of a file with a large window, for readers that are a little behind another one
_TICK_BYTES: Final = 200  # Python's overhead per tick
_JOINED_BYTES: Final = 1 << 20  # lines are joined up to this size to compute their CRC
_RENAME_SECONDS: Final = 2.0
_RENAME_POLL_SECONDS: Final = 0.02


def chunk_of(
    volume: FileVolume, begin: int, end: int, ordinal: int, ts: Sequence[int], lines: Sequence[bytes],
    ats: tuple[int, int], columns: bytes = b"",
) -> FileChunk:  # fmt: skip
    """The entry of a chunk that was read.

    Args:
        begin, end: its offsets in the file's content.
        ats: receive times of its first and last tick.
        columns: as in ``FileChunk``.
    """
    size, crc = sum(map(len, lines)) + len(lines), 0
    parts = [b"\n".join([*lines, b""])] if size < _JOINED_BYTES else [part for line in lines for part in (line, b"\n")]
    for part in parts:
        crc = crc32(part, crc)
    record = BlockRecord(begin, ordinal, ts[0], ts[-1], *ats, size, end - begin, 0, len(ts), step_of(ts), 0, crc)
    return FileChunk.of_chunk(volume, record, columns, (0, 0))


class OpenFile:
    """A file open for reading, with the content that was last read.

    Attributes:
        at: offset of the kept content.
    """

    def __init__(self, file: SourceFile, offset: int) -> None:
        self.file = file
        self.content = Content(file.path, file.boundary_before(offset))
        self.at = self.content.given
        self._pieces: deque[bytes] = deque()
        self._behind = _BEHIND_BYTES if file.window > _MOST_HELD else 0

    def read(self, offset: int, size: int) -> bytes:
        """Read content from an offset, which must not be before ``at``."""
        end = offset + size
        while self.content.given < end:
            self._drop(offset - self._behind)
            data = self.content.more()
            if not data:
                raise Damaged(f"{self.file.name} ends before byte {end} of its content")
            self._pieces.append(data)
        found: list[bytes] = []
        at = self.at
        for piece in self._pieces:
            if at < end and at + len(piece) > offset:
                found.append(piece[max(offset - at, 0) : end - at])
            at += len(piece)
        self._drop(end - self._behind)
        return b"".join(found)

    def _drop(self, offset: int) -> None:
        """Drop kept content before an offset."""
        while self._pieces and self.at + len(self._pieces[0]) <= offset:
            self.at += len(self._pieces.popleft())


class OpenFiles:
    """A few files that are kept open for reading; for any thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._open_files: list[OpenFile] = []  # the most recently used one is last
        self._large = threading.Lock()  # held while a file with a large window is read: only one such window at a time

    def read(self, file: SourceFile, offset: int, size: int) -> bytes:
        """Read a part of a file's content.

        Raises:
            Damaged: it is no longer there.
            OSError: the file cannot be read.
        """
        with self._large if file.window > _MOST_HELD else contextlib.nullcontext():
            return self._read(file, offset, size)

    def _read(self, file: SourceFile, offset: int, size: int) -> bytes:
        open_file = self._take(file, offset)
        found = _read(open_file, offset, size) if open_file is not None else None
        if open_file is None or found is None:  # the file was cut since; another one may still have the content
            if file.window > _MOST_HELD:
                self._close_large()
            open_file = _open(file, offset)
            found = _read(open_file, offset, size)
        if found is None:
            raise Damaged(f"{file.name} was replaced")
        for old in self._put_back(open_file):
            old.content.close()
        return found

    def _put_back(self, open_file: OpenFile) -> list[OpenFile]:
        """Keep an open file after use; returns those that are no longer kept."""
        with self._lock:
            self._open_files.append(open_file)
            held, kept = 0, 0
            for one in reversed(self._open_files):
                held += one.content.held
                if kept and (kept == _MOST_FILES or held > _MOST_HELD):
                    break
                kept += 1
            old, self._open_files = self._open_files[:-kept], self._open_files[-kept:]
            return old

    def _close_large(self) -> None:
        """Close the file with a large window, if one is kept open."""
        with self._lock:
            large = [one for one in self._open_files if one.content.held > _MOST_HELD]
            self._open_files = [one for one in self._open_files if one not in large]
        for one in large:
            one.content.close()

    def _take(self, file: SourceFile, offset: int) -> OpenFile | None:
        """The open file at the nearest place before an offset; None: a new one would not be farther."""
        with self._lock:
            mine = [open_file for open_file in self._open_files if open_file.file is file and open_file.at <= offset]
            open_file = max(mine, key=lambda open_file: open_file.at, default=None)
            if (
                open_file is None
                or open_file.content.path != file.path
                or open_file.at < file.boundary_before(offset)[1]
            ):
                return None
            self._open_files.remove(open_file)
            return open_file


def _read(open_file: OpenFile, offset: int, size: int) -> bytes | None:
    """Read content from an open file, which is closed on failure; None: the file was replaced, or cut.

    Raises:
        Damaged, OSError: as for ``OpenFiles.read``.
    """
    try:
        return open_file.read(offset, size)
    except BaseException as error:
        open_file.content.close()
        if isinstance(error, Replaced):
            return None
        raise


def _open(file: SourceFile, offset: int) -> OpenFile:
    """Open a file, even by its new name: renaming or compression is noticed with a delay."""
    stop = time.monotonic() + _RENAME_SECONDS
    while True:
        try:
            return OpenFile(file, offset)
        except FileNotFoundError:
            if file.gone or time.monotonic() > stop:
                raise
            time.sleep(_RENAME_POLL_SECONDS)


class ScannedTicks(NamedTuple):
    """The ticks of a chunk that was just scanned: numbers and lines."""

    ts: list[int]
    lines: list[bytes]

    @property
    def size(self) -> int:
        """Bytes of memory that they take."""
        return sum(map(len, self.lines)) + _TICK_BYTES * len(self.lines)


class FileVolume:
    """One file's chunks (see ``stored_block.Volume``).

    Attributes:
        scanned: by offset, chunks whose ticks are still in memory from scanning the file.
    """

    retired = False

    def __init__(self, file: SourceFile, open_files: OpenFiles, max_tick: int, spool: Spool) -> None:
        self.file = file
        self._spool = spool
        self.scanned: dict[int, ScannedTicks] = {}
        self._open_files = open_files
        self._max_tick = max_tick

    def new_records(self, entry: Entry) -> HeldSource:
        """See ``Volume.new_records``."""
        return ChunkRecords(self._spool)

    def read(self, entry: Entry) -> Block:
        """See ``Volume.read``."""
        assert isinstance(entry, FileChunk)
        scanned = self.scanned.pop(entry.offset, None)
        ts, lines = scanned if scanned is not None else self._parse(entry)
        content = b"\n".join([*lines, b""])
        if len(ts) != entry.count or crc32(content) != entry.crc:
            raise Damaged(f"{self.file.name} does not hold what it did at byte {entry.offset} of its content")
        columns = entry.columns or self._spool.read(*entry.columns_at)
        if columns:
            return Block(content, *unpack_columns(columns, entry.count))
        steps, elapsed = max(entry.count - 1, 1), entry.last_at - entry.first_at
        return Block(content, ts, [entry.first_at + elapsed * index // steps for index in range(entry.count)])

    def _parse(self, entry: FileChunk) -> ScannedTicks:
        """Read and parse a chunk's ticks."""
        ts: list[int] = []
        lines: list[bytes] = []
        tip = entry.first - 1  # lines before the chunk were skipped
        for line in self._open_files.read(self.file, entry.offset, entry.frame).split(b"\n"):
            try:
                t, data = parse(line, self._max_tick)
            except TickError:
                continue
            if t > tip:
                ts.append(t)
                lines.append(data)
                tip = t
        return ScannedTicks(ts, lines)

    def lines(self, entry: Entry) -> bytes:
        """See ``Volume.lines``."""
        return self.read(entry).lines

    def frames(self, row: Sequence[Entry], *, wait: bool = True) -> bytearray | None:
        """See ``Volume.frames``; compressed anew, since chunks are no frames of the file."""
        if not wait:
            return None
        return bytearray(b"".join([zstandard.ZstdCompressor().compress(self.lines(entry)) for entry in row]))
