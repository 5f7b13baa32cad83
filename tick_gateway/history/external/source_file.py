"""A file of ticks that another program writes, line by line.

It is known by its content, not by its name: how far it was read is counted in bytes of content, and vouched for by a
CRC of them. So a file that was compressed, renamed or copied over is read on where it was left, and one that was begun
anew is read as a new one.

Everything here waits for the disk; none of it is called on the event loop.
"""

from __future__ import annotations

import hashlib
import logging
import os
from bisect import bisect_right
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Final, NamedTuple
from zlib import crc32

from ...errors import TickError
from ...model.tick import PartialLine, parse
from .checkpoint import Checkpoints
from .file_content import Content, Replaced, shown, stem_of
from .frames import Cut

log = logging.getLogger("tick_gateway.files")

_BOUNDARY_BYTES: Final = 1 << 20  # of content between two places at which reading can begin
_SLACK: Final = 1024  # white space around a tick that may be longer than a tick itself


class LineBatch(NamedTuple):
    """Whole lines that follow each other in a file.

    Attributes:
        begin: where in the content the first of them begins.
        lines: without their ends; one that is too long is cut (see ``tick.shorten``).
        beyond: bytes of the first one that were cut off.
        number: how many lines come before them.
        read: bytes of the file that were read for them, from and to.
        refuted: which of them are no more than what a wrong checksum makes of them, by index.
        ended: the last of them has an end, a line feed.
    """

    begin: int
    lines: list[bytes]
    beyond: int
    number: int
    read: tuple[int, int]
    refuted: frozenset[int] = frozenset()
    ended: bool = True


class Unread(NamedTuple):
    """What of a file, or of several, was not read.

    Attributes:
        files: of how many something was not read, or may be missing.
        bytes: of them, that were not read.
    """

    files: int = 0
    bytes: int = 0

    def __str__(self) -> str:
        return f"{self.bytes} byte{'s' * (self.bytes != 1)} of {self.files} file{'s' * (self.files != 1)} not read"


