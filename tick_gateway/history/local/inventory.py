"""Inventory: checks whether written segments still exist, with their full length.

Each time some of them are checked, in turn, so that the cost does not depend on their number; after a failure, all.

Everything here waits for the disk; none of it is called on the event loop.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Iterable, Iterator
from itertools import islice
from typing import Final

from ..stored_block import Entry
from .run import LocalRun
from .segment_file import Segment

SOME: Final = 64  # checked each time


class Inventory:
    """Keeps track of which segments are checked next."""

    def __init__(self) -> None:
        self._left: Iterator[tuple[LocalRun, Segment]] = iter(())

    def some(self, runs: Iterable[LocalRun]) -> list[tuple[LocalRun, Segment]]:
        """The next segments to check, starting over after the last one."""
        if not (found := list(islice(self._left, SOME))):
            self._left = iter([(run, segment) for run in runs for segment in run.segments])
            found = list(islice(self._left, SOME))
        return found


def size_now(segment: Segment) -> int:
    """The size of a segment's file, 0 if it is gone; the expected size if it cannot be determined."""
    try:
        return os.stat(segment.path).st_size
    except (FileNotFoundError, NotADirectoryError):
        return 0
    except OSError:
        return segment.size


def why_missing(segment: Segment, size: int) -> str:
    """Why a part of a segment is missing, given the size of its file."""
    return f"{segment.name} was cut" if size else os.strerror(errno.ENOENT)


def cut_blocks(entries: Iterable[Entry], size: int) -> list[Entry]:
    """The blocks of a segment that are not completely in a file of this size."""
    return [entry for entry in entries if entry.offset + entry.frame + entry.footer > size]
