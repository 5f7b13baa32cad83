"""A directory of history: its runs and segments, by their names.

    DIR/.lock                     held by the one process that writes here
    DIR/RUN/FIRST_T.jsonl.zst     segments
        DIR/RUN/index                 a cache of their footers: the run, and the bounds of each segment
        DIR/RUN/FIRST_T.index         the same: the blocks of a segment
        DIR/RUN/journal               vouches for the open block

Everything here waits for the disk; none of it is called on the event loop.
"""

from __future__ import annotations

import os
from pathlib import Path

from ...errors import HistoryError
from ..format.journal import JOURNAL
from ..format.segment import SUFFIX
from .index import INDEX
from .run_directory import run_of


def check_directory(directory: Path) -> None:
    """Check that a directory can be used for history, whether it exists or not.

    Raises:
        HistoryError: it is not a directory, or it is that of a run, in which another history would start unnoticed.
        OSError: it cannot be accessed.
    """
    if directory.exists() and not directory.is_dir():
        raise HistoryError(f"{directory} is no directory")
    if any((directory / name).exists() for name in (INDEX, JOURNAL)) and segment_paths(directory):
        above = directory.absolute().parent
        raise HistoryError(f"{directory} is a run's folder in a history, and no history; accepted: {above}")


def run_directories(directory: Path) -> list[Path]:
    """The directories that are named like runs and contain segments.

    Raises:
        OSError: one cannot be read.
    """
    try:
        found = [path for path in directory.iterdir() if run_of(path.name) is not None and path.is_dir()]
    except FileNotFoundError:
        return []
    return [path for path in found if segment_paths(path)]


def segment_paths(run_directory: Path) -> list[Path]:
    """A run's segments in the order of their first ticks.

    Raises:
        OSError: the directory cannot be read.
    """
    try:
        names = os.listdir(run_directory)  # glob would pass over one that may not be read
    except FileNotFoundError:
        return []
    found = [name for name in names if name.endswith(SUFFIX) and name.removesuffix(SUFFIX).isdecimal()]
    return [run_directory / name for name in sorted(found)]
