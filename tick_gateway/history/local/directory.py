"""A directory of history: its lock, and which runs, segments and blocks it holds.

    DIR/.lock                     held by the one process that writes here
    DIR/RUN/FIRST_T.jsonl.zst     segments
    DIR/RUN/index                 a cache of their footers
    DIR/RUN/journal               vouches for the open block

Reading a directory changes nothing in it. Everything here waits for the disk; none of it is called on the event loop.
"""

from __future__ import annotations

import contextlib
import logging
import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, Final

from ...errors import Damaged, HistoryError, Locked
from ..block_index import Blocks, Entry
from ..engine import Progress
from ..format.journal import JOURNAL, Journal, unpack_journal
from ..format.segment import SUFFIX
from .folders import run_of
from .index import INDEX, Index, edges_of, entries_of, fits, load_index
from .run import LocalRun
from .salvage import adopt
from .segment_file import Segment, walk

try:
    import fcntl
except ImportError:  # Windows has no such lock: there the operator sees to it
    fcntl = None  # type: ignore[assignment]

log = logging.getLogger("tick_gateway.history")

LOCK: Final = ".lock"  # begins as no run does
_LOCK_TRIES: Final = 5  # in_use() holds it for a moment
_LOCK_SECONDS: Final = 0.02


# ---- the lock ----


@contextlib.contextmanager
def locked(directory: Path) -> Iterator[None]:
    """Hold a directory's lock. See ``lock``."""
    file = lock(directory)
    try:
        yield
    finally:
        file.close()


def lock(directory: Path) -> IO[str]:
    """Make a directory if it is not there, and lock it; the lock is held until the file is closed.

    Raises:
        Locked: another process holds it.
        HistoryError: it is no directory, or a run's folder.
        OSError: the directory cannot be made or written to.
    """
    check_directory(directory)
    directory.mkdir(parents=True, exist_ok=True)
    file = (directory / LOCK).open("a+", encoding="ascii")
    tries = 0
    while not _try_lock(file, exclusive=True):
        tries += 1
        if tries == _LOCK_TRIES:
            file.seek(0)
            holder = file.read(20).strip()
            file.close()
            raise Locked(str(directory), holder)
        time.sleep(_LOCK_SECONDS)
    try:
        file.seek(0)
        file.truncate()
        file.write(f"{os.getpid()}\n")
        file.flush()
    except OSError as error:  # the disk is full: the number is for people, the lock is held without it
        log.warning("history: the number of this process cannot be written to %s: %s", LOCK, error.strerror)
    return file


def in_use(directory: Path) -> bool:
    """Whether a process holds a directory's lock."""
    try:
        file = (directory / LOCK).open(encoding="ascii")
    except FileNotFoundError:
        return False
    with file:
        return not _try_lock(file, exclusive=False)


