"""The content of a file that another program writes, plain or in zstd frames, while it grows.

It is read in steps of bounded size, however well it was compressed. A complete frame is compared with its checksum
before any of it is returned, if necessary by decompressing it twice; an open frame is returned as it grows.

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
STEP_BYTES: Final = 256 * 1024  # approximate content of a step
_GUARD_BYTES: Final = 4096  # before the read position, which must be unchanged
_TICK_NS: Final = 50_000_000  # maximum resolution of a file system's clock: two changes within may have the same time
_DIGITS: Final = re.compile(r"(\d+)")


def stem_of(name: str) -> str | None:
    """A file's name without its extension; None: it is not a file of ticks."""
    return next((name.removesuffix(suffix) for suffix in SUFFIXES if name.endswith(suffix)), None)


def natural(name: str) -> tuple[list[str | int], str]:
    """A sort key for names: digits in them compare as numbers."""
    return [int(part) if part.isdecimal() else part for part in _DIGITS.split(name)], name


def shown(name: str) -> str:
    """A name for a one-line message: names of files may contain anything."""
    return "".join(char if char.isprintable() else ascii(char)[1:-1] for char in name)


class Replaced(Exception):
    """What was read of a file is no longer there."""


class Content:
    """The content of a file from its beginning, or from a frame on, while it grows.

    Args:
        begin: the offset of that frame, and the length of the content before it, in bytes.
        checked: content up to here was already compared with checksums; None: no comparison is necessary.

    Attributes:
        given: bytes of content returned, including those before ``begin``.
        read: bytes of the file that were read.
        seen: size and time of change when there was nothing more to read.
        refuted: ranges of content that do not match their checksums; returned like any other.
        skipped: bytes of the file skipped so far: damaged, or refuted.
        faults: what was wrong, in order; the caller removes them.

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
        # the frame that was checked in advance, and whether it is refuted
        self._foretold: tuple[int, bool] = (-1, False)
        self._kind: str | None = None  # what a plain file is, if not text

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
        """Bytes of the file that were used for the content returned so far."""
        return self._frames.at if self._frames is not None else self.read

    @property
    def held(self) -> int:
        """Bytes of content kept in memory for reading on."""
        frame = self._frames.frame if self._frames is not None else None
        return frame.window if frame is not None else 0

    def more(self) -> bytes:
        """The next bytes of content; empty: there are none yet.

        Raises:
            Replaced: the file is a different one, or was cut.
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
        """The content of the file's next bytes; if ``data`` is empty, of those read before."""
        if self._frames is None:
            if self.read == len(data):
                self._kind = kind_of(data)
            content = data if self._kind is None else b""
        else:
            content = self._frames.feed(data, STEP_BYTES)
            self._blame(self._frames)
        self.given += len(content)
        return content

    # ---- faults ----

    def _blame(self, frames: FrameDecoder) -> None:
        """Record faults that were found, and those that will be at the end of the open frame."""
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
        """Decompress the frame at an offset as far as it is complete; returns what its checksum refutes, or None."""
        ahead, place = FrameDecoder(at), at
        while not (ahead.ended or ahead.cuts or ahead.lost is not None or ahead.refuted):
            data = b""
            if not ahead.unfinished:
                data = os.pread(self._fd, READ_BYTES, place)
                place += len(data)
                if not data:
                    break
            ahead.feed(data, STEP_BYTES)
        if ahead.doubtful:  # nothing follows that could be another frame
            return Refuted(at, place, 0, ahead.given)
        return ahead.refuted[0] if ahead.refuted and not ahead.ended and not ahead.cuts else None

    @property
    def problem(self) -> str:
        """Why the rest of the file cannot be read; empty: it can."""
        if self._kind is not None:
            return f"it is {self._kind}, not text"
        if self._frames is not None and self._frames.lost is not None:
            return f"byte {self._frames.lost} {self._frames.why}"
        return ""

    @property
    def left(self) -> tuple[int, str]:
        """Bytes of the file that are not used yet, and a description of what is incomplete; empty: nothing. This
        includes what ``problem`` reports."""
        frames = self._frames
        if frames is None:
            return (self.read if self._kind is not None else 0), self.problem
        if frames.lost is not None:
            return self.read - frames.lost, self.problem
        rest = self.read - frames.at
        if frames.frame is not None:
            return rest, f"the zstd frame that begins at byte {frames.frame.at} is not there to its end"
        if frames.skipping is not None:  # if its length is wrong, it may contain others
            return self.read - frames.skipping, f"what begins at byte {frames.skipping} is no whole zstd frame"
        if rest:
            return rest, f"what begins at byte {frames.at} is no whole zstd frame"
        return 0, ""

    def close(self) -> None:
        """Close the file."""
        os.close(self._fd)


def compare(one: Path, other: Path) -> int | None:
    """Which of two files has more content, if one begins with all content of the other: below 0 the first, above 0 the
    second, 0 neither; None: they differ.

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
