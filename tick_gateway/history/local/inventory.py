"""Taking stock: whether the segments that were written are still there, and as long as they were.

Some of them are looked at each time, in turn, so that it costs the same however many there are; after a failure, all.

Everything here waits for the disk; none of it is called on the event loop.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Iterable, Iterator
from itertools import islice
from typing import Final

from ..block_index import Entry
from .run import LocalRun
from .segment_file import Segment

SOME: Final = 64  # looked at each time


class Inventory:
    """Whose turn it is."""

    def __init__(self) -> None:
        self._left: Iterator[tuple[LocalRun, Segment]] = iter(())

    def some(self, runs: Iterable[LocalRun]) -> list[tuple[LocalRun, Segment]]:
        """The next segments to be looked at; after the last one, the first ones again."""
        if not (found := list(islice(self._left, SOME))):
            self._left = iter([(run, segment) for run in runs for segment in run.segments])
            found = list(islice(self._left, SOME))
        return found


def size_now(segment: Segment) -> int:
    """Bytes of a segment's file, 0 where it is gone; those that it has by what is known, where nobody can tell."""
    try:
        return os.stat(segment.path).st_size
    except (FileNotFoundError, NotADirectoryError):
        return 0
    except OSError:
        return segment.size


def why_missing(segment: Segment, size: int) -> str:
    """Why something of a segment is not there any more, where its file has so many bytes."""
    return f"{segment.name} was cut" if size else os.strerror(errno.ENOENT)


def cut_blocks(entries: Iterable[Entry], size: int) -> list[Entry]:
    """Those of a segment's blocks that are not there to their end, where its file has so many bytes."""
    return [entry for entry in entries if entry.offset + entry.frame + entry.footer > size]
