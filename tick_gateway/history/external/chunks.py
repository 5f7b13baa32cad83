"""Chunks of another program's files: reading them where they lie.

A run's history knows where in a file's content a chunk begins and ends, and what ticks it holds. To read
one, the file is decompressed from the nearest place on at which a frame begins, which may be its start; so a few files
are kept open where they were read last, and reading on costs no more than it has to. A zstd frame keeps its window in
memory while it is read, up to 128 MiB: of files with large windows one at a time is open here.

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
from ..block_index import Block, Entry
from ..format.segment import step_of, unpack_columns
from .file_content import Content, Replaced
from .source_file import SourceFile

_MOST_FILES: Final = 4
_MOST_HELD: Final = 16 << 20  # bytes of content that they keep to read on, except for the one that was used last
_BEHIND_BYTES: Final = 8 << 20  # kept of a file with a large window, for readers that are a little behind another one
_TICK_BYTES: Final = 200  # Python's own for each tick
_JOINED_BYTES: Final = 1 << 20  # lines up to that are joined to take their CRC
_RENAME_SECONDS: Final = 2.0
_RENAME_POLL_SECONDS: Final = 0.02


class FileChunk(Entry):
    """A chunk of a file; ``offset`` and ``frame`` are where it begins in the content and how long it is there.

    Attributes:
        columns: numbers and receive times of its ticks, packed; empty: they were received at even intervals.
    """

    __slots__ = ("columns",)

    def __init__(
        self, volume: FileVolume, begin: int, end: int, ordinal: int, ts: Sequence[int], lines: Sequence[bytes],
        ats: tuple[int, int], columns: bytes = b"",
    ) -> None:  # fmt: skip
        size, crc = sum(map(len, lines)) + len(lines), 0
        parts = (
            [b"\n".join([*lines, b""])] if size < _JOINED_BYTES else [part for line in lines for part in (line, b"\n")]
        )
        for part in parts:
            crc = crc32(part, crc)
        super().__init__(
            volume, begin, 0, ordinal=ordinal, first=ts[0], last=ts[-1], first_at=ats[0], last_at=ats[1],
            count=len(ts), step=step_of(ts), size=size, frame=end - begin, crc=crc, raw=False,
        )  # fmt: skip
        self.columns = columns


class OpenFile:
    """A file that is open for reading, and the content that was read of it last.

    Attributes:
        at: where in the content begins what is kept.
    """

    def __init__(self, file: SourceFile, offset: int) -> None:
        self.file = file
        self.content = Content(file.path, file.boundary_before(offset))
        self.at = self.content.given
        self._pieces: deque[bytes] = deque()
        self._behind = _BEHIND_BYTES if file.window > _MOST_HELD else 0

    def read(self, offset: int, size: int) -> bytes:
        """Content from an offset that is not before ``at``."""
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
        """Let go of what lies before an offset."""
        while self._pieces and self.at + len(self._pieces[0]) <= offset:
            self.at += len(self._pieces.popleft())


class OpenFiles:
    """Files that are kept open for reading, a few; for any thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._open_files: list[OpenFile] = []  # the one that was used last comes last
        self._large = threading.Lock()  # held while a file with a large window is read: there is one such window

    def read(self, file: SourceFile, offset: int, size: int) -> bytes:
        """A part of a file's content.

        Raises:
            Damaged: it is not there any more.
            OSError: the file cannot be read.
        """
        with self._large if file.window > _MOST_HELD else contextlib.nullcontext():
            return self._read(file, offset, size)

    def _read(self, file: SourceFile, offset: int, size: int) -> bytes:
        open_file = self._take(file, offset)
        found = _read(open_file, offset, size) if open_file is not None else None
        if open_file is None or found is None:  # one that was cut since may still have that
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
        """Keep an open file that was used; returns those that are not kept any more."""
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
        """Let go of the file whose window is large, where one is kept open."""
        with self._lock:
            large = [one for one in self._open_files if one.content.held > _MOST_HELD]
            self._open_files = [one for one in self._open_files if one not in large]
        for one in large:
            one.content.close()

    def _take(self, file: SourceFile, offset: int) -> OpenFile | None:
        """The open file that is nearest before an offset; None: beginning anew is no farther."""
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
    """Content from an open file, which is closed where that fails; None: the file was replaced, or cut.

    Raises:
        Damaged, OSError: as ``OpenFiles.read``.
    """
    try:
        return open_file.read(offset, size)
    except BaseException as error:
        open_file.content.close()
        if isinstance(error, Replaced):
            return None
        raise


def _open(file: SourceFile, offset: int) -> OpenFile:
    """Open a file, be it under its new name: that becomes known a moment after it was renamed or compressed."""
    stop = time.monotonic() + _RENAME_SECONDS
    while True:
        try:
            return OpenFile(file, offset)
        except FileNotFoundError:
            if file.gone or time.monotonic() > stop:
                raise
            time.sleep(_RENAME_POLL_SECONDS)


class ScannedTicks(NamedTuple):
    """The ticks of a chunk that was just scanned: their numbers and lines."""

    ts: list[int]
    lines: list[bytes]

    @property
    def size(self) -> int:
        """What they take in memory, bytes."""
        return sum(map(len, self.lines)) + _TICK_BYTES * len(self.lines)


class FileVolume:
    """One file's chunks (see ``block_index.Volume``).

    Attributes:
        scanned: chunks, by their offsets, whose ticks are still in memory from when the file was scanned.
    """

    retired = False

    def __init__(self, file: SourceFile, open_files: OpenFiles, max_tick: int) -> None:
        self.file = file
        self.scanned: dict[int, ScannedTicks] = {}
        self._open_files = open_files
        self._max_tick = max_tick

    def read(self, entry: Entry) -> Block:
        """See ``Volume.read``."""
        assert isinstance(entry, FileChunk)
        scanned = self.scanned.pop(entry.offset, None)
        ts, lines = scanned if scanned is not None else self._parse(entry)
        content = b"\n".join([*lines, b""])
        if len(ts) != entry.count or crc32(content) != entry.crc:
            raise Damaged(f"{self.file.name} does not hold what it did at byte {entry.offset} of its content")
        if entry.columns:
            return Block(content, *unpack_columns(entry.columns, entry.count))
        steps, elapsed = max(entry.count - 1, 1), entry.last_at - entry.first_at
        return Block(content, ts, [entry.first_at + elapsed * index // steps for index in range(entry.count)])

    def _parse(self, entry: FileChunk) -> ScannedTicks:
        """Read a chunk's ticks from the file."""
        ts: list[int] = []
        lines: list[bytes] = []
        tip = entry.first - 1  # what comes before it was skipped
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
        """See ``Volume.frames``; made anew, since no frame of the file is a chunk."""
        if not wait:
            return None
        return bytearray(b"".join([zstandard.ZstdCompressor().compress(self.lines(entry)) for entry in row]))
