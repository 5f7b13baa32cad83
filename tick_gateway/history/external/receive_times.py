"""Estimated receive times of ticks that were written before they were read, from the times of their files.

        a file's birth ──── evenly, by bytes ────► its last change        read for the first time
        the last tick ───── evenly, by bytes ────► its last change        appended since

The estimates never decrease.
"""

from __future__ import annotations

import os
import time
from pathlib import Path

from .file_birth import born


class ReceiveTimes:
    """Estimates for one directory, while it is read.

    Attributes:
        at: the last estimate, ms since the epoch; 0: none yet.
    """

    def __init__(self) -> None:
        self.at = 0

    def begin(self, path: Path) -> None:
        """A file is read for the first time."""
        self.at = max(self.at, _made(path))

    def leave(self, path: Path) -> None:
        """A file was read to its end, and a newer one comes."""
        try:
            self.at = max(self.at, _changed(os.stat(path)))
        except OSError:  # deleted: what was read of it is sufficient
            return

    def of(self, path: Path, begin: int, end: int) -> tuple[int, int]:
        """When the first and the last tick between two offsets of a file were received, ms."""
        first, self.at = self.at, self._at(path, begin, end)
        return first or self.at, self.at

    def _at(self, path: Path, begin: int, end: int) -> int:
        try:
            info = os.stat(path)
        except OSError:
            return self.at
        written = _changed(info)
        since = self.at or written
        return max(since, since + (written - since) * (end - begin) // max(info.st_size - begin, end - begin, 1))


def _changed(info: os.stat_result) -> int:
    """When a file was last changed, ms; if its clock is ahead, now."""
    return min(info.st_mtime_ns, time.time_ns()) // 1_000_000


def _made(path: Path) -> int:
    """When a file was begun, ms; 0: unknown, as for a copy, which is made after the last change."""
    try:
        made, changed = born(path), _changed(os.stat(path))
    except OSError:
        return 0
    return made if made is not None and made <= changed else 0
