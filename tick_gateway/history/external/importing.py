"""Importing another program's ticks into history: ``tick-gateway import``, and the start of ``serve --tail``.

How far a directory was read is kept beside the history, in a note that is written after the ticks that it covers were
stored. What an interruption leaves in between is read again, and skipped by the numbers that the run already has: no
tick is stored twice, and none is missed. If the note is lost, everything is read again in this way.
"""

from __future__ import annotations

import json
import os
import time
from bisect import bisect_left, bisect_right
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from operator import attrgetter
from pathlib import Path
from typing import Any, Final

from ...bus.ring import BATCH_TICKS, Batch, Run, split
from ...errors import HistoryError, SettingError
from ...model.tick import PublishedTick
from ..engine import Progress
from ..local.limits import Limits
from ..local.lock import DirectoryLock
from ..local.opening import open_directory
from ..local.recorder import Recorder
from ..local.run import LocalRun
from .directory import NOTE_VERSION, DirectoryEvent, FileGone, SourceDirectory
from .run_splitter import TickSequence
from .source_file import Unread

NOTE: Final = ".tail.json"  # no run begins with a dot
_NOTE_SECONDS: Final = 1.0
_NOTE_SHARE: Final = 0.05  # share of the time for writing notes, if they are long
_BAR_SECONDS: Final = 0.1


@dataclass(slots=True)
class ImportResult:
    """The result of an import: new ticks, their runs, ticks already in history, lines that are not ticks, and what was
    not read."""

    ticks: int = 0
    runs: set[str] = field(default_factory=set)
    known: int = 0
    skipped: int = 0
    unread: Unread = field(default_factory=Unread)

    def __str__(self) -> str:
        known = f", {self.known} were there already" if self.known else ""
        unread = f"; {self.unread}" if self.unread.files else ""
        result = f"{_count(self.ticks, 'tick')} of {_count(len(self.runs), 'run')}{known}"
        return f"{result}; {_count(self.skipped, 'bad line')}{unread}"


def _count(number: int, what: str) -> str:
    return f"{number} {what}{'s' * (number != 1)}"


# ---- the note ----


def load_note(data: Path, source: Path, stored: Sequence[LocalRun]) -> dict[str, Any] | None:
    """How far a directory was read into a history, or None: that is unknown, or the history has less than the note
    says, as after a power failure."""
    try:
        note: dict[str, Any] = json.loads((data / NOTE).read_bytes())
        if note["version"] != NOTE_VERSION or note["directory"] != str(source.resolve()):
            return None
        run, tip = note["runs"]["run"], note["runs"]["tip"]
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return None if any(one.id == run and one.tip < tip for one in stored) else note


def write_note(data: Path, note: dict[str, Any]) -> None:
    """Write how far a directory was read (see ``SourceDirectory.note``); what the note covers must already be stored.

    Raises:
        OSError: it cannot be written.
    """
    temporary = data / f"{NOTE}.new"
    with temporary.open("w", encoding="ascii") as file:  # json escapes file names that are not UTF-8
        file.write(json.dumps(note))
        file.flush()
        os.fsync(file.fileno())  # an empty one, as after a power failure, would mean reading everything again
    temporary.replace(data / NOTE)


# ---- importing ----


