"""Checks a history: reads and decompresses everything, and compares it with footers, journal and index.

The directory is scanned and planned for as at a start (see ``scan``), but the plan is not applied. Everything is
checked that can be: footers are read whatever the index says, and each line's ``t`` is compared with its footer's.
While a gateway is writing, its unfinished work does not count as damage, and what it deletes is skipped.

Everything here waits for the disk; none of it is called on the event loop.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, NamedTuple

from ...errors import Damaged, HistoryError
from ..engine import Progress
from ..format.journal import JOURNAL, Ending
from ..format.segment import numbers
from ..stored_block import Entry
from .directory import check_directory, run_directories, segment_paths
from .index import INDEX, Index, IndexedSegment, load_entries
from .lock import LOCK
from .recovery_plan import plan_run
from .run import LocalRun
from .scan import ScannedRun, scan_run
from .segment_file import Segment
from .segment_index import index_path
from .tail_recovery import Recovery

_TRIES: Final = 5  # if a gateway deletes files meanwhile


class Finding(NamedTuple):
    """A fault: its place, by run and file, and what it is."""

    place: str
    problem: str

    def __str__(self) -> str:
        return f"{self.place}: {self.problem}"


@dataclass(slots=True)
class Report:
    """The result of a check.

    Attributes:
        findings: what is wrong.
        remarks: worth mentioning, but not damage: holes, an open block.
        runs, segments, blocks, ticks: numbers of sound ones.
    """

    findings: list[Finding] = field(default_factory=list)
    remarks: list[str] = field(default_factory=list)
    runs: int = 0
    segments: int = 0
    blocks: int = 0
    ticks: int = 0


def verify(directory: Path, *, live: bool = False, progress: Progress | None = None) -> Report:
    """Check all of a directory, without changing anything.

    Args:
        live: a gateway may be writing to it.
        progress: called with the bytes of segments that were checked, and the total.

    Raises:
        OSError: a file cannot be read.
        HistoryError: it is not a directory, or contains a format that this program does not know.
    """
    if not directory.is_dir():
        raise HistoryError(f"{directory} is no directory")
    check_directory(directory)
    report = Report()
    runs = sorted(run_directories(directory))
    if not runs and not (directory / LOCK).exists():
        raise HistoryError(f"{directory} holds no history")
    total = sum(_size(path) for one in runs for path in segment_paths(one))
    done = 0

    def step(size: int) -> None:
        nonlocal done
        done += size
        if progress is not None:
            progress(done, total)

    for one in runs:
        _check_run(one, report, step, live=live)
    return report


def check(entry: Entry) -> str:
    """What is wrong with a block; empty: nothing.

    Raises:
        OSError: its file cannot be read.
    """
    try:
        block = entry.volume.read(entry)
    except Damaged as error:
        return str(error)
    if not entry.footer:
        return f"the block at {entry.offset} (ticks {entry.first} to {entry.last}) has lost its footer"
    if numbers(block.lines) != list(block.ts):
        return f"the block at {entry.offset} has other ticks than its footer says"
    if (block.ats[0], block.ats[-1]) != (entry.first_at, entry.last_at):
        return f"the block at {entry.offset} has other receive times than its footer says"
    return ""


def is_misnamed(segment: Segment, entries: list[Entry]) -> bool:
    """Whether a segment's name is not that of its first tick."""
    return bool(entries) and segment.first != entries[0].first


def _check_run(directory: Path, report: Report, step: Callable[[int], None], *, live: bool) -> None:
    scanned = _scan(directory, live=live)
    if scanned is None:
        return
    plan = plan_run(scanned)
    run = plan.run
    report.runs += 1
    if scanned.index_fault:
        report.findings.append(Finding(f"{directory.name}/{INDEX}", scanned.index_fault))
    elif scanned.index is None:
        report.remarks.append(f"{directory.name}: there is no index; a gateway makes it anew")
    for sentence in plan.damage:
        place, _, problem = sentence.partition(": ")
        report.findings.append(Finding(place, problem))
    report.remarks += _holes(run)
    for segment in run.segments:
        try:
            _check_segment(run, segment, report)
        except FileNotFoundError:
            if not live:
                raise
            report.remarks.append(f"{run.id}/{segment.name}: was deleted meanwhile")
        for recovery in plan.recoveries:
            if recovery.file == segment.name:
                _report_tail(run, recovery, report, live=live)
        step(segment.size)
    if scanned.index is not None:
        report.findings += _check_index(run, scanned.index, report)
    # else the journal is being written to
    if not live and scanned.journal is not None and scanned.journal.ending is Ending.DAMAGED:
        report.findings.append(Finding(f"{directory.name}/{JOURNAL}", "is damaged"))


