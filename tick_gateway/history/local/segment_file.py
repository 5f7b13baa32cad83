"""A segment on disk: reads its blocks, and finds them by their footers.

Everything here waits for the disk; none of it is called on the event loop.
"""

from __future__ import annotations

import errno
import logging
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Final, NamedTuple
from zlib import crc32

from ...errors import Damaged
from ..format.block import decompress
from ..format.segment import (
    SIGNATURE,
    SUFFIX,
    TAIL_BYTES,
    Footer,
    footer_begins,
    footer_length,
    numbers,
    spread,
    unpack_columns,
    unpack_footer,
)
from ..record_page import held_source
from ..stored_block import Block, Entry, HeldSource
from .run_directory import run_of

log = logging.getLogger("tick_gateway.history")

_WINDOW_BYTES: Final = 1 << 20


class Segment:
    """One segment of a run, by its file.

    Attributes:
        path: the file, named after the first ``t`` in it.
        size: of its complete blocks with their footers, in bytes. After them is an open block, or damage.
        sealed: no block will be added to it.
        known: it is sealed, and all its blocks were reported to the loop, so it can be served as a whole.
        shortened: it was longer once; its end is missing.
        retired: see ``Volume``.
        checked: the stamp of the file (see ``stamp_of``) when all of it was verified, and its CRC-32; None: not
            verified yet. For sealed segments.
        end: the size up to which it was accounted for when it was asked for the CRC in the footer that ends there, and
            this CRC; None: not yet.
    """

    __slots__ = ("_changed", "_stamp", "checked", "end", "known", "path", "retired", "sealed", "shortened", "size")

    def __init__(self, path: Path, size: int = 0, *, sealed: bool = False) -> None:
        self.path = path
        self.size = size
        self.sealed = sealed
        self.known = False
        self.shortened = False
        self.retired = False
        self.checked: tuple[tuple[int, ...], int] | None = None
        self.end: tuple[int, int] | None = None
        self._stamp: tuple[int, ...] = ()  # of the file whose blocks were verified
        self._changed = False  # it is another file since, or was written to though it is sealed

    @property
    def name(self) -> str:
        """Of its file."""
        return self.path.name

    @property
    def first(self) -> int:
        """The first ``t`` in it, from its name."""
        return int(self.path.name.removesuffix(SUFFIX))

    @property
    def changed_at(self) -> int:
        """When the file was last changed, ms since the epoch.

        Raises:
            OSError: the file cannot be accessed.
        """
        return self.path.stat().st_mtime_ns // 1_000_000

    def load(self, begin: int, end: int | None = None) -> bytes:
        """Bytes of the file from ``begin``, to its end if no ``end`` is given.

        Raises:
            OSError: it cannot be read.
        """
        with self.path.open("rb") as file:
            file.seek(begin)
            return file.read(-1 if end is None else end - begin)

    def new_records(self, entry: Entry) -> HeldSource:
        """See ``Volume.new_records``."""
        return held_source(entry)

    def read(self, entry: Entry) -> Block:
        """See ``Volume.read``."""
        known = entry.verified
        frame, data = self._load(entry)
        try:
            footer = unpack_footer(data) if entry.footer else None
        except Damaged:
            footer = None
            if not known:  # once for each block
                log.error("history: %s: the footer of the block at %d is damaged", self.path.name, entry.offset)
        if footer is None:
            return self._read_bare(entry, frame)
        if (footer.run, footer.ordinal, footer.crc, footer.count) != (
            run_of(self.path.parent.name), entry.ordinal, entry.crc, entry.count,
        ):  # fmt: skip
            raise Damaged(f"the block at {entry.offset} of {self.name} is another than it was")
        lines = decompress(frame, entry.size)
        ts, ats = unpack_columns(footer.columns, entry.count)
        if ts[0] != entry.first or ts[-1] != entry.last or lines.count(b"\n") != entry.count:
            raise Damaged(f"the block at {entry.offset} of {self.name} does not hold what its footer says")
        return Block(lines, ts, ats)

    def _read_bare(self, entry: Entry, frame: bytes) -> Block:
        """A block with a damaged footer: its numbers come from its lines, its receive times from neighbouring
        blocks."""
        lines = decompress(frame, entry.size)
        ts = numbers(lines)
        if ts is None or (ts[0], ts[-1], len(ts)) != (entry.first, entry.last, entry.count):
            raise Damaged(f"the block at {entry.offset} of {self.name} is another than it was")
        return Block(lines, ts, spread(len(ts), entry.first_at, entry.last_at))

    def lines(self, entry: Entry) -> bytes:
        """See ``Volume.lines``."""
        return decompress(self._load(entry)[0], entry.size)

    def frames(self, row: Sequence[Entry], *, wait: bool = True) -> bytearray | None:
        """See ``Volume.frames``."""
        frames = bytearray(sum(entry.frame for entry in row))
        footers = memoryview(bytearray(max(entry.footer for entry in row)))
        buffers: list[memoryview] = []
        at = 0
        for entry in row:
            buffers += (memoryview(frames)[at : at + entry.frame], footers[: entry.footer])
            at += entry.frame
        size = at + sum(entry.footer for entry in row)
        if not wait and (_NOWAIT is None or not all(entry.verified for entry in row)):
            return None
        with self._opened() as fd:
            done = os.preadv(fd, buffers, row[0].offset) if wait else _read_now(fd, buffers, row[0].offset)
        if done != size:
            if not wait:
                return None
            raise Damaged(f"{self.name} ends within the blocks from {row[0].offset} on")
        for entry, frame in zip(row, buffers[::2], strict=True):
            self._verify(entry, frame)
        return frames

    def _load(self, entry: Entry) -> tuple[bytes, bytes]:
        """A block's frame, verified unless it was already, and its footer."""
        with self._opened() as fd:
            data = os.pread(fd, entry.frame + entry.footer, entry.offset)
        frame = data[: entry.frame]
        if len(data) != entry.frame + entry.footer:
            raise Damaged(f"the block at {entry.offset} of {self.name} is cut off")
        self._verify(entry, frame)
        return frame, data[entry.frame :]

    @contextmanager
    def _opened(self) -> Iterator[int]:
        """The file, open for reading. If it is not the same file as before, what was verified of it no longer
        counts."""
        fd = os.open(self.path, os.O_RDONLY)
        try:
            yield fd
            stamp = stamp_of(os.fstat(fd))
        finally:
            os.close(fd)
        stamp = stamp if self.sealed else stamp[:2]
        before, self._stamp = self._stamp, stamp
        size = min(len(before), len(stamp))
        self._changed = self._changed or before[:size] != stamp[:size]

    def _verify(self, entry: Entry, frame: bytes | memoryview) -> None:
        if self._changed or not entry.verified:
            if crc32(frame) != entry.crc:
                raise Damaged(f"the CRC of the block at {entry.offset} of {self.name} does not match")
            entry.verified = True


