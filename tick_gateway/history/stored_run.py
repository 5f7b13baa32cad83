"""What is known of a stored run: its segments, its blocks, and how much it published in all.

Pure: no I/O, no clock, no asyncio.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from .block_index import Blocks, Entry
from .format.segment import Footer, pack_columns, step_of
from .local.segment_file import Found, Segment


@dataclass(slots=True)
class StoredRun:
    """What a directory knows of one run.

    Attributes:
        id, seq, started, origin: as in ``segment.Footer``; ``started`` 0: none of them is known.
        folder: where they lie; None: it was not made yet.
        segments: oldest first.
        entries: their blocks, in order.
        total: how many ticks were published as far as is known, those that are no longer stored counted.
        tip: the highest ``t`` of those, -1: none.
        edges: what is known of the ends of blocks that were deleted: how many ticks were published up to there, and the
            ``t`` of the last of them. So who has that tick misses nothing.
        ended, lost_tail: as in ``segment.Footer``.
        told_by_footers: some of it, since there is no index that says all of it.
    """

    id: str
    seq: int = 0
    started: int = 0
    origin: int = 0
    folder: Path | None = None
    segments: list[Segment] = field(default_factory=list)
    entries: Blocks = field(default_factory=Blocks)
    total: int = 0
    tip: int = -1
    edges: dict[int, int] = field(default_factory=dict)
    ended: bool = False
    lost_tail: bool = False
    told_by_footers: bool = False

    def take(self, segment: Segment, found: Found) -> None:
        """Take a footer in, the next one of its segment."""
        footer = found.footer
        self.seq, self.started, self.origin = footer.seq, footer.started, footer.origin
        self.know(footer.ordinal + footer.count, footer.last)
        if footer.frame:
            self.entries.append(Entry.of(segment, found.begin, footer, found.length))
        segment.sealed = segment.sealed or footer.sealed
        if footer.ended:
            self.ended, self.lost_tail = True, footer.lost_tail

    def know(self, total: int, tip: int) -> None:
        """So many ticks were published, up to this one; what was known already stands."""
        self.total, self.tip = max(self.total, total), max(self.tip, tip)

    def forget(self, segment: Segment) -> None:
        """A segment is gone, and its blocks with it."""
        gone = self.entries.of(segment)
        self.segments.remove(segment)
        self.entries.drop(segment)
        self.edges |= {entry.ordinal + entry.count: entry.last for entry in gone}
        self.prune()

    def prune(self) -> None:
        """Forget edges behind which no block follows, nor may one."""
        newest = max(self.edges, default=0)
        self.edges = {
            number: t for number, t in self.edges.items() if self.entries.has(number) or self.stored <= number == newest
        }

    @property
    def stored(self) -> int:
        """How many ticks were published up to the last one that is stored."""
        bounds = self.entries.bounds
        return bounds[1].end if bounds else 0

    def footer(self, ordinal: int, ts: Sequence[int], ats: Sequence[int], *, size: int, frame: int, crc: int) -> Footer:
        """The footer of a block of this run; see ``Footer`` for what is named there."""
        return Footer(
            self.id, self.seq, self.started, self.origin, ordinal, ts[0], ts[-1], ats[0], ats[-1], size, frame,
            len(ts), step_of(ts), crc, pack_columns(ts, ats),
        )  # fmt: skip

    def mark(self, *, ended: bool = False, lost_tail: bool = False) -> Footer:
        """The footer that seals a segment of this run."""
        return Footer(
            self.id, self.seq, self.started, self.origin, self.total, self.tip, self.tip, 0, 0,
            sealed=True, ended=ended, lost_tail=lost_tail,
        )  # fmt: skip
