"""Retention: which segments to delete, oldest first.

The last segment of a run that has not ended is kept whatever its age and size: ticks will be added to it.

Everything here waits for the disk; none of it is called on the event loop.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator
from pathlib import Path

from ..format.journal import JOURNAL
from .index import INDEX
from .run import LocalRun
from .segment_file import Segment
from .segment_index import index_paths


def too_much(
    runs: Iterable[LocalRun], writing: Segment | None, size: int, max_size: int, oldest: float
) -> Iterator[tuple[LocalRun, Segment]]:
    """The segments to delete, in order.

    Args:
        runs: oldest first.
        writing: the active segment.
        size: bytes of all segments.
        max_size: maximum for those; 0: no limit.
        oldest: segments whose ticks were all received before this time are too old, ms since the epoch; 0: none are.
    """
    runs = list(runs)
    for run in runs:
        for segment in list(run.segments):
            goes_on = run is runs[-1] and not run.ended and segment is run.segments[-1]
            if segment is writing or goes_on:
                continue
            too_old = bool(oldest) and newest_at(run, segment) < oldest
            if not too_old and not (max_size and size > max_size):
                return
            size -= segment.size
            yield run, segment


def newest_at(run: LocalRun, segment: Segment) -> float:
    """When the last tick of a run's oldest segment was received, ms since the epoch; without ticks, when it was last
    written to."""
    if (bounds := run.entries.bounds_of(segment)) is not None and bounds.last_at:
        return bounds.last_at
    try:
        return segment.path.stat().st_mtime * 1000
    except FileNotFoundError:
        return 0


def delete(run: LocalRun, segment: Segment) -> None:
    """Delete a segment, and after a run's last one its directory.

    Raises:
        OSError: it cannot be deleted; nothing has changed.
    """
    directory = segment.path.parent
    segment.retired = True  # before it is gone: it may be being read right now
    try:
        segment.path.unlink(missing_ok=True)
    except OSError:
        segment.retired = False
        raise
    run.forget(segment)
    if not run.segments:
        remove_run_directory(directory)


def remove_run_directory(directory: Path) -> None:
    """Remove a run's directory if it has no segments, unless there are other files in it."""
    indexes = [path for path in index_paths(directory) for path in (path, path.with_name(f"{path.name}.new"))]
    for path in (*indexes, *(directory / name for name in (INDEX, f"{INDEX}.new", JOURNAL))):
        with contextlib.suppress(OSError):  # the directory then stays, but without segments it has no meaning
            path.unlink(missing_ok=True)
    with contextlib.suppress(OSError):
        directory.rmdir()