class Importer:
    """Writes the ticks of a directory into a history whose lock the caller holds.

    Args:
        runs: what is stored, oldest first.
        anew: it is unknown how far the directory was read.
    """

    def __init__(
        self, directory: SourceDirectory, data: Path, limits: Limits, runs: Sequence[LocalRun], *, anew: bool
    ) -> None:
        self.result = ImportResult()
        self._anew = anew
        self._directory = directory
        self._data = data
        self._recorder = Recorder(data, limits, runs)
        self._note_at = time.monotonic() + _NOTE_SECONDS

    def import_files(self, progress: Progress | None) -> ImportResult:
        """Import everything.

        Raises:
            OSError: history cannot be written; what was written stays.
        """
        directory = self._directory
        told = 0.0
        try:
            while events := directory.read() or directory.finish():
                self._write(events)
                now = time.monotonic()
                if progress is not None and now - told >= _BAR_SECONDS:
                    told = now
                    progress(*directory.progress())
                if now >= self._note_at:
                    write_note(self._data, directory.note())
                    done = time.monotonic()
                    self._note_at = done + max(_NOTE_SECONDS, (done - now) / _NOTE_SHARE)
        finally:
            self._recorder.close()
        write_note(self._data, directory.note())
        self.result.skipped = directory.splitter.skipped
        self.result.unread = directory.unread(ended=True)
        return self.result

    def _write(self, events: Sequence[DirectoryEvent]) -> None:
        for event in events:
            if not isinstance(event, FileGone):
                self._write_sequence(event)
        self._recorder.events.clear()

    def _write_sequence(self, sequence: TickSequence) -> None:
        runs, run = self._recorder.runs, sequence.run
        if self._anew and run.id not in runs and (whole := _run_with(sequence, runs.values())) is not None:
            run.id = whole.id  # the files of its beginning, which determine its name, were deleted
        self._anew = False
        begin, stored = self._place(sequence)
        self.result.known += begin
        if begin == len(sequence.ts):
            return
        newest = next(reversed(runs.values()), None)
        if stored is None and newest is not None:
            self._recorder.end(Run(newest.id, newest.seq, newest.origin, newest.started))
        self.result.ticks += len(sequence.ts) - begin
        self.result.runs.add(run.id)
        self._recorder.write(self._batches(sequence, begin, stored))

    def _place(self, sequence: TickSequence) -> tuple[int, LocalRun | None]:
        """The index of the first tick that the sequence's run does not have, and that run; None: it is a new one, as it
        is if other runs were published since."""
        runs, begin = self._recorder.runs, 0
        while (stored := runs.get(sequence.run.id)) is not None:
            begin = bisect_right(sequence.ts, stored.tip, begin)
            if begin == len(sequence.ts) or (not stored.ended and stored is next(reversed(runs.values()))):
                break
            self._directory.splitter.go_on(sequence.run)
        return begin, stored

    def _batches(self, sequence: TickSequence, begin: int, stored: LocalRun | None) -> list[Batch]:
        ticks = ticks_of(sequence, begin, stored.entries[-1].last_at if stored is not None and stored.entries else 0)
        if stored is not None:
            run, ordinal = Run(stored.id, stored.seq, stored.origin, stored.started), stored.total
        else:
            newest = next(reversed(self._recorder.runs.values()), None)
            seq = newest.seq + 1 if newest is not None else 0
            run, ordinal = Run(sequence.run.id, seq, ticks[0].t, ticks[0].at), 0
        return split(run, ticks, sum(len(tick.data) for tick in ticks), ordinal, BATCH_TICKS)


def _run_with(sequence: TickSequence, runs: Collection[LocalRun]) -> LocalRun | None:
    """The newest stored run that contains the first tick of a sequence, with the same bytes."""
    t, line = sequence.ts[0], sequence.lines[0]
    for run in reversed(list(runs)):
        at = bisect_left(run.entries, t, key=attrgetter("last"))
        if at == len(run.entries) or not run.entries[at].first <= t or t == run.origin:
            continue
        try:
            block = run.entries[at].volume.read(run.entries[at])
        except (HistoryError, OSError):  # the gateway will report it; here it only means that this is unknown
            continue
        if t in block.ts and block.lines.split(b"\n")[list(block.ts).index(t)] == line:
            return run
    return None


def ticks_of(sequence: TickSequence, begin: int, not_before: int) -> list[PublishedTick]:
    """A sequence's ticks from an index on, with receive times spread evenly."""
    first, last = (max(at, not_before) for at in sequence.ats)
    steps = max(len(sequence.ts) - 1, 1)
    ats = [first + (last - first) * index // steps for index in range(begin, len(sequence.ts))]
    return list(map(PublishedTick._make, zip(sequence.ts[begin:], sequence.lines[begin:], ats, strict=True)))


def check_apart(source: Path, data: Path) -> None:
    """Check that a history is not in the directory of another program.

    Raises:
        SettingError: ``source`` is the same directory, or in it.
    """
    if source.resolve().is_relative_to(data.resolve()):
        raise SettingError("data", f"{source} is (in) the directory that history is kept in")


def import_files(
    source: Path, data: Path, limits: Limits, max_tick: int, progress: Progress | None = None
) -> tuple[SourceDirectory, ImportResult]:
    """Import everything in a directory into a history; returns the directory, for reading on.

    Raises:
        Locked: a gateway keeps history there.
        HistoryError: it cannot be read or written.
    """
    check_apart(source, data)
    try:
        with DirectoryLock(data):
            opened = open_directory(data)
            if opened.trouble:
                raise HistoryError(f"the history in {data} cannot be written: {opened.trouble}")
            runs = [run for run in opened.runs if run.segments]
            note = load_note(data, source, runs)
            directory = SourceDirectory(source, max_tick, note)
            return directory, Importer(directory, data, limits, runs, anew=note is None).import_files(progress)
    except OSError as error:
        raise HistoryError(f"the history in {data} cannot be written: {error.strerror or error}") from None
