"""What lies in a directory of history: read, and nothing else. The first of three steps in which one is opened.

    scan    what lies there, as it is                             this module
    plan    what it comes to, and what is to be done about it      ``recovery_plan``
    apply   that                                                  ``apply_plan``

The index is asked first. Where it fits a segment's file, no footer is read that it has; where it does not, or ends
before the file does, the footers tell. What is behind the last of them is described by ``tail_recovery``, what is
between them by ``salvage``.

Everything here waits for the disk; none of it is called on the event loop.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from ...errors import Damaged
from ..block_index import Blocks, Entry
from ..engine import Progress
from ..format.journal import JOURNAL, Journal, unpack_journal
from .directory import check_directory, run_directories, segment_paths
from .disk import read_file
from .index import Index, IndexedSegment, fits, load_index, take_blocks
from .run_directory import run_of
from .salvage import Stray, blocks_in
from .segment_file import Found, Segment, walk
from .tail_recovery import SegmentTail, describe

log = logging.getLogger("tick_gateway.history")


class RunFacts(NamedTuple):
    """What footers tell of their run; see ``Footer`` and ``StoredRun``."""

    seq: int
    started: int
    origin: int
    total: int
    tip: int
    ended: bool
    lost_tail: bool


class ScannedSegment(NamedTuple):
    """One segment as it lies there.

    Attributes:
        segment: its file; ``segment.size``: up to where its blocks are known.
        size: bytes of the file.
        changed_at: when the file was changed, ms since the epoch.
        walked: some of its footers were read: the index does not have all of them.
        facts: what those tell of the run; None: none does.
        seals: where they begin and end that have no block.
        foreign: where blocks of other runs begin, and whose they are.
        strays: bytes between footers that belong to no block.
        tail: what lies behind the last footer; None: nothing.
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
    """One run's directory as it lies there.

    Attributes:
        directory: where.
        id: the run, by the directory's name.
        index: what its index says; None: there is none that can be used.
        index_fault: why the index cannot be read; empty: it can, or there is none.
        journal: None: there is none.
        segments: oldest first.
        entries: their blocks that have footers, one segment after another.
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
    """What lies in a run's directory.

    Args:
        progress: is told how many bytes of segments were accounted for, one call after another.
        by_footers: walk all footers, whatever the index says of them.

    Raises:
        OSError: a file cannot be read.
        HistoryError: a file is of a format that this program does not know.
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
        one.segment.sealed = True  # ticks are added to the last one alone
    # The journal behind the footers: of what is closed meanwhile, where a gateway writes, the tail tells.
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
    """What lies behind the last footer of a segment; None: nothing.

    Raises:
        OSError: the file cannot be read.
    """
    data = segment.load(segment.size)
    return describe(data, segment.size, segment.first, journal) if data else None


def _scan_segment(
    path: Path, run: str, listed: IndexedSegment | None, entries: Blocks, *, by_footers: bool
) -> ScannedSegment:
    """A segment but for its tail; its blocks are added to ``entries``."""
    segment, size = Segment(path), path.stat().st_size
    changed_at = segment.changed_at
    if listed is not None and not by_footers and size >= listed.size and fits(listed, path):
        if take_blocks(entries, segment, listed):
            segment.size, segment.sealed = listed.size, listed.sealed
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
    """What footers of a run tell of it, the later ones more."""
    if not footers:
        return None
    ends = [one.footer for one in footers if one.footer.ended]
    last = footers[-1].footer
    total = max(one.footer.ordinal + one.footer.count for one in footers)
    tip = max(one.footer.last for one in footers)
    return RunFacts(
        last.seq, last.started, last.origin, total, tip, bool(ends), bool(ends and ends[-1].lost_tail)
    )  # fmt: skip
