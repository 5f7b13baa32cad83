"""What is in a file that another program writes, plain or in zstd frames, while it grows.

It comes in steps of bounded size, whatever a few bytes of zstd make of themselves. A frame that is there to its end is
held against its checksum before any of it is given, if need be by decompressing it twice; one that is still open is
given as it comes.

Everything here waits for the disk; none of it is called on the event loop.
"""

from __future__ import annotations

import os
import re
import time
from pathlib import Path
from typing import Final

from .frames import Cut, FrameDecoder, Refuted, kind_of

SUFFIXES: Final = (".jsonl.zst", ".jsonl")
READ_BYTES: Final = 256 * 1024
STEP_BYTES: Final = 256 * 1024  # of content at once, about
_GUARD_BYTES: Final = 4096  # before the place where a file is read on, that must be what they were
_TICK_NS: Final = 50_000_000  # of a file system's clock, at most: two changes within may leave one time
_DIGITS: Final = re.compile(r"(\d+)")


def stem_of(name: str) -> str | None:
    """A file's name without its ending; None: it is no file of ticks."""
    return next((name.removesuffix(suffix) for suffix in SUFFIXES if name.endswith(suffix)), None)


def natural(name: str) -> tuple[list[str | int], str]:
    """What names are ordered by: digits in them compare as numbers."""
    return [int(part) if part.isdecimal() else part for part in _DIGITS.split(name)], name


def shown(name: str) -> str:
    """A name for a message of one line: whoever names a file may put anything into it."""
    return "".join(char if char.isprintable() else ascii(char)[1:-1] for char in name)


class Replaced(Exception):
    """What was read of a file is not there any more."""


