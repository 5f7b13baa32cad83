"""What the writing thread tells the event loop of what it did, and of what it found.

Pure: no I/O, no clock.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from ..block_index import Entry, RecordSource
from .segment_file import Segment


class BlockClosed(NamedTuple):
    """A block was closed (or recovered): from here on it is read from disk."""

    run: str
    entry: Entry


class SegmentSealed(NamedTuple):
    """A segment was sealed; of all blocks in it was told before."""

    run: str
    segment: Segment


class SegmentIndexed(NamedTuple):
    """The records of a segment's blocks are in its index file, and need not be held in memory."""

    run: str
    segment: Segment
    records: RecordSource


class SegmentRemoved(NamedTuple):
    """A segment was deleted, or another file took its place."""

    run: str
    segment: Segment


class TicksMissing(NamedTuple):
    """What was stored is not there any more, and nobody here took it away.

    Attributes:
        entries: the closed blocks that are missing.
        whole: all closed blocks of the segment are, and ``entries`` is empty.
        ticks: how many were in what is missing.
        problem: why it is missing, for people.
        upto: of the open block all is missing that was published before this ordinal; 0: it is not of that.
    """

    run: str
    segment: Segment
    entries: Sequence[Entry]
    ticks: int
    problem: str
    upto: int = 0
    whole: bool = False


StorageEvent = BlockClosed | SegmentSealed | SegmentIndexed | SegmentRemoved | TicksMissing
