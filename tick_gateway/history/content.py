"""What is in a file that another program writes, plain or in zstd frames, while it grows.

Everything here waits for the disk; none of it is called on the event loop.
"""

from __future__ import annotations

import os
import re
import time
from pathlib import Path
from typing import Final

from .frames import Cut, Frames

SUFFIXES: Final = (".jsonl.zst", ".jsonl")
READ_BYTES: Final = 256 * 1024
_GUARD_BYTES: Final = 4096  # before the place where a file is read on, that must be what they were
_TICK_NS: Final = 50_000_000  # of a file system's clock, at most: two changes within may leave one time
_DIGITS: Final = re.compile(r"(\d+)")


def stem_of(name: str) -> str | None:
    """A file's name without its ending; None: it is no file of ticks."""
    return next((name.removesuffix(suffix) for suffix in SUFFIXES if name.endswith(suffix)), None)


def natural(name: str) -> tuple[list[str | int], str]:
    """What names are ordered by: digits in them compare as numbers."""
    return [int(part) if part.isdecimal() else part for part in _DIGITS.split(name)], name


class Replaced(Exception):
    """What was read of a file is not there any more."""


class Content:
    """What is in a file from its beginning, or from a place at which a frame begins, while it grows.

    Args:
        begin: that place, and the content before it, both in bytes.

    Attributes:
        given: bytes of content that were given, those before ``begin`` counted.
        read: bytes of the file that were read.
        seen: its size and time of change when there was nothing more to be read.

    Raises:
        OSError: it cannot be opened.
    """

    def __init__(self, path: Path, begin: tuple[int, int] = (0, 0)) -> None:
        self.path = path
        self._fd = os.open(path, os.O_RDONLY)
        self._frames = Frames(begin[0]) if path.name.endswith(".zst") else None
        self.given = self._begin = begin[1]
        self.read = begin[0]
        self._guard = b""
        self.seen = (-1, -1)

    @property
    def inode(self) -> int:
        """The file's number in the file system."""
        return os.fstat(self._fd).st_ino

    @property
    def boundary(self) -> tuple[int, int]:
        """The newest place to begin at, in a file of frames."""
        at, given = self._frames.boundary if self._frames is not None else (0, 0)
        return at, self._begin + given

    def more(self) -> bytes:
        """The next bytes of content; none: there are no more yet.

        Raises:
            Replaced: the file is another one, or was cut.
            OSError: it cannot be read.
        """
        while True:
            now = os.fstat(self._fd)
            seen = now.st_size, now.st_mtime_ns
            if seen == self.seen and time.time_ns() - now.st_mtime_ns > _TICK_NS:
                return b""
            guard = self._guard
            data = os.pread(self._fd, READ_BYTES + len(guard), self.read - len(guard))
            if now.st_size < self.read or not data.startswith(guard):
                raise Replaced
            data = data[len(guard) :]
            if not data:
                self.seen = seen
                return b""
            self.read += len(data)
            self._guard = (guard + data)[-_GUARD_BYTES:]
            content = data if self._frames is None else self._frames.feed(data)
            if content:
                self.given += len(content)
                return content

    @property
    def lost(self) -> int | None:
        """From which byte of the file on nothing makes sense, while the next frame is looked for."""
        return self._frames.lost if self._frames is not None else None

    def cuts(self) -> list[Cut]:
        """What was passed over since this was asked for last."""
        if self._frames is None:
            return []
        cuts, self._frames.cuts = self._frames.cuts, []
        return cuts

    def close(self) -> None:
        """Let go of the file."""
        os.close(self._fd)
