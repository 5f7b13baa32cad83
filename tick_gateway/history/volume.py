"""A segment on disk: reading its blocks, and finding them by their feet.

Everything here waits for the disk; none of it is called on the event loop.
"""

from __future__ import annotations

import errno
import mmap
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final, NamedTuple
from zlib import crc32

from ..errors import Damaged
from .segment import (
    MAX_FOOT,
    SKIPPABLE,
    SUFFIX,
    TAIL_BYTES,
    Foot,
    decompress,
    foot_length,
    unpack_columns,
    unpack_foot,
)
from .shelf import Block, Entry

_SIGNATURE = SKIPPABLE.to_bytes(4, "little")


class Segment:
    """One segment of a run, by its file.

    Attributes:
        path: the file, named by the first ``t`` in it.
        size: its bytes as far as they are accounted for.
    """

    __slots__ = ("path", "size")

    def __init__(self, path: Path, size: int = 0) -> None:
        self.path = path
        self.size = size

    @property
    def name(self) -> str:
        return self.path.name

    @property
    def first(self) -> int:
        """The first ``t`` in it, by its name."""
        return int(self.path.name.removesuffix(SUFFIX))

    def read(self, entry: Entry) -> Block:
        """See ``Volume.read``."""
        frame, data = self._load(entry)
        foot = unpack_foot(data)
        lines = decompress(frame, entry.size)
        ts, ats = unpack_columns(foot.columns, entry.count)
        if ts[0] != entry.first or ts[-1] != entry.last or lines.count(b"\n") != entry.count:
            raise Damaged(f"the block at {entry.offset} of {self.name} does not hold what its foot says")
        return Block(lines, ts, ats)

    def lines(self, entry: Entry) -> bytes:
        """See ``Volume.lines``."""
        return decompress(self._load(entry)[0], entry.size)

    def frames(self, row: Sequence[Entry], *, wait: bool = True) -> bytearray | None:
        """See ``Volume.frames``."""
        frames = bytearray(sum(entry.frame for entry in row))
        feet = memoryview(bytearray(max(entry.foot for entry in row)))
        buffers: list[memoryview] = []
        at = 0
        for entry in row:
            buffers += (memoryview(frames)[at : at + entry.frame], feet[: entry.foot])
            at += entry.frame
        size = at + sum(entry.foot for entry in row)
        if not wait and (_NOWAIT is None or not all(entry.verified for entry in row)):
            return None
        fd = os.open(self.path, os.O_RDONLY)
        try:
            done = os.preadv(fd, buffers, row[0].offset) if wait else _read_now(fd, buffers, row[0].offset)
        finally:
            os.close(fd)
        if done != size:
            if not wait:
                return None
            raise Damaged(f"{self.name} ends within the blocks from {row[0].offset} on")
        for entry, frame in zip(row, buffers[::2], strict=True):
            self._verify(entry, frame)
        return frames

    def _load(self, entry: Entry) -> tuple[bytes, bytes]:
        """A block's frame, verified if that was not done yet, and its foot."""
        fd = os.open(self.path, os.O_RDONLY)
        try:
            data = os.pread(fd, entry.frame + entry.foot, entry.offset)
        finally:
            os.close(fd)
        frame = data[: entry.frame]
        if len(data) != entry.frame + entry.foot:
            raise Damaged(f"the block at {entry.offset} of {self.name} is cut off")
        self._verify(entry, frame)
        return frame, data[entry.frame :]

    def _verify(self, entry: Entry, frame: bytes | memoryview) -> None:
        if not entry.verified:
            if crc32(frame) != entry.crc:
                raise Damaged(f"the CRC of the block at {entry.offset} of {self.name} does not match")
            entry.verified = True


_NOWAIT: Final[int | None] = getattr(os, "RWF_NOWAIT", None)  # Linux: read what is in memory, or fail


def _read_now(fd: int, buffers: Sequence[memoryview], offset: int) -> int:
    """Read as far as the system holds the file in memory; returns the bytes."""
    try:
        return os.preadv(fd, buffers, offset, _NOWAIT or 0)
    except OSError as error:
        if error.errno in (errno.EAGAIN, errno.EOPNOTSUPP):
            return 0
        raise


def segment_name(first: int) -> str:
    """The file's name of the segment that begins with this ``t``: by name is by number."""
    return f"{first:016d}{SUFFIX}"


class Found(NamedTuple):
    """A foot and where it lies; the block that it is of lies before it."""

    at: int
    length: int
    foot: Foot


class Walk(NamedTuple):
    """What the feet of a segment say.

    Attributes:
        feet: in order.
        end: where the last of them ends; what is behind it is a block without a foot, or damaged.
        damage: what was wrong before that, as sentences.
    """

    feet: list[Found]
    end: int
    damage: list[str]


def walk(path: Path, begin: int = 0) -> Walk:
    """Find the feet from ``begin`` on: from the end backwards, and where that leads nowhere, by search.

    Raises:
        OSError: the file cannot be read.
    """
    with path.open("rb") as file:
        end = file.seek(0, os.SEEK_END)
        backwards = _walk_back(file.fileno(), begin, end)
        if backwards is not None:
            return Walk(backwards, end, [])
        feet: list[Found] = []
        damage: list[str] = []
        at = begin
        for found in _search(file.fileno(), begin, end):
            start = found.at - found.foot.frame
            if start != at:
                damage.append(f"{path.name}: bytes {at} to {start} belong to no block")
            feet.append(found)
            at = found.at + found.length
        return Walk(feet, at, damage)


def _walk_back(fd: int, begin: int, end: int) -> list[Found] | None:
    """The feet where each block lies behind the foot before it, down to ``begin``; None where the chain breaks."""
    feet: list[Found] = []
    while end > begin:
        if end - begin < TAIL_BYTES:
            return None
        length = foot_length(os.pread(fd, TAIL_BYTES, end - TAIL_BYTES))
        if not length or length > end - begin:
            return None
        try:
            foot = unpack_foot(os.pread(fd, length, end - length))
        except Damaged:
            return None
        feet.append(Found(end - length, length, foot))
        end -= length + foot.frame
    feet.reverse()
    return feet if end == begin else None


def _search(fd: int, begin: int, end: int) -> Iterator[Found]:
    """Every sound foot whose block lies behind what was found before it."""
    if end <= begin:
        return
    with mmap.mmap(fd, end, access=mmap.ACCESS_READ) as data:
        floor = at = begin
        while (at := data.find(_SIGNATURE, at)) >= 0:
            length = int.from_bytes(data[at + 4 : at + 8], "little") + 8
            if length <= min(MAX_FOOT, end - at):
                try:
                    foot = unpack_foot(data[at : at + length])
                except Damaged:
                    pass
                else:
                    if at - foot.frame >= floor:
                        yield Found(at, length, foot)
                        floor = at = at + length
                        continue
            at += 1
