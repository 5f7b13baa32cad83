"""Repairs a history: cuts out damage and keeps it in separate files; everything sound stays, byte for byte.

        ends that a crash left open     are closed, as at a start
    a damaged segment               is written anew without what is damaged in it: sound blocks with their footers as
                                    they are, blocks that lost theirs with new ones; then it takes the old one's
                                    place
    bytes that were cut out         are kept as ``FILE.OFFSET.damaged``, by where they were
    a segment with a wrong name     gets the right one
    the index                       is made anew from the footers; a damaged journal, of which nothing is left, goes

What could not be kept is a gap for readers, as before. A repair can be interrupted anywhere and repeated; repeating it
changes nothing.

The directory is scanned and planned for as at a start (see ``scan``); a ``SegmentRepair`` is the plan beyond that for
one segment.

Everything here but ``plan_repair`` waits for the disk; none of it is called on the event loop.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import IO, NamedTuple
from zlib import crc32

from ...errors import Damaged
from ..block_index import Blocks
from ..engine import Progress
from ..format.journal import JOURNAL, Ending
from ..format.segment import Footer
from ..stored_block import Entry
from .apply_plan import apply_recovery, settle
from .directory import run_directories
from .disk import set_aside, sync_directory
from .index import INDEX, save_index
from .recovery_plan import RunPlan, place_strangers, plan_run
from .run import LocalRun
from .scan import ScannedRun, read_journal, scan_run
from .segment_file import Segment, segment_name
from .segment_index import index_paths
from .verify import check, is_misnamed


def repair(directory: Path, progress: Progress | None = None) -> Iterator[str]:
    """Repair a directory whose lock the caller holds, as far as possible; yields descriptions of what was done.

    Raises:
        OSError: a file cannot be read or written; repairs up to then stay.
        HistoryError: a file has a format that this program does not know; nothing was changed.
    """
    scanned = [scan_run(one, by_footers=True) for one in sorted(run_directories(directory))]
    plans = [plan_run(one) for one in scanned]
    place_strangers(plans)
    total = sum(segment.size for one in scanned for segment in one.segments)
    done = 0
    for one, plan in zip(scanned, plans, strict=True):
        run = plan.run
        yield from _close_ends(one, plan)
        seals = {segment.segment.name: segment.seals for segment in one.segments}
        for segment in list(run.segments):
            size = segment.path.stat().st_size
            yield from _mend(run, segment, size, seals[segment.name])
            done += size
            if progress is not None:
                progress(done, total)
        yield from _mend_index(one.directory, run)


def _close_ends(scanned: ScannedRun, plan: RunPlan) -> Iterator[str]:
    for left in scanned.directory.glob("*.new"):  # left by an interrupted repair
        left.unlink()
    recoveries, run = list(plan.recoveries), plan.run
    settle(plan)
    for recovery in recoveries:
        entry = apply_recovery(run, recovery) if recovery.keep is not None else None
        kept = f"ticks {entry.first} to {entry.last} kept, " if entry is not None else ""
        yield f"{run.id}/{recovery.file}: its end was closed: {kept}{recovery.cut} bytes cut off"
    journal = read_journal(scanned.directory)
    if journal is not None and journal.ending is Ending.DAMAGED:
        (scanned.directory / JOURNAL).unlink()
        yield f"{run.id}/{JOURNAL}: was damaged and of no use any more, and was deleted"


# ---- what to do about a segment ----


class KeptRange(NamedTuple):
    """Bytes of a segment that are kept: their begin and end, and the block in them if it needs a footer."""

    begin: int
    end: int
    bare: Entry | None = None


class SegmentRepair(NamedTuple):
    """How a segment is rewritten.

    Attributes:
        kept: the parts that are kept, in order.
        cuts: begins and ends of the parts that are not.
        lost: the blocks in those.
        seal: needed at the end by the run's last segment; None: none is.
    """

    kept: Sequence[KeptRange]
    cuts: Sequence[tuple[int, int]]
    lost: Sequence[Entry]
    seal: Footer | None

    def __str__(self) -> str:
        """What is done, for people."""
        size, bare = sum(end - begin for begin, end in self.cuts), sum(one.bare is not None for one in self.kept)
        parts = [f"{size} bytes were cut out of it, and are kept beside it as .damaged files"] if size else []
        parts = parts or ["was ended"]
        if self.lost:
            parts.append("ticks lost: " + ", ".join(f"{entry.first} to {entry.last}" for entry in self.lost))
        if bare:
            parts.append(f"{bare} block{'s' if bare > 1 else ''} got a new footer")
        return "; ".join(parts)


def plan_repair(
    run: LocalRun, segment: Segment, size: int, problems: Mapping[Entry, str], seals: Iterable[tuple[int, int]]
) -> SegmentRepair | None:
    """What to do about a segment; None: nothing.

    Args:
        size: bytes of its file.
        problems: its blocks, with what is wrong with each; empty: nothing.
        seals: their begins and ends.
    """
    kept = [KeptRange(*seal) for seal in seals]
    lost: list[Entry] = []
    for entry, problem in problems.items():
        end = entry.offset + entry.frame
        if not entry.footer:
            kept.append(KeptRange(entry.offset, end, entry))
        elif problem:
            lost.append(entry)
        else:
            kept.append(KeptRange(entry.offset, end + entry.footer))
    kept.sort(key=lambda one: one.begin)
    cuts = list(_between(kept, size))
    seal = None
    if segment is run.segments[-1] and not any(True for _ in seals) and _needs_seal(run, lost):
        seal = run.seal_footer(ended=run.ended, lost_tail=run.lost_tail)
    if size and seal is None and not cuts and not any(one.bare is not None for one in kept):
        return None
    return SegmentRepair(kept, cuts, lost, seal)


def _between(kept: Sequence[KeptRange], size: int) -> Iterator[tuple[int, int]]:
    """The begins and ends of the bytes that are not kept."""
    at = 0
    for one in kept:
        if at < one.begin:
            yield at, one.begin
        at = one.end
    if at < size:
        yield at, size


def _needs_seal(run: LocalRun, lost: Sequence[Entry]) -> bool:
    """Whether a run's last segment, which has no seal, needs one: the run is over, or the last ticks that it published
    are lost."""
    if run.ended or not lost:
        return run.ended
    return lost[-1].last > max((entry.last for entry in run.entries if entry not in lost), default=-1)


# ---- doing it ----


def _mend(run: LocalRun, segment: Segment, size: int, seals: Sequence[tuple[int, int]]) -> Iterator[str]:
    """Rewrite a segment if anything in it is wrong, and correct its name."""
    entries = run.entries.of(segment)
    plan = plan_repair(run, segment, size, {entry: check(entry) for entry in entries}, seals)
    if plan is not None:
        _apply_repair(run, segment, plan)
        entries = [entry for entry in entries if entry not in plan.lost]
        yield f"{run.id}/{segment.name}: {plan}"
    yield from _rename(run, segment, entries)


def _apply_repair(run: LocalRun, segment: Segment, plan: SegmentRepair) -> None:
    for begin, end in plan.cuts:
        set_aside(segment.path, begin, segment.load(begin, end))
    if plan.kept or plan.seal is not None:
        _write_anew(run, segment, plan)
    else:
        segment.path.unlink()
    run.entries = Blocks(entry for entry in run.entries if entry not in plan.lost)


def _write_anew(run: LocalRun, segment: Segment, plan: SegmentRepair) -> None:
    temporary = segment.path.with_name(f"{segment.name}.new")
    with segment.path.open("rb") as old, temporary.open("wb") as new:
        for one in plan.kept:
            _copy(old, new, one)
            if one.bare is not None:
                new.write(_footer_of(run, segment, one.bare).pack())
        if plan.seal is not None:
            new.write(plan.seal.pack())
        new.flush()
        os.fsync(new.fileno())
    temporary.replace(segment.path)
    sync_directory(segment.path.parent)


def _footer_of(run: LocalRun, segment: Segment, entry: Entry) -> Footer:
    """A new footer for a block that has lost its own."""
    block, frame = segment.read(entry), segment.load(entry.offset, entry.offset + entry.frame)
    return run.footer(entry.ordinal, block.ts, block.ats, size=len(block.lines), frame=len(frame), crc=crc32(frame))


def _copy(old: IO[bytes], new: IO[bytes], one: KeptRange) -> None:
    old.seek(one.begin)
    data = old.read(one.end - one.begin)
    if len(data) != one.end - one.begin:
        raise Damaged("a segment shrank while it was mended")
    new.write(data)


def _rename(run: LocalRun, segment: Segment, entries: list[Entry]) -> Iterator[str]:
    """Name a segment after its first tick, unless another file has that name."""
    if not is_misnamed(segment, entries):
        return
    right = segment.path.with_name(segment_name(entries[0].first))
    if not right.exists():
        yield f"{run.id}/{segment.name}: has the name {right.name} now"
        segment.path.rename(right)
        sync_directory(right.parent)


# ---- the index ----


def _mend_index(directory: Path, run: LocalRun) -> Iterator[str]:
    """Rebuild a run's index from the files as they are now, and from what was known to have been published."""
    anew = plan_run(scan_run(directory, by_footers=True)).run
    anew.know(run.total, run.tip)
    anew.ended, anew.lost_tail = anew.ended or run.ended, anew.lost_tail or run.lost_tail
    if not anew.segments:
        return
    before = _index_files(directory)
    save_index(anew)
    if _index_files(directory) != before:
        yield f"{run.id}/index: was made anew"


def _index_files(directory: Path) -> dict[str, int]:
    """The CRC of each file of a run's index, by name."""
    paths = [path for path in (directory / INDEX, *index_paths(directory)) if path.is_file()]
    return {path.name: crc32(path.read_bytes()) for path in paths}
