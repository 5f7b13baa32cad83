"""What history is kept by, and what is told of it while it is written.

Pure: no I/O, no clock.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

from ...settings import Settings
from ..block_index import Entry
from .segment_file import Segment


@dataclass(frozen=True, slots=True)
class Limits:
    """What history is kept by; ages in seconds, 0: no bound.

    Attributes:
        block_bytes, block_ticks, block_age: when a block is closed.
        segment_bytes, segment_age: when a segment is sealed.
        retain_bytes, retain_age: what sealed segments may take, and how old their newest tick may be.
        level: of the compression, 1 to 19.
        fsync: ``never``, ``interval`` or ``block``.
        fsync_interval: seconds.
    """

    block_bytes: int = 1 << 20
    block_ticks: int = 8192
    block_age: float = 60.0
    segment_bytes: int = 64 << 20
    segment_age: float = 86400.0
    retain_bytes: int = 0
    retain_age: float = 0.0
    level: int = 3
    fsync: str = "interval"
    fsync_interval: float = 1.0

    @classmethod
    def of(cls, s: Settings) -> Limits:
        """What the settings say."""
        return cls(
            block_bytes=s.block_bytes, block_age=s.block_age, segment_bytes=s.segment_bytes,
            segment_age=s.segment_age, retain_bytes=s.retain_bytes, retain_age=s.retain_age, level=s.history_level,
            fsync=s.fsync, fsync_interval=s.fsync_interval,
        )  # fmt: skip


class Closed(NamedTuple):
    """A block was closed (or recovered): from here on it is read from disk."""

    run: str
    entry: Entry


class Sealed(NamedTuple):
    """A segment was sealed; of all blocks in it was told before."""

    run: str
    segment: Segment


class Removed(NamedTuple):
    """A segment was deleted, or another file took its place."""

    run: str
    segment: Segment


class Missing(NamedTuple):
    """What was stored is not there any more, and nobody here took it away.

    Attributes:
        size: bytes that the segment's file has now.
        ticks: how many were in what is missing.
        upto: of the open block all is missing that was published before this ordinal; 0: it is not of that.
    """

    run: str
    segment: Segment
    size: int
    ticks: int
    upto: int = 0


Event = Closed | Sealed | Removed | Missing