def _try_lock(file: IO[str], *, exclusive: bool) -> bool:
    if fcntl is None:
        return True
    try:
        fcntl.flock(file, (fcntl.LOCK_EX if exclusive else fcntl.LOCK_SH) | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


# ---- what there is ----


def check_directory(directory: Path) -> None:
    """Whether a directory can be one of history, be it there or not.

    Raises:
        HistoryError: it is no directory, or the folder of a run, in which another history would begin unnoticed.
        OSError: it cannot be looked at.
    """
    if directory.exists() and not directory.is_dir():
        raise HistoryError(f"{directory} is no directory")
    if any((directory / name).exists() for name in (INDEX, JOURNAL)) and segment_paths(directory):
        above = directory.absolute().parent
        raise HistoryError(f"{directory} is a run's folder in a history, and no history; accepted: {above}")


def run_directories(directory: Path) -> list[Path]:
    """The folders that are named as runs are and hold segments."""
    try:
        folders = [path for path in directory.iterdir() if run_of(path.name) is not None and path.is_dir()]
    except FileNotFoundError:
        return []
    return [path for path in folders if segment_paths(path)]


def segment_paths(folder: Path) -> list[Path]:
    """A run's segments in the order of their first ticks."""
    return sorted(path for path in folder.glob(f"*{SUFFIX}") if path.name.removesuffix(SUFFIX).isdecimal())


def read_directory(directory: Path, progress: Progress | None = None) -> tuple[list[LocalRun], list[str]]:
    """Every run of a directory, in the order in which they began, and what is damaged.

    Raises:
        OSError: a file cannot be read.
        HistoryError: the directory holds something else, or a format that this program does not know.
    """
    check_directory(directory)
    folders = run_directories(directory)
    total = sum(path.stat().st_size for folder in folders for path in segment_paths(folder))
    done = 0

    def step(size: int) -> None:
        nonlocal done
        done += size
        if progress is not None:
            progress(done, total)

    runs: list[LocalRun] = []
    known: set[str] = set()
    damage: list[str] = []
    for folder in folders:
        run, wrong = read_run(folder, step)
        damage += wrong
        if run.id in known:
            damage.append(f"{folder.name}: run {run.id} has another folder, too; what is in this one is not read")
        else:
            runs.append(run)
            known.add(run.id)
    _place_strangers(runs)
    runs.sort(key=lambda run: (run.seq, run.started, run.id))
    return runs, damage


def _place_strangers(runs: list[LocalRun]) -> None:
    """Runs of which no footer and no journal is left come behind those that had begun when they were written."""
    written = {id(run): run.segments[0].path.stat().st_mtime * 1000 for run in runs if not run.started}
    for run in sorted((run for run in runs if id(run) in written), key=lambda run: written[id(run)]):
        earlier = [one.seq for one in runs if one.started and one.started <= written[id(run)]]
        placed = [one.seq for one in runs if id(one) in written and one.seq]
        run.seq = 1 + max([*earlier, *placed], default=-1)


def read_journal(folder: Path) -> Journal | None:
    """A run's journal; None: it has none.

    Raises:
        OSError: it cannot be read.
        HistoryError: it is of a format that this program does not know.
    """
    try:
        return unpack_journal((folder / JOURNAL).read_bytes())
    except FileNotFoundError:
        return None


def read_run(folder: Path, progress: Callable[[int], None], *, by_footers: bool = False) -> tuple[LocalRun, list[str]]:
    """Learn what a run's folder holds, by its index where that fits the files, else by their footers.

    Args:
        progress: is told how many bytes of segments were accounted for, one call after another.
        by_footers: walk all footers, whatever the index says of them.

    Returns:
        The run, and what was found to be damaged.

    Raises:
        OSError: a file cannot be read.
        HistoryError: a file is of a format that this program does not know.
    """
    run = LocalRun(run_of(folder.name) or folder.name, folder=folder)
    damage: list[str] = []
    try:
        index = load_index(folder)
    except Damaged as error:
        log.warning("history: %s: %s; it is made anew", folder.name, error)
        index = None
    paths = segment_paths(folder)
    known: dict[Path, Segment] = {}
    if index is not None:
        run.seq, run.started, run.origin = index.seq, index.started, index.origin
        run.ended, run.lost_tail = index.ended, index.lost_tail
        run.know(index.total, index.tip)
        known = {} if by_footers else _segments_of(run, index, paths)
        run.edges = _edges_of(index, paths)
    strays: list[tuple[Segment, int, int]] = []
    for path in paths:
        size = path.stat().st_size
        segment = known.get(path) or Segment(path)
        if index is not None:
            segment.shortened = any(one.name == path.name and one.size > size for one in index.segments)
        if segment.size < size:
            run.told_by_footers = True
            damage += [f"{folder.name}/{wrong}" for wrong in _walk(run, segment, strays)]
        run.segments.append(segment)
        progress(size)
    for segment in run.segments[:-1]:
        segment.sealed = True
    if not run.started and (journal := read_journal(folder)) is not None and (head := journal.head) is not None:
        run.seq, run.started, run.origin = head.seq, head.started, head.origin
    run.entries.sort()
    damage += [f"{folder.name}/{wrong}" for wrong in _drop_doubles(run)]
    for segment, begin, end in strays:
        damage.append(f"{folder.name}/{segment.name}: {adopt(run, segment, begin, end)}")
    run.know(run.stored, run.entries[-1].last if run.entries else -1)
    return run, damage


def _segments_of(run: LocalRun, index: Index, paths: list[Path]) -> dict[Path, Segment]:
    """Take in what an index says of files that are as it says."""
    there = {path.name: path for path in paths}
    segments: dict[Path, Segment] = {}
    for listed in index.segments:
        path = there.get(listed.name)  # None: deleted meanwhile; its blocks are missing from here on
        if path is not None and path.stat().st_size >= listed.size and fits(listed, path):
            segment = segments[path] = Segment(path, listed.size, sealed=listed.sealed)
            run.entries.extend(entries_of(listed, segment))
    return segments


def _edges_of(index: Index, paths: list[Path]) -> dict[int, int]:
    """Where blocks ended that were deleted, by an index and since; see ``LocalRun.edges``."""
    there, edges = {path.name for path in paths}, dict(index.edges)
    for listed in index.segments:
        if listed.name not in there:
            edges |= edges_of(listed)
    return edges


def _walk(run: LocalRun, segment: Segment, strays: list[tuple[Segment, int, int]]) -> Iterator[str]:
    """Take in the footers of a segment from where it is accounted for; yields what is wrong, and adds to ``strays``
    where bytes belong to no block."""
    found = walk(segment.path, segment.size)
    strays += [(segment, begin, end) for begin, end in found.strays]
    for one in found.footers:
        if one.footer.run == run.id:
            run.take(segment, one)
        else:
            yield f"{segment.name}: at {one.begin} is a block of run {one.footer.run}"
    segment.size = found.end


def _drop_doubles(run: LocalRun) -> Iterator[str]:
    """Leave out blocks with numbers that others have: every tick once, whatever files were put there."""
    last, doubles = -1, False
    kept = Blocks()
    for entry in run.entries:
        if entry.first > last:
            kept.append(entry)
            last = entry.last
        else:
            doubles = True
            yield f"{_name(entry)}: the block at {entry.offset} has ticks {entry.first} to {entry.last} once more"
    if doubles:
        run.entries = kept


def _name(entry: Entry) -> str:
    return entry.volume.name if isinstance(entry.volume, Segment) else ""