def stamp_of(info: os.stat_result) -> tuple[int, ...]:
    """Identifies an unchanged file: by device and inode, size, and time of change."""
    return info.st_dev, info.st_ino, info.st_size, info.st_mtime_ns


_NOWAIT: Final[int | None] = getattr(os, "RWF_NOWAIT", None)  # Linux: read what is in memory, or fail


def _read_now(fd: int, buffers: Sequence[memoryview], offset: int) -> int:
    """Read as far as the system has the file in memory; returns the number of bytes."""
    try:
        return os.preadv(fd, buffers, offset, _NOWAIT or 0)
    except OSError as error:
        if error.errno in (errno.EAGAIN, errno.EOPNOTSUPP):
            return 0
        raise


def segment_name(first: int) -> str:
    """The file name of a segment that begins with this ``t``; names sort like numbers."""
    return f"{first:016d}{SUFFIX}"


class Found(NamedTuple):
    """A footer and its offset; its block comes before it."""

    at: int
    length: int
    footer: Footer

    @property
    def begin(self) -> int:
        """The offset of its block; of a seal, its own."""
        return self.at - self.footer.frame

    @property
    def end(self) -> int:
        """The end of the footer."""
        return self.at + self.length


class Walk(NamedTuple):
    """The footers of a segment.

    Attributes:
        footers: in order.
        end: of the last of them; what follows is a block without a footer, or damaged.
        strays: begins and ends of bytes before that which belong to no block.
    """

    footers: list[Found]
    end: int
    strays: list[tuple[int, int]]


def walk(path: Path, begin: int = 0) -> Walk:
    """Find the footers from ``begin`` on: backwards from the end or, if that fails, by searching.

    Raises:
        OSError: the file cannot be read.
        HistoryError: it has a format that this program does not know.
    """
    with path.open("rb") as file:
        end = file.seek(0, os.SEEK_END)
        backwards = _walk_back(file.fileno(), begin, end)
        if backwards is not None:
            return Walk(backwards, end, [])
        footers: list[Found] = []
        strays: list[tuple[int, int]] = []
        at = begin
        for found in _search(file.fileno(), begin, end):
            if found.begin != at:
                strays.append((at, found.begin))
            footers.append(found)
            at = found.end
        return Walk(footers, at, strays)


def _walk_back(fd: int, begin: int, end: int) -> list[Found] | None:
    """The footers if each block directly follows the previous footer, down to ``begin``; None: the chain is broken."""
    footers: list[Found] = []
    while end > begin:
        length = footer_length(os.pread(fd, TAIL_BYTES, end - TAIL_BYTES)) if end - begin >= TAIL_BYTES else 0
        if not length or length > end - begin:
            return None
        try:
            footer = unpack_footer(os.pread(fd, length, end - length))
        except Damaged:
            return None
        footers.append(Found(end - length, length, footer))
        end -= length + footer.frame
    footers.reverse()
    return footers if end == begin else None


def _search(fd: int, begin: int, end: int) -> Iterator[Found]:
    """Every sound footer whose block comes after what was found before."""
    floor = begin
    for at in _signatures(fd, begin, end):
        length = footer_begins(os.pread(fd, 8, at))
        if at < floor or length is None or length > end - at:
            continue
        try:
            footer = unpack_footer(os.pread(fd, length, at))
        except Damaged:
            continue
        if 0 <= footer.frame <= at - floor:
            yield Found(at, length, footer)
            floor = at + length


def _signatures(fd: int, begin: int, end: int) -> Iterator[int]:
    """Possible begins of footers. (By reads, not mmap: a file that shrinks meanwhile must not crash the process.)"""
    while end - begin >= 8:
        window = os.pread(fd, min(_WINDOW_BYTES, end - begin), begin)
        at = window.find(SIGNATURE)
        while at >= 0:
            if end - (begin + at) >= 8:
                yield begin + at
            at = window.find(SIGNATURE, at + 1)
        if len(window) < _WINDOW_BYTES:
            return
        begin += len(window) - 3
