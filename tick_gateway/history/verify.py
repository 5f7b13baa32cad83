"""Checking a history, and mending it: everything is read, decompressed and held against what was written beside it.

A repair writes each damaged segment anew from the sound blocks in it, puts it in the old one's place in one step,
and keeps the old one beside it as ``NAME.damaged``. What could not be kept is a gap for readers, as it was before.

Everything here waits for the disk; none of it is called on the event loop.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, NamedTuple
from zlib import crc32

from ..errors import Damaged, HistoryError
from .catalog import read_directory
from .index import INDEX, load_index, save_index
from .recovery import peek_tail, recover_tail
from .segment import Foot, numbers
from .shelf import Block, Entry
from .stored import StoredRun
from .volume import Segment, walk

DAMAGED_SUFFIX: Final = ".damaged"

Progress = Callable[[int, int], None]


class Finding(NamedTuple):
    """Something that is wrong: where, by run and file, and what."""

    place: str
    problem: str

    def __str__(self) -> str:
        return f"{self.place}: {self.problem}"


@dataclass(slots=True)
class Report:
    """What was found.

    Attributes:
        findings: what is wrong.
        remarks: what is worth telling and no damage: holes, an open block.
        runs, segments, blocks, ticks: how many are sound.
    """

    findings: list[Finding] = field(default_factory=list)
    remarks: list[str] = field(default_factory=list)
    runs: int = 0
    segments: int = 0
    blocks: int = 0
    ticks: int = 0


def verify(directory: Path, *, live: bool = False, progress: Progress | None = None) -> Report:
    """Check all of a directory; nothing in it is changed.

    Args:
        live: a gateway may be writing to it: a block that is open is no damage.
        progress: is told how many bytes of blocks were checked, and how many there are.

    Raises:
        OSError: a file cannot be read.
        HistoryError: it is no history, or of a format that this program does not know.
    """
    report = Report()
    if not directory.is_dir():
        raise HistoryError(f"{directory} is no directory")
    runs, damage = read_directory(directory)
    for sentence in damage:
        place, _, problem = sentence.partition(": ")
        report.findings.append(Finding(place, problem))
    total = sum(entry.frame for run in runs for entry in run.entries)
    done = 0
    for run in runs:
        report.runs += 1
        report.segments += len(run.segments)
        _check_index(directory / run.id, report)
        before: Entry | None = None
        for entry in run.entries:
            problem = check(entry)
            if problem:
                report.findings.append(Finding(_place(run, entry), problem))
            else:
                report.blocks += 1
                report.ticks += entry.count
            report.remarks += _hole(run, before, entry)
            before = entry
            done += entry.frame
            if progress is not None:
                progress(done, total)
        for segment in run.segments:
            _check_tail(directory / run.id, run, segment, report, live=live)
    return report


def check(entry: Entry) -> str:
    """What is wrong with a block, as a sentence; empty: nothing.

    Raises:
        OSError: its file cannot be read.
    """
    try:
        block = entry.volume.read(entry)
    except Damaged as error:
        return str(error)
    if not entry.foot:
        return f"the block at {entry.offset} (ticks {entry.first} to {entry.last}) has lost its foot"
    if numbers(block.lines) != list(block.ts):
        return f"the block at {entry.offset} has other ticks than its foot says"
    return ""


def _check_index(folder: Path, report: Report) -> None:
    try:
        if load_index(folder) is None:
            report.remarks.append(f"{folder.name}: there is no index; a gateway makes it anew")
    except Damaged as error:
        report.findings.append(Finding(f"{folder.name}/{INDEX}", str(error)))


def _hole(run: StoredRun, before: Entry | None, entry: Entry) -> Iterator[str]:
    least = before.ordinal + before.count if before is not None else 0
    if entry.ordinal > least:
        since = f"{before.last}" if before is not None else "the beginning"
        yield f"{run.id}: {entry.ordinal - least} ticks or more are not stored between {since} and {entry.first}"


def _check_tail(folder: Path, run: StoredRun, segment: Segment, report: Report, *, live: bool) -> None:
    """What lies behind the last foot of a segment."""
    size = segment.path.stat().st_size
    if size <= segment.size:
        if (end := walk(segment.path, 0).end) < segment.size:
            problem = f"bytes {end} to {segment.size} are no block, though the index says so"
            report.findings.append(Finding(f"{run.id}/{segment.name}", problem))
        return
    torn = peek_tail(folder, run, segment)
    count = len(torn.block.ts) if torn is not None else 0
    told = f"an open block with {count} ticks, {size - segment.size} bytes from {segment.size} on"
    if live and segment is run.segments[-1]:
        report.remarks.append(f"{run.id}/{segment.name}: {told}")
    else:
        report.findings.append(Finding(f"{run.id}/{segment.name}", f"{told}, is not closed"))


def _place(run: StoredRun, entry: Entry) -> str:
    return f"{run.id}/{entry.volume.name}" if isinstance(entry.volume, Segment) else run.id


# ---- mending ----


def repair(directory: Path, progress: Progress | None = None) -> list[str]:
    """Mend what can be mended, in a directory whose lock the caller holds; returns what was done.

    It can be interrupted anywhere and done again.

    Raises:
        OSError: a file cannot be read or written; what was mended before stands.
        HistoryError: as ``verify``.
    """
    done: list[str] = []
    runs, _ = read_directory(directory)
    total = sum(segment.path.stat().st_size for run in runs for segment in run.segments)
    passed = 0
    for run in runs:
        folder = directory / run.id
        for segment in run.segments:
            recovered = recover_tail(folder, run, segment)
            if recovered != type(recovered)():
                kept = f"ticks {recovered.entry.first} to {recovered.entry.last} kept, " if recovered.entry else ""
                done.append(f"{run.id}/{segment.name}: its end was closed: {kept}{recovered.cut} bytes cut off")
        for segment in list(run.segments):
            done += _rewrite_if_damaged(run, segment)
            passed += segment.size
            if not segment.path.stat().st_size:  # nothing of it was left
                segment.path.unlink()
            if progress is not None:
                progress(passed, total)
        with contextlib.suppress(FileNotFoundError):
            (folder / INDEX).unlink()
    for run in read_directory(directory)[0]:  # what is there now, by the files alone
        save_index(directory / run.id, run)
    return done


def _rewrite_if_damaged(run: StoredRun, segment: Segment) -> Iterator[str]:
    """Write a segment anew where anything in it is not as it should be."""
    entries = [entry for entry in run.entries if entry.volume is segment]
    sound: list[tuple[Entry, Block]] = []
    for entry in entries:
        with contextlib.suppress(Damaged):
            sound.append((entry, segment.read(entry)))
    bare = sum(not entry.foot for entry in entries)
    whole = len(sound) == len(entries) and not bare
    feet = walk(segment.path, 0)  # whatever the index says of it
    if whole and not feet.strays and feet.end == segment.path.stat().st_size:
        return
    lost = [entry for entry in entries if entry not in {one for one, _ in sound}]
    _write_anew(run, segment, sound)
    run.entries = [entry for entry in run.entries if entry.volume is not segment or entry not in lost]
    told = ", ".join(f"{entry.first} to {entry.last}" for entry in lost) or "none"
    yield f"{run.id}/{segment.name}: written anew; ticks lost: {told}; the old file is {segment.name}{DAMAGED_SUFFIX}"


def _write_anew(run: StoredRun, segment: Segment, sound: list[tuple[Entry, Block]]) -> None:
    temporary = segment.path.with_name(f"{segment.name}.new")
    last = segment is run.segments[-1]
    with temporary.open("wb") as file:
        for entry, block in sound:
            frame = segment.load(entry.offset, entry.offset + entry.frame)
            foot = run.foot(
                entry.ordinal, block.ts, block.ats, size=len(block.lines), frame=len(frame), crc=crc32(frame)
            )
            file.write(frame + foot.pack())
        if segment.sealed or run.ended:
            file.write(_mark(run, [entry for entry, _ in sound], last=last).pack())
        file.flush()
        os.fsync(file.fileno())
    kept = segment.path.with_name(segment.name + DAMAGED_SUFFIX)
    if not kept.exists():  # else a repair was interrupted here, and this is the file that it wrote
        os.link(segment.path, kept)
    temporary.replace(segment.path)
    _sync(segment.path.parent)


def _mark(run: StoredRun, entries: list[Entry], *, last: bool) -> Foot:
    """The mark that seals a segment again."""
    if last or not entries:
        return run.mark(ended=last and run.ended, lost_tail=last and run.lost_tail)
    newest = entries[-1]
    return Foot(
        run.id, run.seq, run.started, run.origin, newest.ordinal + newest.count, newest.last, newest.last, 0, 0,
        sealed=True,
    )  # fmt: skip


def _sync(folder: Path) -> None:
    fd = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
