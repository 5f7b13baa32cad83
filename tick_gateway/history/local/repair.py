"""Mending a history: what is damaged is cut out and kept beside, what is sound stays, byte for byte.

    ends that a crash left open     are closed, as at a start
    a damaged segment               is written anew without what is damaged in it: sound blocks with their footers as
                                    they are, blocks that lost theirs with new ones; then it takes the old one's
                                    place
    bytes that were cut out         are kept as ``FILE.OFFSET.damaged``, by where they were
    a segment with a wrong name     gets the right one
    the index                       is made anew from the footers; a damaged journal, of which nothing is left, goes

What could not be kept is a gap for readers, as it was before. A repair can be interrupted anywhere and done again; done
again, it changes nothing.

Everything here waits for the disk; none of it is called on the event loop.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import IO, NamedTuple
from zlib import crc32

from ...errors import Damaged
from ..block_index import Blocks, Entry
from ..engine import Progress
from ..format.journal import JOURNAL, Ending
from .directory import read_journal, read_run, run_directories, segment_paths
from .disk import set_aside, sync_directory
from .index import load_index, save_index
from .run import LocalRun
from .segment_file import Found, Segment, segment_name, walk
from .tail_recovery import Recovered, recover_tail
from .verify import check, is_misnamed


class Piece(NamedTuple):
    """Bytes of a segment that are kept: where they begin and end, and what stands behind them instead of a footer."""

    begin: int
    end: int
    footer: bytes = b""


def repair(directory: Path, progress: Progress | None = None) -> Iterator[str]:
    """Mend what can be mended, in a directory whose lock the caller holds; yields what was done, as sentences.

    Raises:
        OSError: a file cannot be read or written; what was mended before stands.
        HistoryError: a file is of a format that this program does not know; nothing was changed.
    """
    folders = sorted(run_directories(directory))
    runs = [read_run(folder, lambda size: None, by_footers=True)[0] for folder in folders]
    total = sum(path.stat().st_size for folder in folders for path in segment_paths(folder))
    done = 0
    for folder, run in zip(folders, runs, strict=True):
        yield from _close_ends(folder, run)
        for segment in list(run.segments):
            size = segment.path.stat().st_size
            yield from _mend(run, segment)
            done += size
            if progress is not None:
                progress(done, total)
        yield from _mend_index(folder, run)


def _close_ends(folder: Path, run: LocalRun) -> Iterator[str]:
    for left in folder.glob("*.new"):  # by something that was interrupted
        left.unlink()
    for segment in run.segments:
        recovered = recover_tail(run, segment)
        if recovered != Recovered():
            entry = recovered.entry
            kept = f"ticks {entry.first} to {entry.last} kept, " if entry is not None else ""
            yield f"{run.id}/{segment.name}: its end was closed: {kept}{recovered.cut} bytes cut off"
    journal = read_journal(folder)
    if journal is not None and journal.ending is Ending.DAMAGED:
        (folder / JOURNAL).unlink()
        yield f"{run.id}/{JOURNAL}: was damaged and of no use any more, and was deleted"


# ---- a segment ----


def _mend(run: LocalRun, segment: Segment) -> Iterator[str]:
    """Write a segment anew where anything in it is not as it should be."""
    entries = run.entries.of(segment)
    problems = {entry: check(entry) for entry in entries}
    sound = [entry for entry in entries if not entry.footer or not problems[entry]]
    lost = [entry for entry in entries if entry.footer and problems[entry]]
    footers = walk(segment.path).footers
    marks = [found for found in footers if not found.footer.frame and found.footer.run == run.id]
    pieces = _pieces(run, segment, sound, marks)
    size, mark = segment.path.stat().st_size, _last_mark(run, segment, marks, lost)
    if size and not mark and _fill(pieces, size):
        yield from _rename(run, segment, entries)
        return
    cuts = list(_between(pieces, size))
    for begin, end in cuts:
        set_aside(segment.path, begin, segment.load(begin, end))
    if pieces or mark:
        _write_anew(segment, pieces, mark)
    else:
        segment.path.unlink()
    bare = sum(not entry.footer for entry in sound)
    run.entries = Blocks(entry for entry in run.entries if entry not in lost)
    yield f"{run.id}/{segment.name}: {_told(cuts, lost, bare)}"
    yield from _rename(run, segment, sound)


def _pieces(run: LocalRun, segment: Segment, sound: list[Entry], marks: list[Found]) -> list[Piece]:
    """What is kept of a segment, in order."""
    pieces = [Piece(found.at, found.end) for found in marks]
    for entry in sound:
        end = entry.offset + entry.frame
        if entry.footer:
            pieces.append(Piece(entry.offset, end + entry.footer))
        else:
            block, frame = segment.read(entry), segment.load(entry.offset, end)
            footer = run.footer(
                entry.ordinal, block.ts, block.ats, size=len(block.lines), frame=len(frame), crc=crc32(frame)
            )  # fmt: skip
            pieces.append(Piece(entry.offset, end, footer.pack()))
    return sorted(pieces)


def _fill(pieces: list[Piece], size: int) -> bool:
    """Whether pieces are all of a file, as they are."""
    return not any(_between(pieces, size)) and not any(piece.footer for piece in pieces)


def _between(pieces: list[Piece], size: int) -> Iterator[tuple[int, int]]:
    """Where bytes begin and end that are in no piece."""
    at = 0
    for piece in pieces:
        if at < piece.begin:
            yield at, piece.begin
        at = piece.end
    if at < size:
        yield at, size


def _last_mark(run: LocalRun, segment: Segment, marks: list[Found], lost: list[Entry]) -> bytes:
    """The mark that a run's last segment needs, where it has none: if the run is over, or if what it published last is
    lost. Empty: none."""
    kept = max((entry.last for entry in run.entries if entry not in lost), default=-1)
    needed = run.ended or (lost and lost[-1].last > kept)
    if segment is not run.segments[-1] or marks or not needed:
        return b""
    return run.seal_footer(ended=run.ended, lost_tail=run.lost_tail).pack()


def _write_anew(segment: Segment, pieces: list[Piece], mark: bytes) -> None:
    temporary = segment.path.with_name(f"{segment.name}.new")
    with segment.path.open("rb") as old, temporary.open("wb") as new:
        for piece in pieces:
            _copy(old, new, piece)
            new.write(piece.footer)
        new.write(mark)
        new.flush()
        os.fsync(new.fileno())
    temporary.replace(segment.path)
    sync_directory(segment.path.parent)


def _copy(old: IO[bytes], new: IO[bytes], piece: Piece) -> None:
    old.seek(piece.begin)
    data = old.read(piece.end - piece.begin)
    if len(data) != piece.end - piece.begin:
        raise Damaged("a segment shrank while it was mended")
    new.write(data)


def _rename(run: LocalRun, segment: Segment, entries: list[Entry]) -> Iterator[str]:
    """Give a segment the name of its first tick, unless another file has it."""
    if not is_misnamed(segment, entries):
        return
    right = segment.path.with_name(segment_name(entries[0].first))
    if not right.exists():
        yield f"{run.id}/{segment.name}: has the name {right.name} now"
        segment.path.rename(right)
        sync_directory(right.parent)


def _told(cuts: list[tuple[int, int]], lost: list[Entry], bare: int) -> str:
    """What was done to a segment, for people."""
    size = sum(end - begin for begin, end in cuts)
    parts = [f"{size} bytes were cut out of it, and are kept beside it as .damaged files"] if size else ["was ended"]
    if lost:
        parts.append("ticks lost: " + ", ".join(f"{entry.first} to {entry.last}" for entry in lost))
    if bare:
        parts.append(f"{bare} block{'s' if bare > 1 else ''} got a new footer")
    return "; ".join(parts)


# ---- the index ----


def _mend_index(folder: Path, run: LocalRun) -> Iterator[str]:
    """Make a run's index anew, by the files as they are now, and what was known to have been published."""
    anew, _ = read_run(folder, lambda size: None, by_footers=True)
    anew.know(run.total, run.tip)
    anew.ended, anew.lost_tail = anew.ended or run.ended, anew.lost_tail or run.lost_tail
    if not anew.segments:
        return
    try:
        old = load_index(folder)
    except Damaged:
        old = None
    save_index(anew)
    with contextlib.suppress(Damaged):
        if load_index(folder) != old:
            yield f"{run.id}/index: was made anew"
