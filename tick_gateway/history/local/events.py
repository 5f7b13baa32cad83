"""Events: what the writing thread reports to the event loop.

Pure: no I/O, no clock.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from ..stored_block import Entry, RecordSource
from .segment_file import Segment


class BlockClosed(NamedTuple):
    """A block was closed (or recovered): from here on it is read from disk."""

    run: str
    entry: Entry


class SegmentSealed(NamedTuple):
    """A segment was sealed; all of its blocks were reported before."""

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
    """Stored data is missing, and this process did not delete it.

    Attributes:
        entries: the missing closed blocks.
        whole: all closed blocks of the segment are missing, and ``entries`` is empty.
        ticks: number of missing ticks.
        problem: why they are missing, for people.
        upto: the part of the open block published before this ordinal is missing; 0: not in the open block.
    """

    run: str
    segment: Segment
    entries: Sequence[Entry]
    ticks: int
    problem: str
    upto: int = 0
    whole: bool = False


StorageEvent = BlockClosed | SegmentSealed | SegmentIndexed | SegmentRemoved | TicksMissing
