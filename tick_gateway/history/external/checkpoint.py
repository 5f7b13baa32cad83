"""Checkpoints in the content of a file: ends of lines, with the CRC of all content before them.

They identify what is left of a file after it was cut. They are few, and evenly spread, however long the file grows.

Pure: bytes are handed in.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Sequence
from typing import Final
from zlib import crc32

_MOST: Final = 24


class Checkpoints:
    """The checkpoints of one file.

    Args:
        known: offsets and CRCs of earlier checkpoints, in order.
    """

    def __init__(self, known: Iterable[Sequence[int]] = ()) -> None:
        self._marks = [(offset, crc) for offset, crc in known]
        self._apart = self._marks[-1][0] // len(self._marks) if self._marks else 1  # minimum bytes between two

    def set(self, data: bytes, offset: int, crc: int) -> None:
        """Set checkpoints in content that begins at an offset; ``crc`` is that of everything before it."""
        at = 0
        while (found := data.find(b"\n", self._next(offset, at))) >= 0:
            crc, at = crc32(data[at : found + 1], crc), found + 1
            self._marks.append((offset + at, crc))
            if len(self._marks) > _MOST:
                self._marks = self._marks[1::2]
                self._apart = self._marks[-1][0] // len(self._marks)

    def _next(self, offset: int, at: int) -> int:
        """The place of the next one, at or after ``at``, in content that begins at an offset."""
        return max(at, self._marks[-1][0] + self._apart - 1 - offset) if self._marks else at

    def upto(self, offset: int) -> list[tuple[int, int]]:
        """Those at or before an offset."""
        return self._marks[: bisect_right(self._marks, (offset, 1 << 32))]

    def between(self, low: int, high: int) -> list[tuple[int, int]]:
        """Those with low < offset <= high."""
        return [mark for mark in self.upto(high) if mark[0] > low]

    def cut(self, offset: int) -> None:
        """Forget those after an offset: the content there may be different."""
        self._marks = self.upto(offset)