class Content:
    """What is in a file from its beginning, or from a place at which a frame begins, while it grows.

    Args:
        begin: that place, and the content before it, both in bytes.
        checked: content before this place was held against checksums already; None: nothing is to be.

    Attributes:
        given: bytes of content that were given, those before ``begin`` counted.
        read: bytes of the file that were read.
        seen: its size and time of change when there was nothing more to be read.
        refuted: which content, from and to, checksums say is not what was written; it is given like any other.
        skipped: bytes of the file that were skipped so far: damaged, or refuted.
        faults: what was wrong, in order, for the caller to take away.

    Raises:
        OSError: it cannot be opened.
    """

    def __init__(self, path: Path, begin: tuple[int, int] = (0, 0), *, checked: int | None = None) -> None:
        self.path = path
        self._fd = os.open(path, os.O_RDONLY)
        self._frames = FrameDecoder(begin[0]) if path.name.endswith(".zst") else None
        self.given = self._begin = begin[1]
        self.read = begin[0]
        self._guard = b""
        self.seen = (-1, -1)
        self.refuted: list[tuple[int, int]] = []
        self.skipped = 0
        self.faults: list[Cut | Refuted] = []
        self._checked = checked
        self._foretold: tuple[int, bool] = (-1, False)  # the frame that was looked at ahead, and whether it is refuted
        self._kind: str | None = None  # what a plain file is instead of text

    @property
    def inode(self) -> int:
        """The file's number in the file system."""
        return os.fstat(self._fd).st_ino

    @property
    def boundary(self) -> tuple[int, int]:
        """The newest place to begin at, in a file of frames."""
        at, given = self._frames.boundary if self._frames is not None else (0, 0)
        return at, self._begin + given

    @property
    def used(self) -> int:
        """Bytes of the file that what was given so far came from."""
        return self._frames.at if self._frames is not None else self.read

    @property
    def held(self) -> int:
        """Bytes of content that are kept in memory to read on."""
        frame = self._frames.frame if self._frames is not None else None
        return frame.window if frame is not None else 0

    def more(self) -> bytes:
        """The next bytes of content, some of them; none: there are no more yet.

        Raises:
            Replaced: the file is another one, or was cut.
            OSError: it cannot be read.
        """
        while True:
            data = b""
            if self._frames is None or not self._frames.unfinished:
                data = self._read_on()
                if not data:
                    return b""
            content = self._take(data)
            if content:
                return content

    def _read_on(self) -> bytes:
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
        return data

    def _take(self, data: bytes) -> bytes:
        """What comes of the file's next bytes; none of them: of those that were read before."""
        if self._frames is None:
            if self.read == len(data):
                self._kind = kind_of(data)
            content = data if self._kind is None else b""
        else:
            content = self._frames.feed(data, STEP_BYTES)
            self._blame(self._frames)
        self.given += len(content)
        return content

    # ---- what is wrong with it ----

    def _blame(self, frames: FrameDecoder) -> None:
        """Take in what was found to be wrong, and what will be where the frame ends that is open."""
        for cut in frames.cuts:
            self.skipped += cut.end - cut.begin
            self.faults.append(cut)
        frames.cuts = []
        for one in frames.refuted:
            if self._foretold != (one.begin, True):
                self._refute(one)
        frames.refuted = []
        frame = frames.frame
        if self._checked is None or frame is None or not frame.checked or frame.at == self._foretold[0]:
            return
        if self._begin + frames.given > self._checked:
            found = self._look_ahead(frame.at)
            self._foretold = frame.at, found is not None
            if found is not None:
                self._refute(found._replace(first=frame.given, last=frame.given + found.last))

    def _refute(self, one: Refuted) -> None:
        self.refuted.append((self._begin + one.first, self._begin + one.last))
        self.skipped += one.end - one.begin
        self.faults.append(one)

    def _look_ahead(self, at: int) -> Refuted | None:
        """Decompress the frame that begins there as far as it is there; what its checksum refutes, or None."""
        ahead, place = FrameDecoder(at), at
        while not (ahead.ended or ahead.cuts or ahead.lost is not None or ahead.refuted):
            data = b""
            if not ahead.unfinished:
                data = os.pread(self._fd, READ_BYTES, place)
                place += len(data)
                if not data:
                    break
            ahead.feed(data, STEP_BYTES)
        if ahead.doubtful:  # nothing is behind it that could be another frame
            return Refuted(at, place, 0, ahead.given)
        return ahead.refuted[0] if ahead.refuted and not ahead.ended and not ahead.cuts else None

    @property
    def problem(self) -> str:
        """Why nothing more can be made of it as it stands, as a sentence; empty: it can."""
        if self._kind is not None:
            return f"it is {self._kind}, not text"
        if self._frames is not None and self._frames.lost is not None:
            return f"byte {self._frames.lost} {self._frames.why}"
        return ""

    @property
    def left(self) -> tuple[int, str]:
        """Bytes of the file that nothing was made of yet, and as a sentence what is not there to its end; empty:
        everything is. What ``problem`` is told of counts, too."""
        frames = self._frames
        if frames is None:
            return (self.read if self._kind is not None else 0), self.problem
        if frames.lost is not None:
            return self.read - frames.lost, self.problem
        rest = self.read - frames.at
        if frames.frame is not None:
            return rest, f"the zstd frame that begins at byte {frames.frame.at} is not there to its end"
        if frames.skipping is not None:  # where its length is wrong, others may lie in it
            return self.read - frames.skipping, f"what begins at byte {frames.skipping} is no whole zstd frame"
        if rest:
            return rest, f"what begins at byte {frames.at} is no whole zstd frame"
        return 0, ""

    def close(self) -> None:
        """Let go of the file."""
        os.close(self._fd)


def compare(one: Path, other: Path) -> int | None:
    """Which of two files has more content, where one begins with all that the other has: below 0 the first, above 0
    the second, 0 neither; None: they part.

    Raises:
        OSError: one cannot be read.
    """
    contents = [Content(one)]
    try:
        contents.append(Content(other))
        left = [b"", b""]
        while True:
            for at, content in enumerate(contents):
                left[at] = left[at] or content.more()
            size = min(map(len, left))
            if not size:
                return len(left[1]) - len(left[0])
            if left[0][:size] != left[1][:size]:
                return None
            left = [rest[size:] for rest in left]
    except Replaced:
        return None
    finally:
        for content in contents:
            content.close()
