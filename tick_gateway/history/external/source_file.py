"""A file of ticks that another program writes, read line by line.

It is identified by its content, not by its name: the amount read is counted in bytes of content, and verified by their
CRC. So a file that was compressed, renamed or copied is read on from where it was left, and one that was rewritten is
read as a new one.

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

_BOUNDARY_BYTES: Final = 1 << 20  # of content between two places where reading can begin
_SLACK: Final = 1024  # bytes of white space around a tick, which may exceed the maximum size of a tick


class LineBatch(NamedTuple):
    """Consecutive complete lines of a file.

    Attributes:
        begin: offset of the first one in the content.
        lines: without their ends; too long ones are cut (see ``tick.shorten``).
        beyond: bytes of the first one that were cut off.
        number: how many lines come before them.
        read: begin and end of the file's bytes that they were read from.
        refuted: indices of lines in content that a checksum refutes.
        ended: the last of them ends in a line feed.
    """

    begin: int
    lines: list[bytes]
    beyond: int
    number: int
    read: tuple[int, int]
    refuted: frozenset[int] = frozenset()
    ended: bool = True


class Unread(NamedTuple):
    """The part of one or several files that was not read.

    Attributes:
        files: the number of files of which something was not read, or may be missing.
        bytes: the number of bytes not read.
    """

    files: int = 0
    bytes: int = 0

    def __str__(self) -> str:
        return f"{self.bytes} byte{'s' * (self.bytes != 1)} of {self.files} file{'s' * (self.files != 1)} not read"


class SourceFile:
    """One file, read line by line.

    Attributes:
        path: where it is now.
        inode: its number in the file system.
        head: a hash of its first complete line; empty: there is none yet.
        offset: bytes of content taken, up to the end of a line.
        crc: of those bytes, which identifies the file.
        number: lines taken.
        size: bytes of the file that were read.
        gone: its content is no longer on disk.
        window: the largest window of its zstd frames so far, in bytes: the memory for reading on in one.
        checkpoints: identify what is left after a cut.
        boundaries: places where reading can begin, as (content before it, bytes of the file before it).
        skipped: bytes of the file that were skipped because they are damaged or no frame.
        faulty: something was skipped, or a frame is incomplete.
        left: bytes after the last line that could not be used, when it was last closed.
        why: a description of what is missing there; empty: nothing, as far as can be told.
        stuck: nothing that is still written can help, unless it begins a new frame.
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
        self._taken = 0  # bytes of the file that were read for the lines taken
        self._ready: list[bytes] = []
        self._carry = PartialLine(max_line + _SLACK)  # the incomplete line
        self._beyond = 0
        self._given = 0  # bytes of content that were read
        self._crc_read = 0  # of everything read
        self._crc_ready = 0  # the same, up to the end of the complete lines
        self._seen = (-1, -1)  # as ``Content.seen``, when it was closed
        self._refuted: set[int] = set()  # which of the complete lines a checksum refutes
        self._carry_refuted = False  # so does it the incomplete line

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
        """Start reading where it was left.

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
        """Read on if necessary; returns whether there is a complete line.

        Raises:
            Replaced, OSError: as for ``open``.
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
        """The complete lines."""
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
        """The rest after the last complete line, if it is a tick without a line end."""
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
            OSError: it cannot be accessed.
        """
        if self._content is not None:
            return True
        now = os.stat(self.path)
        return now.st_size > 0 and (now.st_size, now.st_mtime_ns) != self._seen

    def shrink(self, path: Path) -> bool:
        """Move to the end of what a cut has left; returns whether the file at ``path`` is that: it ends within what was
        taken, after at least half of it, and begins in the same way. A file that was rewritten with the same beginning
        is shorter.

        Raises:
            Replaced, OSError: as for ``open``.
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
        """From now on its content is in another file."""
        self.close()
        self.path, self.boundaries, self._seen = path, [], (-1, -1)

    def close(self) -> None:
        """Stop reading for now; lines not taken are read again."""
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
        """Mark those of the next lines, including the incomplete one, that are in refuted content."""
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
        """Where to begin reading for an offset of the content, for ``Content``."""
        if not self.zstd:
            return offset, offset
        at = bisect_right(self.boundaries, (offset, 1 << 63))
        given, place = self.boundaries[at - 1] if at else (0, 0)
        return place, given

    # ---- faults ----

    def tell(self, number: int, problem: object) -> None:
        """Report what is wrong with a line; once per file."""
        if not self._told_line:
            self._told_line = True
            told = shown(self.name)
            log.warning("%s, line %d: %s; it is passed over, as are others like it", told, number, problem)

    @property
    def opened(self) -> bool:
        """Whether it is open for reading: then no other file can have its inode."""
        return self._content is not None

    @property
    def torn(self) -> bool:
        """Whether its last line is incomplete."""
        return self._carry.size > 0

    def _tell_faults(self, content: Content) -> None:
        """Record and report what cannot be read in the file; once per file."""
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
        """Determine what follows the last line, while the file is open."""
        if self._content is None:
            return
        self.left, self.why = self._content.left
        self.stuck = bool(self._content.problem)
        if self._carry.size and not self._ready:
            self.left += self._carry.size
            self.why = self.why or "its last line is not whole"

    @property
    def zstd(self) -> bool:
        """Whether it is compressed, by its name."""
        return self.path.name.endswith(".zst")

    def unread(self, *, left: bool, ended: bool) -> Unread:
        """The part of it that was not read.

        Args:
            left: count what follows its last line: a newer file is being read.
            ended: count that, and incomplete frames even if nothing is known to be missing.
        """
        size = self.skipped + (self.left if left or ended or self.stuck else 0)
        return Unread(int(size > 0 or (ended and (self.faulty or self.why != ""))), size)

    # ---- persistence ----

    def note(self) -> dict[str, Any]:
        """How far it was taken, as JSON."""
        return {
            "name": self.name, "inode": self.inode, "size": self.size, "head": self.head, "offset": self.offset,
            "line": self.number, "crc": self.crc, "waymarks": self.checkpoints.upto(self.offset),
            "unread": [self.skipped, self.faulty, self.left, self.why, self.stuck],
        }  # fmt: skip

    @classmethod
    def of(cls, folder: Path, note: dict[str, Any], max_line: int) -> SourceFile:
        """The file in a note."""
        file = cls(folder / note["name"], max_line)
        file.inode, file.size, file.head = note["inode"], note["size"], note["head"]
        file.offset, file.number, file.crc = note["offset"], note["line"], note["crc"]
        file.checkpoints = Checkpoints(note.get("waymarks", ()))
        file.skipped, file.faulty, file.left, file.why, file.stuck = note["unread"]
        return file