def _scan(directory: Path, *, live: bool) -> ScannedRun | None:
    """The state of a run, from its footers; None: it was deleted meanwhile."""
    tries = 0
    while True:
        try:
            return scan_run(directory, by_footers=True)
        except FileNotFoundError:
            tries += 1
            if not live or tries == _TRIES:
                raise
            if not directory.exists():
                return None


def _check_segment(run: LocalRun, segment: Segment, report: Report) -> None:
    place = f"{run.id}/{segment.name}"
    report.segments += 1
    entries = run.entries.of(segment)
    if is_misnamed(segment, entries):
        report.findings.append(Finding(place, f"begins with tick {entries[0].first}, which is not what its name says"))
    for entry in entries:
        if problem := check(entry):
            report.findings.append(Finding(place, problem))
        else:
            report.blocks += 1
            report.ticks += entry.count


def _report_tail(run: LocalRun, recovery: Recovery, report: Report, *, live: bool) -> None:
    place, last = f"{run.id}/{recovery.file}", recovery.file == run.segments[-1].name
    count = len(recovery.block.ts) if recovery.block is not None else 0
    left = recovery.size - recovery.begin
    told = f"an open block with {count} ticks, {left} bytes from {recovery.begin} on"
    if last and live:
        report.remarks.append(f"{place}: {told}")
    elif last and not run.ended and recovery.is_clean:
        report.remarks.append(f"{place}: {told}, which a gateway closes at its next start")
    else:
        report.findings.append(Finding(place, f"{told}, is not closed"))


def _holes(run: LocalRun) -> Iterator[str]:
    before: Entry | None = None
    for entry in run.entries:
        least = before.ordinal + before.count if before is not None else 0
        if entry.ordinal > least:
            since = f"{before.last}" if before is not None else "the beginning"
            yield f"{run.id}: {entry.ordinal - least} ticks or more are not stored between {since} and {entry.first}"
        before = entry
    if run.total > run.stored:
        yield f"{run.id}: {run.total - run.stored} ticks or more are not stored at its end"


# ---- files beside the segments ----


def _check_index(run: LocalRun, index: Index, report: Report) -> Iterator[Finding]:
    """Differences between an index and the footers."""
    there = {segment.name: segment for segment in run.segments}
    for listed in index.segments:
        segment = there.get(listed.name)
        if segment is None:
            continue  # a hole, which the ordinals show
        if segment.shortened:
            lacking = listed.size - _size(segment.path)
            yield Finding(f"{run.id}/{listed.name}", f"is {lacking} bytes shorter than the index says")
        else:
            yield from _check_segment_index(run, segment, listed, report)


def _check_segment_index(run: LocalRun, segment: Segment, listed: IndexedSegment, report: Report) -> Iterator[Finding]:
    place = f"{run.id}/{index_path(segment.path).name}"
    try:
        known = load_entries(segment, listed)
    except FileNotFoundError:
        report.remarks.append(f"{place}: is gone; a gateway makes it anew")
    except (Damaged, OSError) as error:
        yield Finding(place, str(error) if isinstance(error, Damaged) else f"cannot be read: {error.strerror}")
    else:
        if not _agrees(listed, known, run.entries.of(segment)):
            yield Finding(f"{run.id}/{INDEX}", f"has other blocks of {listed.name} than their footers tell")


def _agrees(listed: IndexedSegment, known: list[Entry], entries: list[Entry]) -> bool:
    """Whether an index agrees with the blocks of a segment, as far as it goes. (Damaged footers are reported
    elsewhere.)"""
    records = {entry.offset: entry.record() for entry in known if entry.footer}
    sound = {entry.offset: entry.record() for entry in entries if entry.footer}
    ends = (known[0].first, known[-1].last, sum(entry.count for entry in known)) if known else (0, 0, 0)
    bounds = listed.first, listed.last, listed.ticks
    return bounds == ends and all(records.get(at) == record for at, record in sound.items() if at < listed.size)


def _size(path: Path) -> int:
    """Bytes of a file; 0 if it was deleted meanwhile."""
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return 0