class SourceFile:
    """One file, read line by line.

    Attributes:
        path: where it lies now.
        inode: its number in the file system.
        head: a hash of its first whole line; empty: it has none yet.
        offset: bytes of content that were taken, to the end of a line.
        crc: of those bytes: they vouch for its being the same file.
        number: lines that were taken.
        size: bytes of the file that were read.
        gone: its content is not on disk any more.
        window: the largest window of a zstd frame so far, bytes: so much is kept in memory to read on in one.
        checkpoints: they vouch for what a cut leaves of it.
        boundaries: places at which reading can begin, as (content before it, bytes of the file before it).
        skipped: bytes of the file that were skipped, since they are damaged or no frame.
        faulty: something of it was skipped, or a frame of it breaks off.
        left: bytes behind the last line, of which nothing could be made, when it was closed last.
        why: what is missing there, as a sentence; empty: nothing, as far as can be told.
        stuck: nothing can be made of it whatever is still written there, unless that begins a new frame.
    """

    def __init__(self, path: Path, max_line: int) -> None:
        self.path = path
        self.inode = 0
        self.head = ""
        self.offset = 0
        self.crc = 0
        self.number = 0
        self.size = 0
        self.gone = False
        self.window = 0
        self.skipped = self.left = 0
        self.faulty = self.stuck = False
        self.why = ""
        self._told_line = self._told_cut = False
        self.checkpoints = Checkpoints()
        self.boundaries: list[tuple[int, int]] = []
        self._max_line = max_line
        self._content: Content | None = None
        self._taken = 0  # bytes of the file that were read for what was taken
        self._ready: list[bytes] = []
        self._carry = PartialLine(max_line + _SLACK)  # the line that is not whole
        self._beyond = 0
        self._given = 0  # bytes of content that were read
        self._crc_read = 0  # of all that was read
        self._crc_ready = 0  # the same, to the end of the lines that are ready
        self._seen = (-1, -1)  # as ``Content.seen``, when it was closed
        self._refuted: set[int] = set()  # which of the lines that are ready a checksum refutes
        self._carry_refuted = False  # the line that is not whole is among them

    @property
    def name(self) -> str:
        """The name that it has now."""
        return self.path.name

    @property
    def stem(self) -> str:
        """The same without its ending."""
        return stem_of(self.path.name) or self.path.name

    # ---- reading ----

    def open(self) -> None:
        """Begin to read, where it was left off.

        Raises:
            Replaced: what was taken before is not there.
            OSError: it cannot be read.
        """
        if self._content is not None:
            return
        content = Content(self.path, checked=self.offset)
        try:
            self._go_to_offset(content)
        except (Replaced, OSError):
            content.close()
            raise
        self._content = content
        self.inode = content.inode

    def _go_to_offset(self, content: Content) -> None:
        crc, rest = 0, b""
        while (missing := self.offset - content.given) > 0:
            data = content.more()
            if not data:
                raise Replaced
            crc, rest = crc32(data[:missing], crc), data[missing:]
        if crc != self.crc:
            raise Replaced
        self._given, self._crc_read = self.offset, crc
        self._split(rest, content)
        self.size, self._taken = content.read, content.used

    def pull(self) -> bool:
        """Read on if need be; whether there is a whole line.

        Raises:
            Replaced, OSError: as ``open``.
        """
        if self._ready:
            return True
        self.open()
        assert self._content is not None
        while not self._ready and (data := self._content.more()):
            self.window = max(self.window, self._content.held)
            self._split(data, self._content)
        self.size = self._content.read
        self._tell_faults(self._content)
        if self._ready and not self.head:
            self.head = hashlib.sha256(self._ready[0]).hexdigest()[:16]
        return bool(self._ready)

    def take(self) -> LineBatch:
        """The lines that are there."""
        used = self._content.used if self._content is not None else self._taken
        refuted = frozenset(self._refuted)
        found = LineBatch(self.offset, self._ready, self._beyond, self.number, (self._taken, used), refuted)
        self._taken = used
        self.offset += sum(map(len, found.lines)) + len(found.lines) + found.beyond
        self.number += len(found.lines)
        self.crc, self._ready, self._beyond = self._crc_ready, [], 0
        self._refuted.clear()
        if self._content is not None:
            self._keep_boundary(self._content)
        return found

    def take_last(self) -> LineBatch | None:
        """What is behind the last whole line, where that is a tick whose line was never ended."""
        line = bytes(self._carry)
        if len(line) != self._carry.size or self._carry_refuted:
            return None
        try:
            parse(line, self._max_line)
        except TickError:
            return None
        begin, number = self.offset, self.number
        self.head = self.head or hashlib.sha256(line).hexdigest()[:16]
        self.offset += len(line)
        self.number += 1
        self._carry.end()
        self.crc = self._crc_read
        return LineBatch(begin, [line], 0, number, (self._taken, self._taken), ended=False)

    def changed(self) -> bool:
        """Whether there may be more than when it was closed.

        Raises:
            OSError: it cannot be looked at.
        """
        if self._content is not None:
            return True
        now = os.stat(self.path)
        return now.st_size > 0 and (now.st_size, now.st_mtime_ns) != self._seen

    def shrink(self, path: Path) -> bool:
        """Stand at the end of what a cut has left; whether the file at a path is that: it ends inside what was taken,
        behind half of it at least, and begins in the same way. One that is begun anew alike is shorter at first.

        Raises:
            Replaced, OSError: as ``open``.
        """
        content = Content(path)
        given = crc = lines = end = end_crc = vouched = 0
        try:
            while data := content.more():
                if given + len(data) >= self.offset:
                    return False
                at = 0
                for mark, wanted in self.checkpoints.between(given, given + len(data)):
                    crc, at, vouched = crc32(data[at : mark - given], crc), mark - given, mark
                    if crc != wanted:
                        return False
                if (last := data.rfind(b"\n") + 1) > 0:
                    end, end_crc = given + last, crc32(data[at:last], crc)
                lines += data.count(b"\n")
                crc, given = crc32(data[at:], crc), given + len(data)
        finally:
            content.close()
        if end < self.offset / 2 or vouched < end / 2:
            return False
        self.close()
        self.offset, self.crc, self.number, self.size = end, end_crc, lines, content.read
        self.checkpoints.cut(end)
        return True

    def move(self, path: Path) -> None:
        """Its content stands in another file from here on."""
        self.close()
        self.path, self.boundaries, self._seen = path, [], (-1, -1)

    def close(self) -> None:
        """Stop reading for now; what was not taken is read again."""
        if self._content is not None:
            self.measure()
            self._seen = self._content.seen
            self._content.close()
        self._content = None
        self._ready, self._beyond = [], 0
        self._carry.end()
        self._refuted.clear()
        self._carry_refuted = False
        self.checkpoints.cut(self.offset)

    def _split(self, data: bytes, content: Content) -> None:
        self.checkpoints.set(data, self._given, self._crc_read)
        lines = data.split(b"\n")
        last = lines.pop()
        if content.refuted or self._carry_refuted:
            self._refute(lines, len(data), content.refuted)
        self._given += len(data)
        if lines:
            self._carry.add(lines[0])
            size = self._carry.size
            lines[0] = self._carry.end()
            self._beyond = size - len(lines[0])
            self._ready = lines
            self._crc_ready = crc32(memoryview(data)[: len(data) - len(last)], self._crc_read)
            self._crc_read = crc32(last, self._crc_ready)
        else:
            self._crc_read = crc32(last, self._crc_read)
        self._carry.add(last)

    def _refute(self, lines: list[bytes], size: int, refuted: Iterable[tuple[int, int]]) -> None:
        """Mark those of the next lines, from what was carried on, that lie in refuted content."""
        begin, stop = self._given, self._given + size
        some = [(first, last) for first, last in refuted if first < stop and last > begin]
        for index, line in enumerate(lines):
            end = begin + len(line) + 1
            if (not index and self._carry_refuted) or any(first < end and last > begin for first, last in some):
                self._refuted.add(index)
            begin = end
        carried = self._carry_refuted and not lines
        self._carry_refuted = carried or any(first < stop and last > begin for first, last in some)

    def _keep_boundary(self, content: Content) -> None:
        at, given = content.boundary
        if given <= self.offset and given >= (self.boundaries[-1][0] if self.boundaries else 0) + _BOUNDARY_BYTES:
            self.boundaries.append((given, at))

    def boundary_before(self, offset: int) -> tuple[int, int]:
        """Where to begin reading for what lies at an offset of the content, for ``Content``."""
        if not self.zstd:
            return offset, offset
        at = bisect_right(self.boundaries, (offset, 1 << 63))
        given, place = self.boundaries[at - 1] if at else (0, 0)
        return place, given

    # ---- what was wrong ----

    def tell(self, number: int, problem: object) -> None:
        """Say what is wrong with a line; once a file."""
        if not self._told_line:
            self._told_line = True
            told = shown(self.name)
            log.warning("%s, line %d: %s; it is passed over, as are others like it", told, number, problem)

    @property
    def opened(self) -> bool:
        """Whether it is open for reading: then its number belongs to no other file."""
        return self._content is not None

    @property
    def torn(self) -> bool:
        """Whether its last line is not whole."""
        return self._carry.size > 0

    def _tell_faults(self, content: Content) -> None:
        """Take in what of a file cannot be read, and say so; once a file."""
        self.skipped = content.skipped
        faults, content.faults = content.faults, []
        problem = ""
        if faults:
            self.faulty = True
            first = faults[0]
            goes_on = f"reading goes on with the frame that begins at byte {first.end}"
            problem = f"{first}; {goes_on if isinstance(first, Cut) else 'none of it is read'}"
        elif content.problem:
            problem = f"{content.problem}; the next frame is waited for" if self.zstd else content.problem
        if problem and not self._told_cut:
            self._told_cut = True
            log.warning("%s: %s", shown(self.name), problem)

    def measure(self) -> None:
        """See what lies behind the last line, while it is open."""
        if self._content is None:
            return
        self.left, self.why = self._content.left
        self.stuck = bool(self._content.problem)
        if self._carry.size and not self._ready:
            self.left += self._carry.size
            self.why = self.why or "its last line is not whole"

    @property
    def zstd(self) -> bool:
        """Whether its name says that it is compressed."""
        return self.path.name.endswith(".zst")

    def unread(self, *, left: bool, ended: bool) -> Unread:
        """What of it was not read.

        Args:
            left: what is behind its last line counts: a newer file is read.
            ended: that, and frames that break off where nothing can be seen to be missing.
        """
        size = self.skipped + (self.left if left or ended or self.stuck else 0)
        return Unread(int(size > 0 or (ended and (self.faulty or self.why != ""))), size)

    # ---- remembering ----

    def note(self) -> dict[str, Any]:
        """How far it was taken, as JSON."""
        return {
            "name": self.name, "inode": self.inode, "size": self.size, "head": self.head, "offset": self.offset,
            "line": self.number, "crc": self.crc, "waymarks": self.checkpoints.upto(self.offset),
            "unread": [self.skipped, self.faulty, self.left, self.why, self.stuck],
        }  # fmt: skip

    @classmethod
    def of(cls, folder: Path, note: dict[str, Any], max_line: int) -> SourceFile:
        """The file that a note is of."""
        file = cls(folder / note["name"], max_line)
        file.inode, file.size, file.head = note["inode"], note["size"], note["head"]
        file.offset, file.number, file.crc = note["offset"], note["line"], note["crc"]
        file.checkpoints = Checkpoints(note.get("waymarks", ()))
        file.skipped, file.faulty, file.left, file.why, file.stuck = note["unread"]
        return file
