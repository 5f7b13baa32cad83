"""Reads the state of a directory of history, and changes nothing. The first of three steps in which one is opened.

        scan    the state as it is                                    this module
        plan    the resulting runs, and what to do                    ``recovery_plan``
        apply   doing it                                              ``apply_plan``

The index comes first. If it fits a segment's file, no footer that it covers is read; if not, or if the file is longer,
footers are read. ``tail_recovery`` describes what comes after the last footer, ``salvage`` what is between footers.

Everything here waits for the disk; none of it is called on the event loop.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from ...errors import Damaged
from ..block_index import Blocks
from ..engine import Progress
from ..format.journal import JOURNAL, Journal, unpack_journal
from ..stored_block import Entry
from .directory import check_directory, run_directories, segment_paths
from .disk import read_file
from .index import Index, IndexedSegment, fits, load_index, take_blocks
from .run_directory import run_of
from .salvage import Stray, blocks_in
from .segment_file import Found, Segment, walk
from .tail_recovery import SegmentTail, describe

log = logging.getLogger("tick_gateway.history")


class RunFacts(NamedTuple):
    """Facts about a run from footers; see ``Footer`` and ``StoredRun``."""

    seq: int
    started: int
    origin: int
    total: int
    tip: int
    ended: bool
    lost_tail: bool


class ScannedSegment(NamedTuple):
    """One segment as it is.

    Attributes:
        segment: its file; ``segment.size``: the end of the known blocks.
        size: bytes of the file.
        changed_at: when the file was changed, ms since the epoch.
        walked: footers were read, because the index does not cover all of them.
        facts: from those footers; None: there are none.
        seals: begins and ends of seals, which have no block.
        foreign: begins of blocks of other runs, and their runs.
        strays: bytes between footers that belong to no block.
        tail: what follows the last footer; None: nothing.
    """

    segment: Segment
    size: int
    changed_at: int
    walked: bool = False
    facts: RunFacts | None = None
    seals: Sequence[tuple[int, int]] = ()
    foreign: Sequence[tuple[int, str]] = ()
    strays: Sequence[Stray] = ()
    tail: SegmentTail | None = None


@dataclass(frozen=True, slots=True)
class ScannedRun:
    """The directory of one run as it is.

    Attributes:
        directory: where.
        id: the run, from the directory's name.
        index: its index; None: there is no usable one.
        index_fault: why the index cannot be read; empty: it can, or there is none.
        journal: None: there is none.
        segments: oldest first.
        entries: of blocks with footers, one segment after another.
    """

    directory: Path
    id: str
    index: Index | None = None
    index_fault: str = ""
    journal: Journal | None = None
    segments: Sequence[ScannedSegment] = ()
    entries: Blocks = field(default_factory=Blocks)


def scan_directory(directory: Path, progress: Progress | None = None) -> Iterator[ScannedRun]:
    """Every run of a directory, one after another.

    Raises:
        OSError: a file cannot be read.
        HistoryError: the directory holds something else, or a format that this program does not know.
    """
    check_directory(directory)
    found = run_directories(directory)
    total = sum(path.stat().st_size for one in found for path in segment_paths(one))
    done = 0

    def step(size: int) -> None:
        nonlocal done
        done += size
        if progress is not None:
            progress(done, total)

    for one in found:
        yield scan_run(one, step)


def scan_run(
    directory: Path, progress: Callable[[int], None] = lambda size: None, *, by_footers: bool = False
) -> ScannedRun:
    """Scan a run's directory.

    Args:
        progress: called with bytes of segments that were scanned, cumulatively.
        by_footers: read all footers, even if the index covers them.

    Raises:
        OSError: a file cannot be read.
        HistoryError: a file has a format that this program does not know.
    """
    run, fault = run_of(directory.name) or directory.name, ""
    try:
        index = load_index(directory)
    except Damaged as error:
        log.warning("history: %s: %s; it is made anew", directory.name, error)
        index, fault = None, str(error)
    entries = Blocks()
    listed = {one.name: one for one in index.segments} if index is not None else {}
    scanned: list[ScannedSegment] = []
    for path in segment_paths(directory):
        one = _scan_segment(path, run, listed.get(path.name), entries, by_footers=by_footers)
        scanned.append(one)
        progress(one.size)
    for one in scanned[:-1]:
        one.segment.sealed = True  # ticks are only added to the last one
    # The journal is read after the footers: the tail has blocks that a running gateway closes in between.
    journal = read_journal(directory)
    segments = [one._replace(tail=scan_tail(one.segment, journal)) if one.walked else one for one in scanned]
    return ScannedRun(directory, run, index, fault, journal, segments, entries)


def read_journal(directory: Path) -> Journal | None:
    """A run's journal; None: it has none.

    Raises:
        OSError: it cannot be read.
        HistoryError: it is of a format that this program does not know.
    """
    try:
        return unpack_journal(read_file(directory / JOURNAL))
    except FileNotFoundError:
        return None


def scan_tail(segment: Segment, journal: Journal | None) -> SegmentTail | None:
    """What follows the last footer of a segment; None: nothing.

    Raises:
        OSError: the file cannot be read.
    """
    data = segment.load(segment.size)
    return describe(data, segment.size, segment.first, journal) if data else None


def _scan_segment(
    path: Path, run: str, listed: IndexedSegment | None, entries: Blocks, *, by_footers: bool
) -> ScannedSegment:
    """A segment without its tail; its blocks are added to ``entries``."""
    segment, size = Segment(path), path.stat().st_size
    changed_at = segment.changed_at
    if listed is not None and not by_footers and size >= listed.size and fits(listed, path):
        if take_blocks(entries, segment, listed):
            segment.size, segment.sealed, segment.end = listed.size, listed.sealed, (listed.size, listed.end)
    segment.shortened = listed is not None and listed.size > size
    if segment.size >= size:
        return ScannedSegment(segment, size, changed_at)
    found = walk(path, segment.size)
    ours = [one for one in found.footers if one.footer.run == run]
    entries.extend(Entry.of(segment, one.begin, one.footer, one.length) for one in ours if one.footer.frame)
    segment.sealed = segment.sealed or any(one.footer.sealed for one in ours)
    strays = [Stray(begin, end, list(blocks_in(segment.load(begin, end), begin))) for begin, end in found.strays]
    segment.size = found.end
    return ScannedSegment(
        segment, size, changed_at, True, _facts(ours), [(one.at, one.end) for one in ours if not one.footer.frame],
        [(one.begin, one.footer.run) for one in found.footers if one.footer.run != run], strays,
    )  # fmt: skip


def _facts(footers: Sequence[Found]) -> RunFacts | None:
    """The facts about a run in its footers; later footers override earlier ones."""
    if not footers:
        return None
    ends = [one.footer for one in footers if one.footer.ended]
    last = footers[-1].footer
    total = max(one.footer.ordinal + one.footer.count for one in footers)
    tip = max(one.footer.last for one in footers)
    return RunFacts(
        last.seq, last.started, last.origin, total, tip, bool(ends), bool(ends and ends[-1].lost_tail)
    )  # fmt: skip
