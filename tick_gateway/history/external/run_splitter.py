"""Splits another program's ticks into runs: where ``t`` falls, a new one begins.

A run's name is derived from its beginning, so that everyone who reads the same files gets the same names. The order of
files is not decided here.
"""

from __future__ import annotations

import hashlib
import re
from typing import Any, Final
from zlib import crc32

from ...errors import TickError
from ...model.tick import parse
from .source_file import LineBatch, SourceFile

_NO_NAME: Final = re.compile(r"[^A-Za-z0-9._-]+")
_LONGEST_STEM: Final = 46  # leaves room for the hash and a number of six digits in a run's name
_MOST_NAMES: Final = 10_000
_LARGEST_HOLE: Final = 256 * 1024  # bytes of content without a tick, between two that are read together


class FileRun:
    """One run of the simulation, as found in files.

    Attributes:
        id: its name.
        base: the part of the name before the number that was added if it was already taken.
    """

    __slots__ = ("base", "id")

    def __init__(self, base: str, id: str) -> None:
        self.base = base
        self.id = id


class TickSequence:
    """Consecutive ticks of one run in one file.

    Attributes:
        ts, lines: their numbers, and their bytes to be delivered.
        begin: offset of the first one's line in the file's content.
        ends: end of each one's line, after its line feed if it has one.
        ats: when the first and the last count as received, ms since the epoch, from the times of files.
        apart: the content between the ticks before it in the file and its begin must not be read with it: it is refuted
            by a checksum, or too long.
    """

    __slots__ = ("apart", "ats", "begin", "ends", "file", "lines", "run", "ts")

    def __init__(self, file: SourceFile, run: FileRun, begin: int, *, apart: bool = False) -> None:
        self.file = file
        self.run = run
        self.begin = begin
        self.apart = apart
        self.ts: list[int] = []
        self.lines: list[bytes] = []
        self.ends: list[int] = []
        self.ats = (0, 0)


class RunSplitter:
    """Splits lines into runs.

    Attributes:
        run: the run of the last tick; None before the first.
        tip: that tick's ``t``.
        bad: lines that are not ticks, or ticks whose number has other content in the run; they are skipped.
    """

    def __init__(self, max_tick: int) -> None:
        self.run: FileRun | None = None
        self.tip = -1
        self.skipped = 0
        self._first = -1  # the run's first ``t``
        self._names: dict[str, int] = {}  # how many runs have begun under each name
        self._max_tick = max_tick
        self._newest: bytes | None = None  # the last tick's bytes; None: only their CRC is known
        self._crc = 0
        self._end = 0  # end of the last tick's line in its file
        self._apart = False  # the next tick is apart from that

    def sort(self, file: SourceFile, found: LineBatch, ats: tuple[int, int]) -> list[TickSequence]:
        """The ticks in a file's next lines; the first line counts as received at ``ats[0]``, the last at ``ats[1]``."""
        sequences: list[TickSequence] = []
        current: TickSequence | None = None
        tip, newest, limit = self.tip, self._newest, self._max_tick
        end, beyond = found.begin, found.beyond
        for index, line in enumerate(found.lines):
            begin, end, beyond = end, end + len(line) + beyond + 1, 0
            if index in found.refuted:
                current, self._apart = None, True
                continue
            try:
                t, data = parse(line, limit)
            except TickError as error:
                if line and not line.isspace():
                    self.skip_line(file, found.number + index + 1, error)
                continue
            if t <= tip or self.run is None:
                if (t == tip and newest == data) or (newest is None and t == tip and crc32(data) == self._crc):
                    continue
                if t == tip != self._first:
                    self.skip_line(file, found.number + index + 1, f"tick {t} comes twice, with other content")
                    continue
                self.run, self._first, current = self._begin(file, data), t, None
            if current is None:
                assert self.run is not None
                apart = self._apart or begin - self._end > _LARGEST_HOLE
                current, self._apart = TickSequence(file, self.run, begin, apart=apart), False
                sequences.append(current)
            current.ts.append(t)
            current.lines.append(data)
            current.ends.append(end if found.ended or index + 1 < len(found.lines) else end - 1)
            tip, newest, self._end = t, data, end
        self.tip, self._newest = tip, newest
        size = max(end - found.begin, 1)
        for one in sequences:
            first, last = one.begin - found.begin, one.ends[-1] - found.begin
            one.ats = ats[0] + (ats[1] - ats[0]) * first // size, ats[0] + (ats[1] - ats[0]) * last // size
        return sequences

    def skip_line(self, file: SourceFile, number: int, problem: object) -> None:
        """Count a line that is not a tick."""
        self.skipped += 1
        file.tell(number, problem)

    def _begin(self, file: SourceFile, data: bytes) -> FileRun:
        stem = _NO_NAME.sub("_", file.stem).lstrip("._-")[:_LONGEST_STEM] or "run"
        run = FileRun(f"{stem}-{hashlib.sha256(data).hexdigest()[:8]}", "")
        self.go_on(run)
        return run

    def go_on(self, run: FileRun) -> None:
        """Give a run the next free name: its own is taken, or may no longer be published to."""
        count = self._names[run.base] = self._names.get(run.base, 0) + 1
        if len(self._names) > _MOST_NAMES:
            del self._names[next(iter(self._names))]
        run.id = run.base if count == 1 else f"{run.base}-{count}"

    # ---- persistence ----

    def note(self) -> dict[str, Any]:
        """The state, as JSON."""
        run, base = (self.run.id, self.run.base) if self.run is not None else ("", "")
        crc = self._crc if self._newest is None else crc32(self._newest)
        return {"run": run, "base": base, "tip": self.tip, "first": self._first, "crc": crc, "names": self._names}

    def recall(self, note: dict[str, Any]) -> None:
        """Restore the state from a note."""
        self.run = FileRun(note["base"], note["run"]) if note["run"] else None
        self.tip, self._first, self._crc, self._names = note["tip"], note["first"], note["crc"], dict(note["names"])
        self._newest = None
